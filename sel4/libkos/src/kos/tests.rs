use super::*;
use crate::initrd::tests::{DIR, FILE, LINK, archive};
use crate::memory::{Pages, Protection};
use crate::system::Spawn;
use std::collections::VecDeque;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// A machine that keeps what is written, with a limit for each write from a list.
pub(crate) struct Machine {
    written: Vec<(u8, Vec<u8>)>,
    limits: VecDeque<usize>,
    input: VecDeque<u8>,
    ticks: core::cell::Cell<u64>,
    /// Bytes that can be reserved.
    pub(crate) room: usize,
    /// What the timer is set to.
    timer: u64,
    /// Threads that were begun, places of those that ended, and that were woken.
    spawned: Vec<Spawn>,
    retired: Vec<usize>,
    woken: Vec<usize>,
    /// Places of those that are to be led to their signals.
    interrupted: Vec<usize>,
    /// Begins no more threads.
    full: bool,
}

impl Default for Machine {
    fn default() -> Self {
        let (written, limits) = (Vec::new(), VecDeque::new());
        let (spawned, retired, woken) = (Vec::new(), Vec::new(), Vec::new());
        let interrupted = Vec::new();
        let (ticks, timer, full) = (core::cell::Cell::default(), 0, false);
        let (input, room) = (VecDeque::new(), usize::MAX);
        Self {
            written,
            limits,
            input,
            ticks,
            room,
            timer,
            spawned,
            retired,
            woken,
            interrupted,
            full,
        }
    }
}

impl Pages for Machine {
    fn set(&mut self, _: u64, _: u64, _: Protection) -> Result<()> {
        Ok(())
    }

    fn release(&mut self, _: u64, _: u64) -> Result<()> {
        Ok(())
    }
}

impl System for Machine {
    fn write(&mut self, stream: u8, bytes: &[u8]) -> Result<usize> {
        assert!(!bytes.is_empty() && bytes.len() <= request::WRITE_MAX);
        let taken = self.limits.pop_front().unwrap_or(bytes.len()).min(bytes.len());
        if taken == 0 {
            return Err(Errno::IO);
        }
        self.written.push((stream, bytes[..taken].to_vec()));
        Ok(taken)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let length = bytes.len().min(self.input.len());
        self.input.drain(..length).zip(bytes).for_each(|(byte, to)| *to = byte);
        Ok(length)
    }

    fn exit(&mut self, status: u8) -> ! {
        std::panic::panic_any(status)
    }

    fn ticks(&self) -> u64 {
        self.ticks.set(self.ticks.get() + 1);
        self.ticks.get()
    }

    fn pause(&mut self) {}

    fn set_timer(&mut self, ticks: u64) {
        self.timer = ticks;
    }

    fn spawn(&mut self, thread: Spawn) -> Result<()> {
        if self.full {
            return Err(Errno::NOMEM);
        }
        self.spawned.push(thread);
        Ok(())
    }

    fn retire(&mut self, thread: usize) {
        self.retired.push(thread);
    }

    fn wake(&mut self, thread: usize) {
        self.woken.push(thread);
    }

    fn reserve(&mut self, bytes: usize) -> Result<()> {
        if bytes > self.room { Err(Errno::NOMEM) } else { Ok(()) }
    }

    fn free_pages(&self) -> u64 {
        100
    }

    fn interrupt(&mut self, thread: usize) {
        self.interrupted.push(thread);
    }

    fn sigreturn(&self) -> u64 {
        SIGRETURN
    }

    fn watch(&mut self) -> Result<()> {
        Ok(())
    }

    fn save_vectors(&mut self, into: u64) {
        crate::user::bytes_mut(into, 528).unwrap().fill(0x77);
    }

    fn load_vectors(&mut self, _: u64) {}
}

/// Where handlers return to.
const SIGRETURN: u64 = 0xabcd_0000;

pub(crate) type Test = Kos<'static, Machine>;

