/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Stage-2 address spaces and their TLB entries.
 *
 * seL4's ASIDs have 16 bits, VMIDs have 8 (VTCR_EL2.VS = 0). A VMID is the lower 8 bits of the
 * ASID; for each VMID we remember whose entries the TLB may hold, and drop them when another
 * address space with that VMID is loaded. No two of the first 255 address spaces share a VMID.
 */

#include <config.h>
#include <types.h>
#include <machine.h>
#include <arch/model/statedata.h>
#include <mode/machine/el2.h>

#define VMID_BITS  8
#define TTBR_ASID(ttbr) ((ttbr) >> 48)
#define TTBR_ROOT(ttbr) ((ttbr) & MASK(48))
#define VMID(asid)      ((asid) & MASK(VMID_BITS))

/* The ttbr whose TLB entries a VMID may have. */
static word_t vmidOwner[BIT(VMID_BITS)];

void
setCurrentStage2Root(word_t ttbr)
{
    word_t vmid = VMID(TTBR_ASID(ttbr));

    dsb();
    MSR("vttbr_el2", TTBR_ROOT(ttbr) | vmid << 48);
    isb();
    if (unlikely(vmidOwner[vmid] != ttbr)) {
        vmidOwner[vmid] = ttbr;
        asm volatile("tlbi vmalls12e1");
        dsb();
        isb();
    }
}

void
invalidateStage2TLB(word_t asid)
{
    word_t vmid = VMID(asid);
    word_t current;

    if (TTBR_ASID(vmidOwner[vmid]) != asid) {
        /* Nothing of it is left: another address space has the VMID, or never had any. */
        return;
    }
    /* TLBI works on the VMID in VTTBR_EL2; an empty root goes with it, so that nothing that is
     * about to vanish is walked. */
    MRS("vttbr_el2", current);
    dsb();
    MSR("vttbr_el2", (word_t)pptr_to_paddr(armKSGlobalUserPGD) | vmid << 48);
    isb();
    asm volatile("tlbi vmalls12e1");
    dsb();
    MSR("vttbr_el2", current);
    isb();
}
