//! Commands in roots that borrow the machine's own programs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use koskit_llb::Digest;

use super::*;
use crate::snapshot::{Active, Snapshot, Snapshots};
use crate::testing::{World, inside};

/// A root in which the machine's `/usr` is to be mounted.
fn root(dir: &Path) -> (Snapshots, Active) {
    let snapshots = Snapshots::open(dir).unwrap();
    let base = snapshots.prepare(&Snapshot::scratch()).unwrap();
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(Path::new("usr").join(name), base.path().join(name)).unwrap();
    }
    fs::create_dir(base.path().join("etc")).unwrap();
    fs::write(base.path().join("etc/passwd"), "root:x:0:0::/root:\nann:x:1000:100::/home:\n")
        .unwrap();
    fs::write(base.path().join("etc/group"), "wheel:x:10:ann\n").unwrap();
    let base = base.commit(&Digest::of(b"base")).unwrap();
    let active = snapshots.prepare(&base).unwrap();
    (snapshots, active)
}

fn usr() -> Mount {
    let source = MountSource::Directory { root: "/".into(), selector: "usr".into() };
    Mount { target: "/usr".into(), source, readonly: true }
}

fn shell(script: &str) -> Process {
    let args = ["/bin/sh", "-c", script].map(String::from).into();
    Process { args, mounts: vec![usr()], ..Process::default() }
}

/// Runs a command, and gives what it wrote to its standard output and error.
fn outcome(process: &Process, root: &Path) -> (Result<(), ExecError>, String, String) {
    let (stdout, stderr) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let result = run(process, root, &Cancel::new(), &|stream, bytes| {
        let to = if stream == Stream::Stdout { &stdout } else { &stderr };
        to.lock().unwrap().extend_from_slice(bytes);
    });
    let text = |bytes: Mutex<Vec<u8>>| String::from_utf8(bytes.into_inner().unwrap()).unwrap();
    (result, text(stdout), text(stderr))
}

/// The standard output of a script that ends well.
fn says(process: &Process, root: &Path) -> String {
    let (result, stdout, stderr) = outcome(process, root);
    result.unwrap_or_else(|e| panic!("{e}\n{stdout}{stderr}"));
    stdout
}

#[test]
fn a_command_writes_to_both_streams_and_to_its_root() {
    inside(|_, dir| {
        let (_snapshots, active) = root(dir);
        let process = Process {
            env: vec!["A=b c".into(), "PATH=/usr/bin".into()],
            cwd: "/work/deep".into(),
            ..shell("echo out $A; echo err >&2; pwd; echo $HOME; echo $$; touch file; id -u; id -G")
        };
        let (result, stdout, stderr) = outcome(&process, &active.path());
        result.unwrap_or_else(|e| panic!("{e} {stderr}"));
        assert_eq!(stdout, "out b c\n/work/deep\n/root\n1\n0\n0\n");
        assert_eq!(stderr, "err\n");
        let file = fs::metadata(active.path().join("work/deep/file")).unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (0, 0, 0o644));
    });
}

#[test]
fn a_command_that_fails_is_told_with_its_code_or_signal() {
    inside(|world, dir| {
        let (_snapshots, active) = root(dir);
        let error = outcome(&shell("exit 3"), &active.path()).0.unwrap_err();
        assert_eq!(error.hint().is_some(), world == World::Single);
        assert_eq!(error.to_string(), "the command `exit 3` failed with exit code 3");
        // Process 1 is not to be killed from inside, so it is a child that dies.
        let error = outcome(&shell("sh -c 'kill -9 $$'"), &active.path()).0.unwrap_err();
        assert!(matches!(error, ExecError::Exit { code: 137, .. }), "{error}");
    });
}