pub(crate) fn kos() -> Test {
    let archive = archive(&[
        (".", DIR, ""),
        ("bin", DIR, ""),
        ("bin/run", S_IFREG_755, "program"),
        ("dir", DIR, ""),
        ("dir/inner", FILE, "inner"),
        ("foo.txt", FILE, "foo\n"),
        ("link", LINK, "foo.txt"),
        ("loop", LINK, "loop"),
    ]);
    let info =
        Info { timer_hz: 10, epoch_ns: 5_000_000_000, seed: [1, 2, 3, 4], ..Info::default() };
    Kos::new(Machine::default(), info, b"/", archive.leak()).unwrap()
}

const S_IFREG_755: u32 = 0o100_755;
pub(crate) const CWD: u64 = -100i64 as u64;

/// A path with its NUL byte; leaked, so that its address stays good.
pub(crate) fn c(text: &str) -> u64 {
    std::format!("{text}\0").leak().as_ptr() as u64
}

/// A call of the first thread; where it waits, the time passes.
pub(crate) fn call(
    kos: &mut Test,
    number: u64,
    arguments: &[u64],
) -> core::result::Result<u64, Errno> {
    let mut context = registers(number, arguments);
    while kos.serve(0, &mut context) == Next::Wait {
        let timer = core::mem::take(&mut kos.system().timer);
        assert!(timer > kos.system().ticks(), "it waits for ever");
        kos.system().ticks.set(timer);
    }
    attend(kos, 0, &mut context);
    answer(&context)
}

/// Does what the machine does where a thread is to be led to its signals.
fn attend(kos: &mut Test, place: usize, context: &mut Context) {
    while let Some(index) = kos.system().interrupted.iter().position(|&of| of == place) {
        kos.system().interrupted.remove(index);
        assert_eq!(kos.attend(place, context, Cause::Signal), Next::Go);
    }
}

/// What a thread has when it makes a call.
fn registers(number: u64, arguments: &[u64]) -> Context {
    let mut context = Context::default();
    context.x[..arguments.len()].copy_from_slice(arguments);
    context.x[8] = number;
    context
}

fn answer(context: &Context) -> core::result::Result<u64, Errno> {
    let value = context.x[0];
    if value > -4096i64 as u64 { Err(Errno(value.wrapping_neg() as u16)) } else { Ok(value) }
}

pub(crate) fn open(kos: &mut Test, path: &str, flags: u32) -> core::result::Result<u64, Errno> {
    call(kos, OPENAT, &[CWD, c(path), flags.into(), 0])
}

pub(crate) fn read(kos: &mut Test, fd: u64, size: usize) -> core::result::Result<String, Errno> {
    let mut buffer = vec![0; size];
    let length = call(kos, READ, &[fd, buffer.as_mut_ptr() as u64, size as u64])?;
    buffer.truncate(length as usize);
    Ok(String::from_utf8(buffer).unwrap())
}

fn output(kos: &mut Test) -> Vec<(u8, String)> {
    let written = core::mem::take(&mut kos.system().written);
    written.into_iter().map(|(s, bytes)| (s, String::from_utf8(bytes).unwrap())).collect()
}

#[test]
fn files_are_read_from_the_archive() {
    use crate::fd::flag;
    let mut kos = kos();
    let fd = open(&mut kos, "/link", flag::CLOEXEC).unwrap();
    assert_eq!(fd, 3);
    assert_eq!(read(&mut kos, fd, 2), Ok("fo".into()));
    assert_eq!(read(&mut kos, fd, 9), Ok("o\n".into()));
    assert_eq!(read(&mut kos, fd, 9), Ok("".into()));
    assert_eq!(call(&mut kos, LSEEK, &[fd, -3i64 as u64, 2]), Ok(1));
    assert_eq!(read(&mut kos, fd, 2), Ok("oo".into()));
    let mut buffer = [0; 4];
    let at = buffer.as_mut_ptr() as u64;
    assert_eq!(call(&mut kos, PREAD64, &[fd, at, 4, 2]), Ok(2));
    assert_eq!(&buffer, b"o\n\0\0");
    assert_eq!(read(&mut kos, fd, 9), Ok("\n".into()));
    assert_eq!(call(&mut kos, LSEEK, &[fd, -9i64 as u64, 1]), Err(Errno::INVAL));
    assert_eq!(call(&mut kos, CLOSE, &[fd]), Ok(0));
    assert_eq!(read(&mut kos, fd, 9), Err(Errno::BADF));
}

