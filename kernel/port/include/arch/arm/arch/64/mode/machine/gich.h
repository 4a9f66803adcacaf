/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * GICH: the GICv2 registers by which a hypervisor gives interrupts to its guest (ARM IHI 0048B,
 * chapter 5).
 */
#ifndef __ARCH_MODE_MACHINE_GICH_H
#define __ARCH_MODE_MACHINE_GICH_H

#include <config.h>
#include <stdint.h>
#include <util.h>
#include <plat/machine/devices.h>

struct gich_map {
    uint32_t hcr;       /* 0x000 hypervisor control */
    uint32_t vtr;       /* 0x004 type */
    uint32_t vmcr;      /* 0x008 the guest's view of its own interface */
    uint32_t res1[1];
    uint32_t misr;      /* 0x010 why there is a maintenance interrupt */
    uint32_t res2[3];
    uint32_t eisr[2];   /* 0x020 list registers whose interrupt has ended */
    uint32_t res3[2];
    uint32_t elsr[2];   /* 0x030 list registers that are empty */
    uint32_t res4[46];
    uint32_t apr;       /* 0x0f0 active priorities */
    uint32_t res5[3];
    uint32_t lr[64];    /* 0x100 list registers */
};

#define GICH ((volatile struct gich_map *)GIC_VCPUCTRL_PPTR)

#define GICH_HCR_EN             BIT(0)
#define GICH_MISR_EOI           BIT(0)
#define GICH_VTR_LIST_REGS(vtr) (((vtr) & MASK(6)) + 1)

static inline virq_t
gich_get_lr(word_t index)
{
    virq_t virq;
    virq.words[0] = GICH->lr[index];
    return virq;
}

static inline void
gich_set_lr(word_t index, virq_t virq)
{
    GICH->lr[index] = virq.words[0];
}

#endif
