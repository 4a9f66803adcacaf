//! The state of a container, and which function answers which system call.
//!
//! | module | answers |
//! |---|---|
//! | `files` | calls about files and descriptors |
//! | `input` | reading and writing |
//! | `map` | mapping memory and files; the dynamic linker at the start |
//! | `program` | time, signals, identity, the process itself |
//!
//! A call is a function of its arguments that gives a number or an error number. Calls that
//! this libkos does not have give ENOSYS, and are named once on the machine's log, so that a
//! program that misbehaves can be understood. Calls that would change the files give EROFS:
//! that is the truth, and needs no word.

mod files;
mod input;
mod map;
mod program;

pub use map::{Interpreter, interpreter_path};

use crate::errno::{Errno, Result};
use crate::fd::{Object, Table};
use crate::initrd::Initrd;
use crate::memory::Memory;
use crate::number::{self, *};
use crate::system::{LOG, STDERR, STDOUT, System};
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use koskit_spec::info::{Info, request};
use koskit_spec::layout::PAGE;
use program::Signals;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// What a call may allocate for itself: a path, a few nodes of a map.
const RESERVE: usize = 8 << 10;

/// A container's operating system.
pub struct Kos<'a, S> {
    system: S,
    info: Info,
    initrd: Initrd<'a>,
    files: Table,
    memory: Memory,
    random: ChaCha20Rng,
    signals: Signals,
    /// The working directory: a canonical path without its first slash.
    cwd: Vec<u8>,
    /// Ticks when the container started.
    started: u64,
    /// PR_SET_NAME's.
    name: [u8; 16],
    /// One bit for each call that was named on the log.
    named: [u64; 8],
    /// Where pieces of one write come together.
    gather: [u8; request::WRITE_MAX],
}

