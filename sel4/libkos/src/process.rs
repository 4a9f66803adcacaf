//! What a program finds on its stack when it starts: its arguments, its environment, and the
//! auxiliary vector, as Linux leaves them (System V ABI, "Process Initialization").
//!
//! ```text
//! top    the name of the program, the words of arguments and environment
//!        AT_RANDOM's 16 bytes
//!        auxiliary vector: pairs of words, ended by AT_NULL
//!        environment: addresses, ended by 0
//!        arguments: addresses, ended by 0
//! sp     number of arguments
//! ```

use koskit_spec::contract::Process;
use koskit_spec::info::Info;
use koskit_spec::layout::PAGE;

/// What the processor can do: FP and ASIMD. More is not known: the ID registers that tell are
/// not for programs to read here, so their bit (HWCAP_CPUID) is left out too.
const HWCAP: u64 = 3;
/// What counts the ticks of `times`.
const CLOCK_TICKS: u64 = 100;

/// Keys of the auxiliary vector.
mod at {
    pub const NULL: u64 = 0;
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const PAGESZ: u64 = 6;
    pub const BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const PLATFORM: u64 = 15;
    pub const HWCAP: u64 = 16;
    pub const CLKTCK: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const EXECFN: u64 = 31;
    pub const SYSINFO_EHDR: u64 = 33;
}

/// Fills a stack whose last byte is just below the address `top`; returns the stack pointer,
/// or `None` where half of the stack is too small for all of it. `base` is where the dynamic
/// linker was loaded, or 0 where there is none; `vdso`, where the functions are that take the
/// place of some system calls.
pub fn stack(
    stack: &mut [u8],
    top: u64,
    info: &Info,
    [base, vdso]: [u64; 2],
    process: &Process<'_>,
    random: [u8; 16],
) -> Option<u64> {
    let (args, env) = (process.args().count(), process.env().count());
    let room = stack.len() as u64 / 2;
    let mut stack = Stack { bottom: top - stack.len() as u64, bytes: stack, at: top };

    let text: usize = process.args().chain(process.env()).map(|word| word.len() + 1).sum();
    stack.push(b"\0")?;
    let name = process.args().next().unwrap_or_default();
    stack.push(name)?;
    let execfn = stack.at;
    stack.push(b"aarch64\0")?;
    let platform = stack.at;
    let first = stack.at.checked_sub(text as u64)?;
    stack.at = first;
    // The words, in their order; their addresses follow further down.
    let mut word = first;
    for bytes in process.args().chain(process.env()) {
        stack.write(word, bytes)?;
        stack.write(word + bytes.len() as u64, b"\0")?;
        word += bytes.len() as u64 + 1;
    }
    stack.at &= !15;
    stack.push(&random)?;
    let random = stack.at;

    let auxv = [
        (at::PHDR, info.phdr),
        (at::PHENT, info.phent.into()),
        (at::PHNUM, info.phnum.into()),
        (at::PAGESZ, PAGE),
        (at::BASE, base),
        (at::FLAGS, 0),
        (at::ENTRY, info.entry),
        (at::UID, 0),
        (at::EUID, 0),
        (at::GID, 0),
        (at::EGID, 0),
        (at::PLATFORM, platform),
        (at::HWCAP, HWCAP),
        (at::CLKTCK, CLOCK_TICKS),
        (at::SECURE, 0),
        (at::RANDOM, random),
        (at::EXECFN, execfn),
        (at::SYSINFO_EHDR, vdso),
        (at::NULL, 0),
    ];
    let words = 1 + args + 1 + env + 1 + 2 * auxv.len();
    let sp = stack.at.checked_sub(8 * words as u64)? & !15;
    if top - sp > room {
        return None;
    }
    let mut word = first;
    let mut at = sp;
    let mut put = |value: u64| {
        at += 8;
        stack.write(at - 8, &value.to_le_bytes())
    };
    put(args as u64)?;
    for (index, bytes) in process.args().chain(process.env()).enumerate() {
        if index == args {
            put(0)?;
        }
        put(word)?;
        word += bytes.len() as u64 + 1;
    }
    if env == 0 {
        put(0)?;
    }
    put(0)?;
    for (key, value) in auxv {
        put(key)?;
        put(value)?;
    }
    Some(sp)
}

struct Stack<'a> {
    bytes: &'a mut [u8],
    bottom: u64,
    at: u64,
}

impl Stack<'_> {
    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        self.at = self.at.checked_sub(bytes.len() as u64)?;
        self.write(self.at, bytes)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let start = usize::try_from(address.checked_sub(self.bottom)?).ok()?;
        self.bytes.get_mut(start..start.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    const TOP: u64 = 0x7000_0000;

    fn build(args: &[&str], env: &[&str], size: usize) -> Option<(Vec<u8>, u64)> {
        let block = Process::encode(args, env, "/").unwrap();
        let process = Process::from_bytes(&block).unwrap();
        let info = Info { entry: 0x1234, phdr: 0x40, phent: 56, phnum: 7, ..Info::default() };
        let mut bytes = vec![0xaa; size];
        let sp = stack(&mut bytes, TOP, &info, [0x5678, 0x9abc], &process, *b"0123456789abcdef")?;
        Some((bytes, sp))
    }

    fn word(bytes: &[u8], address: u64) -> u64 {
        let at = (address + bytes.len() as u64 - TOP) as usize;
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    fn text(bytes: &[u8], address: u64) -> String {
        let at = (address + bytes.len() as u64 - TOP) as usize;
        let end = bytes[at..].iter().position(|&b| b == 0).unwrap();
        String::from_utf8(bytes[at..at + end].to_vec()).unwrap()
    }

    #[test]
    fn arguments_environment_and_auxiliary_vector_are_found() {
        for env in [&["A=1", "B=two"][..], &[]] {
            let args = ["/hello", "", "test"];
            let (bytes, sp) = build(&args, env, 4096).unwrap();
            assert_eq!(sp % 16, 0);
            assert_eq!(word(&bytes, sp), 3);
            let mut at = sp + 8;
            for list in [&args[..], env] {
                for expected in list {
                    assert_eq!(text(&bytes, word(&bytes, at)), *expected);
                    at += 8;
                }
                assert_eq!(word(&bytes, at), 0);
                at += 8;
            }
            let mut auxv = vec![];
            while word(&bytes, at) != at::NULL {
                auxv.push((word(&bytes, at), word(&bytes, at + 8)));
                at += 16;
            }
            let find = |key| auxv.iter().find(|pair| pair.0 == key).unwrap().1;
            assert_eq!((find(at::ENTRY), find(at::PHDR), find(at::PHNUM)), (0x1234, 0x40, 7));
            assert_eq!((find(at::BASE), find(at::SYSINFO_EHDR)), (0x5678, 0x9abc));
            assert_eq!(text(&bytes, find(at::EXECFN)), "/hello");
            assert_eq!(text(&bytes, find(at::PLATFORM)), "aarch64");
            assert_eq!(word(&bytes, find(at::RANDOM)), u64::from_le_bytes(*b"01234567"));
        }
    }

    #[test]
    fn words_that_do_not_fit_are_refused() {
        let long = "x".repeat(3000);
        assert!(build(&[&long], &[], 4096).is_none());
        assert!(build(&["x", &long], &[], 8192).is_some());
        assert!(build(&[&long, &long], &[], 4096).is_none());
    }
}
