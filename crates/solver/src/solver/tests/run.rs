//! RUN with all that it may have, COPY --link, and ADD of what is elsewhere.

use koskit_llb::{Digest, Secret};

use super::*;
use crate::fetch::tests::{Server, answer};

#[test]
fn a_command_has_the_mounts_that_its_instruction_names_and_they_leave_no_trace() {
    inside(|_, dir| {
        let mut world = World::new(dir);
        add_base(&world, dir);
        world.write("in", "in\n");
        let secret = |text: &str| Secret::Bytes(text.into());
        world.inputs.secrets = [("s".into(), secret("file\n")), ("e".into(), secret("env"))].into();
        let built = world.build(
            "FROM base\n\
             RUN --mount=type=secret,id=s --mount=type=secret,id=e,env=E \\\n\
               cat /run/secrets/s; echo $E; stat -c %a /run/secrets/s\n\
             RUN --mount=type=secret,id=none [ ! -e /run/secrets/none ] && echo none\n\
             RUN --mount=type=cache,target=/c,mode=0711 stat -c %a /c; echo cached > /c/f\n\
             RUN --mount=type=cache,target=/d,id=/c,mode=0711 cat /d/f\n\
             RUN --mount=type=tmpfs,target=/t,size=1m echo x > /t/f; stat -f -c %b /t\n\
             RUN --mount=target=/ctx cat /ctx/in; (echo y > /ctx/in) 2>/dev/null || echo read-only\n\
             RUN --mount=target=/ctx,rw echo written > /ctx/in; cat /ctx/in\n\
             RUN --mount=target=/ctx cat /ctx/in\n\
             FROM scratch\nCOPY --from=0 / /\n",
        );
        let said = built.output(Stream::Stdout);
        let expected = "file\nenv\n400\nnone\n711\ncached\n256\nin\nread-only\nwritten\nin\n";
        // Commands that do not need each other's files still run one after the other.
        assert_eq!(said, expected);
        let base = world.files(&world.build("FROM base\nCOPY in /\n"));
        let names = |files: &[String]| {
            let names = files.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap().to_owned());
            names.map(|name| name.chars().take(40).collect::<String>()).collect::<Vec<_>>()
        };
        let mut expected = names(&base);
        expected.retain(|name| !name.starts_with("in "));
        assert_eq!(names(&world.files(&built)), expected);
    });
}

#[test]
fn a_command_may_be_without_network() {
    inside(|_, dir| {
        let world = World::new(dir);
        add_base(&world, dir);
        let built = world.build("FROM base\nRUN --network=none cat /proc/net/dev\n");
        let said = built.output(Stream::Stdout);
        let names: Vec<_> = said.lines().filter_map(|line| line.split_once(':')).collect();
        assert!(names.len() == 1 && names[0].0.trim() == "lo", "{said}");
    });
}

#[test]
fn linked_copies_and_what_is_added_from_elsewhere_come_on_top() {
    inside(|_, dir| {
        let world = World::new(dir);
        add_base(&world, dir);
        world.write("in", "in");
        let server = Server::new(|_, _| answer("200 OK", &["Content-Length: 5"], b"hello"));
        let checksum = Digest::of(b"hello");
        let text = format!(
            "FROM base\nCOPY --link in /linked/\nRUN rm /bin/ln\n\
             ADD --chmod=640 --checksum={checksum} {}/file.txt /added/\n\
             COPY --link --chmod=600 in /linked/more\n\
             FROM scratch\nCOPY --from=0 /linked /added /\n",
            server.url
        );
        let first = world.build(&text);
        let expected = ["640 0:0 file.txt hello", "644 0:0 in in", "600 0:0 more in"];
        assert_eq!(world.files(&first), expected);
        let again = world.build(&text);
        assert_eq!(again.solved, first.solved);
        assert_eq!(server.requests().len(), 1);
    });
}

#[test]
fn an_insecure_command_is_refused_unless_it_is_allowed() {
    inside(|_, dir| {
        let mut world = World::new(dir);
        add_base(&world, dir);
        let text = "FROM base\nRUN --security=insecure cat /proc/self/status >/status\n\
                    FROM scratch\nCOPY --from=0 /status /\n";
        let error = world.error(text);
        assert!(error.contains("entitlement security.insecure is not allowed"), "{error}");
        assert!(error.contains("--allow security.insecure"), "{error}");
        world.options.insecure = true;
        let files = world.files(&world.build(text)).join("\n");
        let effective = files.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        let effective = u64::from_str_radix(effective.trim(), 16).unwrap();
        assert_ne!(effective & 1 << 21, 0, "it has no CAP_SYS_ADMIN: {effective:x}");
    });
}
