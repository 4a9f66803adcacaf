//! Where things are in a native container: its virtual addresses and its capability slots.
//!
//! Everything lies below 512 GiB, so that one upper directory serves, and it fits the
//! smallest address space of the kernels we run on (40-bit stage 2).
//!
//! ```text
//! 0x00_0000_0000  nothing: null pointers fault
//! 0x00_0001_0000  ET_EXEC programs, where their file says, up to PIE_BASE
//! 0x40_0000_0000  PIE_BASE: ET_DYN programs; then, page-aligned, the heap (brk)
//! 0x50_0000_0000  MMAP_BASE: anonymous memory that libkos makes from the handed untypeds
//! 0x7f_c000_0000  KOS_BASE: libkos text, read-only data, data (up to 2 MiB)
//!      +0020_0000   INFO_BASE: Info and process block, read-only (up to 64 KiB)
//!      +0024_0000   first thread: its Block (one page), IPC buffer (one page); the page of the
//!                   thread that faults go to; libkos stack
//!      +0027_0000   registers and memory of devices, where the contract has any ([`crate::board`])
//!      +0030_0000   libkos's heap, made from the handed untypeds
//!      +0fff_0000   STACK_TOP: the program's first stack, growing down
//!      +1000_0000   INITRD_BASE: the initrd, read-only (up to 512 MiB)
//! ```

/// Bytes of a small page.
pub const PAGE: u64 = 4096;
/// Bytes of a large page, and of what one last-level page table spans.
pub const LARGE_PAGE: u64 = 2 << 20;
/// Lowest address at which an ET_EXEC program may have a segment.
pub const PROGRAM_MIN: u64 = 0x1_0000;
/// Load address of ET_DYN programs, and end of the range for ET_EXEC ones.
pub const PIE_BASE: u64 = 0x40_0000_0000;
/// First address of memory that libkos maps by itself; end of program and heap.
pub const MMAP_BASE: u64 = 0x50_0000_0000;
/// End of that memory.
pub const MMAP_END: u64 = 0x70_0000_0000;
/// Link address of libkos.
pub const KOS_BASE: u64 = 0x7f_c000_0000;
/// End of the space for libkos.
pub const KOS_END: u64 = KOS_BASE + 0x20_0000;
/// Address of [`crate::info::Info`], with the process block behind it.
pub const INFO_BASE: u64 = KOS_BASE + 0x20_0000;
/// Most pages that Info and the process block may take.
pub const INFO_PAGES_MAX: u64 = 16;
/// Address of the first thread's [`crate::gate`] block; TPIDRRO_EL0 points here.
pub const BLOCK_BASE: u64 = KOS_BASE + 0x24_0000;
/// Address of the first thread's IPC buffer.
pub const IPC_BUFFER: u64 = BLOCK_BASE + 2 * PAGE;
/// Address of the page of the thread to which libkos has faults come: its IPC buffer, and its stack
/// behind that.
pub const FAULTS_BASE: u64 = BLOCK_BASE + 4 * PAGE;
/// End (highest address) of the stack on which libkos runs for the first thread.
pub const KOS_STACK_TOP: u64 = KOS_BASE + 0x26_0000;
/// Pages of that stack; the page below it is never mapped.
pub const KOS_STACK_PAGES: u64 = 8;
/// First address of libkos's own heap, as far as its data does not suffice.
pub const KOS_HEAP_BASE: u64 = KOS_BASE + 0x30_0000;
/// End of that heap.
pub const KOS_HEAP_END: u64 = KOS_BASE + 0x700_0000;
/// End (highest address) of the program's first stack; below its pages nothing is mapped.
pub const STACK_TOP: u64 = KOS_BASE + 0x0fff_0000;
/// Most pages that the first stack may take (128 MiB).
pub const STACK_PAGES_MAX: u64 = 1 << 15;
/// Address of the initrd.
pub const INITRD_BASE: u64 = KOS_BASE + 0x1000_0000;
/// Most pages of an initrd (512 MiB).
pub const INITRD_PAGES_MAX: u64 = 1 << 17;

/// Slots of a container's own CSpace: all the authority it has.
pub mod slot {
    /// Its first TCB.
    pub const TCB: u64 = 1;
    /// Its CNode itself, with the guard of its threads: addresses of slots have 64 bits.
    pub const CNODE: u64 = 2;
    /// Its VSpace.
    pub const VSPACE: u64 = 3;
    /// Endpoint to the root server, badged with the container's id ([`crate::info::request`]).
    pub const REQUEST: u64 = 4;
    /// Endpoint to which the kernel sends this container's faults.
    pub const FAULT: u64 = 5;
    /// The frame of its first IPC buffer, for its other threads to have it too.
    pub const BUFFER: u64 = 6;
    /// Notification that is signalled when the time of [`crate::info::request::TIMER`] has come, or
    /// a device has an interrupt.
    pub const TIMER: u64 = 7;
    /// First of the handed untypeds: the large ones, then the 4 KiB ones, then the interrupts of
    /// its devices. After them all slots are free.
    pub const UNTYPED: u64 = 8;
}
