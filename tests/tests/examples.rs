//! Everything in `examples/` is built, and run where there is something that can run it: on seL4
//! what libkos can, else under qemu's Linux, else on the build platform.

use koskit_llb::Platform;
use koskit_tests::server::Running;
use koskit_tests::{Home, root, skip};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

fn example(name: &str) -> String {
    root().join("examples").join(name).display().to_string()
}

/// The files of an image for linux/arm64, in a folder of the home.
fn unpacked(home: &Home, name: &str) -> PathBuf {
    let store = home.store();
    let platform = Platform::new("linux", "arm64", "");
    let image = store.resolve(&name.parse().unwrap(), &platform).unwrap();
    let folder = home.path().join(format!("files-{}", name.replace('/', "-")));
    for layer in &image.layers {
        tar::Archive::new(store.layer(layer).unwrap()).unpack(&folder).unwrap();
    }
    folder
}

/// Qemu for programs of arm64 Linux, if it is there.
fn qemu() -> Option<Command> {
    let found = Command::new("qemu-aarch64-static").arg("--version").output();
    match found {
        Ok(_) => Some(Command::new("qemu-aarch64-static")),
        Err(error) => {
            skip(format!("qemu-aarch64-static does not start: {error}"));
            None
        }
    }
}

#[test]
fn an_mqtt_broker_is_built_from_its_source_and_answers() {
    let home = Home::with_sdk();
    home.must(&["build", "-t", "mosquitto", &example("mosquitto")]);
    let image = home.inspect("mosquitto");
    let labels = &image["Config"]["Labels"];
    assert_eq!(labels["com.koskit.app.binary.loopback"], "/usr/sbin/mosquitto");
    assert!(!image.to_string().contains("/opt/kos"));

    // Sockets are still to come on seL4; its help needs none.
    let help = home.koskit(&["run", "mosquitto", "--", "-h"]);
    assert!(help.stdout.contains("mosquitto is an MQTT v5.0/v3.1.1/v3.1 broker."), "{help:?}");

    let Some(mut qemu) = qemu() else { return };
    let program = unpacked(&home, "mosquitto").join("usr/sbin/mosquitto");
    // Nobody else takes a port that was just free.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let broker = qemu.arg(program).args(["-p", &port.to_string()]);
    let broker = broker.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _broker = Running(broker);
    let mut stream = (0..200)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        })
        .expect("the broker does not listen");
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // MQTT 3.1.1, sections 3.1 and 3.2: CONNECT with a clean session, CONNACK "accepted".
    stream.write_all(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test").unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0]);
}

#[test]
fn a_python_application_is_tested_while_it_is_built_and_runs_on_arm64() {
    let home = Home::with_sdk();
    home.must(&["build", "-t", "words", &example("python")]);
    let image = home.inspect("words");
    let labels = &image["Config"]["Labels"];
    assert_eq!(labels["com.koskit.app.name"], "words");
    assert_eq!(labels["com.koskit.app.binary.loopback"], "/usr/bin/python3.11");

    let Some(mut qemu) = qemu() else { return };
    let files = unpacked(&home, "words");
    assert!(!files.join("app/test_words.py").exists());
    assert!(files.join("app/words/__pycache__/__init__.cpython-311.pyc").exists());
    let ran = home.must(&["run", "words"]);
    assert_eq!(ran.stdout, "Python 3.11.2 on aarch64\n   4 the\n   2 bird\n   2 feathers\n");
    let output = qemu
        .arg("-L")
        .arg(&files)
        .arg(files.join("usr/bin/python3.11"))
        .args(["-m", "words", "text.txt"])
        .current_dir(files.join("app"))
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        stdout, "Python 3.11.2 on aarch64\n   4 the\n   2 bird\n   2 feathers\n",
        "{stderr}"
    );
}