#[test]
fn what_cannot_be_started_says_why() {
    inside(|_, dir| {
        let (_snapshots, active) = root(dir);
        let path = active.path();
        let program = |name: &str, content: &[u8]| {
            fs::write(path.join(name), content).unwrap();
            fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        };
        let mut arm = fs::read("/bin/sh").unwrap();
        arm.truncate(64);
        // RISC-V, whose emulator hardly any machine has registered.
        arm[18] = 243;
        program("foreign", &arm);
        program("text", b"echo this has no first line\n");
        program("script", b"#!/no/such/shell -x\n");
        fs::write(path.join("data"), "x").unwrap();
        for (args, why) in [
            (vec!["no-such-program"], "no program \"no-such-program\" in the image's PATH"),
            (vec!["/no/such"], "no program /no/such"),
            (vec!["/foreign"], "exec format error: /foreign is a program for riscv"),
            (vec!["/text"], "neither a program nor a script"),
            (vec!["/script"], "\"/no/such/shell -x\", which the image does not have"),
            (vec!["/data"], "/data is not executable"),
            (vec!["/etc"], "/etc is not executable"),
            (vec![], "there is no command"),
        ] {
            let args = args.into_iter().map(String::from).collect();
            let process = Process { args, mounts: vec![usr()], ..Process::default() };
            let error = outcome(&process, &path).0.unwrap_err();
            assert!(matches!(error, ExecError::Start { .. }), "{error}");
            assert!(error.to_string().contains(why), "{error} does not say: {why}");
        }
    });
}

