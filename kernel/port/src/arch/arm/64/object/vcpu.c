/*
 * Copyright 2014, General Dynamics C4 Systems
 *
 * This software may be distributed and modified according to the terms of
 * the GNU General Public License version 2. Note that NO WARRANTY is provided.
 * See "LICENSE_GPLv2.txt" for details.
 *
 * @TAG(GD_GPL)
 */
/*
 * Virtual processors on AArch64: the counterpart of src/arch/arm/object/vcpu.c, whose shape and
 * invocations it keeps.
 *
 * The registers of one VCPU stay in the processor until another one needs them (armHSCurVCPU),
 * since native threads run at EL0 with HCR_EL2.TGE set and feel nothing of EL1. A few registers
 * do reach EL0 or keep running; these are saved and replaced whenever a native thread takes over
 * (vcpu_disable), which clears armHSVCPUActive.
 */

#include <config.h>
#include <arch/object/vcpu.h>
#include <mode/machine/gich.h>

/* HCR_EL2 */
#define HCR_RW       BIT(31)     /* EL1 is AArch64 */
#define HCR_TGE      BIT(27)     /* EL0 without EL1: all its exceptions come here */
#define HCR_TSW      BIT(22)     /* trap cache maintenance by set and way */
#define HCR_TAC      BIT(21)     /* trap ACTLR_EL1 */
#define HCR_TIDCP    BIT(20)     /* trap implementation defined registers */
#define HCR_TSC      BIT(19)     /* trap SMC */
#define HCR_TWE      BIT(14)     /* trap WFE */
#define HCR_TWI      BIT(13)     /* trap WFI */
#define HCR_DC       BIT(12)     /* with stage 1 off, memory is cacheable */
#define HCR_AMO      BIT( 5)     /* SErrors come here */
#define HCR_IMO      BIT( 4)     /* IRQs come here; virtual ones go to EL1 */
#define HCR_FMO      BIT( 3)     /* FIQs come here */
#define HCR_VM       BIT( 0)     /* stage 2 is on */
#define HCR_COMMON   (HCR_RW | HCR_TSW | HCR_TAC | HCR_TIDCP | HCR_TSC | \
                      HCR_AMO | HCR_IMO | HCR_FMO | HCR_VM)
/* A native thread may wait for events or interrupts as long as its time slice lasts. */
#define HCR_NATIVE   (HCR_COMMON | HCR_TGE | HCR_DC)
/* A guest that waits gives the processor to others. */
#define HCR_VCPU     (HCR_COMMON | HCR_TWI | HCR_TWE)

/* MDCR_EL2: trap the debug ROM, the OS lock, debug registers and performance counters. A
 * breakpoint that a guest sets would otherwise hit native threads. */
#define MDCR_TDRA    BIT(11)
#define MDCR_TDOSA   BIT(10)
#define MDCR_TDA     BIT(9)
#define MDCR_TPM     BIT(6)
#define MDCR_TPMCR   BIT(5)
#define MDCR_VALUE   (MDCR_TDRA | MDCR_TDOSA | MDCR_TDA | MDCR_TPM | MDCR_TPMCR)
#define PMCR_N(pmcr) (((pmcr) >> 11) & MASK(5))

/* CPTR_EL2: RES1 bits, no SVE, no trace registers. The FPU's bit is enableFpu()'s. */
#define CPTR_VALUE   (0x33ff | BIT(20) | BIT(CPTR_EL2_TFP))

/* VTCR_EL2: 44 bits of addresses in (T0SZ 20) and out (PS 4), 4 KiB pages, four levels (SL0 2),
 * walks cacheable and inner shareable. */
#define VTCR_VALUE   (BIT(31) | 4 << 16 | 3 << 12 | BIT(10) | BIT(8) | 2 << 6 | 20)

/* SCTLR_EL1 at reset of a guest: RES1 bits only; MMU and caches off. */
#define SCTLR_VM     0x30d00800
/* SCTLR_EL1 for native threads: cache maintenance by address (UCI), CTR_EL0 (UCT) and DC ZVA
 * (DZE) at EL0, WFI and WFE not trapped. MMU and alignment bits do not matter under TGE. */