#[test]
fn an_erlang_release_is_made_for_both_platforms_and_survives_a_crash() {
    let home = Home::with_sdk();
    home.must(&["build", "-t", "greeter", &example("erlang")]);
    let labels = &home.inspect("greeter")["Config"]["Labels"];
    assert_eq!(labels["com.koskit.app.name"], "greeter");
    let erlexec = "/usr/lib/erlang/erts-13.1.5/bin/erlexec";
    assert_eq!(labels["com.koskit.app.binary.loopback"], erlexec);

    // Debian's emulator compiles at run time, which qemu's Linux does not survive: the release
    // runs on the build platform.
    let host = Platform::host().to_string();
    home.must(&["build", "--platform", &host, "-t", "here", &example("erlang")]);
    let run = format!(
        "FROM here\nRUN {erlexec} -noshell -boot /release/releases/1.0.0/start >/said 2>&1\n\
         RUN cat /said >&2\n"
    );
    home.write("run/Dockerfile", &run);
    let ran = home.must(&["build", "--platform", &host, "--progress=plain", "run"]).stderr;
    for line in ["greeter: start 1 on Erlang/OTP 25", "greeter: start 2 on", "hello 3 from Erlang"]
    {
        assert!(ran.contains(line), "{line} in\n{ran}");
    }
}

#[test]
fn a_compose_file_builds_the_images_of_its_services() {
    let home = Home::with_sdk();
    let file = format!("{}/compose.yaml", example("compose"));
    let dry = home.must(&["compose", "-f", &file, "--profile", "linux", "build", "--dry-run"]);
    let lines: Vec<&str> = dry.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", dry.stdout);
    assert!(lines[0].starts_with("koskit build --tag apps/client "), "{}", lines[0]);
    assert!(lines[2].starts_with("koskit build --tag apps/words --sel4=false "), "{}", lines[2]);
    assert!(!home.path().join("cache").exists());

    let mut command = home.command(&["compose", "-f", &file, "build"]);
    let built = command.env("GREETING", "tena koe").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for name in ["client", "server"] {
        let labels = &home.inspect(&format!("apps/{name}"))["Config"]["Labels"];
        assert_eq!(labels["com.koskit.app.binary.loopback"], format!("/bin/{name}"));
    }

    let (Some(mut client), Some(mut server)) = (qemu(), qemu()) else { return };
    let program = |name: &str| unpacked(&home, &format!("apps/{name}")).join("bin").join(name);
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let port = port.to_string();
    let server = server.arg(program("server")).arg(&port).stdout(Stdio::piped()).spawn().unwrap();
    let mut server = Running(server);
    let mut line = [0; 18];
    server.0.stdout.take().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"server: listening\n");
    let client = client.arg(program("client")).arg(&port).env("SERVER", "127.0.0.1").output();
    let said = String::from_utf8_lossy(&client.unwrap().stdout).into_owned();
    assert_eq!(said, "client: tena koe -> TENA KOE\nclient: bye -> BYE\n");
    assert!(server.0.wait().unwrap().success());
}

#[test]
fn a_compose_file_that_is_wrong_is_shown_where_it_is() {
    let home = Home::new();
    home.write("compose.yaml", "services:\n  a:\n    biuld: .\n    image: ${TAG:?set it}\n");
    let said = home.koskit(&["compose", "build"]);
    assert_eq!(said.code, 1);
    let expected = "\
error: a service has no key biuld
 --> compose.yaml:3:5
  |
3 |     biuld: .
  |     ^^^^^
  |
  = hint: did you mean build?

error: the variable TAG must be set: set it
 --> compose.yaml:4:12
  |
4 |     image: ${TAG:?set it}
  |            ^^^^^^^^^^^^^^
";
    assert_eq!(said.stderr, expected);
    home.write(".env", "TAG=1\n");
    home.write(
        "compose.yaml",
        "services:\n  a:\n    image: a:${TAG}\n    build:\n      \
        dockerfile_inline: |\n        FROM scratch\n        COPY file /\n",
    );
    home.write("file", "");
    home.must(&["compose", "build", "--quiet"]);
    assert_eq!(home.names(), ["a:1"]);
}
