//! What users see of input that is wrong, and that nothing of it gets out of the store.

use koskit_image::Store;
use koskit_tests::{Home, Said};
use std::fs;
use std::io::Write;
use std::path::Path;

/// Standard error of a command that fails with this code and prints nothing else.
fn complaint(said: &Said, code: i32) -> &str {
    assert_eq!((said.code, said.stdout.as_str()), (code, ""), "{}", said.stderr);
    &said.stderr
}

fn build(dockerfile: &str) -> (Home, Said) {
    let home = Home::new();
    home.write("app/Dockerfile", dockerfile);
    let said = home.koskit(&["build", "-t", "app", "app"]);
    assert_eq!(home.names(), Vec::<String>::new());
    (home, said)
}

#[test]
fn a_syntax_error_is_shown_with_its_place_and_what_was_expected() {
    let (_home, said) = build("FROM scratch\n\nFORM alpine\n");
    let picture = "\
error: there is no instruction FORM
 --> app/Dockerfile:3:1
  |
3 | FORM alpine
  | ^^^^ expected an instruction
  |
  = hint: did you mean FROM?
";
    assert_eq!(complaint(&said, 1), picture);
}

#[test]
fn all_errors_of_a_dockerfile_are_shown_at_once() {
    let (_home, said) = build("FROM scratch\nCOPY a\nENV\n");
    let shown = complaint(&said, 1);
    assert!(shown.contains("--> app/Dockerfile:2:"), "{shown}");
    assert!(shown.contains("--> app/Dockerfile:3:"), "{shown}");
    assert_eq!(shown.matches("error: ").count(), 2, "{shown}");
}

#[test]
fn an_image_that_is_not_there_is_named_at_its_place_with_what_to_do() {
    let (_home, said) = build("FROM kos/busybox\n");
    let shown = complaint(&said, 1);
    assert!(shown.contains("--> app/Dockerfile:1:6"), "{shown}");
    assert!(shown.contains("./x sdk makes the kos/ images"), "{shown}");
}

#[test]
fn a_file_that_copy_does_not_find_is_named_at_its_place() {
    let (_home, said) = build("FROM scratch\nCOPY missing.txt /\n");
    let shown = complaint(&said, 1);
    assert!(shown.contains("missing.txt"), "{shown}");
    assert!(shown.contains("\n --> app/Dockerfile:2:1\n"), "{shown}");
    assert!(shown.contains("\n2 | COPY missing.txt /\n"), "{shown}");
}

#[test]
fn a_failing_command_shows_its_output_and_exit_code_and_names_nothing() {
    let home = Home::with_sdk();
    let dockerfile = |command: &str| {
        let from = "FROM --platform=$BUILDPLATFORM kos/busybox\n";
        home.write("app/Dockerfile", &format!("{from}RUN {command}\n"));
    };
    dockerfile("true");
    home.must(&["build", "-t", "app", "app"]);
    let before = (home.names(), home.inspect("app")["Digest"].clone());

    dockerfile("echo to-stdout; echo to-stderr >&2; exit 3");
    for tag in ["app", "other"] {
        let said = home.koskit(&["build", "-t", tag, "app"]);
        let shown = complaint(&said, 1);
        assert!(shown.contains("[2/2] RUN echo to-stdout;"), "{shown}");
        assert!(shown.contains(" to-stdout\n"), "{shown}");
        assert!(shown.contains(" to-stderr\n"), "{shown}");
        assert!(shown.contains(" ERROR: the command "), "{shown}");
        assert!(shown.contains("------\n > [2/2] RUN echo to-stdout;"), "{shown}");
        assert!(shown.contains("\n --> app/Dockerfile:2:1\n"), "{shown}");
        assert!(shown.contains("^ exit code 3\n"), "{shown}");
    }
    assert_eq!((home.names(), home.inspect("app")["Digest"].clone()), before);

    let said = home.koskit(&["build", "-q", "app"]);
    let shown = complaint(&said, 1);
    assert!(shown.starts_with("------\n > [2/2] RUN echo to-stdout;"), "{shown}");
    // Two pipes have no order.
    let lines = shown.lines().skip(2).take(2).filter_map(|line| line.split_once(' '));
    let mut lines: Vec<&str> = lines.map(|(_, text)| text).collect();
    lines.sort();
    assert_eq!(lines, ["to-stderr", "to-stdout"], "{shown}");
}

#[test]
fn wrong_words_on_the_command_line_are_explained() {
    let home = Home::new();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["biuld", "."], 2, "unrecognized subcommand 'biuld'"),
        (&["build", "nowhere"], 1, "koskit: the build context \"nowhere\" cannot be read\n"),
        (&["build", "-t", "Hello", "."], 2, "the image name \"Hello\" has upper-case letters"),
        (&["build", "."], 1, "koskit: there is no Dockerfile in .;"),
        (&["build", "-o", "type=disk,dest=x", "."], 2, "there is no output of type \"disk\""),
        (&["run", "nothing"], 125, "koskit: there is no image nothing:latest in the store"),
        (&["run", "--nothing", "x"], 125, "unexpected argument '--nothing'"),
    ];
    for (words, code, expected) in cases {
        let said = home.koskit(words);
        let shown = complaint(&said, code);
        assert!(shown.contains(expected), "koskit {words:?}: {shown}");
    }
}