#define SCTLR_NATIVE (SCTLR_VM | BIT(26) | BIT(18) | BIT(16) | BIT(15) | BIT(14))

/* CNTHCTL_EL2: the physical counter is for all; the physical timer not for guests. */
#define CNTHCTL_EL1PCTEN   BIT(0)
#define CNTHCTL_EL1PCEN    BIT(1)
#define CNTHCTL_VCPU       CNTHCTL_EL1PCTEN
#define CNTHCTL_NATIVE     (CNTHCTL_EL1PCTEN | CNTHCTL_EL1PCEN)
/* CNTKCTL_EL1: what EL0 has of it. Both counters; the physical timer only if allowed. */
#define CNTKCTL_EL0PCTEN   BIT(0)
#define CNTKCTL_EL0VCTEN   BIT(1)
#define CNTKCTL_EL0PTEN    BIT(9)
#define CNTKCTL_NATIVE     (CNTKCTL_EL0PCTEN | CNTKCTL_EL0VCTEN)

/* All that can be written. seL4_VCPUReg_ISR is computed from the list registers. */
#define VCPU_REGISTERS(X) \
    X(SCTLR, "sctlr_el1")       X(TTBR0, "ttbr0_el1")       X(TTBR1, "ttbr1_el1") \
    X(TCR, "tcr_el1")           X(MAIR, "mair_el1")         X(AMAIR, "amair_el1") \
    X(CIDR, "contextidr_el1")   X(ACTLR, "actlr_el1")       X(CPACR, "cpacr_el1") \
    X(AFSR0, "afsr0_el1")       X(AFSR1, "afsr1_el1")       X(ESR, "esr_el1") \
    X(FAR, "far_el1")           X(VBAR, "vbar_el1")         X(TPIDR_EL1, "tpidr_el1") \
    X(SP_EL1, "sp_el1")         X(ELR_EL1, "elr_el1")       X(SPSR_EL1, "spsr_el1") \
    X(CNTV_CTL, "cntv_ctl_el0") X(CNTV_CVAL, "cntv_cval_el0") \
    X(CNTVOFF, "cntvoff_el2")   X(CNTKCTL_EL1, "cntkctl_el1") \
    X(PAR, "par_el1")           X(CSSELR, "csselr_el1")     X(VMPIDR, "vmpidr_el2")

static word_t gic_vcpu_num_list_regs;

static word_t
vcpu_hw_read_reg(word_t reg)
{
    word_t value = 0;
    switch (reg) {
#define READ(name, sysreg) case seL4_VCPUReg_##name: MRS(sysreg, value); break;
        VCPU_REGISTERS(READ)
#undef READ
    case seL4_VCPUReg_ISR:
        MRS("isr_el1", value);
        break;
    }
    return value;
}

static void
vcpu_hw_write_reg(word_t reg, word_t value)
{
    switch (reg) {
#define WRITE(name, sysreg) case seL4_VCPUReg_##name: MSR(sysreg, value); break;
        VCPU_REGISTERS(WRITE)
#undef WRITE
    }
}

/* Those that native threads feel: what EL0 may do (SCTLR, CPACR, CNTKCTL), what CNTVCT_EL0
 * reads (CNTVOFF), and the timer that must not fire without its guest (CNTV_CTL). */
static bool_t
vcpu_reg_is_for_el0(word_t reg)
{
    switch (reg) {
    case seL4_VCPUReg_SCTLR:
    case seL4_VCPUReg_CPACR:
    case seL4_VCPUReg_CNTKCTL_EL1:
    case seL4_VCPUReg_CNTVOFF:
    case seL4_VCPUReg_CNTV_CTL:
        return true;
    default:
        return false;
    }
}

/* Whether a register's value is in the processor, not in the VCPU's memory. */
static bool_t
vcpu_reg_is_in_hw(vcpu_t *vcpu, word_t reg)
{
    return vcpu == armHSCurVCPU && (armHSVCPUActive || !vcpu_reg_is_for_el0(reg));
}