#[test]
fn opening_fails_as_on_linux() {
    use crate::fd::flag::*;
    let mut kos = kos();
    for (path, flags, errno) in [
        ("/none", RDONLY, Errno::NOENT),
        ("", RDONLY, Errno::NOENT),
        ("/foo.txt/x", RDONLY, Errno::NOTDIR),
        ("/foo.txt", DIRECTORY, Errno::NOTDIR),
        ("/foo.txt", RDWR | CREAT | EXCL, Errno::EXIST),
        ("/none/new", WRONLY | CREAT, Errno::NOENT),
        ("/dir", RDWR, Errno::ISDIR),
        ("/dir", RDONLY | CREAT, Errno::ISDIR),
        ("/loop", RDONLY, Errno::LOOP),
        ("/link", NOFOLLOW, Errno::LOOP),
        ("/new/", WRONLY | CREAT, Errno::ISDIR),
        ("/dev/tty", RDWR, Errno::NXIO),
        ("/dev/none", RDWR, Errno::NOENT),
        ("/proc/new", WRONLY | CREAT, Errno::ROFS),
        ("/proc/version", WRONLY, Errno::ACCES),
    ] {
        assert_eq!(open(&mut kos, path, flags), Err(errno), "{path} {flags:o}");
    }
    let dir = open(&mut kos, "/dir", DIRECTORY).unwrap();
    assert_eq!(read(&mut kos, dir, 9), Err(Errno::ISDIR));
    assert_eq!(call(&mut kos, OPENAT, &[dir, c("inner"), 0]), Ok(4));
    assert_eq!(call(&mut kos, OPENAT, &[4, c("inner"), 0]), Err(Errno::NOTDIR));
    assert_eq!(call(&mut kos, OPENAT, &[9, c("inner"), 0]), Err(Errno::BADF));
    assert_eq!(call(&mut kos, OPENAT, &[CWD, 0, 0]), Err(Errno::FAULT));
    assert_eq!(call(&mut kos, MKDIRAT, &[CWD, c("/dir"), 0]), Err(Errno::EXIST));
}

/// Names that `getdents64` gives through a buffer of `size` bytes.
pub(crate) fn list(
    kos: &mut Test,
    fd: u64,
    size: usize,
) -> core::result::Result<Vec<String>, Errno> {
    let mut names = vec![];
    loop {
        let mut buffer = vec![0u64; size / 8];
        let at = buffer.as_mut_ptr() as u64;
        let length = call(kos, GETDENTS64, &[fd, at, size as u64])? as usize;
        if length == 0 {
            return Ok(names);
        }
        let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut rest = &bytes[..length];
        while !rest.is_empty() {
            let (entry, later) = rest.split_at(usize::from(rest[16]));
            let name = entry[19..].split(|&b| b == 0).next().unwrap();
            names.push(std::format!("{}:{}", entry[18], core::str::from_utf8(name).unwrap()));
            rest = later;
        }
    }
}

