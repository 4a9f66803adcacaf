/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Virtual processors: what a guest has at EL1, kept while it does not run.
 */
#ifndef __ARCH_MODE_OBJECT_VCPU_H
#define __ARCH_MODE_OBJECT_VCPU_H

#include <config.h>
#include <api/failures.h>
#include <arch/linker.h>

#define GIC_VCPU_MAX_NUM_LR 64

/* The virtual CPU interface's registers (GICH) of one guest. */
struct gicVCpuIface {
    uint32_t hcr;
    uint32_t vmcr;
    uint32_t apr;
    virq_t lr[GIC_VCPU_MAX_NUM_LR];
};

struct vcpu {
    /* TCB associated with this VCPU. */
    struct tcb *tcb;
    word_t regs[seL4_VCPUReg_Num];
    /* The virtual timer's interrupt was delivered and awaits an ARM VCPU AckVPPI. */
    bool_t vtimerMasked;
    struct gicVCpuIface vgic;
};
typedef struct vcpu vcpu_t;
compile_assert(vcpu_size_correct, sizeof(struct vcpu) <= BIT(VCPU_SIZE_BITS))

/* Must be called in boot code before any other VCPU function. */
BOOT_CODE void vcpu_boot_init(void);

void vcpu_init(vcpu_t *vcpu);
void vcpu_finalise(vcpu_t *vcpu);
void vcpu_switch(vcpu_t *vcpu);
void associateVCPUTCB(vcpu_t *vcpu, struct tcb *tcb);
void dissociateVCPUTCB(vcpu_t *vcpu, struct tcb *tcb);

/* Loads what a thread has besides its address space and registers: its virtual processor, or
 * for a native thread the right to use the EL1 physical timer. */
void armHSSwitchToThread(struct tcb *tcb);

/* Interrupts that are about the guest that runs. */
void VGICMaintenance(void);
void VPPIEvent(irq_t irq);

/* A trap from EL0 or EL1 that is neither a system call nor a fault on memory. */
void handleVCPUFault(word_t hsr);

exception_t decodeARMVCPUInvocation(word_t label, unsigned int length, cptr_t cptr, cte_t *slot,
                                    cap_t cap, extra_caps_t extraCaps, word_t *buffer);

#endif
