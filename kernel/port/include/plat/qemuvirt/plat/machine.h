/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __PLAT_MACHINE_H
#define __PLAT_MACHINE_H

#ifndef CONFIG_ARM_HYPERVISOR_SUPPORT
#error "The qemuvirt platform runs at EL2 only"
#endif

/* Interrupt numbers of QEMU's "virt" board. 16 to 31 are private to the processor (PPIs). */
enum IRQConstants {
    INTERRUPT_VGIC_MAINTENANCE = 25,
    INTERRUPT_HYP_TIMER        = 26,
    INTERRUPT_VIRT_TIMER       = 27,
    INTERRUPT_PHYS_TIMER       = 30,
    INTERRUPT_UART0            = 33,
    maxIRQ                     = 287 /* 32 + 256 shared interrupts */
} platform_interrupt_t;

/* The kernel ticks by the EL2 timer. The virtual timer belongs to guests, and the EL1 physical
 * timer to the one thread that is given it (see armHSTimerAccess). */
#define KERNEL_TIMER_IRQ INTERRUPT_HYP_TIMER

/* log2 of the bytes of the interrupt CNode: 288 slots of 32 bytes. */
#define IRQ_CNODE_BITS 14

#include <arch/machine/gic_pl390.h>

#endif