#[test]
fn directories_are_listed_through_a_buffer_of_any_size() {
    let mut kos = kos();
    let fd = open(&mut kos, "/", 0).unwrap();
    let all = "4:. 4:.. 4:bin 4:dir 8:foo.txt 10:link 10:loop";
    let all: Vec<_> = all.split(' ').map(String::from).collect();
    for size in [32, 64, 4096] {
        assert_eq!(call(&mut kos, LSEEK, &[fd, 0, 0]), Ok(0));
        assert_eq!(list(&mut kos, fd, size), Ok(all.clone()));
    }
    assert_eq!(call(&mut kos, LSEEK, &[fd, 0, 0]), Ok(0));
    assert_eq!(list(&mut kos, fd, 16), Err(Errno::INVAL));
    let file = open(&mut kos, "/foo.txt", 0).unwrap();
    assert_eq!(list(&mut kos, file, 64), Err(Errno::NOTDIR));
}

#[test]
fn files_tell_what_they_are() {
    let mut kos = kos();
    let mut stat = [0u8; 128];
    let at = stat.as_mut_ptr() as u64;
    let mut mode_of = |number, arguments: &[u64]| {
        call(&mut kos, number, arguments)
            .map(|_| u32::from_le_bytes(stat[16..20].try_into().unwrap()))
    };
    assert_eq!(mode_of(NEWFSTATAT, &[CWD, c("/link"), at, 0]), Ok(FILE));
    assert_eq!(mode_of(NEWFSTATAT, &[CWD, c("/link"), at, 0x100]), Ok(LINK));
    assert_eq!(mode_of(NEWFSTATAT, &[CWD, c(""), at, 0x1000]), Ok(DIR));
    assert_eq!(mode_of(NEWFSTATAT, &[1, c(""), at, 0x1000]), Ok(0o010_600));
    assert_eq!(mode_of(NEWFSTATAT, &[CWD, c("/dev/null"), at, 0]), Ok(0o020_666));
    assert_eq!(mode_of(NEWFSTATAT, &[CWD, c("/nothing"), at, 0]), Err(Errno::NOENT));
    assert_eq!(mode_of(FSTAT, &[0, at]), Ok(0o020_666));
    assert_eq!(mode_of(FSTAT, &[2, at]), Ok(0o010_600));
    assert_eq!(mode_of(FSTAT, &[7, at]), Err(Errno::BADF));
    for (path, mode, result) in [
        ("/bin/run", 1, Ok(0)),
        ("/foo.txt", 4, Ok(0)),
        ("/foo.txt", 1, Err(Errno::ACCES)),
        ("/foo.txt", 2, Ok(0)),
        ("/proc/version", 2, Err(Errno::ROFS)),
        ("/nothing", 0, Err(Errno::NOENT)),
    ] {
        assert_eq!(call(&mut kos, FACCESSAT, &[CWD, c(path), mode]), result, "{path} {mode}");
    }
    let mut target = [0u8; 16];
    let into = target.as_mut_ptr() as u64;
    assert_eq!(call(&mut kos, READLINKAT, &[CWD, c("/link"), into, 3]), Ok(3));
    assert_eq!(&target[..4], b"foo\0");
    let file = call(&mut kos, READLINKAT, &[CWD, c("/foo.txt"), into, 16]);
    assert_eq!(file, Err(Errno::INVAL));
}

#[test]
fn the_working_directory_moves() {
    let mut kos = kos();
    let mut buffer = [0xffu8; 8];
    let at = buffer.as_mut_ptr() as u64;
    assert_eq!(call(&mut kos, GETCWD, &[at, 8]), Ok(2));
    assert_eq!(&buffer[..2], b"/\0");
    assert_eq!(call(&mut kos, CHDIR, &[c("dir/../dir")]), Ok(0));
    assert_eq!(call(&mut kos, GETCWD, &[at, 8]), Ok(5));
    assert_eq!(&buffer[..5], b"/dir\0");
    assert_eq!(call(&mut kos, GETCWD, &[at, 4]), Err(Errno::RANGE));
    assert_eq!(open(&mut kos, "inner", 0), Ok(3));
    assert_eq!(call(&mut kos, CHDIR, &[c("inner")]), Err(Errno::NOTDIR));
    let root = open(&mut kos, "/", 0).unwrap();
    assert_eq!(call(&mut kos, FCHDIR, &[root]), Ok(0));
    assert_eq!(open(&mut kos, "inner", 0), Err(Errno::NOENT));
}

