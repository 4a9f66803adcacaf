/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __PLAT_MACHINE_HARDWARE_H
#define __PLAT_MACHINE_HARDWARE_H

#include <config.h>
#include <basic_types.h>
#include <arch/linker.h>
#include <plat/machine.h>
#include <plat/machine/devices.h>
#include <arch/object/vcpu.h>

#define TIMER_CLOCK_HZ      62500000llu

/* WARNING: physBase and kernelBase are also defined in linker.lds. */
#define physBase            0x40000000
/* The last 512 GiB of the 48 bits that TTBR0_EL2 translates. */
#define kernelBase          0x0000ff8000000000
/* The last address of the 44 bits that stage 2 translates for user level. */
#define USER_TOP            0x00000fffffffffff

static const kernel_frame_t BOOT_RODATA kernel_devices[] = {
    { GIC_CONTROLLER0_PADDR, GIC_CONTROLLER_PPTR, true /* armExecuteNever */ },
    { GIC_DISTRIBUTOR_PADDR, GIC_DISTRIBUTOR_PPTR, true },
    { GIC_VCPUCTRL_PADDR, GIC_VCPUCTRL_PPTR, true },
#ifdef CONFIG_PRINTING
    { UART0_PADDR, UART0_PPTR, true },
#endif
};

/* Memory that becomes ordinary untypeds: 1 GiB. */
static const p_region_t BOOT_RODATA avail_p_regs[] = {
    { .start = 0x40000000, .end = 0x80000000 },
};

/* Memory that becomes device untypeds: frames only, never cleared, no kernel objects. */
static const p_region_t BOOT_RODATA dev_p_regs[] = {
    { GIC_VCPU_PADDR, GIC_VCPU_PADDR + 0x2000 },
    { UART0_PADDR, UART0_PADDR + 0x1000 },
    { RTC_PADDR, RTC_PADDR + 0x1000 },
    { VIRTIO_PADDR, VIRTIO_PADDR + 0x4000 },
    /* The boot archive, which user level maps where it lies. It is memory, and must not be
     * cleared by a retype; that is all that "device" means here. */
    { 0x80000000, 0x90000000 },
};

static inline void
handleReservedIRQ(irq_t irq)
{
    switch (irq) {
    case INTERRUPT_VGIC_MAINTENANCE:
        VGICMaintenance();
        break;
    case INTERRUPT_VIRT_TIMER:
        VPPIEvent(irq);
        break;
    }
}

#endif