/* Makes the VCPU whose registers are loaded run: what native threads had goes. */
static void
vcpu_enable(vcpu_t *vcpu)
{
    for (word_t i = 0; i < seL4_VCPUReg_Num; i++) {
        if (vcpu_reg_is_for_el0(i)) {
            vcpu_hw_write_reg(i, vcpu->regs[i]);
        }
    }
    MSR("cnthctl_el2", CNTHCTL_VCPU);
    MSR("hcr_el2", HCR_VCPU);
    isb();
    maskInterrupt(vcpu->vtimerMasked, INTERRUPT_VIRT_TIMER);
    GICH->hcr = vcpu->vgic.hcr;
}

/* Sets the processor up for native threads. */
static void
native_enable(void)
{
    GICH->hcr = 0;
    maskInterrupt(true, INTERRUPT_VIRT_TIMER);
    MSR("cntv_ctl_el0", 0);
    MSR("cntvoff_el2", 0);
    MSR("cnthctl_el2", CNTHCTL_NATIVE);
    MSR("cntkctl_el1", CNTKCTL_NATIVE);
    MSR("cpacr_el1", 3 << CPACR_EL1_FPEN);
    MSR("sctlr_el1", SCTLR_NATIVE);
    MSR("hcr_el2", HCR_NATIVE);
    isb();
}

/* Leaves the VCPU's other registers loaded, for it may well be the next to run. */
static void
vcpu_disable(vcpu_t *vcpu)
{
    dsb();
    vcpu->vgic.hcr = GICH->hcr;
    for (word_t i = 0; i < seL4_VCPUReg_Num; i++) {
        if (vcpu_reg_is_for_el0(i)) {
            vcpu->regs[i] = vcpu_hw_read_reg(i);
        }
    }
    native_enable();
}

/* Copies to memory what only the processor knows of the current VCPU. */
static void
vcpu_save(vcpu_t *vcpu)
{
    assert(vcpu == armHSCurVCPU);
    dsb();
    for (word_t i = 0; i < seL4_VCPUReg_Num; i++) {
        if (vcpu_reg_is_in_hw(vcpu, i)) {
            vcpu->regs[i] = vcpu_hw_read_reg(i);
        }
    }
    if (armHSVCPUActive) {
        vcpu->vgic.hcr = GICH->hcr;
    }
    vcpu->vgic.vmcr = GICH->vmcr;
    vcpu->vgic.apr = GICH->apr;
    for (word_t i = 0; i < gic_vcpu_num_list_regs; i++) {
        vcpu->vgic.lr[i] = gich_get_lr(i);
    }
}

static void
vcpu_restore(vcpu_t *vcpu)
{
    GICH->hcr = 0;
    isb();
    GICH->vmcr = vcpu->vgic.vmcr;
    GICH->apr = vcpu->vgic.apr;
    for (word_t i = 0; i < gic_vcpu_num_list_regs; i++) {
        gich_set_lr(i, vcpu->vgic.lr[i]);
    }
    for (word_t i = 0; i < seL4_VCPUReg_Num; i++) {
        if (!vcpu_reg_is_for_el0(i)) {
            vcpu_hw_write_reg(i, vcpu->regs[i]);
        }
    }
    vcpu_enable(vcpu);
}

BOOT_CODE void
vcpu_boot_init(void)
{
    word_t value;

    MSR("vtcr_el2", VTCR_VALUE);
    MSR("cptr_el2", CPTR_VALUE);
    MSR("hstr_el2", 0);
    MRS("pmcr_el0", value);
    MSR("mdcr_el2", MDCR_VALUE | PMCR_N(value));
    MSR("mdscr_el1", 0);
    MSR("pmuserenr_el0", 0);
    MRS("midr_el1", value);
    MSR("vpidr_el2", value);
    isb();

    gic_vcpu_num_list_regs = MIN(GICH_VTR_LIST_REGS(GICH->vtr), GIC_VCPU_MAX_NUM_LR);
    armHSCurVCPU = NULL;
    armHSVCPUActive = false;
    native_enable();
}

void
vcpu_init(vcpu_t *vcpu)
{
    vcpu->regs[seL4_VCPUReg_SCTLR] = SCTLR_VM;
    vcpu->regs[seL4_VCPUReg_VMPIDR] = BIT(31); /* RES1; processor 0 */
    vcpu->vgic.hcr = GICH_HCR_EN;
}