#[test]
fn output_goes_to_its_stream_in_chunks() {
    let mut kos = kos();
    let text = "x".repeat(2000);
    assert_eq!(call(&mut kos, WRITE, &[1, text.as_ptr() as u64, 2000]), Ok(2000));
    let lengths: Vec<_> = output(&mut kos).iter().map(|(s, t)| (*s, t.len())).collect();
    assert_eq!(lengths, [(1, 944), (1, 944), (1, 112)]);
    assert_eq!(call(&mut kos, WRITE, &[1, 0, 0]), Ok(0));
    assert_eq!(call(&mut kos, WRITE, &[0, text.as_ptr() as u64, 1]), Err(Errno::BADF));
    assert_eq!(call(&mut kos, WRITE, &[1, 16, 1]), Err(Errno::FAULT));
    assert!(output(&mut kos).is_empty());
}

#[test]
fn pieces_of_one_writev_go_out_together() {
    let mut kos = kos();
    let long = "y".repeat(1000);
    let pieces: Vec<u64> = ["a", "", "bc", &long, ""]
        .iter()
        .flat_map(|text| [text.as_ptr() as u64, text.len() as u64])
        .collect();
    let at = pieces.as_ptr() as u64;
    assert_eq!(call(&mut kos, WRITEV, &[2, at, 3]), Ok(3));
    assert_eq!(output(&mut kos), [(2, "abc".into())]);
    assert_eq!(call(&mut kos, WRITEV, &[2, at, 5]), Ok(1003));
    let lengths: Vec<_> = output(&mut kos).iter().map(|(_, t)| t.len()).collect();
    assert_eq!(lengths, [944, 59]);
    assert_eq!(call(&mut kos, WRITEV, &[2, at, 0]), Ok(0));
    assert_eq!(call(&mut kos, WRITEV, &[2, at, 1025]), Err(Errno::INVAL));
}

#[test]
fn a_write_that_is_cut_short_says_how_far_it_came() {
    let mut kos = kos();
    let text = "x".repeat(2000);
    let at = text.as_ptr() as u64;
    for (limits, result) in
        [(&[944, 100][..], Ok(1044)), (&[944, 0][..], Ok(944)), (&[0][..], Err(Errno::IO))]
    {
        kos.system().limits = limits.iter().copied().collect();
        assert_eq!(call(&mut kos, WRITE, &[1, at, 2000]), result);
        kos.system().limits = limits.iter().copied().collect();
        let pieces = [at, 1500, at, 500];
        assert_eq!(call(&mut kos, WRITEV, &[1, pieces.as_ptr() as u64, 2]), result);
    }
}

#[test]
fn readv_fills_pieces_in_order() {
    let mut kos = kos();
    let fd = open(&mut kos, "/foo.txt", 0).unwrap();
    let (mut a, mut b) = ([0u8; 3], [0u8; 5]);
    let pieces = [a.as_mut_ptr() as u64, 3, b.as_mut_ptr() as u64, 5];
    let at = pieces.as_ptr() as u64;
    assert_eq!(call(&mut kos, READV, &[fd, at, 2]), Ok(4));
    assert_eq!((&a, &b), (b"foo", b"\n\0\0\0\0"));
    assert_eq!(call(&mut kos, READV, &[fd, at, 2]), Ok(0));
    assert_eq!(call(&mut kos, PREADV, &[fd, at, 2, 2]), Ok(2));
    assert_eq!(&a, b"o\no");
}

