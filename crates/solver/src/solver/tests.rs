//! Whole builds: from the text of a Dockerfile to files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use koskit_dockerfile as dockerfile;
use koskit_frontend::{self as frontend, BaseImage, ImageConfig, ImageResolver, ResolveError};
use koskit_image::layer::PackOptions;
use koskit_image::{Limits, NodeKind, Tree};
use koskit_llb::{Graph, Platform, Reference, pb};

use super::*;
use crate::exec::ExecError;
use crate::snapshot::Usage;
use crate::testing::inside;
use crate::{Problem, Stream};

mod add;
mod lazy;
mod run;
mod shared;

/// A store, a cache and a context in a directory.
pub(crate) struct World {
    pub store: Store,
    pub solver: Solver,
    pub context: PathBuf,
    pub options: Options,
    pub ignore: Vec<String>,
    /// What builds are given besides their context.
    pub inputs: Inputs,
}

/// The image `base`: a shell and some programs of this machine, with the libraries they need.
pub(crate) fn add_base(world: &World, dir: &Path) {
    let programs = ["sh", "cat", "sleep", "rm", "mkdir", "id", "ln", "stat"];
    add_programs(world, dir, "base", &programs.map(|name| format!("/bin/{name}")));
}

/// An image of some programs of this machine.
pub(crate) fn add_programs(world: &World, dir: &Path, name: &str, programs: &[String]) {
    let root = dir.join(name);
    for program in programs {
        let ldd = std::process::Command::new("ldd").arg(program).output().unwrap();
        let text = String::from_utf8_lossy(&ldd.stdout);
        let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
        for file in libraries.chain([program.as_str()]) {
            let to = root.join(&file[1..]);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(file, to).unwrap();
        }
    }
    let layer = world
        .store
        .add_layer(&root, &PackOptions { latest: Some(0), ..PackOptions::default() })
        .unwrap();
    let Platform { os, architecture, .. } = Platform::host();
    let mut config = ImageConfig { os, architecture, ..ImageConfig::default() };
    config.config.env = vec!["PATH=/bin".into()];
    let image = world.store.add_image(&config, &[layer]).unwrap();
    let name = format!("{name}:latest").parse().unwrap();
    world.store.tag(&name, &image.descriptor).unwrap();
}

/// What a build gave.
struct Built {
    solved: Solved,
    graph: Graph,
    events: Vec<Event>,
    config: ImageConfig,
}

impl ImageResolver for World {
    fn resolve(&self, name: &Reference, platform: &Platform) -> Result<BaseImage, ResolveError> {
        let image = self.store.resolve(name, platform)?;
        let config = serde_json::from_value(image.config_json.clone())?;
        Ok(BaseImage { digest: image.digest(), config })
    }
}

