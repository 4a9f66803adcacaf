//! What is checked before a container is created.

use crate::files::{File, Pages};
use core::fmt;
use koskit_abi::Error;
use koskit_root_server::buddy::TakeError;
use koskit_spec::contract::{Contract, ContractError, Process};
use koskit_spec::elf::{Elf, ElfError};
use koskit_spec::layout::{KOS_BASE, KOS_END};
use koskit_spec::plan::Plan;

/// A container that can be created: its numbers have been checked, and whether there is
/// memory for it.
pub struct Admitted {
    /// What it may hold.
    pub contract: Contract,
    /// What that comes to.
    pub plan: Plan,
    /// Its words, encoded.
    pub process: &'static [u8],
    /// Its program.
    pub program: (Elf, File),
    /// libkos.
    pub libkos: (Elf, File),
    /// Its initrd, which we never read.
    pub initrd: Pages,
}

/// Why a container is refused: the end of a sentence.
#[derive(Clone, Copy, Debug)]
pub enum Refusal {
    /// Its contract is not valid, or does not hold what it needs.
    Contract(ContractError),
    /// Its arguments and environment are damaged.
    Process,
    /// It refers to something which is not on the machine, or is something else.
    Reference(&'static str),
    /// Something else, which stands here.
    Other(&'static str),
    /// Its program is not one that can be loaded.
    Program(ElfError),
    /// The platform's libkos is not one that can be loaded.
    Libkos(ElfError),
    /// There is too little memory.
    Memory {
        /// Bytes of its untyped.
        asked: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes of the largest untyped that can be made.
        largest: u64,
    },
    /// It asks for a device that is not there, or that the container with this number has.
    Device {
        /// Its name.
        name: &'static str,
        /// The container's number, or 0.
        user: u32,
    },
    /// It asks for so many thousandths of a processor, which this kernel cannot promise.
    Cpu(u32),
    /// Too many pieces of memory are in use.
    Pieces,
    /// The kernel refused what it should not.
    Kernel(&'static str, Error),
}

impl Refusal {
    /// A refusal of `asked` bytes.
    pub fn of_memory(error: TakeError<Error>, asked: u64, free: u64, largest: u64) -> Self {
        match error {
            TakeError::TooLarge => Self::Memory { asked, free, largest },
            TakeError::TooMany => Self::Pieces,
            TakeError::Kernel(error) => Self::Kernel("take its memory", error),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contract(error) => write!(f, "{error}"),
            Self::Process => write!(f, "its arguments and environment are damaged"),
            Self::Reference(what) => write!(f, "its {what} is not on the machine"),
            Self::Other(what) => write!(f, "{what}"),
            Self::Program(error) => write!(f, "its program cannot be loaded: {error}"),
            Self::Libkos(error) => write!(f, "libkos cannot be loaded: {error}"),
            Self::Memory { asked, free, largest } => write!(
                f,
                "memory: it asks for an untyped of {asked} bytes (untyped_bits {}), but {free} \
                 bytes are free, and the largest untyped has {largest} bytes",
                asked.ilog2()
            ),
            Self::Device { name, user: 0 } => {
                write!(f, "devices: it asks for {name}, which this machine does not have")
            }
            Self::Device { name, user } => {
                write!(f, "devices: it asks for {name}, which container {user} has")
            }
            Self::Cpu(asked) => write!(
                f,
                "cpu: it asks for {asked} thousandths of a processor, but this kernel gives no \
                 such budgets (an MCS kernel does)"
            ),
            Self::Pieces => write!(f, "memory is cut into too many pieces"),
            Self::Kernel(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

/// Checks what a container is to be created from, but for free memory. `bundle` is its contract
/// and its process block.
pub fn admit(
    bundle: &'static [u8],
    program: File,
    libkos: File,
    initrd: Pages,
) -> Result<Admitted, Refusal> {
    let contract = Contract::from_bytes(bundle).map_err(Refusal::Contract)?;
    let process = bundle.get(Contract::SIZE..).unwrap_or_default();
    Process::from_bytes(process).ok_or(Refusal::Process)?;
    let elf = Elf::program(program.bytes).map_err(Refusal::Program)?;
    let kos = Elf::within(libkos.bytes, KOS_BASE, KOS_END).map_err(Refusal::Libkos)?;
    let plan = Plan::new(&contract, &elf, &kos, initrd.size, process.len() as u64)
        .map_err(Refusal::Contract)?;
    plan.admit(&contract).map_err(Refusal::Contract)?;
    if contract.cpu > 0 {
        return Err(Refusal::Cpu(contract.cpu));
    }
    Ok(Admitted { contract, plan, process, program: (elf, program), libkos: (kos, libkos), initrd })
}