#[test]
fn devices_are_there_without_being_in_the_image() {
    use crate::fd::flag::*;
    let mut kos = kos();
    let null = open(&mut kos, "/dev/null", RDWR).unwrap();
    assert_eq!(call(&mut kos, WRITE, &[null, c("abc"), 3]), Ok(3));
    assert_eq!(read(&mut kos, null, 3), Ok("".into()));
    let zero = open(&mut kos, "/dev/zero", RDONLY).unwrap();
    assert_eq!(read(&mut kos, zero, 3), Ok("\0\0\0".into()));
    let full = open(&mut kos, "/dev/full", RDWR).unwrap();
    assert_eq!(call(&mut kos, WRITE, &[full, c("abc"), 3]), Err(Errno::NOSPC));
    let error = open(&mut kos, "/dev/stderr", WRONLY).unwrap();
    assert_eq!(call(&mut kos, WRITE, &[error, c("abc"), 3]), Ok(3));
    assert_eq!(output(&mut kos), [(2, "abc".into())]);
}

#[test]
fn descriptors_are_no_terminals() {
    let mut kos = kos();
    const TIOCGWINSZ: u64 = 0x5413;
    let mut size = [0u8; 8];
    for fd in 0..3 {
        let result = call(&mut kos, IOCTL, &[fd, TIOCGWINSZ, size.as_mut_ptr() as u64]);
        assert_eq!(result, Err(Errno::NOTTY));
    }
    assert_eq!(call(&mut kos, IOCTL, &[9, TIOCGWINSZ, 0]), Err(Errno::BADF));
    assert_eq!(call(&mut kos, FCNTL, &[1, 3]), Ok(1));
    assert_eq!(call(&mut kos, FCNTL, &[1, 1030, 10]), Ok(10));
    assert_eq!(call(&mut kos, FCNTL, &[10, 1]), Ok(1));
    assert_eq!(call(&mut kos, DUP3, &[1, 5, 0]), Ok(5));
    assert_eq!(call(&mut kos, DUP, &[1]), Ok(3));
}

#[test]
fn an_unknown_call_is_named_once() {
    let mut kos = kos();
    assert_eq!(call(&mut kos, CLONE, &[]), Err(Errno::NOSYS));
    assert_eq!(call(&mut kos, CLONE, &[]), Err(Errno::NOSYS));
    assert_eq!(call(&mut kos, 5000, &[]), Err(Errno::NOSYS));
    let text: String = output(&mut kos)
        .into_iter()
        .map(|(stream, text)| {
            assert_eq!(stream, LOG);
            text
        })
        .collect();
    assert_eq!(
        text,
        "libkos: system call clone (220) is not implemented and gives ENOSYS\n\
         libkos: system call unknown (5000) is not implemented and gives ENOSYS\n"
    );
}

#[test]
fn clocks_advance_and_sleep_waits_for_them() {
    let mut kos = kos();
    let mut time = [0u64; 2];
    let at = time.as_mut_ptr() as u64;
    kos.system().ticks.set(1233);
    assert_eq!(call(&mut kos, CLOCK_GETTIME, &[1, at]), Ok(0));
    assert_eq!(time, [123, 400_000_000]);
    assert_eq!(call(&mut kos, CLOCK_GETTIME, &[0, at]), Ok(0));
    assert_eq!(time, [128, 500_000_000]);
    assert_eq!(call(&mut kos, CLOCK_GETTIME, &[99, at]), Err(Errno::INVAL));
    let request = [2u64, 0];
    assert_eq!(call(&mut kos, NANOSLEEP, &[request.as_ptr() as u64]), Ok(0));
    assert!(kos.system().ticks.get() >= 1255);
}

#[test]
fn random_bytes_differ_and_depend_on_the_seed() {
    let draw = || {
        let mut kos = kos();
        let mut bytes = [[0u8; 32]; 2];
        for part in &mut bytes {
            assert_eq!(call(&mut kos, GETRANDOM, &[part.as_mut_ptr() as u64, 32, 0]), Ok(32));
        }
        bytes
    };
    let [first, second] = draw();
    assert_ne!(first, second);
    assert_eq!(draw()[0], first);
}

