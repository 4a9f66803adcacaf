/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is special about a kernel that runs at EL2.
 *
 * Its own translation is TTBR0_EL2's. User level runs under stage 2 (VTTBR_EL2): native threads
 * at EL0 with stage 1 off, guests at EL1 and EL0 with a stage 1 of their own. TLB entries of
 * both are tagged by the VMID in VTTBR_EL2.
 */
#ifndef __ARCH_MODE_MACHINE_EL2_H
#define __ARCH_MODE_MACHINE_EL2_H

#include <config.h>
#include <stdint.h>
#include <arch/types.h>
#include <util.h>

static inline void
invalidateHypTLB(void)
{
    asm volatile("dsb sy; tlbi alle2; dsb sy; isb" ::: "memory");
}

/* Loads VTTBR_EL2. The words are those of a ttbr: ASID in the upper 16 bits, root below. */
void setCurrentStage2Root(word_t ttbr);

/* Drops all TLB entries of an address space. */
void invalidateStage2TLB(word_t asid);

/* Where a stage-2 fault of a guest was: HPFAR_EL2 holds the page of it, but only for
 * translation and access flag faults and for faults on a walk of the guest's own page tables
 * (ESR bit 7, S1PTW). For the rest, permission faults, the guest's tables are asked. */
static inline word_t
getFaultIPA(word_t far, word_t esr)
{
    word_t hpfar, par, guest_par;

    /* fault status 0b0011xx is a permission fault */
    if ((esr & 0x3c) == 0x0c && !(esr & BIT(7))) {
        asm volatile(
            "mrs %1, par_el1    \n"
            "at  s1e1r, %2      \n"
            "isb                \n"
            "mrs %0, par_el1    \n"
            "msr par_el1, %1    \n"
            : "=&r"(par), "=&r"(guest_par) : "r"(far) : "memory");
        if (!(par & 1)) {
            return (par & 0x0000fffffffff000) | (far & MASK(12));
        }
    }
    asm volatile("mrs %0, hpfar_el2" : "=r"(hpfar));
    return (hpfar & 0xfffffffff0) << 8 | (far & MASK(12));
}

#endif
