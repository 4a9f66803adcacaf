//! Becoming another program.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::Process;

/// Where programs are, if the environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the program of a command, or says why not. An environment without HOME gets one.
pub(super) fn execute(process: &Process, home: &str) -> String {
    let Process { args, env, .. } = process;
    let Some(name) = args.first() else { return "there is no command".into() };
    let variable = |name: &str| {
        let mut values = env.iter().rev();
        values.find_map(|entry| entry.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    let path = match find(name, variable("PATH").as_deref().unwrap_or(PATH)) {
        Ok(path) => path,
        Err(why) => return why,
    };
    let home = variable("HOME").is_none().then(|| format!("HOME={home}").into_bytes());
    let secrets = process.secret_env.iter();
    let secrets = secrets.map(|(name, value)| [name.as_bytes(), b"=", &value.0].concat());
    let env = env.iter().map(|entry| entry.clone().into_bytes()).chain(home).chain(secrets);
    let args = args.iter().map(|arg| arg.clone().into_bytes());
    let strings = |strings: &mut dyn Iterator<Item = Vec<u8>>| {
        strings.map(CString::new).collect::<Result<Vec<_>, _>>()
    };
    let zero = || "a zero byte is in its arguments or environment".to_owned();
    let (Ok(program), Ok(args), Ok(env)) =
        (CString::new(path.as_os_str().as_bytes()), strings(&mut { args }), strings(&mut { env }))
    else {
        return zero();
    };
    let pointers = |strings: &[CString]| {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>()
    };
    let (args, env) = (pointers(&args), pointers(&env));
    // SAFETY: the program has one thread. Rust has let it ignore the signal, and the command
    // would inherit that: `yes | head` would never end.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: both arrays end with a null pointer, and what they point to lives until here.
    // The standard library has only `execvp`, which takes what is no program for a script.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    refusal(&path, &io::Error::last_os_error())
}

/// The path of a program that this user may execute.
fn find(name: &str, path: &str) -> Result<PathBuf, String> {
    if name.is_empty() {
        return Err("the name of the program is empty".into());
    }
    if name.contains('/') {
        return Ok(name.into());
    }
    let mut denied = None;
    for directory in path.split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        if !candidate.is_file() {
            continue;
        }
        if access(&candidate, Access::EXEC_OK).is_ok() {
            return Ok(candidate);
        }
        denied = Some(candidate);
    }
    Err(match denied {
        Some(path) => format!("{} is not executable", path.display()),
        None => format!("there is no program {name:?} in the image's PATH ({path})"),
    })
}

/// Why a program does not start, as far as it can be seen.
fn refusal(path: &Path, error: &io::Error) -> String {
    let shown = path.display();
    let mut head = [0; 256];
    let len = File::open(path).and_then(|mut file| file.read(&mut head)).unwrap_or(0);
    let head = &head[..len];
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) if head.starts_with(b"#!") => {
            let line = head[2..].split(|&b| b == b'\n').next().unwrap_or_default();
            let interpreter = OsStr::from_bytes(line.trim_ascii());
            format!("{shown} is a script for {interpreter:?}, which the image does not have")
        }
        Some(Errno::NOENT) if !head.is_empty() => {
            format!("{shown} needs a loader (ld.so) that the image does not have")
        }
        Some(Errno::NOENT) => format!("there is no program {shown} in the image"),
        Some(Errno::NOEXEC) => match machine(head) {
            Some(machine) => format!(
                "exec format error: {shown} is a program for {machine}, which this machine \
                 ({}) cannot run; install qemu-user-static (it takes Linux 6.7), or build the \
                 stage with `FROM --platform=$BUILDPLATFORM`",
                std::env::consts::ARCH
            ),
            None => format!(
                "exec format error: {shown} is neither a program nor a script that begins with #!"
            ),
        },
        Some(Errno::ACCESS) => format!("{shown} is not executable"),
        _ => format!("{shown}: {error}"),
    }
}

/// The machine of an ELF file, by its header.
fn machine(head: &[u8]) -> Option<String> {
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let bytes = [*head.get(18)?, *head.get(19)?];
    let number = if head[5] == 2 { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    Some(match number {
        3 => "i386".into(),
        40 => "arm".into(),
        62 => "x86_64".into(),
        183 => "arm64".into(),
        243 => "riscv".into(),
        number => format!("ELF machine {number}"),
    })
}