impl World {
    pub fn new(dir: &Path) -> Self {
        let store = Store::open(dir.join("store")).unwrap();
        let solver = Solver::new(store.clone(), dir.join("cache")).unwrap();
        let context = dir.join("context");
        fs::create_dir_all(&context).unwrap();
        Self {
            store,
            solver,
            context,
            options: Options::default(),
            ignore: Vec::new(),
            inputs: Inputs::default(),
        }
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.context.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn graph(&self, text: &str) -> (Graph, ImageConfig) {
        let options = frontend::Options {
            target_platform: Platform::host(),
            context: frontend::Context::Local {
                name: "context".into(),
                ignore: self.ignore.clone(),
            },
            ..frontend::Options::default()
        };
        let source = dockerfile::Source::new("Dockerfile", text);
        let build = frontend::convert(source, &options, self).unwrap_or_else(|e| panic!("{e}"));
        (Graph::new(&build.definition).unwrap(), build.config)
    }

    fn try_build(&self, text: &str) -> (Result<Solved, SolveError>, Built) {
        let (graph, config) = self.graph(text);
        let events = Mutex::new(Vec::new());
        let local = BTreeMap::from([("context".into(), self.context.clone())]);
        let inputs = Inputs { local, ..self.inputs.clone() };
        let tell = |event| events.lock().unwrap().push(event);
        let solved = self.solver.solve(&graph, &inputs, &self.options, &tell);
        let events = events.into_inner().unwrap();
        (solved, Built { solved: Solved::default(), graph, events, config })
    }

    fn build(&self, text: &str) -> Built {
        let (solved, built) = self.try_build(text);
        let solved = solved.unwrap_or_else(|e| panic!("{}", chain(&e)));
        Built { solved, ..built }
    }

    fn error(&self, text: &str) -> String {
        match self.try_build(text).0 {
            Err(error) => chain(&error),
            Ok(_) => panic!("{text:?} is built"),
        }
    }

    /// The files of a build, one line each, without the root.
    fn files(&self, built: &Built) -> Vec<String> {
        let tree = self.tree(built);
        tree.iter().filter(|(path, _)| *path != Path::new("")).map(show).collect()
    }

    fn tree(&self, built: &Built) -> Tree {
        let image = self.store.add_image(&built.config, &built.solved.layers).unwrap();
        Tree::read(&self.store, &image, &Limits::default()).unwrap()
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub(crate) fn show((path, node): (&Path, &koskit_image::Node)) -> String {
    let what = match &node.kind {
        NodeKind::Directory => "/".into(),
        NodeKind::File(bytes) => format!(" {}", String::from_utf8_lossy(bytes)),
        NodeKind::Symlink(target) => format!(" -> {}", target.display()),
        NodeKind::Fifo => " pipe".into(),
    };
    format!("{:o} {}:{} {}{what}", node.mode, node.uid, node.gid, path.display())
}

impl Built {
    /// What a step wrote to a stream.
    fn output(&self, wanted: Stream) -> String {
        let pieces = self.events.iter().filter_map(|event| match event {
            Event::Output { stream, bytes, .. } if *stream == wanted => Some(bytes.as_slice()),
            _ => None,
        });
        String::from_utf8(pieces.collect::<Vec<_>>().concat()).unwrap()
    }

    /// The names of the steps that were not done, as their result was known.
    fn cached(&self) -> Vec<String> {
        let cached = self.events.iter().filter_map(|event| match event {
            Event::Cached { vertex } => Some(self.graph.vertices()[*vertex].name()),
            _ => None,
        });
        let mut names: Vec<_> = cached.collect();
        names.sort();
        names
    }
}

#[test]
fn nothing_is_an_image_without_layers() {
    inside(|_, dir| {
        let world = World::new(dir);
        let built = world.build("FROM scratch\nLABEL a=b\n");
        assert_eq!(built.solved, Solved::default());
    });
}

#[test]
fn copy_takes_files_and_what_is_in_directories() {
    inside(|_, dir| {
        let world = World::new(dir);
        world.write("a.txt", "a");
        world.write("b.txt", "b");
        world.write("dir/sub/c", "c");
        world.write("dir/.d", "d");
        fs::set_permissions(world.context.join("a.txt"), fs::Permissions::from_mode(0o755))
            .unwrap();
        fs::set_permissions(world.context.join("b.txt"), fs::Permissions::from_mode(0o600))
            .unwrap();
        fs::set_permissions(world.context.join("dir/sub"), fs::Permissions::from_mode(0o700))
            .unwrap();
        let built = world.build(
            "FROM scratch\nCOPY a.txt /renamed\nCOPY *.txt b.txt /many/\nCOPY dir /dir\nCOPY dir/sub x/\n",
        );
        let expected = [
            "755 0:0 dir/",
            "644 0:0 dir/.d d",
            "700 0:0 dir/sub/",
            "644 0:0 dir/sub/c c",
            "755 0:0 many/",
            "755 0:0 many/a.txt a",
            "600 0:0 many/b.txt b",
            "755 0:0 renamed a",
            "755 0:0 x/",
            "644 0:0 x/c c",
        ];
        assert_eq!(world.files(&built), expected);
        assert_eq!(built.solved.changed, [true; 4]);
    });
}

#[test]
fn links_in_sources_and_destinations_stay_inside() {
    inside(|_, dir| {
        let world = World::new(dir);
        fs::write(dir.join("secret"), "secret").unwrap();
        world.write("real/file", "file");
        symlink("real", world.context.join("link")).unwrap();
        symlink("../../../secret", world.context.join("out")).unwrap();
        symlink("nowhere", world.context.join("real/dangling")).unwrap();
        let built = world.build("FROM scratch\nCOPY link /a/\nCOPY link/file /b\n");
        let files = world.files(&built);
        let expected = [
            "755 0:0 a/",
            "777 0:0 a/dangling -> nowhere",
            "644 0:0 a/file file",
            "644 0:0 b file",
        ];
        assert_eq!(files, expected);
        let error = world.error("FROM scratch\nCOPY out /\n");
        assert_eq!(error, r#""out" is not in the build context"#);

        // A link in the image leads to where a process in the image would come.
        fs::create_dir(world.context.join("l")).unwrap();
        symlink("/etc", world.context.join("l/e")).unwrap();
        let built = world.build("FROM scratch\nCOPY l /\nCOPY real/file /e/koskit-was-here\n");
        assert!(!Path::new("/etc/koskit-was-here").exists());
        let expected = ["777 0:0 e -> /etc", "755 0:0 etc/", "644 0:0 etc/koskit-was-here file"];
        assert_eq!(world.files(&built), expected);
    });
}

#[test]
fn what_is_not_there_is_named_with_its_step() {
    inside(|_, dir| {
        let world = World::new(dir);
        world.write("there", "");
        let (result, built) = world.try_build("FROM scratch\nCOPY there /\nCOPY src/missing /\n");
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), r#""src/missing" is not in the build context"#);
        let vertex = &built.graph.vertices()[error.vertex.unwrap()];
        assert_eq!(vertex.locations[0].first, 3);
        assert!(matches!(error.problem, Problem::File(_)));
        assert!(
            built.events.iter().any(
                |e| matches!(e, Event::Failed { vertex, .. } if Some(*vertex) == error.vertex)
            )
        );
    });
}

#[test]
fn dockerignore_hides_files_and_says_so() {
    inside(|_, dir| {
        let mut world = World::new(dir);
        for path in ["a.c", "a.o", "out/b.o", "out/keep.o", "deep/out/c"] {
            world.write(path, path);
        }
        world.ignore = frontend::ignore_patterns("*.o\nout\n!out/keep.o\n**/c\n");
        let built = world.build("FROM scratch\nCOPY . /\n");
        let expected = [
            "644 0:0 a.c a.c",
            "755 0:0 deep/",
            "755 0:0 deep/out/",
            "755 0:0 out/",
            "644 0:0 out/keep.o out/keep.o",
        ];
        assert_eq!(world.files(&built), expected);
        let error = world.error("FROM scratch\nCOPY a.o /\n");
        assert_eq!(
            error,
            r#""a.o" is left out of the build context by a pattern of .dockerignore"#
        );
        world.ignore = vec!["**".into()];
        assert!(world.files(&world.build("FROM scratch\nCOPY . /\n")).is_empty());
    });
}

#[test]
fn a_step_is_done_again_if_its_files_change_and_not_if_they_are_touched() {
    inside(|_, dir| {
        let world = World::new(dir);
        world.write("src/main.c", "1");
        world.write("README", "1");
        let text = "FROM scratch AS a\nCOPY src /src\nFROM scratch\nCOPY --from=a /src/main.c /\n";
        let first = world.build(text);
        assert!(first.cached().is_empty());
        let steps: Vec<_> = first.graph.vertices().iter().map(|v| v.name()).collect();
        let copies = [steps[1].clone(), steps[2].clone()];

        let time = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
        let file = fs::File::options().write(true).open(world.context.join("src/main.c"));
        file.unwrap().set_times(time).unwrap();
        world.write("README", "2");
        let second = world.build(text);
        assert_eq!(second.cached(), copies);
        assert_eq!(second.solved, first.solved);

        // What the second stage copies is not what has changed in the first.
        world.write("src/other.c", "");
        let third = world.build(text);
        assert_eq!(third.cached(), copies[1..]);
        assert_eq!(third.solved, first.solved);

        world.write("src/main.c", "2");
        let fourth = world.build(text);
        assert!(fourth.cached().is_empty());
        assert_ne!(fourth.solved, first.solved);
    });
}

#[test]
fn another_machine_and_another_time_give_the_same_bytes() {
    inside(|_, dir| {
        let build = |name: &str, age: u64| {
            let world = World::new(&dir.join(name));
            world.write("src/a", "a");
            world.write("src/b/c", "c");
            let modified = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age);
            let time = fs::FileTimes::new().set_modified(modified);
            let file = fs::File::options().write(true).open(world.context.join("src/a"));
            file.unwrap().set_times(time).unwrap();
            world.build("FROM scratch\nWORKDIR /w\nCOPY src /src\nCOPY src/a .\n").solved
        };
        fs::create_dir_all(dir.join("one")).unwrap();
        fs::create_dir_all(dir.join("two")).unwrap();
        assert_eq!(build("one", 1_000_000_000), build("two", 1_700_000_000));
    });
}

#[test]
fn steps_that_change_nothing_have_no_layer() {
    inside(|_, dir| {
        let world = World::new(dir);
        world.write("a", "a");
        let text = "FROM scratch\nWORKDIR /w\nCOPY a /\nWORKDIR /w\nLABEL a=b\nCOPY a /b\n";
        let mut built = world.build(text);
        assert_eq!(built.solved.changed, [true, true, false, true]);
        assert_eq!(built.solved.layers.len(), 3);
        let history = &mut built.config.history;
        built.solved.mark_empty(history.iter_mut().map(|entry| &mut entry.empty_layer));
        let empty: Vec<_> = history.iter().map(|entry| entry.empty_layer).collect();
        assert_eq!(empty, [false, false, true, true, false]);

        // Of a base image that tells nothing of its layers, the steps are marked all the same.
        let solved = Solved { changed: vec![true, true, false, true], ..Solved::default() };
        let mut history = [false, true, false];
        solved.mark_empty(&mut history);
        assert_eq!(history, [true, true, false]);
    });
}

#[test]
fn owners_and_permissions_are_as_copy_says() {
    inside(|_, dir| {
        let world = World::new(dir);
        world.write("etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1000:50::/:/bin/sh\n");
        world.write("d/f", "f");
        let built = world.build(
            "FROM scratch\nCOPY etc /etc\nCOPY --chown=app --chmod=u=rwX,go= d /d\n\
             COPY --chown=7:8 --chmod=4711 d/f /new/f\nUSER app\nWORKDIR /home/app\n\
             FROM scratch\nCOPY --from=0 / /\n",
        );
        let files = world.files(&built);
        let expected = [
            "755 1000:50 d/",
            "600 1000:50 d/f f",
            "755 1000:50 home/",
            "755 1000:50 home/app/",
            "711 7:8 new/",
            "4711 7:8 new/f f",
        ];
        for line in expected {
            assert!(files.contains(&line.into()), "{line} is not in {files:#?}");
        }
        let error = world.error("FROM scratch\nCOPY --chown=nobody d /d\n");
        assert_eq!(error, r#"the image has no user "nobody" in /etc/passwd"#);
    });
}

#[test]
fn no_cache_does_all_again_and_is_what_the_next_build_finds() {
    inside(|_, dir| {
        let mut world = World::new(dir);
        world.write("a", "a");
        let text = "FROM scratch\nCOPY a /\nCOPY a /b\n";
        let first = world.build(text);
        world.options.no_cache = true;
        let again = world.build(text);
        assert!(again.cached().is_empty());
        assert_eq!(again.solved, first.solved);
        world.options.no_cache = false;
        assert_eq!(world.build(text).cached().len(), 2);
    });
}

#[test]
fn a_command_sees_what_was_copied_and_what_it_makes_is_kept() {
    inside(|_, dir| {
        let world = World::new(dir);
        add_base(&world, dir);
        world.write("in", "in");
        let text = "FROM base AS build\nWORKDIR /w\nCOPY in .\nARG V=1\n\
                    RUN read -r line < in; echo \"$line $V\" > out; echo told; echo bad >&2\n\
                    RUN rm in && mkdir -p sub && ln -s ../out sub/link\n\
                    FROM scratch\nCOPY --from=build /w /\n";
        let first = world.build(text);
        assert_eq!(first.output(Stream::Stdout), "told\n");
        assert_eq!(first.output(Stream::Stderr), "bad\n");
        let expected = ["644 0:0 out in 1\n", "755 0:0 sub/", "777 0:0 sub/link -> ../out"];
        assert_eq!(world.files(&first), expected);
        let second = world.build(text);
        assert_eq!(second.cached().len(), 5, "{:?}", second.cached());
        assert_eq!(second.solved, first.solved);
        assert_eq!(second.output(Stream::Stdout), "");

        // Another value of a variable is another command.
        let third = world.build(&text.replace("V=1", "V=2"));
        assert_eq!(third.cached().len(), 2, "{:?}", third.cached());
    });
}

#[test]
fn documents_of_the_dockerfile_are_files_and_scripts() {
    inside(|_, dir| {
        let world = World::new(dir);
        add_base(&world, dir);
        let text = "FROM base AS build\n\
                    COPY --chmod=600 <<one <<\"two\" /d/\n1 $PATH\none\n2 $PATH\ntwo\n\
                    RUN <<script\n#!/bin/cat\ntold\nscript\n\
                    RUN <<EOF\necho a > /d/a\ncat /d/a /d/two > /d/b\nEOF\n\
                    FROM scratch\nCOPY --from=build /d /\n";
        let built = world.build(text);
        assert_eq!(built.output(Stream::Stdout), "#!/bin/cat\ntold\n");
        let expected = [
            "644 0:0 a a\n",
            "644 0:0 b a\n2 $PATH\n",
            "600 0:0 one 1 /bin\n",
            "600 0:0 two 2 $PATH\n",
        ];
        assert_eq!(world.files(&built), expected);
        assert_eq!(world.build(text).cached().len(), 7);
    });
}

#[test]
fn the_layers_of_commands_are_the_same_bytes_each_time() {
    inside(|_, dir| {
        let build = |name: &str| {
            let dir = dir.join(name);
            fs::create_dir(&dir).unwrap();
            let world = World::new(&dir);
            add_base(&world, &dir);
            world.build("FROM base\nRUN echo a > /a; mkdir /b; echo c > /b/c\nRUN rm /a\n").solved
        };
        let first = build("one");
        assert_eq!(first.changed, [true; 3]);
        assert_eq!(first, build("two"));
    });
}

#[test]
fn a_command_that_fails_ends_the_build_and_keeps_what_was_done() {
    inside(|_, dir| {
        let world = World::new(dir);
        add_base(&world, dir);
        world.write("a", "a");
        let text = |code| format!("FROM base\nCOPY a /\nRUN echo told; exit {code}\nRUN echo no\n");
        let (result, built) = world.try_build(&text(3));
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), "the command `echo told; exit 3` failed with exit code 3");
        assert!(matches!(&error.problem, Problem::Command(ExecError::Exit { code: 3, .. })));
        assert_eq!(built.graph.vertices()[error.vertex.unwrap()].locations[0].first, 3);
        assert_eq!(built.output(Stream::Stdout), "told\n");
        // It is not kept that it has failed, and it is that the file was copied.
        let (result, built) = world.try_build(&text(3));
        assert!(result.is_err());
        assert_eq!(built.cached().len(), 1);
        assert_eq!(world.build(&text(0)).cached().len(), 1);
    });
}

#[test]
fn the_others_are_stopped_when_a_command_fails() {
    inside(|_, dir| {
        let mut world = World::new(dir);
        add_base(&world, dir);
        world.options.jobs = NonZeroUsize::new(2);
        let start = Instant::now();
        let (result, built) = world.try_build(
            "FROM base AS slow\nRUN sleep 600; echo > /x\nFROM base AS bad\nRUN sleep 0.3; exit 9\n\
             FROM scratch\nCOPY --from=slow /x /\nCOPY --from=bad /y /\n",
        );
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), "the command `sleep 0.3; exit 9` failed with exit code 9");
        assert!(start.elapsed().as_secs() < 300);
        let failed = built.events.iter().filter(|e| matches!(e, Event::Failed { .. }));
        assert_eq!(failed.count(), 2);
    });
}