/// Runs a call that ends the container; gives its status.
fn exits(kos: &mut Test, number: u64, arguments: &[u64]) -> u8 {
    let run = std::panic::AssertUnwindSafe(|| call(kos, number, arguments));
    *std::panic::catch_unwind(run).unwrap_err().downcast().unwrap()
}

#[test]
fn the_exit_status_is_the_programs_or_the_signals() {
    assert_eq!(exits(&mut kos(), EXIT_GROUP, &[0x1_03]), 3);
    assert_eq!(exits(&mut kos(), TKILL, &[1, 6]), 134);
    let mut kos = kos();
    let all = [u64::MAX];
    assert_eq!(call(&mut kos, RT_SIGPROCMASK, &[0, all.as_ptr() as u64, 0, 8]), Ok(0));
    assert_eq!(call(&mut kos, TKILL, &[1, 15]), Ok(0), "it waits while it is blocked");
    assert_eq!(call(&mut kos, KILL, &[1, 17]), Ok(0));
    assert_eq!(exits(&mut kos, RT_SIGPROCMASK, &[1, all.as_ptr() as u64, 0, 8]), 143);
    assert_eq!(call(&mut kos, KILL, &[5, 9]), Err(Errno::SRCH));
}

#[test]
fn signal_actions_are_kept() {
    let mut kos = kos();
    let (new, mut old) = ([0x1000u64, 4, 0x2000, 8], [9u64; 4]);
    let (new_at, old_at) = (new.as_ptr() as u64, old.as_mut_ptr() as u64);
    assert_eq!(call(&mut kos, RT_SIGACTION, &[2, new_at, old_at, 8]), Ok(0));
    assert_eq!(old, [0; 4]);
    assert_eq!(call(&mut kos, RT_SIGACTION, &[2, 0, old_at, 8]), Ok(0));
    assert_eq!(old, new);
    assert_eq!(call(&mut kos, RT_SIGACTION, &[9, new_at, 0, 8]), Err(Errno::INVAL));
    assert_eq!(call(&mut kos, RT_SIGACTION, &[65, new_at, 0, 8]), Err(Errno::INVAL));
}

#[test]
fn a_damaged_image_is_refused() {
    let fail = |archive: &'static [u8], cwd: &[u8]| {
        Kos::new(Machine::default(), Info::default(), cwd, archive).err().unwrap()
    };
    assert_eq!(fail(b"garbage", b"/"), "the container's initrd is damaged");
    assert_eq!(fail(b"", b"/app"), "the container's working directory is not in its image");
}

#[test]
fn sendfile_copies_from_where_the_file_is() {
    let mut kos = kos();
    let fd = open(&mut kos, "/foo.txt", 0).unwrap();
    assert_eq!(call(&mut kos, SENDFILE, &[1, fd, 0, 2]), Ok(2));
    let mut at = [1u64];
    assert_eq!(call(&mut kos, SENDFILE, &[1, fd, at.as_mut_ptr() as u64, 99]), Ok(3));
    assert_eq!(at, [4]);
    assert_eq!(call(&mut kos, SENDFILE, &[1, fd, 0, 99]), Ok(2));
    assert_eq!(call(&mut kos, SENDFILE, &[1, fd, 0, 99]), Ok(0));
    assert_eq!(call(&mut kos, SENDFILE, &[1, 0, 0, 99]), Err(Errno::INVAL));
    let text: String = output(&mut kos).into_iter().map(|(_, text)| text).collect();
    assert_eq!(text, "fooo\no\n");
}

