//! The contract: the numbers that bound a container, and the process it is for.

use crate::bytes::{u32_at, u64_at};
use crate::layout;
use core::fmt;

/// Longest name of a container, in bytes.
pub const NAME_MAX: usize = 63;

/// What a native container may hold. Encoded in 128 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contract {
    name: [u8; NAME_MAX + 1],
    /// log2 of the bytes of the one untyped from which everything of the container is made.
    pub untyped_bits: u32,
    /// log2 of the slots of its CNode.
    pub cnode_bits: u32,
    /// 4 KiB pages of heap (`brk`).
    pub heap_pages: u32,
    /// 4 KiB pages of the first stack.
    pub stack_pages: u32,
    /// Untypeds of 2 MiB handed over.
    pub ut_large_page: u32,
    /// Untypeds of 4 KiB handed over.
    pub ut_4k_pages: u32,
    /// seL4 priority of the first thread.
    pub priority: u8,
    /// seL4 maximum controlled priority.
    pub max_priority: u8,
    /// Most threads of its program at a time; 0 where only memory bounds them.
    pub threads: u32,
    /// Devices that it has: bit n is [`crate::board::DEVICES`]'s number n.
    pub devices: u32,
    /// Thousandths of a processor that it may use; 0 where only its priority bounds that.
    pub cpu: u32,
}

/// Highest priority that a container may have: the root server itself runs above it.
pub const PRIORITY_MAX: u8 = 254;

/// Most threads that a contract can state.
pub const THREADS_MAX: u32 = 4096;
/// All of a processor.
pub const CPU_MAX: u32 = 1000;

/// Why a contract is refused before anything is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContractError {
    /// The bytes are no contract of this version.
    Format,
    /// `what` is `asked`, outside `min..=max`.
    Range {
        /// Name of the resource, as in the label.
        what: &'static str,
        /// What the contract says.
        asked: u64,
        /// Least value accepted.
        min: u64,
        /// Largest value accepted.
        max: u64,
    },
    /// What the contract promises does not fit the untyped that it states.
    Untyped {
        /// Bytes that the objects come to.
        needed: u64,
        /// Bytes of the untyped.
        stated: u64,
    },
}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => write!(f, "it is no contract that this root server understands"),
            Self::Range { what, asked, min, max } => {
                write!(f, "{what} is {asked}, but must be between {min} and {max}")
            }
            Self::Untyped { needed, stated } => {
                write!(f, "its objects need {needed} bytes, but its untyped has {stated} bytes")
            }
        }
    }
}

impl core::error::Error for ContractError {}

impl Contract {
    /// Encoded size in bytes.
    pub const SIZE: usize = 128;
    const MAGIC: u64 = u64::from_le_bytes(*b"KOSctr01");

    /// A contract with the default resources; `name` is cut at [`NAME_MAX`] bytes.
    pub fn new(name: &str) -> Self {
        let mut bytes = [0; NAME_MAX + 1];
        let mut end = name.len().min(NAME_MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
        Self {
            name: bytes,
            untyped_bits: 0,
            cnode_bits: 6,
            heap_pages: 32,
            stack_pages: 16,
            ut_large_page: 0,
            ut_4k_pages: 16,
            priority: 180,
            max_priority: 190,
            threads: 0,
            devices: 0,
            cpu: 0,
        }
    }

    /// Name of the container.
    pub fn name(&self) -> &str {
        let end = self.name.iter().position(|&b| b == 0).unwrap_or(NAME_MAX);
        core::str::from_utf8(&self.name[..end]).unwrap_or("?")
    }

    /// Checks every number against what this layout and kernel can give at all.
    ///
    /// # Errors
    /// [`ContractError::Range`] with the first number that is out of range.
    pub fn check(&self) -> Result<(), ContractError> {
        let handed = self.ut_large_page as u64 + self.ut_4k_pages as u64;
        let slots = layout::slot::UNTYPED + handed + self.devices.count_ones() as u64;
        let heap_max = (layout::MMAP_BASE - layout::PIE_BASE) / layout::PAGE / 2;
        let range = |what, asked: u64, min, max| {
            if (min..=max).contains(&asked) {
                Ok(())
            } else {
                Err(ContractError::Range { what, asked, min, max })
            }
        };
        range("untyped_bits", self.untyped_bits as u64, 12, 38)?;
        range("cnode_bits", self.cnode_bits as u64, 4, 16)?;
        range("heap_pages", self.heap_pages as u64, 0, heap_max)?;
        range("stack_pages", self.stack_pages as u64, 1, layout::STACK_PAGES_MAX)?;
        range("number of handed capabilities", slots, 0, 1u64 << self.cnode_bits)?;
        range("max_priority", self.max_priority as u64, 0, PRIORITY_MAX as u64)?;
        range("priority", self.priority as u64, 0, self.max_priority as u64)?;
        range("threads", self.threads as u64, 0, THREADS_MAX as u64)?;
        range("devices", self.devices as u64, 0, (1 << crate::board::DEVICES.len()) - 1)?;
        range("cpu", self.cpu as u64, 0, CPU_MAX as u64)
    }

    /// The encoding.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[..8].copy_from_slice(&Self::MAGIC.to_le_bytes());
        out[8..72].copy_from_slice(&self.name);
        let words = [
            self.untyped_bits,
            self.cnode_bits,
            self.heap_pages,
            self.stack_pages,
            self.ut_large_page,
            self.ut_4k_pages,
            self.priority as u32 | (self.max_priority as u32) << 8,
            self.threads,
            self.devices,
            self.cpu,
        ];
        for (chunk, word) in out[72..].chunks_exact_mut(4).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// Decodes and checks.
    ///
    /// # Errors
    /// [`ContractError::Format`] for foreign bytes, else as [`Contract::check`].
    pub fn from_bytes(from: &[u8]) -> Result<Self, ContractError> {
        let read = || {
            let mut contract = Self::new("");
            contract.name = crate::bytes::take(from, 8)?;
            let text = contract.name.split(|&b| b == 0).next()?;
            core::str::from_utf8(text).ok()?;
            if u64_at(from, 0)? != Self::MAGIC || contract.name[NAME_MAX] != 0 {
                return None;
            }
            contract.untyped_bits = u32_at(from, 72)?;
            contract.cnode_bits = u32_at(from, 76)?;
            contract.heap_pages = u32_at(from, 80)?;
            contract.stack_pages = u32_at(from, 84)?;
            contract.ut_large_page = u32_at(from, 88)?;
            contract.ut_4k_pages = u32_at(from, 92)?;
            let priorities = u32_at(from, 96)?;
            contract.priority = priorities as u8;
            contract.max_priority = (priorities >> 8) as u8;
            contract.threads = u32_at(from, 100)?;
            contract.devices = u32_at(from, 104)?;
            contract.cpu = u32_at(from, 108)?;
            Some(contract)
        };
        let contract = read().ok_or(ContractError::Format)?;
        contract.check()?;
        Ok(contract)
    }
}

/// The process that a container runs: its words and where it starts. Encoded as the process
/// block: three counts (arguments, variables, bytes of text; u32 each), then the text: the
/// arguments, the variables and the working directory, each ended by a NUL byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process<'a> {
    args: u32,
    env: u32,
    text: &'a [u8],
}