/// Two commands, each of which waits for a file that the other one makes in a mount of both.
#[test]
fn stages_that_do_not_need_each_other_run_at_once() {
    use koskit_llb::{Builder, Copy, Exec, FileOp, Mount, MountKind, Note, Source};
    inside(|_, dir| {
        let mut world = World::new(dir);
        add_base(&world, dir);
        world.options.jobs = NonZeroUsize::new(2);
        let mut builder = Builder::new();
        let base = Source::Image {
            reference: "base:latest".parse().unwrap(),
            platform: Platform::host(),
            resolve: Default::default(),
        };
        let base = builder.source(base, Note::default());
        let mut wait = |mine: &str, other: &str| {
            let script = format!(
                "echo > /both/{mine}; n=0; until [ -e /both/{other} ]; do n=$((n+1)); \
                 [ $n -lt 600 ] || exit 1; sleep 0.1; done; echo {mine} > /{mine}"
            );
            let kind = MountKind::Cache { id: "both".into(), sharing: pb::CacheSharingOpt::Shared };
            let mount = Mount {
                target: "/both".into(),
                source: None,
                selector: String::new(),
                readonly: false,
                kind,
            };
            let exec = Exec {
                args: vec!["/bin/sh".into(), "-c".into(), script],
                env: vec!["PATH=/bin".into()],
                cwd: "/".into(),
                mounts: vec![mount],
                ..Exec::default()
            };
            builder.exec(base, &Platform::host(), exec, Note::new(mine))
        };
        let (a, b) = (wait("a", "b"), wait("b", "a"));
        let copy = |name: &str| Copy { src: name.into(), dest: name.into(), ..Copy::default() };
        let op = FileOp::new().copy(a, copy("/a")).copy(b, copy("/b"));
        let result = builder.file(None, op, Note::default());
        let graph = Graph::new(&builder.definition(result)).unwrap();
        let solve = || world.solver.solve(&graph, &Inputs::default(), &world.options, &|_| {});
        let solved = solve().unwrap_or_else(|e| panic!("{}", chain(&e)));
        assert_eq!(solved.layers.len(), 1);
        assert_eq!(solve().unwrap(), solved);
    });
}

