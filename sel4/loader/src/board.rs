//! QEMU's `virt` board and its processor: all that is `unsafe` here.

use core::arch::{asm, global_asm};
use core::fmt;
use core::ops::Range;
use core::slice;
use koskit_spec::archive;

/// Physical addresses where kernel and root server may go: from the start of memory up to
/// where this loader is.
pub const KERNEL: Range<u64> = 0x4000_0000..0x7000_0000;
/// First register of the serial port, a PL011.
const UART: u64 = 0x0900_0000;

global_asm!(
    ".section .text.start, \"ax\"",
    ".global _start",
    "_start:",
    "mrs x0, cntvct_el0",
    "adrp x1, stack_top",
    "add x1, x1, :lo12:stack_top",
    "mov sp, x1",
    "bl {start}",
    start = sym start,
);

extern "C" fn start(reset: u64) -> ! {
    crate::boot(reset)
}

/// The level that the processor is at.
pub fn exception_level() -> u64 {
    let level: u64;
    // SAFETY: reads a register that every level above 0 may read.
    unsafe { asm!("mrs {}, CurrentEL", out(reg) level, options(nomem, nostack)) };
    level >> 2 & 3
}

/// Does nothing for ever.
pub fn wait_forever() -> ! {
    loop {
        // SAFETY: waits; changes nothing.
        unsafe { asm!("wfi", options(nomem, nostack)) };
    }
}

/// The serial port, as QEMU or a firmware has set it up.
pub struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: these are the data register and the flag register of the board's
            // PL011, which nobody else uses now. Bit 5: it can take no more bytes.
            unsafe {
                while core::ptr::read_volatile((UART + 0x18) as *const u32) & 1 << 5 != 0 {}
                core::ptr::write_volatile(UART as *mut u32, u32::from(byte));
            }
        }
        Ok(())
    }
}

/// Bytes of the boot archive. The board has memory for the largest one, which nobody writes.
///
/// # Panics
/// They lie outside of it.
pub fn archive_bytes(offset: u64, size: u64) -> &'static [u8] {
    assert!(offset <= archive::SIZE_MAX && size <= archive::SIZE_MAX - offset);
    // SAFETY: inside the archive, which is memory that only QEMU has written to.
    unsafe { slice::from_raw_parts((archive::BASE + offset) as *const u8, size as usize) }
}

/// The memory where kernel and root server go.
pub struct Memory(());

impl Memory {
    /// Takes it.
    ///
    /// # Safety
    /// To be called once.
    pub const unsafe fn take() -> Self {
        Self(())
    }

    /// Writes `bytes` at a physical address, and zeroes from there up to `size`.
    ///
    /// # Panics
    /// Not all of it lies in [`KERNEL`].
    pub fn put(&mut self, address: u64, bytes: &[u8], size: u64) {
        assert!(KERNEL.contains(&address) && size <= KERNEL.end - address);
        assert!(bytes.len() as u64 <= size);
        // SAFETY: inside the range, to which this is the only reference: the loader and its
        // stack lie above it, and the archive as well.
        let to = unsafe { slice::from_raw_parts_mut(address as *mut u8, size as usize) };
        let (head, tail) = to.split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        tail.fill(0);
    }
}

/// How to enter the kernel; addresses are physical, but for `kernel` and `user_entry`.
pub struct Entry {
    /// The kernel's entry point.
    pub kernel: u64,
    /// Start of the root server.
    pub user_start: u64,
    /// Its end.
    pub user_end: u64,
    /// What is added to a virtual address of the root server to get the physical one.
    pub offset: u64,
    /// Its entry point.
    pub user_entry: u64,
}

/// A table of 512 descriptors.
#[repr(C, align(4096))]
struct Table([u64; 512]);

/// Descriptor of a table.
const TABLE: u64 = 3;
/// 1 GiB of device memory: attribute 0, access flag.
const DEVICE: u64 = 1 | 1 << 10;
/// 1 GiB of memory: attribute 4, inner shareable, access flag.
const NORMAL: u64 = 1 | 4 << 2 | 3 << 8 | 1 << 10;
/// The kernel's own: attribute 0 is device memory, 4 is cached.
const MAIR: u64 = 0xff_440c_0400;
/// 48 bits of virtual address, 4 KiB pages, walks cached and inner shareable, and the two bits
/// that must be 1; the size of physical addresses is added.
const TCR: u64 = 1 << 31 | 1 << 23 | 3 << 12 | 1 << 10 | 1 << 8 | 16;
/// SCTLR_EL2: MMU, data cache, instruction cache.
const SCTLR_ON: u64 = 1 | 1 << 2 | 1 << 12;
/// SCTLR_EL2: alignment checks.
const SCTLR_OFF: u64 = 1 << 1;

/// Turns the MMU on, with devices and the first GiB of memory at their own addresses and
/// that memory at the kernel's as well (0xff80_0000_0000), and enters the kernel.
pub fn enter(entry: Entry) -> ! {
    static mut TOP: Table = Table([0; 512]);
    static mut LOW: Table = Table([0; 512]);
    static mut HIGH: Table = Table([0; 512]);
    let (top, low, high) = (&raw mut TOP, &raw mut LOW, &raw mut HIGH);
    // SAFETY: the only use of the three tables, and the processor does not walk them yet.
    unsafe {
        (*top).0[0] = low as u64 | TABLE;
        (*top).0[511] = high as u64 | TABLE;
        (*low).0[0] = DEVICE;
        (*low).0[1] = KERNEL.start | NORMAL;
        (*high).0[0] = KERNEL.start | NORMAL;
    }
    // SAFETY: what runs and the stack stay where they are, since the tables map them at
    // their own addresses; what was written without caches is in memory, and caches that hold
    // nothing yet are turned on. The kernel takes x0 to x3 and never returns.
    unsafe {
        asm!(
            "msr mair_el2, {mair}",
            "mrs {size}, id_aa64mmfr0_el1",
            "and {size}, {size}, #7",
            "cmp {size}, #5",
            "mov {old}, #5",
            "csel {size}, {size}, {old}, lo",
            "orr {tcr}, {tcr}, {size}, lsl #16",
            "msr tcr_el2, {tcr}",
            "msr ttbr0_el2, {top}",
            "msr cntvoff_el2, xzr",
            "dsb sy",
            "tlbi alle2",
            "ic iallu",
            "dsb sy",
            "isb",
            "mrs {old}, sctlr_el2",
            "orr {old}, {old}, {on}",
            "bic {old}, {old}, {off}",
            "msr sctlr_el2, {old}",
            "isb",
            "br {kernel}",
            mair = in(reg) MAIR,
            tcr = inout(reg) TCR => _,
            top = in(reg) top,
            on = in(reg) SCTLR_ON,
            off = in(reg) SCTLR_OFF,
            size = out(reg) _,
            old = out(reg) _,
            kernel = in(reg) entry.kernel,
            in("x0") entry.user_start,
            in("x1") entry.user_end,
            in("x2") entry.offset,
            in("x3") entry.user_entry,
        )
    }
    wait_forever()
}