/// A tar archive with one entry, whose name and target are written as they are.
fn archive(kind: tar::EntryType, path: &str, target: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let old = header.as_old_mut();
    old.name[..path.len()].copy_from_slice(path.as_bytes());
    old.linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o755);
    let content = if kind == tar::EntryType::Regular { "evil" } else { "" };
    header.set_size(content.len() as u64);
    if matches!(kind, tar::EntryType::Char | tar::EntryType::Block) {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    }
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, content.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

/// Puts an image of such layers into the store, as a registry might have sent it.
fn add(store: &Store, name: &str, archives: &[Vec<u8>]) {
    let layers = archives.iter().map(|archive| {
        let mut writer = store.layer_writer(Default::default()).unwrap();
        writer.write_all(archive).unwrap();
        writer.finish().unwrap()
    });
    let layers: Vec<_> = layers.collect();
    let config = serde_json::json!({
        "os": "linux", "architecture": "arm64", "config": { "Cmd": ["/bin/x"] },
    });
    let image = store.add_image(&config, &layers).unwrap();
    store.tag(&name.parse().unwrap(), &image.descriptor).unwrap();
}

/// All paths in a folder but those of the store and the build cache, where all may be.
fn outside(home: &Path) -> Vec<String> {
    fn walk(folder: &Path, all: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // What koskit has for itself: images, its cache, and running machines.
            if ["data/koskit", "cache/koskit", "run/koskit"].iter().any(|own| path.ends_with(own)) {
                continue;
            }
            if path.is_dir() {
                walk(&path, all);
            }
            all.push(path.display().to_string());
        }
    }
    let mut all = Vec::new();
    walk(home, &mut all);
    all.retain(|path| !path.ends_with("/cache") && !path.ends_with("/run"));
    all.sort();
    all
}

/// All commands that read layers refuse this image, with these words.
fn refused(home: &Home, expected: &str) {
    home.write("app/Dockerfile", "FROM evil\nCOPY Dockerfile /x\n");
    let (before, names) = (outside(home.path()), home.names());
    let commands: [(&[&str], i32); 3] = [
        (&["run", "evil"], 125),
        (&["lower", "-o", "bundle", "evil"], 1),
        (&["build", "-t", "app", "app"], 1),
    ];
    for (words, code) in commands {
        let said = home.koskit(words);
        let shown = complaint(&said, code);
        assert!(shown.contains(expected), "koskit {words:?}: {shown}");
        assert_eq!(outside(home.path()), before, "koskit {words:?}");
    }
    assert_eq!(home.names(), names);
}

#[test]
fn hostile_layers_are_refused_and_write_nothing_outside_of_the_store() {
    use tar::EntryType;
    let home = Home::new();
    let target = home.path().join("evil").display().to_string();
    let file = |path: &str| vec![archive(EntryType::Regular, path, "")];
    let link = |kind, to: &str| vec![archive(kind, "link", to)];
    let cases = [
        (file(&target), "its path is absolute"),
        (file("../evil"), "its path has .. in it"),
        (file("a/../../evil"), "its path has .. in it"),
        (link(EntryType::Symlink, "../evil"), "which is outside of the image"),
        (link(EntryType::Link, "/etc/passwd"), "link"),
        (link(EntryType::Link, "../../etc/passwd"), "link"),
        (vec![archive(EntryType::Char, "null", "")], "device nodes are not allowed in a layer"),
        (vec![archive(EntryType::Block, "disk", "")], "device nodes are not allowed in a layer"),
    ];
    for (archives, expected) in cases {
        add(&home.store(), "evil", &archives);
        refused(&home, expected);
    }
}

#[test]
fn damaged_and_truncated_layers_are_refused() {
    let home = Home::new();
    let store = home.store();
    let whole = archive(tar::EntryType::Regular, "bin/x", "");
    add(&store, "evil", &[whole[..700].to_vec()]);
    refused(&home, "it is truncated");

    add(&store, "evil", &[whole]);
    let image = store.resolve(&"evil".parse().unwrap(), &"linux/arm64".parse().unwrap()).unwrap();
    let blob = store.path().join("blobs/sha256").join(image.layers[0].digest.hex());
    let bytes = fs::read(&blob).unwrap();
    let mut other = bytes.clone();
    // In the gzip header, a time that nobody reads.
    other[4] ^= 1;
    fs::write(&blob, other).unwrap();
    refused(&home, "is damaged: its bytes have the digest sha256:");
    fs::write(&blob, &bytes[..bytes.len() - 9]).unwrap();
    refused(&home, "layer");
    fs::remove_file(&blob).unwrap();
    refused(&home, "is not in the store");
}