#[test]
fn what_has_not_changed_in_a_context_is_not_written_again() {
    inside(|_, dir| {
        let mut world = World::new(dir);
        add_base(&world, dir);
        for name in ["a/one", "a/two", "b/three", "b/in/four"] {
            world.write(name, &name.repeat(10_000));
        }
        // Two of them are there already, and their directory has a time.
        let text = "FROM base\nRUN mkdir -p /src/b/in && echo 1 >/src/b/three\nCOPY . /src\n\
                    RUN cat /src/a/* /src/b/in/* >/all\n";
        let first = world.build(text);
        world.write("a/two", "another");
        fs::remove_file(world.context.join("b/three")).unwrap();
        world.write("b/five", "5");
        let second = world.build(text);
        let all = world.solver.snapshots.usage(&world.store).unwrap();
        let copies: Vec<_> =
            all.iter().filter(|usage| usage.description.contains("COPY")).collect();
        let file = |usage: &Usage, name: &str| {
            world
                .solver
                .snapshots
                .path()
                .join("layers")
                .join(&usage.id)
                .join("files/src")
                .join(name)
        };
        let [new, old] = copies[..] else { panic!("{copies:?}") };
        let (new, old) = match file(new, "b/five").exists() {
            true => (new, old),
            false => (old, new),
        };
        let inode = |usage, name| {
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(file(usage, name)).unwrap())
        };
        for (name, linked) in [("a/one", true), ("b/in/four", true), ("a/two", false)] {
            assert_eq!(inode(new, name) == inode(old, name), linked, "{name}");
        }
        // Together they take no more than there is.
        let sizes = new.size + old.size;
        assert!(sizes < 350_000, "{sizes}");

        // It is what it would have been without.
        world.options.no_cache = true;
        let alone = world.build(text);
        assert_eq!(second.solved.layers, alone.solved.layers);
        assert_ne!(second.solved.layers, first.solved.layers);
    });
}