void
vcpu_switch(vcpu_t *new)
{
    if (new == NULL) {
        if (unlikely(armHSVCPUActive)) {
            vcpu_disable(armHSCurVCPU);
            armHSVCPUActive = false;
        }
    } else if (new != armHSCurVCPU) {
        if (armHSCurVCPU != NULL) {
            vcpu_save(armHSCurVCPU);
        }
        vcpu_restore(new);
        armHSCurVCPU = new;
        armHSVCPUActive = true;
    } else if (!armHSVCPUActive) {
        vcpu_enable(new);
        armHSVCPUActive = true;
    }
}

/* The EL1 physical timer (CNTP, and its interrupt) is for one native thread: that which is bound
 * to the notification that the interrupt's handler capability was given. So whoever holds that
 * capability decides, and can take it back. */
static bool_t
mayUsePhysicalTimer(tcb_t *tcb)
{
    cap_t cap = intStateIRQNode[INTERRUPT_PHYS_TIMER].cap;

    return cap_get_capType(cap) == cap_notification_cap && tcb->tcbBoundNotification != NULL &&
           tcb->tcbBoundNotification == NTFN_PTR(cap_notification_cap_get_capNtfnPtr(cap));
}

void
armHSSwitchToThread(tcb_t *tcb)
{
    vcpu_switch(tcb->tcbArch.vcpu);
    if (likely(!armHSVCPUActive)) {
        MSR("cntkctl_el1", CNTKCTL_NATIVE | (mayUsePhysicalTimer(tcb) ? CNTKCTL_EL0PTEN : 0));
    }
}

void
associateVCPUTCB(vcpu_t *vcpu, tcb_t *tcb)
{
    if (tcb->tcbArch.vcpu) {
        dissociateVCPUTCB(tcb->tcbArch.vcpu, tcb);
    }
    if (vcpu->tcb) {
        dissociateVCPUTCB(vcpu, vcpu->tcb);
    }
    vcpu->tcb = tcb;
    tcb->tcbArch.vcpu = vcpu;
    if (tcb == ksCurThread) {
        vcpu_switch(vcpu);
    }
}

void
dissociateVCPUTCB(vcpu_t *vcpu, tcb_t *tcb)
{
    if (tcb->tcbArch.vcpu != vcpu || vcpu->tcb != tcb) {
        fail("TCB and VCPU not associated.");
    }
    if (vcpu == armHSCurVCPU) {
        vcpu_save(vcpu);
        if (armHSVCPUActive) {
            native_enable();
            armHSVCPUActive = false;
        }
        armHSCurVCPU = NULL;
    }
    tcb->tcbArch.vcpu = NULL;
    vcpu->tcb = NULL;

    /* Without a VCPU a thread can only be at EL0. */
    setRegister(tcb, SPSR_EL1, sanitiseRegister(SPSR_EL1, getRegister(tcb, SPSR_EL1), tcb));
}

void
vcpu_finalise(vcpu_t *vcpu)
{
    if (vcpu->tcb) {
        dissociateVCPUTCB(vcpu, vcpu->tcb);
    }
}

/* A level-triggered interrupt of the guest's own virtual timer. It stays masked for this VCPU
 * until its monitor has shown it to the guest and the guest has dealt with it (AckVPPI). */
void
VPPIEvent(irq_t irq)
{
    if (armHSVCPUActive) {
        maskInterrupt(true, irq);
        armHSCurVCPU->vtimerMasked = true;
        current_fault = seL4_Fault_VPPIEvent_new(irq);
        handleFault(ksCurThread);
    }
}