impl<'a, S: System> Kos<'a, S> {
    /// The operating system of a container that starts, in the working directory `cwd`.
    ///
    /// # Errors
    /// A sentence for the log.
    pub fn new(
        mut system: S,
        info: Info,
        cwd: &[u8],
        archive: &'a [u8],
    ) -> core::result::Result<Self, &'static str> {
        let damaged = "the container's initrd is damaged";
        let cost = Initrd::cost(archive).map_err(|_| damaged)?;
        system
            .reserve(cost + RESERVE)
            .map_err(|_| "the container has too little memory for the list of its files")?;
        let initrd = Initrd::new(archive).map_err(|_| damaged)?;
        let mut seed = [0; 32];
        for (bytes, word) in seed.chunks_exact_mut(8).zip(info.seed) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let started = system.ticks();
        let mut kos = Self {
            system,
            info,
            initrd,
            files: Table::new(Object::Null, Object::Console(STDOUT), Object::Console(STDERR)),
            memory: Memory::new(info.heap_base, info.heap_base + info.heap_pages * PAGE),
            random: ChaCha20Rng::from_seed(seed),
            signals: Signals::default(),
            cwd: Vec::new(),
            started,
            name: *b"kos\0\0\0\0\0\0\0\0\0\0\0\0\0",
            named: [0; 8],
            gather: [0; request::WRITE_MAX],
        };
        kos.enter(cwd).map_err(|_| "the container's working directory is not in its image")?;
        Ok(kos)
    }

    /// Bytes for AT_RANDOM.
    pub fn random(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    /// Answers a system call: what goes to x0.
    pub fn call(&mut self, number: u64, arguments: [u64; 6]) -> u64 {
        Errno::encode(self.answer(number, arguments))
    }

    fn answer(&mut self, number: u64, [a, b, c, d, e, f]: [u64; 6]) -> Result {
        match number {
            // Descriptors are what programs name most.
            READ => self.read(a, b, c),
            WRITE => self.write(a, b, c),
            READV => self.readv(a, b, c, None),
            WRITEV => self.writev(a, b, c),
            PREAD64 => self.pread(a, b, c, d),
            PREADV => self.readv(a, b, c, Some(d)),
            PWRITE64 | PWRITEV => self.pwrite(a),
            SENDFILE => self.sendfile(a, b, c, d),
            LSEEK => self.lseek(a, b, c),
            CLOSE => self.files.close(a),
            FSTAT => self.fstat(a, b),
            CLOCK_GETTIME => self.clock_gettime(a, b),
            GETRANDOM => self.getrandom(a, b),

            OPENAT => self.openat(a, b, c),
            NEWFSTATAT => self.newfstatat(a, b, c, d),
            STATX => self.statx(a, b, c, e),
            GETDENTS64 => self.getdents(a, b, c),
            READLINKAT => self.readlinkat(a, b, c, d),
            FACCESSAT => self.faccessat(a, b, c, 0),
            FACCESSAT2 => self.faccessat(a, b, c, d),
            GETCWD => self.getcwd(a, b),
            CHDIR => self.chdir(a),
            FCHDIR => self.fchdir(a),
            DUP => self.dup(a),
            DUP3 => self.dup3(a, b, c),
            FCNTL => self.fcntl(a, b, c),
            IOCTL => self.ioctl(a, b, c),
            PPOLL => self.ppoll(a, b, c),
            PSELECT6 => self.pselect(a, [b, c, d], e),
            STATFS => self.statfs(a, b),
            FSTATFS => self.files.get(a).map(|_| ()).and_then(|()| Self::tell_statfs(b)),
            FSYNC | FDATASYNC => self.fsync(a),
            FADVISE64 => self.files.get(a).map(|_| 0),
            FTRUNCATE => self.files.get(a).and(Err(Errno::INVAL)),
            MKNODAT | MKDIRAT | UNLINKAT | SYMLINKAT | LINKAT | RENAMEAT | RENAMEAT2 | TRUNCATE
            | FCHMODAT | FCHOWNAT | UTIMENSAT => Err(Errno::ROFS),

            BRK => Ok(self.memory.brk(a)),
            MMAP => self.mmap(a, b, c, d, e, f),
            MUNMAP => self.with_memory(|memory, system| memory.unmap(system, a, b)),
            MPROTECT => self.mprotect(a, b, c),
            MREMAP if d & !1 == 0 => {
                self.with_memory(|memory, system| memory.remap(system, a, b, c, d == 1))
            }
            MADVISE if c == MADV_DONTNEED => {
                self.with_memory(|memory, system| memory.discard(system, a, b))
            }
            // All other advice may be ignored; and all memory is there, none is written back.
            MADVISE | MLOCK | MUNLOCK | MLOCK2 | MLOCKALL | MUNLOCKALL => Ok(0),
            MSYNC if a % PAGE == 0 => Ok(0),
            MSYNC => Err(Errno::INVAL),

            EXIT | EXIT_GROUP => self.system.exit(a as u8),
            SET_TID_ADDRESS | GETTID | GETPID => Ok(PID),
            SET_ROBUST_LIST => Ok(0),
            // No child was made.
            SETUID | SETGID => Self::become_all(&[a]),
            SETREUID | SETREGID => Self::become_all(&[a, b]),
            SETRESUID | SETRESGID => Self::become_all(&[a, b, c]),
            SETGROUPS if a == 0 => Ok(0),
            SETGROUPS => Err(Errno::PERM),
            CAPGET => Self::capget(a, b),
            PERSONALITY if a as u32 == u32::MAX || a == 0 => Ok(0),
            SETPGID if a <= PID && b <= PID => Ok(0),
            SETSID => Err(Errno::PERM),
            WAIT4 => Err(Errno::CHILD),
            GETPPID | GETUID | GETEUID | GETGID | GETEGID => Ok(0),
            GETPGID | GETSID if a == 0 || a == PID => Ok(PID),
            GETGROUPS => Ok(0),
            GETRESUID | GETRESGID => Self::getresuid(a, b, c),
            UNAME => Self::uname(a),
            UMASK => Ok(0o022),
            PRLIMIT64 => self.prlimit(b, d),
            GETRLIMIT => self.prlimit(a, b),
            PRCTL => self.prctl(a, b),
            SCHED_GETAFFINITY => Self::sched_getaffinity(b, c),
            MEMBARRIER => Self::membarrier(a),
            // Linux's scale for the ordinary nice value.
            GETPRIORITY => Ok(20),
            SETPRIORITY => Ok(0),
            SCHED_YIELD => {
                self.system.pause();
                Ok(0)
            }
            NANOSLEEP => self.nanosleep(a),
            CLOCK_NANOSLEEP => self.clock_nanosleep(a, b, c),
            CLOCK_GETRES => self.clock_getres(a, b),
            GETTIMEOFDAY => self.gettimeofday(a),
            GETRUSAGE => self.getrusage(b),
            TIMES => self.times(a),
            SYSINFO => self.sysinfo(a),
            FUTEX => self.futex(a, b, c, d),
            RT_SIGACTION => self.sigaction(a, b, c, d),
            RT_SIGPROCMASK => self.sigprocmask(a, b, c, d),
            RT_SIGPENDING => self.sigpending(a),
            SIGALTSTACK => self.sigaltstack(a, b),
            KILL | TKILL => self.kill(a, b),
            TGKILL => self.kill(b, c),
            // Programs ask for these to see whether they can, and do well without.
            RSEQ => Err(Errno::NOSYS),
            _ => Err(self.missing(number)),
        }
    }

    /// Names a call that libkos does not have on the log, once.
    fn missing(&mut self, number: u64) -> Errno {
        let bit = 1 << (number % 64);
        let seen = self.named.get_mut((number / 64) as usize);
        if seen.as_ref().is_none_or(|word| **word & bit == 0) {
            if let Some(word) = seen {
                *word |= bit;
            }
            let name = number::name(number).unwrap_or("unknown");
            self.log(format_args!(
                "libkos: system call {name} ({number}) is not implemented and gives ENOSYS\n"
            ));
        }
        Errno::NOSYS
    }

    /// Writes a line to the machine's log.
    pub fn log(&mut self, line: fmt::Arguments<'_>) {
        struct Log<'s, S>(&'s mut S);
        impl<S: System> fmt::Write for Log<'_, S> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for chunk in text.as_bytes().chunks(request::WRITE_MAX) {
                    self.0.write(LOG, chunk).map_err(|_| fmt::Error)?;
                }
                Ok(())
            }
        }
        // Where the log cannot be written, nobody can be told.
        let _ = Log(&mut self.system).write_fmt(line);
    }

    /// The system, for what is no call.
    pub fn system(&mut self) -> &mut S {
        &mut self.system
    }
}

/// The process's number, and its thread's: the first of its container.
const PID: u64 = 1;
const MADV_DONTNEED: u64 = 4;

#[cfg(test)]
#[path = "kos/tests.rs"]
mod tests;
