//! Debian's programs for arm64, unmodified, on seL4: what they print there.

use koskit_image::{Node, NodeKind, Tree};
use koskit_lower::{Bundle, Options, rewrite};
use koskit_machine::Container;
use koskit_tests::{Ran, platform, root, skip};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is left out of images: nothing here reads it, and it would be copied into every machine.
const UNUSED: [&str; 4] = ["dev", "usr/share", "var/lib/dpkg", "var/cache"];

/// The files of a set of Debian packages, `target/linux/NAME.tar`; none where they cannot be had.
fn files(name: &str) -> Option<Tree> {
    let path = root().join(format!("target/linux/{name}.tar"));
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) => {
            skip(format!("{}: {error}; ./x sdk makes it of Debian packages", path.display()));
            return None;
        }
    };
    let mut tree = Tree::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path: PathBuf = entry.path().unwrap().components().skip(1).collect();
        if UNUSED.iter().any(|unused| path.starts_with(unused)) || path.as_os_str().is_empty() {
            continue;
        }
        let link = entry.link_name().unwrap().map(|link| link.into_owned());
        let mode = entry.header().mode().unwrap() & 0o7777;
        let node = match (entry.header().entry_type(), link) {
            (tar::EntryType::Directory, _) => Node::directory(mode),
            (tar::EntryType::Symlink, Some(to)) => Node::symlink(to),
            (tar::EntryType::Link, Some(to)) => {
                let to: PathBuf = to.components().skip(1).collect();
                tree.get(&to).unwrap().clone()
            }
            _ => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                Node::file(mode, bytes)
            }
        };
        tree.insert(path, node);
    }
    Some(tree)
}

/// A bundle of these files that runs these words.
fn bundle(tree: &Tree, words: &[&str], labels: &[(&str, &str)]) -> Bundle {
    let config = json!({
        "os": "linux", "architecture": "arm64",
        "rootfs": { "type": "layers", "diff_ids": [] },
        "config": { "Cmd": words, "Env": ["HOME=/root", "LANG=C.UTF-8"] },
    });
    let labels =
        labels.iter().map(|(key, value)| (format!("com.koskit.app.{key}"), (*value).into()));
    let options = Options {
        name: words[0].into(),
        labels: labels.collect::<BTreeMap<_, _>>(),
        ..Options::default()
    };
    let config = serde_json::from_value(config).unwrap();
    koskit_lower::lower(tree, &config, &options, &platform().libkos().unwrap()).unwrap()
}

fn boot(bundle: Bundle) -> Ran {
    let process = bundle.process();
    let Bundle { contract, program, initrd, .. } = bundle;
    let container = Container { contract, process, program, initrd };
    let ran = koskit_tests::boot(&[container], &koskit_machine::Options::default()).unwrap();
    assert_eq!(ran.ended.before, ran.ended.after, "{ran}");
    ran
}

/// Runs words on seL4 and compares their output; `*` stands for any text.
fn says(tree: &Tree, words: &[&str], expected: &str) {
    let bundle = bundle(tree, words, &[]);
    let untyped = 1u64 << bundle.contract.untyped_bits;
    let started = Instant::now();
    let ran = boot(bundle);
    println!("{words:?}: {:?}, untyped {} MiB", started.elapsed(), untyped >> 20);
    ran.log.iter().for_each(|(_, line)| println!("    {line}"));
    assert!(matches(ran.output(), expected), "{words:?} says\n{ran}");
    assert_eq!(ran.ended.status, 0, "{words:?}: {ran}");
}