impl<'a> Process<'a> {
    /// Largest encoding in bytes: what fits behind [`crate::info::Info`].
    pub const MAX: usize =
        (layout::INFO_PAGES_MAX * layout::PAGE) as usize - crate::info::Info::SIZE;

    /// Encodes a process block.
    ///
    /// # Errors
    /// A sentence where a word has a NUL byte in it or the block gets longer than
    /// [`Process::MAX`].
    #[cfg(feature = "alloc")]
    pub fn encode<S: AsRef<str>>(
        args: &[S],
        env: &[S],
        cwd: &str,
    ) -> Result<alloc::vec::Vec<u8>, &'static str> {
        let words = || args.iter().chain(env).map(AsRef::as_ref).chain([cwd]);
        let size: usize = words().map(|w| w.len() + 1).sum();
        if words().any(|w| w.contains('\0')) {
            return Err("an argument or environment variable contains a NUL byte");
        }
        if 12 + size > Self::MAX {
            return Err("arguments and environment together are longer than 65,364 bytes");
        }
        let mut out = alloc::vec::Vec::with_capacity(12 + size);
        for count in [args.len(), env.len(), size] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for word in words() {
            out.extend_from_slice(word.as_bytes());
            out.push(0);
        }
        Ok(out)
    }

    /// Decodes a process block; `None` where its counts do not fit its text.
    pub fn from_bytes(from: &'a [u8]) -> Option<Self> {
        let (args, env) = (u32_at(from, 0)?, u32_at(from, 4)?);
        let size = u32_at(from, 8)? as usize;
        let text = from.get(12..12usize.checked_add(size)?)?;
        let words = text.iter().filter(|&&b| b == 0).count() as u64;
        (text.last() == Some(&0) && words == args as u64 + env as u64 + 1).then_some(Self {
            args,
            env,
            text,
        })
    }

    /// Its arguments, without their NUL bytes.
    pub fn args(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.words().take(self.args as usize)
    }

    /// Its environment, each `NAME=value`.
    pub fn env(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.words().skip(self.args as usize).take(self.env as usize)
    }

    /// Its working directory.
    pub fn cwd(&self) -> &'a [u8] {
        self.words().nth(self.args as usize + self.env as usize).unwrap_or(b"/")
    }

    fn words(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.text.split(|&b| b == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_contract_survives_its_encoding() {
        let (threads, devices, cpu) = (3, 1, 500);
        let own = Contract::new("hello");
        let contract = Contract { untyped_bits: 20, threads, devices, cpu, ..own };
        assert_eq!(Contract::from_bytes(&contract.to_bytes()), Ok(contract));
        assert_eq!(contract.name(), "hello");
    }

    #[test]
    fn a_priority_above_its_own_maximum_is_refused() {
        let contract =
            Contract { untyped_bits: 20, priority: 200, max_priority: 190, ..Contract::new("x") };
        let error = Contract::from_bytes(&contract.to_bytes()).unwrap_err();
        assert_eq!(std::format!("{error}"), "priority is 200, but must be between 0 and 190");
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn a_process_survives_its_encoding() {
        let block = Process::encode(&["/hello", "", "test"], &["HELLO=WORLD"], "/").unwrap();
        let process = Process::from_bytes(&block).unwrap();
        assert!(process.args().eq([&b"/hello"[..], b"", b"test"]));
        assert!(process.env().eq([&b"HELLO=WORLD"[..]]));
        assert_eq!(process.cwd(), b"/");
        assert!(Process::encode(&["a\0b"], &[], "/").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_them_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Contract::from_bytes(&bytes);
            if let Some(process) = Process::from_bytes(&bytes) {
                let _ = (process.args().count(), process.env().count(), process.cwd());
            }
        }
    }
}