/// Names to the test below that it is the build that is to be killed, and where.
const VICTIM: &str = "KOSKIT_TEST_VICTIM";

#[test]
fn a_killed_build_leaves_a_cache_that_the_next_one_can_use() {
    inside(|_, dir| {
        let text = |end: &str| format!("FROM base\nCOPY a /\nRUN mkdir /deep && {end}\n");
        if let Some(dir) = std::env::var_os(VICTIM) {
            let world = World::new(Path::new(&dir));
            let (graph, _) = world.graph(&text("echo started && sleep 600"));
            let local = BTreeMap::from([("context".into(), world.context.clone())]);
            let _ = world.solver.solve(
                &graph,
                &Inputs { local, ..Inputs::default() },
                &world.options,
                &|event| {
                    if matches!(event, Event::Output { .. }) {
                        println!("the command has started");
                    }
                },
            );
            panic!("it was not killed");
        }
        let world = World::new(dir);
        add_base(&world, dir);
        world.write("a", "a");
        let name = "solver::tests::a_killed_build_leaves_a_cache_that_the_next_one_can_use";
        let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(VICTIM, dir)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(victim.stdout.take().unwrap()));
        let started = lines.map_while(Result::ok).any(|line| line == "the command has started");
        victim.kill().unwrap();
        victim.wait().unwrap();
        assert!(started);

        let world = World::new(dir);
        let built = world.build(&text("echo done"));
        assert_eq!(built.cached().len(), 1);
        assert_eq!(built.output(Stream::Stdout), "done\n");
        assert_eq!(built.solved.layers.len(), 3);
    });
}
