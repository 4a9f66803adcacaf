//! The state of a container, and which function answers which system call.
//!
//! | module | answers |
//! |---|---|
//! | `alarms` | timers that send signals |
//! | `change` | calls that change the tree of files |
//! | `files` | opening files, telling what they are, descriptors |
//! | `input` | reading and writing |
//! | `lock` | locks of files |
//! | `map` | mapping memory and files; the dynamic linker at the start |
//! | `nameless` | making pipes, counters, timers |
//! | `options` | options of sockets |
//! | `poll` | waiting for descriptors |
//! | `sockets` | sockets |
//! | `frame` | what a signal handler finds on its stack |
//! | `futex` | waiting for words |
//! | `program` | limits, identity |
//! | `signals` | signals within the process |
//! | `threads` | their beginning and end |
//! | `time` | clocks, and sleeping |
//! | `wait` | what happens to a call that cannot be answered yet |
//!
//! A call is a function of its arguments that gives a number or an error number. Calls that
//! this libkos does not have give ENOSYS, and are named once on the machine's log, so that a
//! program that misbehaves can be understood.

mod alarms;
mod change;
mod files;
mod frame;
mod futex;
mod input;
mod lock;
mod map;
mod nameless;
mod options;
mod poll;
mod program;
mod signals;
mod sockets;
mod threads;
mod time;
mod wait;

pub use map::{Interpreter, interpreter_path};
pub use signals::{Cause, Fault};

use crate::context::Context;
use crate::errno::{Errno, Result};
use crate::fd::{Object, Table};
use crate::initrd::Initrd;
use crate::memory::Memory;
use crate::number::{self, *};
use crate::stream::Names;
use crate::system::{LOG, STDERR, STDIN, STDOUT, System};
use crate::tree::Tree;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use koskit_spec::contract::Process;
use koskit_spec::info::{Info, request};
use koskit_spec::layout::PAGE;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use signals::Signals;
use threads::Thread;
use wait::{Due, Waits};

/// What a call may allocate for itself: a path, a few nodes of a map.
const RESERVE: usize = 12 << 10;

