//! What the root server tells libkos when a container starts, and what libkos may ask of it.

use crate::bytes::{u32_at, u64_at};

/// Written by the root server at [`crate::layout::INFO_BASE`], mapped read-only. The
/// process block ([`crate::contract::Process`]) follows directly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Added to every address of the program's ELF file: PIE_BASE for ET_DYN, else 0.
    pub load_bias: u64,
    /// Run-time address of the program's entry point.
    pub entry: u64,
    /// Run-time address of its program headers (auxv AT_PHDR), or 0 where no segment has them.
    pub phdr: u64,
    /// Size of one program header in bytes (AT_PHENT).
    pub phent: u32,
    /// Number of program headers (AT_PHNUM).
    pub phnum: u32,
    /// First address of the heap, already mapped and zero.
    pub heap_base: u64,
    /// Pages of the heap.
    pub heap_pages: u64,
    /// Pages of the first stack, ending at STACK_TOP.
    pub stack_pages: u64,
    /// Bytes of the initrd at INITRD_BASE; 0 where there is none.
    pub initrd_size: u64,
    /// Untypeds of 2 MiB, from slot UNTYPED on.
    pub ut_large_page: u32,
    /// Untypeds of 4 KiB, after the large ones.
    pub ut_4k_pages: u32,
    /// log2 of the number of slots of the container's CNode.
    pub cnode_bits: u32,
    /// Bytes of the process block.
    pub process_size: u32,
    /// Frequency of CNTVCT_EL0 in Hz.
    pub timer_hz: u64,
    /// CLOCK_REALTIME minus CLOCK_MONOTONIC in nanoseconds; 0 where nobody knows.
    pub epoch_ns: u64,
    /// seL4 priority of the first thread, and the highest that it may give to others.
    pub priority: u8,
    /// See `priority`.
    pub max_priority: u8,
    /// Most threads of the program at a time; 0 where only memory bounds them.
    pub threads: u32,
    /// Its devices, as in [`crate::contract::Contract::devices`].
    pub devices: u32,
    /// Physical address of the memory of its device that has some.
    pub dma: u64,
    /// Seed of the container's random numbers; no two containers get the same.
    pub seed: [u64; 4],
}

impl Info {
    /// Encoded size in bytes; the process block starts at this offset.
    pub const SIZE: usize = 160;
    /// Offset of the encoded `timer_hz`, which `epoch_ns` follows: for code that is not Rust.
    pub const CLOCK: usize = 88;
    const MAGIC: u32 = 0x694b_534b; // "KSKi"

    /// The encoding, to be written at INFO_BASE.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        let words = [
            Self::MAGIC as u64,
            self.load_bias,
            self.entry,
            self.phdr,
            self.phent as u64 | (self.phnum as u64) << 32,
            self.heap_base,
            self.heap_pages,
            self.stack_pages,
            self.initrd_size,
            self.ut_large_page as u64 | (self.ut_4k_pages as u64) << 32,
            self.cnode_bits as u64 | (self.process_size as u64) << 32,
            self.timer_hz,
            self.epoch_ns,
            self.seed[0],
            self.seed[1],
            self.seed[2],
            self.seed[3],
            self.priority as u64 | (self.max_priority as u64) << 8,
            self.threads as u64 | (self.devices as u64) << 32,
            self.dma,
        ];
        for (chunk, word) in out.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// Decodes what [`Info::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(from: &[u8]) -> Option<Self> {
        if from.len() < Self::SIZE || u64_at(from, 0)? != Self::MAGIC as u64 {
            return None;
        }
        Some(Self {
            load_bias: u64_at(from, 8)?,
            entry: u64_at(from, 16)?,
            phdr: u64_at(from, 24)?,
            phent: u32_at(from, 32)?,
            phnum: u32_at(from, 36)?,
            heap_base: u64_at(from, 40)?,
            heap_pages: u64_at(from, 48)?,
            stack_pages: u64_at(from, 56)?,
            initrd_size: u64_at(from, 64)?,
            ut_large_page: u32_at(from, 72)?,
            ut_4k_pages: u32_at(from, 76)?,
            cnode_bits: u32_at(from, 80)?,
            process_size: u32_at(from, 84)?,
            timer_hz: u64_at(from, Self::CLOCK)?,
            epoch_ns: u64_at(from, Self::CLOCK + 8)?,
            seed: [u64_at(from, 104)?, u64_at(from, 112)?, u64_at(from, 120)?, u64_at(from, 128)?],
            priority: u64_at(from, 136)? as u8,
            max_priority: (u64_at(from, 136)? >> 8) as u8,
            threads: u32_at(from, 144)?,
            devices: u32_at(from, 148)?,
            dma: u64_at(from, 152)?,
        })
    }
}

/// Messages that a container may `Call` on [`crate::layout::slot::REQUEST`]. The label is the
/// request; the reply's label is 0, or a Linux errno. Whatever else arrives is answered with
/// ENOSYS (38): no message can hurt the root server.
pub mod request {
    /// MR0: stream (1 stdout, 2 stderr, 3 machine log), MR1: length in bytes, then the bytes,
    /// eight to a register. At most [`WRITE_MAX`] bytes. Reply MR0: bytes taken.
    pub const WRITE: u64 = 0x10;
    /// MR0: exit status (0 to 255). There is no reply: the container is gone.
    pub const EXIT: u64 = 0x11;
    /// MR0: most bytes, at most [`READ_MAX`]. Waits until standard input has some. Reply MR0: how
    /// many, 0 at its end, then the bytes, eight to a register. EAGAIN (11) where another thread
    /// of the container waits already.
    pub const READ: u64 = 0x13;
    /// Most bytes of one READ: 118 message registers.
    pub const READ_MAX: usize = 118 * 8;
    /// MR0: a value of CNTVCT_EL0. When it is reached, [`crate::layout::slot::TIMER`] is
    /// signalled, once. A container has one such time, and each call replaces it; u64::MAX is
    /// none.
    pub const TIMER: u64 = 0x12;
    /// Set in the badge of a container's faults; below it is the badge of its requests.
    pub const FAULT_BADGE: u64 = 1 << 26;
    /// Most bytes of one WRITE: 118 message registers.
    pub const WRITE_MAX: usize = 118 * 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_survives_its_encoding() {
        let info = Info {
            entry: 7,
            phnum: 9,
            seed: [1, 2, 3, 4],
            max_priority: 8,
            dma: 5,
            ..Info::default()
        };
        assert_eq!(Info::from_bytes(&info.to_bytes()), Some(info));
        assert_eq!(Info::from_bytes(&[0; Info::SIZE]), None);
    }
}