#[test]
fn what_was_made_for_mounts_leaves_no_trace() {
    inside(|_, dir| {
        let (snapshots, active) = root(dir);
        fs::create_dir(active.path().join("var")).unwrap();
        let before = fs::metadata(active.path().join("var")).unwrap();
        let etc = fs::metadata(active.path().join("etc")).unwrap();
        let mut process = shell("ls /var/cache/deep /proc/self/status /dev/null; echo x >/kept");
        let tmpfs = MountSource::Tmpfs { size: Some(1 << 20) };
        let target = "/var/cache/deep".into();
        process.mounts.push(Mount { target, source: tmpfs, readonly: false });
        says(&process, &active.path());
        let after = fs::metadata(active.path().join("var")).unwrap();
        assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
        let after = fs::metadata(active.path().join("etc")).unwrap();
        assert_eq!((etc.mtime(), etc.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
        let mut names = Vec::new();
        let snapshot = active.commit(&Digest::of(b"run")).unwrap();
        let view = snapshots.view(&snapshot).unwrap();
        for dir in ["", "etc", "var"] {
            let entries = fs::read_dir(view.path().join(dir)).unwrap();
            names.extend(entries.map(|e| e.unwrap().file_name().into_string().unwrap()));
        }
        names.sort();
        let wanted = ["bin", "etc", "group", "kept", "lib", "lib64", "passwd", "sbin", "var"];
        assert_eq!(names, wanted);
    });
}

#[test]
fn links_of_the_image_lead_no_mount_out_of_it() {
    inside(|_, dir| {
        let (_snapshots, active) = root(dir);
        let path = active.path();
        let outside = dir.join("outside");
        fs::create_dir(&outside).unwrap();
        fs::remove_dir_all(path.join("etc")).unwrap();
        symlink(&outside, path.join("etc")).unwrap();
        symlink("../../../../../../..", path.join("up")).unwrap();
        let mut process = shell("cat /etc/hosts; ls /up/inside");
        let tmpfs = MountSource::Tmpfs { size: None };
        let target = "/up/inside".into();
        process.mounts.push(Mount { target, source: tmpfs, readonly: false });
        assert!(says(&process, &path).contains("localhost koskit"));
        assert!(fs::read_dir(&outside).unwrap().next().is_none());
        assert!(!Path::new("/inside").exists());
        // Nor is /proc mounted anywhere else.
        symlink("/etc", path.join("proc")).unwrap();
        let error = outcome(&process, &path).0.unwrap_err();
        assert!(error.to_string().contains("/proc of the image is not a directory"), "{error}");
    });
}

#[test]
fn what_belongs_to_the_machine_cannot_be_changed() {
    inside(|_, dir| {
        let (_snapshots, active) = root(dir);
        let script = "
            for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /usr/file; do
                if (echo x >$f) 2>/dev/null; then echo wrote $f; fi
            done
            test -s /proc/kcore && echo read kcore
            mount -t tmpfs none /mnt 2>/dev/null && echo mounted
            mknod /sda b 8 0 2>/dev/null && echo made a device
            ls /proc | grep -c '^[0-9]' | { read n; test $n -lt 9 || echo saw $n processes; }
            echo x >/dev/null && head -c4 /dev/urandom | wc -c
            grep CapEff /proc/self/status
            hostname
            test -w /dev/shm && echo shm
            cat /proc/1/comm";
        let said = says(&shell(script), &active.path());
        assert_eq!(said, "4\nCapEff:\t00000000a00425fb\nkoskit\nshm\nsh\n");
    });
}

#[test]
fn nobody_can_write_to_the_program_that_is_started_again() {
    inside(|_, _| {
        let mounted = this_program().unwrap();
        let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        // While it runs, a write fails for that reason. This one fails for the mount's alone.
        let mode = fs::metadata(path(mounted)).unwrap().permissions();
        let error = fs::set_permissions(path(mounted), mode).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        let copied = copied_program().unwrap();
        let mut file = File::options().write(true).open(path(&copied)).unwrap();
        assert_eq!(file.write(b"x").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let length = |fd| fs::metadata(path(fd)).unwrap().len();
        assert_eq!(length(mounted), length(&copied));
    });
}

#[test]
fn files_that_koskit_was_started_with_stay_outside() {
    inside(|_, dir| {
        let (_snapshots, active) = root(dir);
        // A number that no shell uses.
        let outside = rustix::io::fcntl_dupfd_cloexec(File::open(dir).unwrap(), 300).unwrap();
        rustix::io::fcntl_setfd(&outside, rustix::io::FdFlags::empty()).unwrap();
        let said = says(&shell("echo $(ls /proc/$$/fd)"), &active.path());
        assert!(!said.split_whitespace().any(|fd| fd == outside.as_raw_fd().to_string()), "{said}");
        let cwd = format!("/proc/self/fd/{}", outside.as_raw_fd());
        let process = Process { cwd, ..shell("ls") };
        let error = outcome(&process, &active.path()).0.unwrap_err();
        assert!(matches!(error, ExecError::Start { .. }), "{error}");
    });
}

#[test]
fn a_user_is_that_of_the_image_and_has_no_capabilities() {
    inside(|world, dir| {
        let (_snapshots, active) = root(dir);
        let script = "id -u; id -g; id -G; grep -c 'CapEff:.*0000000000000000' /proc/self/status
            echo $HOME; echo works >/dev/stderr";
        let process = Process { user: "ann".into(), ..shell(script) };
        let (result, stdout, stderr) = outcome(&process, &active.path());
        if world == World::Single {
            let error = result.unwrap_err().to_string();
            return assert!(error.contains("--add-subuids"), "{error}");
        }
        result.unwrap_or_else(|e| panic!("{e} {stderr}"));
        assert_eq!(stdout, "1000\n100\n100 10\n1\n/home\n");
        assert_eq!(stderr, "works\n");
        let process = Process { user: "eve".into(), ..shell("true") };
        let error = outcome(&process, &active.path()).0.unwrap_err().to_string();
        assert!(error.contains("there is no user \"eve\""), "{error}");
    });
}

#[test]
fn a_command_without_network_has_a_loopback_interface_that_is_up() {
    inside(|_, dir| {
        let (_snapshots, active) = root(dir);
        let script =
            "tail -n +3 /proc/net/dev | cut -d: -f1; cat /proc/net/fib_trie | grep -c 127.0.0.1
            test -e /etc/resolv.conf && echo resolv";
        let process = Process { network: Network::None, ..shell(&format!("{script}; true")) };
        let said = says(&process, &active.path());
        assert!(said.starts_with("    lo\n"), "{said}");
        assert!(!said.contains("\n0\n"), "{said}");
    });
}

#[test]
fn mounts_are_read_only_or_keep_what_is_written() {
    inside(|_, dir| {
        let (_snapshots, active) = root(dir);
        let cache = dir.join("cache");
        fs::create_dir_all(cache.join("sub")).unwrap();
        fs::write(cache.join("sub/secret"), "s").unwrap();
        let source = |selector: &str| MountSource::Directory {
            root: cache.clone(),
            selector: selector.into(),
        };
        let mount =
            |target: &str, source, readonly| Mount { target: target.into(), source, readonly };
        let script = "echo kept >/cache/new; cat /run/secret; echo x >/run/secret; echo $?
            echo x >/ro/y || ls /ro; ls /cache/inner";
        let mut process = shell(script);
        process.mounts.extend([
            mount("/cache", source(""), false),
            mount("/ro", source("/"), true),
            mount("/run/secret", source("../../sub/secret"), true),
            mount("/cache/inner", source("sub"), true),
        ]);
        let said = says(&process, &active.path());
        assert_eq!(said, "s2\ninner\nnew\nsub\nsecret\n");
        assert_eq!(fs::read_to_string(cache.join("new")).unwrap(), "kept\n");
        assert!(!active.path().join("run").exists());
    });
}

#[test]
fn cancelling_kills_everything_at_once() {
    inside(|_, dir| {
        let (_snapshots, active) = root(dir);
        let cancel = Cancel::new();
        let start = Instant::now();
        let mut process = shell("setsid sleep 1000 & (trap '' TERM INT HUP; echo up; sleep 1000)");
        process.env = vec!["PATH=/usr/bin:/bin".into()];
        let path = active.path();
        let error = std::thread::scope(|scope| {
            let (started, wait) = std::sync::mpsc::channel();
            let (cancel, process) = (&cancel, &process);
            let run = scope.spawn(move || {
                run(process, &path, cancel, &move |_, _| started.send(()).unwrap_or_default())
            });
            wait.recv().unwrap();
            cancel.cancel();
            run.join().unwrap().unwrap_err()
        });
        assert!(matches!(error, ExecError::Cancelled { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(60));
        let again = run(&shell("true"), &active.path(), &cancel, &|_, _| {}).unwrap_err();
        assert!(matches!(again, ExecError::Cancelled { .. }));
    });
}

#[test]
fn a_killed_build_leaves_no_process() {
    const VICTIM: &str = "KOSKIT_TEST_VICTIM";
    inside(|_, dir| {
        let (_snapshots, active) = root(dir);
        // No other process has this argument.
        let time = format!("1000.{}", std::process::id());
        if let Ok(time) = std::env::var(VICTIM) {
            let script = format!("setsid sleep {time} & trap '' TERM HUP; sleep {time}");
            let _ = outcome(&shell(&script), &active.path());
            unreachable!("it was killed before");
        }
        let sleeping = || {
            let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
            let lines = processes.filter_map(|p| fs::read(p.path().join("cmdline")).ok());
            let wanted = format!("sleep\0{time}\0");
            lines.filter(|line| line == wanted.as_bytes()).count()
        };
        let until = |count| {
            let start = Instant::now();
            while sleeping() != count {
                assert!(start.elapsed() < Duration::from_secs(60), "{} sleep", sleeping());
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        let test = "exec::tests::a_killed_build_leaves_no_process";
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(VICTIM, &time)
            .env("KOSKIT_TEST_DIRECTORY", dir.join("victim"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until(2);
        victim.kill().unwrap();
        victim.wait().unwrap();
        until(0);
        let left =
            |snapshots: &Snapshots| fs::read_dir(snapshots.path().join("active")).unwrap().count();
        let victims = Snapshots::open(&dir.join("victim")).unwrap();
        assert_eq!(left(&victims), 0);
    });
}

#[test]
fn several_commands_run_at_the_same_time() {
    inside(|_, dir| {
        let (snapshots, active) = root(dir);
        let base = active.commit(&Digest::of(b"again")).unwrap();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let (snapshots, base) = (&snapshots, &base);
                scope.spawn(move || {
                    let active = snapshots.prepare(base).unwrap();
                    let process = shell(&format!("sleep 0.1; echo {n} >/n; cat /n"));
                    assert_eq!(says(&process, &active.path()), format!("{n}\n"));
                    active.commit(&Digest::of(format!("{n}").as_bytes())).unwrap();
                });
            }
        });
    });
}

#[test]
fn output_is_cut_where_lines_end() {
    let cut = |chunks: &[&[u8]]| {
        let (reader, mut writer) = UnixStream::pair().unwrap();
        let mut pipe = Pipe::new((Stream::Stderr, reader.into()));
        let said = Mutex::new(Vec::new());
        let output = |stream, bytes: &[u8]| {
            assert_eq!(stream, Stream::Stderr);
            said.lock().unwrap().push(String::from_utf8(bytes.into()).unwrap());
        };
        for chunk in chunks {
            writer.write_all(chunk).unwrap();
            assert!(pipe.read(&output));
        }
        drop(writer);
        pump(vec![pipe], &output);
        said.into_inner().unwrap()
    };
    assert_eq!(cut(&[b"a", b"b\nc", b"d\n", b"e"]), ["ab\n", "cd\n", "e"]);
    assert_eq!(cut(&[b"10%\r20", b"%\r"]), ["10%\r", "20%\r"]);
    assert!(cut(&[]).is_empty());
    let long = "x".repeat(10_000);
    assert_eq!(cut(&[long.as_bytes(), long.as_bytes()]), [long.repeat(2)]);
}

#[test]
fn a_command_is_shown_as_one_would_type_it() {
    let shown = |args: &[&str]| shown(&args.iter().map(|a| a.to_string()).collect::<Vec<_>>());
    assert_eq!(shown(&["/bin/sh", "-c", "make && make install"]), "`make && make install`");
    assert_eq!(shown(&["gcc", "-o", "a b", "it's"]), r"`gcc -o 'a b' 'it'\''s'`");
    assert!(shown(&["x".repeat(500).as_str()]).len() < 220);
}

#[test]
fn an_insecure_command_has_the_rights_that_koskit_has_and_others_have_not() {
    inside(|_, dir| {
        let (_snapshots, active) = root(dir);
        let script = "mkdir -p /tmp; mount -t tmpfs none /tmp 2>/dev/null && echo mounts; \
                      grep -c ' /proc/' /proc/self/mountinfo; true";
        let secure = says(&shell(script), &active.path());
        assert!(!secure.contains("mounts\n"), "{secure}");
        let insecure = Process { insecure: true, ..shell(script) };
        let said = says(&insecure, &active.path());
        // Nothing is mounted in `/proc`, be it to hide something or to protect it.
        assert_eq!(said, "mounts\n0\n");
        assert_ne!(secure, "0\n");
    });
}

#[test]
fn a_command_has_its_limits_and_koskit_says_which_it_cannot_have() {
    inside(|_, dir| {
        let (_snapshots, active) = root(dir);
        let limits = vec![
            Limit::new("nofile", 64, 128).unwrap(),
            Limit::new("core", 0, 0).unwrap(),
            Limit::new("fsize", 512, 512).unwrap(),
        ];
        let script = "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -f";
        let process = Process { limits, ..shell(script) };
        assert_eq!(says(&process, &active.path()), "64\n128\n0\n1\n");
        let limits = vec![Limit::new("nofile", 1 << 40, 1 << 40).unwrap()];
        let error = outcome(&Process { limits, ..shell("true") }, &active.path()).0.unwrap_err();
        assert!(error.to_string().contains("the limit nofile cannot be 1099511627776"), "{error}");
    });
}