/* The guest ended an interrupt whose list register asked for a notice. */
void
VGICMaintenance(void)
{
    uint32_t ended0, ended1;
    word_t index;
    virq_t virq;

    if (!armHSVCPUActive) {
        /* The interface was switched off with the VCPU; the interrupt comes again with it. */
        return;
    }

    ended0 = GICH->eisr[0];
    ended1 = GICH->eisr[1];
    if (!(GICH->misr & GICH_MISR_EOI) || !(ended0 | ended1)) {
        current_fault = seL4_Fault_VGICMaintenance_new(0, 0);
        handleFault(ksCurThread);
        return;
    }

    index = ended0 ? ctzl(ended0) : ctzl(ended1) + 32;
    current_fault = seL4_Fault_VGICMaintenance_new(index, 1);
    if (index < gic_vcpu_num_list_regs) {
        /* That ends the maintenance interrupt for this list register. */
        virq = gich_get_lr(index);
        switch (virq_get_virqType(virq)) {
        case virq_virq_active:
            virq = virq_virq_active_set_virqEOIIRQEN(virq, 0);
            break;
        case virq_virq_pending:
            virq = virq_virq_pending_set_virqEOIIRQEN(virq, 0);
            break;
        default:
            virq = virq_virq_invalid_set_virqEOIIRQEN(virq, 0);
            break;
        }
        gich_set_lr(index, virq);
    }
    handleFault(ksCurThread);
}

void
handleVCPUFault(word_t hsr)
{
    if (armHSVCPUActive) {
        current_fault = seL4_Fault_VCPUFault_new(hsr);
    } else {
        /* A native thread: a breakpoint, a trapped register, an SError, … */
        current_fault = seL4_Fault_UserException_new(hsr, 0);
    }
    handleFault(ksCurThread);
    schedule();
    activateThread();
}

/* ============================ invocations ============================ */

static exception_t
truncatedMessage(void)
{
    current_syscall_error.type = seL4_TruncatedMessage;
    return EXCEPTION_SYSCALL_ERROR;
}

static exception_t
rangeError(word_t argument, word_t max)
{
    current_syscall_error.type = seL4_RangeError;
    current_syscall_error.rangeErrorMin = 0;
    current_syscall_error.rangeErrorMax = max;
    current_syscall_error.invalidArgumentNumber = argument;
    return EXCEPTION_SYSCALL_ERROR;
}

static exception_t
decodeVCPUSetTCB(vcpu_t *vcpu, extra_caps_t extraCaps)
{
    cap_t tcbCap;

    if (extraCaps.excaprefs[0] == NULL) {
        userError("VCPU SetTCB: Truncated message.");
        return truncatedMessage();
    }
    tcbCap = extraCaps.excaprefs[0]->cap;
    if (cap_get_capType(tcbCap) != cap_thread_cap) {
        userError("VCPU SetTCB: Not a TCB cap.");
        current_syscall_error.type = seL4_InvalidCapability;
        current_syscall_error.invalidCapNumber = 1;
        return EXCEPTION_SYSCALL_ERROR;
    }

    setThreadState(ksCurThread, ThreadState_Restart);
    associateVCPUTCB(vcpu, TCB_PTR(cap_thread_cap_get_capTCBPtr(tcbCap)));
    return EXCEPTION_NONE;
}

static exception_t
decodeVCPUInjectIRQ(vcpu_t *vcpu, word_t length, word_t *buffer)
{
    word_t mr0, vid, priority, group, index;
    virq_t current, virq;

    if (length < 1) {
        userError("VCPU InjectIRQ: Truncated message.");
        return truncatedMessage();
    }
    /* As libsel4's stub packs its four arguments of 16, 8, 8 and 8 bits. */
    mr0 = getSyscallArg(0, buffer);
    vid = mr0 & 0xffff;
    priority = (mr0 >> 16) & 0xff;
    group = (mr0 >> 24) & 0xff;
    index = (mr0 >> 32) & 0xff;

    if (vid >= BIT(10)) {
        return rangeError(1, BIT(10) - 1);
    }
    if (priority >= BIT(5)) {
        return rangeError(2, BIT(5) - 1);
    }
    if (group > 1) {
        return rangeError(3, 1);
    }
    if (index >= gic_vcpu_num_list_regs) {
        return rangeError(4, gic_vcpu_num_list_regs - 1);
    }
    current = vcpu == armHSCurVCPU ? gich_get_lr(index) : vcpu->vgic.lr[index];
    if (virq_get_virqType(current) != virq_virq_invalid) {
        userError("VCPU InjectIRQ: List register in use.");
        current_syscall_error.type = seL4_DeleteFirst;
        return EXCEPTION_SYSCALL_ERROR;
    }

    setThreadState(ksCurThread, ThreadState_Restart);
    virq = virq_virq_pending_new(group, priority, 1, vid);
    if (vcpu == armHSCurVCPU) {
        gich_set_lr(index, virq);
    } else {
        vcpu->vgic.lr[index] = virq;
    }
    return EXCEPTION_NONE;
}

