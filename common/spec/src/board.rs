//! The devices of the board that containers can have: QEMU's `virt`.
//!
//! A device is a page of registers and an interrupt; one that reads and writes memory has pages for
//! that, too. Those are the device's for as long as the machine runs, and not its driver's: where a
//! driver dies, its device may still write to them. Nothing keeps a device from writing elsewhere,
//! so whoever drives one that has memory is trusted with all of the machine's.

use crate::layout::{KOS_BASE, PAGE};

/// A device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// What contracts call it.
    pub name: &'static str,
    /// Physical address of its page of registers.
    pub registers: u64,
    /// Number of its interrupt.
    pub interrupt: u64,
    /// Pages that it shares with its driver, one after the other in physical memory.
    pub dma_pages: u64,
}

/// All of them. A contract's devices are bits by their place here.
pub const DEVICES: [Device; 1] =
    [Device { name: "rtc", registers: 0x0901_0000, interrupt: 34, dma_pages: 0 }];

/// Bytes from one device to the next in a container's address space.
const SPAN: u64 = 0x4_0000;

/// Address of a device's registers in a container that has it; behind them are the pages that it
/// shares with the device.
pub const fn registers(index: usize) -> u64 {
    KOS_BASE + 0x27_0000 + index as u64 * SPAN
}

/// The devices of a contract, with their places in [`DEVICES`].
pub fn devices(bits: u32) -> impl Iterator<Item = (usize, &'static Device)> {
    DEVICES.iter().enumerate().filter(move |(index, _)| bits & 1 << index != 0)
}

/// The bit of the device with a name.
pub fn bit(name: &str) -> Option<u32> {
    DEVICES.iter().position(|device| device.name == name).map(|index| 1 << index)
}

const _: () = {
    let mut index = 0;
    while index < DEVICES.len() {
        assert!(DEVICES[index].dma_pages < SPAN / PAGE);
        index += 1;
    }
    assert!(registers(DEVICES.len()) <= crate::layout::KOS_HEAP_BASE);
};
