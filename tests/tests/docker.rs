//! `koskit build --builder`, on the BuildKit of a real docker daemon.

use koskit_tests::{Docker, Home, skip};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The daemon of all tests here, or the reason why there is none.
macro_rules! docker {
    () => {
        match Docker::shared() {
            Ok(docker) => docker,
            Err(why) => return skip(why),
        }
    };
}

fn builder(docker: &Docker) -> String {
    format!("docker://{}", docker.socket().display())
}

/// `linux/amd64` or what this machine is: what docker can run here.
fn platform() -> String {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    format!("linux/{architecture}")
}

const DOCKERFILE: &str = "\
FROM kos/busybox AS build
COPY hello.txt /
RUN --network=none tr a-z A-Z </hello.txt >/loud.txt
FROM kos/busybox
LABEL greeting=loud
COPY --from=build /loud.txt /
RUN --network=none true
ENTRYPOINT [\"/bin/cat\", \"/loud.txt\"]
";

#[test]
fn docker_builds_what_koskit_builds() {
    let docker = docker!();
    let home = Home::with_sdk();
    home.write("context/Dockerfile", DOCKERFILE);
    home.write("context/hello.txt", "hello\n");
    let (builder, platform) = (builder(docker), platform());
    let common = ["build", "--platform", &platform, "context", "-t"];
    home.must(&[&common[..], &["here"]].concat());
    home.must(&[&common[..], &["there", "--builder", &builder]].concat());
    let (here, there) = (home.inspect("here"), home.inspect("there"));
    assert_eq!(here["Config"], there["Config"]);
    let store = home.store();
    let files = |name: &str| {
        let image = store.resolve(&name.parse().unwrap(), &platform.parse().unwrap()).unwrap();
        let history = image.config.history().clone().unwrap_or_default();
        let made = history.iter().filter(|entry| entry.empty_layer() != Some(true)).count();
        (made, image.layers.len())
    };
    // Their histories fit their layers: BuildKit leaves the folders of mounts, koskit does not.
    for name in ["here", "there"] {
        let (made, layers) = files(name);
        assert_eq!(made, layers, "{name}");
    }
    // Again, and with the daemon found as docker finds it: the same image.
    let mut again = home.command(&[&common[..], &["again", "--builder", "docker"]].concat());
    let output = again.env("DOCKER_HOST", docker.host()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(home.inspect("again")["Id"], there["Id"]);
}

#[test]
fn a_step_that_fails_there_is_shown_in_the_dockerfile() {
    let docker = docker!();
    let home = Home::with_sdk();
    home.write(
        "context/Dockerfile",
        "FROM kos/busybox\nRUN --network=none echo last words; exit 3\n",
    );
    let (builder, platform) = (builder(docker), platform());
    let said = home.koskit(&["build", "--platform", &platform, "--builder", &builder, "context"]);
    assert_eq!(said.code, 1);
    for part in ["last words", "Dockerfile:2", "exit code 3", "RUN --network=none"] {
        assert!(said.stderr.contains(part), "{part} is missing:\n{}", said.stderr);
    }
}

#[test]
fn what_is_built_there_ends_with_the_command() {
    let docker = docker!();
    let home = Home::with_sdk();
    // A number that no other sleep has.
    home.write("context/Dockerfile", "FROM kos/busybox\nRUN --network=none sleep 41414141\n");
    let (builder, platform) = (builder(docker), platform());
    let words = ["build", "--platform", &platform, "--builder", &builder, "context"];
    let mut command = home.command(&words).stderr(Stdio::null()).spawn().unwrap();
    let sleeps = || {
        let script = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '";
        docker.peers().run("sh", &["-c", script]).stdout.contains("sleep 41414141 ")
    };
    let wait_for = |expected: bool| {
        let start = Instant::now();
        while sleeps() != expected {
            assert!(start.elapsed() < Duration::from_secs(60), "it is still {}", !expected);
            sleep(Duration::from_millis(100));
        }
    };
    wait_for(true);
    // What Ctrl-C sends.
    let pid = command.id().to_string();
    std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(!command.wait().unwrap().success());
    wait_for(false);
}

#[test]
fn a_layer_of_any_size_takes_little_memory() {
    let docker = docker!();
    let home = Home::with_sdk();
    home.write(
        "context/Dockerfile",
        "FROM kos/busybox\nCOPY large /\nRUN --network=none head -c 400000000 /dev/urandom >/random\n",
    );
    let large = std::fs::File::create(home.path().join("context/large")).unwrap();
    large.set_len(400_000_000).unwrap();
    let (builder, platform) = (builder(docker), platform());
    let words = ["build", "--platform", &platform, "--builder", &builder, "-t", "large", "context"];
    let mut command = home.command(&words).stderr(Stdio::null()).spawn().unwrap();
    let (mut most, start) = (0, Instant::now());
    while command.try_wait().unwrap().is_none() {
        most = most.max(resident(command.id()));
        sleep(Duration::from_millis(20));
    }
    assert!(command.wait().unwrap().success());
    println!("at most {} KiB in {:.1} s", most, start.elapsed().as_secs_f64());
    assert!((1..100 << 10).contains(&most), "{most} KiB");
}

/// The most memory of a process so far, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}
