//! Faults and registers, in words.

use core::fmt::{self, Display, Formatter};
use koskit_abi::{Fault, Registers};
use koskit_spec::gate::BRK_NUMBER;

/// A fault as a sentence about the container.
pub struct Sentence(pub Fault);

impl Display for Sentence {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Fault::Vm { pc, address, fetch, syndrome } => {
                // ESR of an abort: bit 6 is a write; 0b0011xx in the lower six is a
                // permission fault, 0b100001 a wrong alignment.
                let write = syndrome & 1 << 6 != 0;
                let (verb, may) = match (fetch, write) {
                    (true, _) => ("jumped to", "execute"),
                    (false, true) => ("wrote to", "write"),
                    (false, false) => ("read", "read"),
                };
                write!(f, "it {verb} address {address:#x}")?;
                match syndrome & 0x3f {
                    0x0c..=0x0f => write!(f, ", which it may not {may}")?,
                    0x21 => write!(f, ", which is not aligned")?,
                    _ => write!(f, ", where nothing is mapped")?,
                }
                write!(f, " (instruction at {pc:#x})")
            }
            Fault::Cap { pc, cap } => write!(
                f,
                "it used the capability at {cap:#x}, which it does not have (instruction at {pc:#x})"
            ),
            Fault::UnknownSyscall { pc, number } => write!(
                f,
                "it made system call {} of seL4, which does not exist (instruction at {pc:#x})",
                number as i64
            ),
            Fault::UserException { pc, syndrome } => {
                // ESR: the class in bits 26 to 31, of a BRK its number in the lower 16.
                match (syndrome >> 26, syndrome & 0xffff) {
                    (0x3c, number) if number == u64::from(BRK_NUMBER) => {
                        write!(f, "it made a Linux system call whose number changed at run time")?;
                    }
                    (0x3c, number) => write!(f, "it stopped itself by BRK {number:#x}")?,
                    (0, _) => write!(f, "it executed an instruction that does not exist")?,
                    (class, _) => write!(f, "it caused an exception of class {class:#x}")?,
                }
                write!(f, " (instruction at {pc:#x})")
            }
            Fault::Vcpu { syndrome } => write!(f, "it left a guest with syndrome {syndrome:#x}"),
            Fault::VgicMaintenance { .. } | Fault::Vppi { .. } => {
                write!(f, "it got an interrupt of a guest that it does not have")
            }
        }
    }
}

/// Address of the instruction, where the fault has one.
pub fn instruction(fault: &Fault) -> Option<u64> {
    match *fault {
        Fault::Vm { pc, .. }
        | Fault::Cap { pc, .. }
        | Fault::UnknownSyscall { pc, .. }
        | Fault::UserException { pc, .. } => Some(pc),
        Fault::Vcpu { .. } | Fault::VgicMaintenance { .. } | Fault::Vppi { .. } => None,
    }
}

/// All registers, four in a line.
pub struct Table<'a>(pub &'a Registers);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Registers { pc, sp, spsr, x, tpidr_el0, tpidrro_el0 } = *self.0;
        writeln!(f, "  pc   {pc:016x}  sp   {sp:016x}  spsr {spsr:016x}")?;
        writeln!(f, "  tpidr_el0 {tpidr_el0:016x}  tpidrro_el0 {tpidrro_el0:016x}")?;
        for (index, value) in x.iter().enumerate() {
            write!(f, "  x{index:<3} {value:016x}")?;
            if index % 4 == 3 || index == x.len() - 1 {
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};

    fn vm(address: u64, fetch: bool, syndrome: u64) -> String {
        Sentence(Fault::Vm { pc: 0x40_0000, address, fetch, syndrome }).to_string()
    }

    #[test]
    fn an_access_is_told_by_what_it_was() {
        assert_eq!(
            vm(0, false, 0x9200_0006),
            "it read address 0x0, where nothing is mapped (instruction at 0x400000)"
        );
        assert_eq!(
            vm(0x1000, false, 0x9200_004f),
            "it wrote to address 0x1000, which it may not write (instruction at 0x400000)"
        );
        assert!(
            vm(8, true, 0x8200_000f).starts_with("it jumped to address 0x8, which it may not exe")
        );
    }

    #[test]
    fn every_register_is_shown() {
        let mut registers = Registers { pc: 1, sp: 2, tpidr_el0: 3, ..Registers::default() };
        registers.x[30] = 0xabcd;
        let table = Table(&registers).to_string();
        assert!(table.contains("x30  000000000000abcd"), "{table}");
        assert_eq!(table.lines().count(), 2 + 8);
    }

    #[test]
    fn a_stub_with_a_changed_number_is_named() {
        let syndrome = 0x3c << 26 | u64::from(BRK_NUMBER);
        let sentence = Sentence(Fault::UserException { pc: 4, syndrome }).to_string();
        assert!(sentence.starts_with("it made a Linux system call whose number changed"));
    }
}