/// A container's operating system.
pub struct Kos<'a, S> {
    system: S,
    info: Info,
    tree: Tree<'a>,
    files: Table,
    memory: Memory,
    random: ChaCha20Rng,
    signals: Signals,
    alarms: alarms::Alarms,
    /// Arguments and environment.
    process: Option<Process<'a>>,
    /// `/proc/sys/kernel/random/boot_id`, once somebody has asked for it.
    boot_id: Option<u128>,
    /// What was written to `/proc/self/oom_score_adj`.
    oom_score_adj: i32,
    locks: lock::Locks,
    /// Sockets that have addresses.
    names: Names,
    /// Number of times that somebody could have waited for a descriptor's change.
    changes: u32,
    /// By their places: one that ended leaves its place to another.
    threads: Vec<Thread>,
    /// The place of the one that is being served.
    current: usize,
    /// Number of threads.
    alive: usize,
    /// Number of the next one.
    next_tid: u32,
    /// What the first thread ended with.
    status: u8,
    waits: Waits,
    /// CLOCK_MONOTONIC when the container started.
    started: u64,
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
        let mut kos = Self {
            system,
            info,
            tree: Tree::new(initrd),
            files: Table::new(
                Object::Console(STDIN),
                Object::Console(STDOUT),
                Object::Console(STDERR),
            ),
            memory: Memory::new(info.heap_base, info.heap_base + info.heap_pages * PAGE),
            random: ChaCha20Rng::from_seed(seed),
            signals: Signals::default(),
            alarms: alarms::Alarms::default(),
            process: None,
            boot_id: None,
            oom_score_adj: 0,
            locks: lock::Locks::default(),
            names: Names::default(),
            changes: 0,
            threads: Vec::from([Thread::first()]),
            current: 0,
            alive: 1,
            next_tid: PID as u32 + 1,
            status: 0,
            waits: Waits::default(),
            started: 0,
            named: [0; 8],
            gather: [0; request::WRITE_MAX],
        };
        kos.started = kos.monotonic();
        kos.make_room_to_wait();
        kos.enter(cwd).map_err(|_| "the container's working directory is not in its image")?;
        Ok(kos)
    }

    /// Notes what the program is started with: the first argument is what it was found by.
    pub fn describe(&mut self, process: Process<'a>) {
        self.process = Some(process);
        let word = process.args().next().unwrap_or_default();
        let path = |entry: &[u8]| {
            if entry.is_empty() { word.to_vec() } else { [entry, b"/", word].concat() }
        };
        let list = process.env().find_map(|variable| variable.strip_prefix(b"PATH="));
        let list = if word.contains(&b'/') { b"" } else { list.unwrap_or(b"/bin:/usr/bin") };
        let found = list.split(|&byte| byte == b':').find_map(|entry| {
            let node = self.find(files::AT_FDCWD as u64, &path(entry), true).ok()?;
            Some(self.tree.path(&node).0)
        });
        self.tree.exe = found.unwrap_or_default();
        let name = self.tree.exe.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        self.threads[0].set_name(name);
    }

    /// Bytes for AT_RANDOM.
    pub fn random(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    /// Serves the thread at a place: answers the system call whose registers these are. What it
    /// gives is in `x0` then, unless the thread has to wait.
    pub fn serve(&mut self, thread: usize, context: &mut Context) -> Next {
        self.current = thread;
        loop {
            let result = match self.due() {
                Due::Call => {
                    let [a, b, c, d, e, f, ..] = context.x;
                    self.answer(context.x[8], [a, b, c, d, e, f])
                }
                Due::Answered(result) => result,
                Due::Nothing => return Next::Wait,
            };
            if let Err(errno @ Errno(Errno::OURS..)) = result {
                match self.unusual(errno, context) {
                    Some(next) => return next,
                    None => continue,
                }
            }
            *self.attempt() = wait::Attempt::default();
            context.x[0] = Errno::encode(result);
            return Next::Go;
        }
    }

    /// What comes of a call that has no answer; none where it is to be answered again.
    #[cold]
    fn unusual(&mut self, errno: Errno, context: &mut Context) -> Option<Next> {
        match errno {
            Errno::WAIT => return Some(Next::Wait),
            Errno::END => return Some(Next::End),
            Errno::CONTEXT if context.x[8] == RT_SIGRETURN => self.sigreturn(context),
            Errno::CONTEXT => context.x[0] = Errno::encode(self.sigaltstack(context)),
            _ if self.interrupted(context) => {}
            _ => {
                self.attempt().again();
                return None;
            }
        }
        *self.attempt() = wait::Attempt::default();
        Some(Next::Go)
    }

    // Where this were part of its caller, its arguments would be looked at before the number is.
    #[inline(never)]
    fn answer(&mut self, number: u64, [a, b, c, d, e, f]: [u64; 6]) -> Result {
        match number {
            // Descriptors are what programs name most.
            READ => self.read(a, b, c),
            WRITE => self.write(a, b, c),
            READV => self.readv(a, b, c, None),
            WRITEV => self.writev(a, b, c, None),
            PREAD64 => self.pread(a, b, c, d),
            PREADV => self.readv(a, b, c, Some(d)),
            PREADV2 => self.readv2(a, [b, c], d, f),
            PWRITE64 => self.pwrite(a, b, c, d),
            PWRITEV => self.writev(a, b, c, Some(d)),
            PWRITEV2 => self.writev2(a, [b, c], d, f),
            SENDFILE => self.sendfile(a, b, c, d),
            COPY_FILE_RANGE => self.copy_file_range([a, b], [c, d], e, f),
            LSEEK => self.lseek(a, b, c),
            CLOSE => self.close(a),
            CLOSE_RANGE => self.close_range(a, b, c),
            FSTAT => self.fstat(a, b),
            CLOCK_GETTIME => self.clock_gettime(a, b),
            GETRANDOM => self.getrandom(a, b),

            OPENAT => self.openat(a, b, c, d),
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
            FLOCK => self.flock(a, b),
            IOCTL => self.ioctl(a, b, c),
            PPOLL => self.with_mask(d, e, |kos| kos.ppoll(a, b, c)),
            PSELECT6 => self.pselect6(a, [b, c, d], e, f),
            EPOLL_CREATE1 => self.epoll_create(a),
            EPOLL_CTL => self.epoll_ctl(a, b, c, d),
            EPOLL_PWAIT => self.with_mask(e, f, |kos| kos.epoll_pwait(a, b, c, d)),
            EPOLL_PWAIT2 => self.with_mask(e, f, |kos| kos.epoll_pwait2(a, b, c, d)),
            PIPE2 => self.pipe2(a, b),
            EVENTFD2 => self.eventfd(a, b),
            TIMERFD_CREATE => self.timerfd_create(a, b),
            TIMERFD_SETTIME => self.timerfd_settime(a, b, c, d),
            TIMERFD_GETTIME => self.timerfd_gettime(a, b),
            MEMFD_CREATE => self.memfd_create(a, b),

            SOCKET => self.socket(a, b, c),
            SOCKETPAIR => self.socketpair(a, b, c, d),
            BIND => self.bind(a, b, c),
            LISTEN => self.listen(a, b),
            ACCEPT => self.accept(a, b, c, 0),
            ACCEPT4 => self.accept(a, b, c, d),
            CONNECT => self.connect(a, b, c),
            GETSOCKNAME => self.getsockname(a, b, c),
            GETPEERNAME => self.getpeername(a, b, c),
            SENDTO => self.sendto(a, [b, c], d, [e, f]),
            RECVFROM => self.recvfrom(a, [b, c], d, [e, f]),
            SENDMSG => self.sendmsg(a, b, c),
            RECVMSG => self.recvmsg(a, b, c),
            SENDMMSG => self.sendmmsg(a, b, c, d),
            RECVMMSG => self.recvmmsg(a, b, c, d),
            SETSOCKOPT => self.setsockopt(a, b, c, d, e),
            GETSOCKOPT => self.getsockopt(a, b, c, d, e),
            SHUTDOWN => self.shutdown(a, b),
            STATFS => self.statfs(a, b),
            FSTATFS => self.fstatfs(a, b),
            FSYNC | FDATASYNC | SYNCFS => self.fsync(a),
            SYNC => Ok(0),
            FADVISE64 => self.files.get(a).map(|_| 0),
            TRUNCATE => self.truncate(a, b),
            FTRUNCATE => self.ftruncate(a, b),
            FALLOCATE => self.fallocate(a, b, c, d),
            MKDIRAT => self.mkdirat(a, b, c),
            MKNODAT => self.mknodat(a, b, c, d),
            SYMLINKAT => self.symlinkat(a, b, c),
            LINKAT => self.linkat([a, b], [c, d], e),
            UNLINKAT => self.unlinkat(a, b, c),
            RENAMEAT => self.renameat([a, b], [c, d], 0),
            RENAMEAT2 => self.renameat([a, b], [c, d], e),
            FCHMOD => self.fchmod(a, b),
            FCHMODAT => self.fchmodat(a, b, c, 0),
            FCHMODAT2 => self.fchmodat(a, b, c, d),
            FCHOWN => self.fchown(a, b, c),
            FCHOWNAT => self.fchownat(a, b, c, d, e),
            UTIMENSAT => self.utimensat(a, b, c, d),
            GETXATTR | SETXATTR | REMOVEXATTR => self.xattr(a, true, false),
            LGETXATTR | LSETXATTR | LREMOVEXATTR => self.xattr(a, false, false),
            FGETXATTR | FSETXATTR | FREMOVEXATTR => self.fxattr(a, false),
            LISTXATTR => self.xattr(a, true, true),
            LLISTXATTR => self.xattr(a, false, true),
            FLISTXATTR => self.fxattr(a, true),

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

            CLONE => self.clone(a, b, [c, d, e]),
            EXIT => self.exit(a),
            EXIT_GROUP => self.system.exit(a as u8),
            GETPID => Ok(PID),
            GETTID => self.gettid(),
            SET_TID_ADDRESS => self.set_tid_address(a),
            SET_ROBUST_LIST => self.set_robust_list(a, b),
            GET_ROBUST_LIST => self.get_robust_list(a, b, c),
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
            UMASK => self.umask(a),
            PRLIMIT64 => self.prlimit(b, d),
            GETRLIMIT => self.prlimit(a, b),
            PRCTL => self.prctl(a, b),
            SCHED_GETAFFINITY => self.sched_getaffinity(a, b, c),
            SCHED_SETAFFINITY => self.sched_setaffinity(a, b, c),
            SCHED_SETSCHEDULER => self.sched_setscheduler(a, b, c),
            SCHED_SETPARAM => self.sched_setscheduler(a, 0, b),
            SCHED_GETSCHEDULER => self.sched_getscheduler(a),
            SCHED_GETPARAM => self.sched_getparam(a, b),
            SCHED_GET_PRIORITY_MAX => Self::sched_priority(a, 99),
            SCHED_GET_PRIORITY_MIN => Self::sched_priority(a, 1),
            GETCPU => Self::getcpu(a, b),
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
            FUTEX => self.futex([a, b, c, d, e, f]),
            RT_SIGACTION => self.sigaction(a, b, c, d),
            RT_SIGPROCMASK => self.sigprocmask(a, b, c, d),
            RT_SIGPENDING => self.sigpending(a, b),
            RT_SIGSUSPEND => self.sigsuspend(a, b),
            RT_SIGTIMEDWAIT => self.sigtimedwait(a, b, c, d),
            RT_SIGQUEUEINFO => self.sigqueueinfo(a, None, b, c),
            RT_TGSIGQUEUEINFO => self.sigqueueinfo(a, Some(b), c, d),
            KILL => self.kill(a, b),
            TKILL => self.tgkill(None, a, b),
            TGKILL => self.tgkill(Some(a), b, c),
            // They need the thread's registers.
            RT_SIGRETURN | SIGALTSTACK => Err(Errno::CONTEXT),
            GETITIMER => self.getitimer(a, b),
            SETITIMER => self.setitimer(a, b, c),
            TIMER_CREATE => self.timer_create(a, b, c),
            TIMER_SETTIME => self.timer_settime(a, b, c, d),
            TIMER_GETTIME => self.timer_gettime(a, b),
            TIMER_GETOVERRUN => self.timer_getoverrun(a),
            TIMER_DELETE => self.timer_delete(a),
            // Programs ask for these to see whether they can, and do well without.
            RSEQ | CLONE3 => Err(Errno::NOSYS),
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

    /// Does what [`Kos::time_passed`] does, for a caller that is no thread of the program.
    pub fn tick(&mut self) {
        self.current = usize::MAX;
        self.time_passed();
    }

    /// The system, for what is no call.
    pub fn system(&mut self) -> &mut S {
        &mut self.system
    }
}

/// What a thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It goes on in the program.
    Go,
    /// It waits until it is woken, and is served again.
    Wait,
    /// It is gone.
    End,
    /// It does again what failed, and nobody handles it.
    Fault,
}

/// The process's number, and its first thread's: the first of its container.
pub const PID: u64 = 1;
const MADV_DONTNEED: u64 = 4;

#[cfg(test)]
#[path = "kos/tests.rs"]
mod tests;