static exception_t
decodeVCPUReadReg(vcpu_t *vcpu, word_t length, word_t *buffer)
{
    word_t reg;

    if (length < 1) {
        userError("VCPU ReadReg: Truncated message.");
        return truncatedMessage();
    }
    reg = getSyscallArg(0, buffer);
    if (reg >= seL4_VCPUReg_Num) {
        userError("VCPU ReadReg: Invalid register 0x%lx.", (long)reg);
        current_syscall_error.type = seL4_InvalidArgument;
        current_syscall_error.invalidArgumentNumber = 1;
        return EXCEPTION_SYSCALL_ERROR;
    }

    setRegister(ksCurThread, msgRegisters[0],
                vcpu_reg_is_in_hw(vcpu, reg) ? vcpu_hw_read_reg(reg) : vcpu->regs[reg]);
    setRegister(ksCurThread, msgInfoRegister,
                wordFromMessageInfo(seL4_MessageInfo_new(0, 0, 0, 1)));
    setThreadState(ksCurThread, ThreadState_Running);
    return EXCEPTION_NONE;
}

static exception_t
decodeVCPUWriteReg(vcpu_t *vcpu, word_t length, word_t *buffer)
{
    word_t reg, value;

    if (length < 2) {
        userError("VCPU WriteReg: Truncated message.");
        return truncatedMessage();
    }
    reg = getSyscallArg(0, buffer);
    value = getSyscallArg(1, buffer);
    if (reg >= seL4_VCPUReg_Num) {
        userError("VCPU WriteReg: Invalid register 0x%lx.", (long)reg);
        current_syscall_error.type = seL4_InvalidArgument;
        current_syscall_error.invalidArgumentNumber = 1;
        return EXCEPTION_SYSCALL_ERROR;
    }

    setThreadState(ksCurThread, ThreadState_Restart);
    if (vcpu_reg_is_in_hw(vcpu, reg)) {
        vcpu_hw_write_reg(reg, value);
    } else {
        vcpu->regs[reg] = value;
    }
    return EXCEPTION_NONE;
}

static exception_t
decodeVCPUAckVPPI(vcpu_t *vcpu, word_t length, word_t *buffer)
{
    if (length < 1) {
        userError("VCPU AckVPPI: Truncated message.");
        return truncatedMessage();
    }
    if (getSyscallArg(0, buffer) != INTERRUPT_VIRT_TIMER) {
        userError("VCPU AckVPPI: Not an interrupt that comes as a VPPI event.");
        current_syscall_error.type = seL4_InvalidArgument;
        current_syscall_error.invalidArgumentNumber = 0;
        return EXCEPTION_SYSCALL_ERROR;
    }

    setThreadState(ksCurThread, ThreadState_Restart);
    vcpu->vtimerMasked = false;
    if (vcpu == armHSCurVCPU && armHSVCPUActive) {
        maskInterrupt(false, INTERRUPT_VIRT_TIMER);
    }
    return EXCEPTION_NONE;
}

exception_t
decodeARMVCPUInvocation(word_t label, unsigned int length, cptr_t cptr, cte_t *slot, cap_t cap,
                        extra_caps_t extraCaps, word_t *buffer)
{
    vcpu_t *vcpu = VCPU_PTR(cap_vcpu_cap_get_capVCPUPtr(cap));

    switch (label) {
    case ARMVCPUSetTCB:
        return decodeVCPUSetTCB(vcpu, extraCaps);
    case ARMVCPUInjectIRQ:
        return decodeVCPUInjectIRQ(vcpu, length, buffer);
    case ARMVCPUReadReg:
        return decodeVCPUReadReg(vcpu, length, buffer);
    case ARMVCPUWriteReg:
        return decodeVCPUWriteReg(vcpu, length, buffer);
    case ARMVCPUAckVPPI:
        return decodeVCPUAckVPPI(vcpu, length, buffer);
    default:
        userError("VCPU: Illegal operation.");
        current_syscall_error.type = seL4_IllegalOperation;
        return EXCEPTION_SYSCALL_ERROR;
    }
}