/// Whether a text is as a pattern says, in which `*` stands for any text.
fn matches(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    let mut open = false;
    while let Some(part) = parts.next() {
        open = true;
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    open || rest.is_empty()
}

macro_rules! programs {
    ($files:literal: $($name:ident $words:expr => $expected:expr,)*) => { $(
        #[test]
        fn $name() {
            let Some(tree) = files($files) else { return };
            says(&tree, &$words, $expected);
        }
    )* };
}

programs! { "tools":
    busybox_echo ["/bin/busybox", "echo", "one", "two"] => "one two\n",
    busybox_cat ["/bin/busybox", "cat", "/etc/passwd"] => "root:x:0:0:root:/root:/bin/sh\n",
    busybox_ls ["/bin/busybox", "ls", "/"] => "*\netc\n*\nusr\n*",
    busybox_sh ["/bin/busybox", "sh", "-c", "for i in 1 2 3; do echo $((i * i)); done; cd /etc; pwd"]
        => "1\n4\n9\n/etc\n",
    busybox_sed ["/bin/busybox", "sed", "s/:.*:/ is at /", "/etc/passwd"] => "root is at /bin/sh\n",
    busybox_awk ["/bin/busybox", "awk", "-F:", "{ print $1, $3 + 41.5 }", "/etc/passwd"]
        => "root 41.5\n",
    busybox_sort ["/bin/busybox", "sort", "-r", "/etc/ld-musl-aarch64.path"]
        => "/usr/lib/aarch64-linux-musl\n/lib/aarch64-linux-musl\n",
    busybox_md5sum ["/bin/busybox", "md5sum", "/etc/passwd"]
        => "930991558ca0d49b4f098ff9f81033ca  /etc/passwd\n",
    bash ["/bin/bash", "-c", "a=(x y z); printf '%s-' \"${a[@]^^}\"; [[ abc =~ b(.) ]]; echo ${BASH_REMATCH[1]}"]
        => "X-Y-Z-c\n",
    lua ["/usr/bin/lua5.4", "-e", "local t = {} for w in ('b c a'):gmatch('%a') do t[#t+1] = w end \
        table.sort(t) print(table.concat(t, ','), 2^0.5, os.getenv('HOME'))"]
        => "a,b,c\t1.4142135623731\t/root\n",
    perl ["/usr/bin/perl", "-e", "my %h = map { $_ => length } qw(a bb ccc); \
        print join(',', map { \"$_=$h{$_}\" } sort keys %h), \"\\n\""] => "a=1,bb=2,ccc=3\n",
    jq ["/usr/bin/jq", "-nc", "[range(5) | {a: ., b: (. * .)}] | map(select(.b > 3)) | map(.a)"]
        => "[2,3,4]\n",
    sqlite ["/usr/bin/sqlite3", ":memory:", "create table t(a, b); \
        insert into t values (1, 'one'), (2, 'two'); select sum(a), group_concat(b) from t; \
        select json_extract('{\"a\":[1,2]}', '$.a[1]');"] => "3|one,two\n2\n",
    openssl_digest ["/usr/bin/openssl", "dgst", "-sha256", "/etc/passwd"] => "SHA2-256(/etc/passwd)= *\n",
    ripgrep ["/usr/bin/rg", "-n", "--no-config", "r[o]+t", "/etc/passwd"]
        => "1:root:x:0:0:root:/root:/bin/sh\n",
    redis ["/usr/bin/redis-server", "--version"] => "Redis server v=7.0.15 *\n",
    sqlite_in_a_file ["/usr/bin/sqlite3", "/tmp/test.db", "pragma journal_mode=delete; \
        create table t(a); insert into t values (1), (2); create index i on t(a); \
        begin; insert into t values (3); rollback; vacuum; select sum(a) from t; \
        pragma integrity_check;"] => "delete\n3\nok\n",
    busybox_files ["/bin/busybox", "sh", "-c", "echo 1 > /tmp/a; echo 2 >> /tmp/a; \
        while read line; do echo got $line; done < /tmp/a"] => "got 1\ngot 2\n",
    tini ["/usr/bin/tini-static", "--version"] => "tini version 0.19.0\n",
    fd ["/usr/bin/fdfind", "passwd", "/etc"] => "*/etc/passwd\n*",
    bash_trap ["/bin/bash", "-c", "trap 'echo caught' USR1; kill -USR1 $$; echo after"]
        => "caught\nafter\n",
}

programs! { "python":
    python_hello ["/usr/bin/python3", "-c", "print('hello', sum(range(10)))"] => "hello 45\n",
    python_modules ["/usr/bin/python3", "-c", "import json, re, os, math, hashlib, collections; \
        print(json.dumps({'a': [1, 2.5, None]})); print(re.sub(r'(\\w+) (\\w+)', r'\\2 \\1', 'b a')); \
        print(sorted(os.listdir('/usr/bin'))[0] != '', round(math.pi, 3)); \
        print(hashlib.sha256(b'x').hexdigest()[:8], collections.Counter('aab').most_common(1))"]
        => "{\"a\": [1, 2.5, null]}\na b\nTrue 3.142\n2d711642 [('a', 2)]\n",
    python_files ["/usr/bin/python3", "-c", "import os, tempfile, shutil, pathlib; \
        d = pathlib.Path(tempfile.mkdtemp()); (d / 'a').write_text('one\\ntwo\\n'); \
        os.rename(d / 'a', d / 'b'); print(*(d / 'b').read_text().split(), os.listdir(d)); \
        shutil.rmtree(d); print(d.exists())"] => "one two ['b']\nFalse\n",
    python_sockets ["/usr/bin/python3", "-c", "import socket, select, os; a, b = socket.socketpair(); \
        a.sendall(b'ping'); print(select.select([b], [], [], 5)[0] == [b], b.recv(9)); \
        r, w = os.pipe(); os.write(w, b'x'); print(os.read(r, 9))"] => "True b'ping'\nb'x'\n",
    python_signals ["/usr/bin/python3", "-c", "import signal, os, time, threading; got = []; \
        signal.signal(signal.SIGALRM, lambda number, frame: got.append(number)); \
        signal.setitimer(signal.ITIMER_REAL, 0.02); \
        exec('while not got: pass'); print('while it computes', got); \
        signal.alarm(1); time.sleep(1.5); print('while it sleeps', got); \
        signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number)); \
        thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1)); \
        thread.start(); thread.join(); print(got)"]
        => "while it computes [14]\nwhile it sleeps [14, 14]\n[14, 14, 10]\n",
    python_threads ["/usr/bin/python3", "-c", "import threading, queue; q = queue.Queue(); \
        threads = [threading.Thread(target=lambda n=n: q.put(n * n)) for n in range(20)]; \
        [t.start() for t in threads]; [t.join() for t in threads]; \
        print(sum(q.get() for _ in threads))"] => "2470\n",
}

#[test]
fn memory_for_libraries_is_counted_by_what_the_program_needs() {
    let Some(tree) = files("tools") else { return };
    let large = |tree: &Tree, word| u64::from(bundle(tree, &[word], &[]).contract.ut_large_page);
    // /bin/bash needs libtinfo, the C library and the dynamic linker: 2.2 MiB in memory.
    assert_eq!(large(&tree, "/bin/bash"), 1 + 18 + 3);
    // libcrypto is 4.5 MB of what openssl needs.
    assert!(large(&tree, "/usr/bin/openssl") >= 1 + 18 + 7);
    let mut less = tree.clone();
    less.insert("usr/lib/aarch64-linux-gnu/libcrypto.so.3", Node::directory(0o755));
    assert!(large(&less, "/usr/bin/openssl") <= large(&tree, "/usr/bin/openssl") - 4);
    // The heap of a Go program, and nothing for a small static one.
    assert!(large(&tree, "/usr/bin/fzf") > 48);
    assert_eq!(large(&tree, "/usr/bin/tini-static"), 1);
}

#[test]
fn a_program_of_musl_is_linked_at_its_start() {
    let Some(mut tree) = files("tools") else { return };
    let musl = root().join("target/musl/usr/lib/aarch64-linux-musl");
    let library = tree.resolve("/lib/ld-musl-aarch64.so.1").unwrap().1.clone();
    let NodeKind::File(library) = &library.kind else { panic!("no musl") };
    let folder = root().join("target/tests");
    std::fs::create_dir_all(&folder).unwrap();
    let folder = folder.join(format!("musl-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("libc.so"), library).unwrap();
    let path = |file: &str| musl.join(file).display().to_string();
    let flags = [
        "-O2",
        "-nostdinc",
        "-isystem",
        &root().join("target/musl/usr/include/aarch64-linux-musl").display().to_string(),
        "-fPIE",
        "-pie",
        "-nostdlib",
        "-Wl,--dynamic-linker=/lib/ld-musl-aarch64.so.1",
        &path("Scrt1.o"),
        &path("crti.o"),
        &format!("-L{}", folder.display()),
        "-lc",
        "-lgcc",
        &path("crtn.o"),
    ]
    .map(String::from);
    let greet = koskit_tests::compile("greet", &root().join("tests/programs/greet.c"), &flags);
    std::fs::remove_dir_all(&folder).unwrap();
    tree.insert("greet", Node::file(0o755, std::fs::read(greet).unwrap()));
    let ran = boot(bundle(&tree, &["/greet", "musl"], &[]));
    assert_eq!(ran.output(), "2 words, the last: musl\n", "{ran}");
}

#[test]
fn every_program_and_library_of_debian_is_rewritten_in_little_time() {
    let (Some(tools), Some(python)) = (files("tools"), files("python")) else { return };
    for (name, tree) in [("tools", tools), ("python", python)] {
        let code = |(path, node): (&Path, &Node)| match &node.kind {
            NodeKind::File(bytes) if bytes.starts_with(b"\x7fELF\x02\x01") && bytes[18] == 183 => {
                Some((path.to_owned(), bytes.clone()))
            }
            _ => None,
        };
        let files: Vec<_> = tree.iter().filter_map(code).collect();
        let started = Instant::now();
        let mut sites = (0, 0);
        for (path, bytes) in &files {
            let done =
                rewrite::rewrite(bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            sites = (sites.0 + done.x16_sites, sites.1 + done.x8_sites);
        }
        let (time, bytes) = (started.elapsed(), files.iter().map(|(_, b)| b.len()).sum::<usize>());
        println!(
            "{name}: {} files, {bytes} bytes, sites {sites:?}: {time:?} on one core",
            files.len()
        );
        assert!(time < Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 2 }));
    }
}