#[test]
fn what_is_waited_for_is_ready_or_the_time_passes() {
    let mut kos = kos();
    // Descriptor 0 for reading, 1 for both, 9 that is not open, and one that does not count.
    let mut list = [0x1_0000_0000u64, 0x5_0000_0001, 0x1_0000_0009, 0x1_ffff_ffff];
    let at = list.as_mut_ptr() as u64;
    assert_eq!(call(&mut kos, PPOLL, &[at, 4, 0]), Ok(3));
    assert_eq!(list.map(|entry| entry >> 48), [1, 4, 0x20, 0]);
    let second = [1u64, 0];
    let before = kos.system().ticks.get();
    assert_eq!(call(&mut kos, PPOLL, &[0, 0, second.as_ptr() as u64]), Ok(0));
    assert!(kos.system().ticks.get() >= before + 10);
    let mut sets = [0b101u64, 0b010, 0b1];
    let [read, write, except] = sets.each_mut().map(|set| set as *mut u64 as u64);
    assert_eq!(call(&mut kos, PSELECT6, &[3, read, write, except, 0]), Ok(2));
    assert_eq!(sets, [0b001, 0b010, 0]);
    let mut closed = [1u64 << 20];
    let read = closed.as_mut_ptr() as u64;
    assert_eq!(call(&mut kos, PSELECT6, &[21, read, 0, 0, 0]), Err(Errno::BADF));
}

#[test]
fn a_futex_wakes_nobody_and_waits_no_longer_than_it_was_told() {
    let mut kos = kos();
    let word = [7u32];
    let at = word.as_ptr() as u64;
    let second = [1u64, 0];
    assert_eq!(call(&mut kos, FUTEX, &[at, 129, 1]), Ok(0));
    assert_eq!(call(&mut kos, FUTEX, &[at, 128, 8, 0]), Err(Errno::AGAIN));
    let result = call(&mut kos, FUTEX, &[at, 128, 7, second.as_ptr() as u64]);
    assert_eq!(result, Err(Errno::TIMEDOUT));
    assert_eq!(call(&mut kos, FUTEX, &[at, 11, 0]), Err(Errno::NOSYS));
}

#[test]
fn nobody_else_can_be_become() {
    let mut kos = kos();
    assert_eq!(call(&mut kos, MEMBARRIER, &[0, 0, 0]), Ok(25));
    assert_eq!(call(&mut kos, MEMBARRIER, &[2, 0, 0]), Err(Errno::INVAL));
    let keep = u64::from(u32::MAX);
    assert_eq!(call(&mut kos, SETRESUID, &[0, keep, 0]), Ok(0));
    assert_eq!(call(&mut kos, SETRESGID, &[0, 33, 33]), Err(Errno::PERM));
    assert_eq!(call(&mut kos, SETGROUPS, &[0, 0]), Ok(0));
    let mut header = [0u8; 8];
    let at = header.as_mut_ptr() as u64;
    assert_eq!(call(&mut kos, CAPGET, &[at, 0]), Ok(0));
    let mut data = [1u8; 24];
    assert_eq!(call(&mut kos, CAPGET, &[at, data.as_mut_ptr() as u64]), Ok(0));
    assert_eq!(data, [0; 24]);
}

#[test]
fn a_program_says_in_its_headers_which_linker_it_wants() {
    let path = c("/lib/ld.so");
    let bias = path - 0x100;
    let headers = [[6u64; 7], [3 | 4 << 32, 0, 0x100, 0, 0, 0, 0]];
    let at = headers.as_ptr() as u64;
    assert_eq!(interpreter_path(at, 2, bias), Some(&b"/lib/ld.so"[..]));
    assert_eq!(interpreter_path(at, 1, bias), None);
    assert_eq!(interpreter_path(0, 0, 0), None);
    let mut kos = kos();
    assert!(kos.interpreter(b"/lib/ld.so").unwrap_err().contains("not in its image"));
    assert!(kos.interpreter(b"/bin/run").unwrap_err().contains("cannot be loaded"));
}

#[path = "tests/signals.rs"]
mod signals;
#[path = "tests/threads.rs"]
mod threads;
