use super::*;
use crate::{Graph, Reference};

fn platform() -> Platform {
    Platform::new("linux", "arm64", "")
}

fn image(builder: &mut Builder, name: &str) -> State {
    let reference: Reference = name.parse().unwrap();
    let source = Source::Image {
        reference: reference.tagged(),
        platform: platform(),
        resolve: ResolveMode::Default,
    };
    builder.source(source, Note::new(format!("FROM {name}")))
}

fn local(builder: &mut Builder) -> State {
    let local = Local { name: "context".into(), ..Local::default() };
    builder.source(Source::Local(local), Note::default())
}

/// A graph of all three kinds, read back.
fn sample() -> (pb::Definition, Graph) {
    let mut builder = Builder::new();
    builder.source_file("Dockerfile", "Dockerfile", "FROM a\nCOPY b c\nRUN d\n");
    let base = image(&mut builder, "kos/busybox");
    let unused = image(&mut builder, "alpine");
    assert_ne!(base, unused);
    let context = local(&mut builder);
    let copy = Copy { src: "b".into(), dest: "/c/".into(), create_dest: true, ..Copy::default() };
    let files = FileOp::new().mkdir("/c", 0o755, true, None).copy(context, copy);
    let lines = Some((2, 2));
    let copied = builder.file(base, files, Note { lines, ..Note::new("[2/3] COPY b c") });
    let exec = Exec { args: vec!["d".into()], cwd: "/".into(), ..Exec::default() };
    let root = builder.exec(copied, &platform(), exec, Note::new("[3/3] RUN d"));
    let definition = builder.definition(root);
    let graph = Graph::new(&definition).unwrap();
    (definition, graph)
}

#[test]
fn what_is_built_can_be_read_and_holds_nothing_that_is_not_needed() {
    let (_, graph) = sample();
    let names: Vec<_> = graph.vertices().iter().map(|v| v.name()).collect();
    assert_eq!(names, ["FROM kos/busybox", "local://context", "[2/3] COPY b c", "[3/3] RUN d"]);
    assert_eq!(graph.result().map(|edge| edge.vertex), Some(3));
    let copy = &graph.vertices()[2];
    assert_eq!(copy.platform, None);
    assert_eq!(copy.locations.len(), 1);
    assert_eq!((copy.locations[0].first, copy.locations[0].last), (2, 2));
    assert_eq!(graph.vertices()[0].platform, Some(platform()));
}

#[test]
fn an_action_works_on_the_result_of_the_one_before_it() {
    let (_, graph) = sample();
    let pb::op::Op::File(file) = &graph.vertices()[2].op else { panic!("no file op") };
    let indices: Vec<_> =
        file.actions.iter().map(|a| (a.input, a.secondary_input, a.output)).collect();
    assert_eq!(indices, [(0, -1, -1), (2, 1, 0)]);
}

/// Marshalled as BuildKit's Go code does: `llb.Scratch().File(llb.Mkdir("/a", 0755))` is a file
/// op with one action whose inputs are -1, whose owner is not set and whose time stamp is -1.
#[test]
fn the_bytes_of_an_op_are_those_of_the_protocol() {
    let mut builder = Builder::new();
    let state = builder.file(None, FileOp::new().mkdir("/a", 0o755, false, None), Note::default());
    let definition = builder.definition(state);
    let minus_one = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let mut mkdir = vec![0x0a, 2, b'/', b'a', 0x10, 0xed, 0x03, 0x28];
    mkdir.extend(minus_one);
    let mut action = vec![0x08];
    action.extend(minus_one);
    action.push(0x10);
    action.extend(minus_one);
    action.extend([0x32, mkdir.len() as u8]);
    action.extend(mkdir);
    let mut file = vec![0x12, action.len() as u8];
    file.extend(action);
    // The constraints, and only then what it does.
    let mut op = vec![0x5a, 0, 0x22, file.len() as u8];
    op.extend(file);
    assert_eq!(definition.def[0], op);
}

/// The digest is one that docker 28.5.2 has shown for a step `FROM base`.
#[test]
fn digests_are_those_that_buildkit_shows() {
    let name =
        "base:latest@sha256:51080bb7585fcf6cc2cd3b792564fb9a17400720e248f4ba5d9688d557228e1b";
    let source = Source::Image {
        reference: name.parse().unwrap(),
        platform: Platform::new("linux", "amd64", ""),
        resolve: ResolveMode::Local,
    };
    let mut builder = Builder::new();
    let state = builder.source(source, Note::default());
    let digest = Digest::of(&builder.definition(state).def[0]);
    assert_eq!(digest.hex(), "e021d59bb1e5cd02de5f575f29c666094ff1b4188a1447a1337d0f0b841241c5");
}

#[test]
fn equal_ops_are_one_and_the_same_graph_gives_the_same_bytes() {
    let mut builder = Builder::new();
    assert_eq!(image(&mut builder, "a"), image(&mut builder, "a:latest"));
    assert_eq!(sample().0.encode_to_vec(), sample().0.encode_to_vec());
}

#[test]
fn the_empty_file_system_has_an_empty_definition() {
    let definition = Builder::new().definition(None);
    assert_eq!(definition, pb::Definition::default());
    assert_eq!(Graph::new(&definition).unwrap().result(), None);
}

#[test]
fn owners_are_numbers_or_names_of_the_file_system_that_is_changed() {
    use pb::user_opt::User::{ById, ByName};
    let read = |text: &str| {
        let chown = Owner::parse(text).to_pb(3);
        let id = |o: Option<pb::UserOpt>| o.map(|o| o.user.unwrap());
        (id(chown.user), id(chown.group))
    };
    let named = |name: &str| Some(ByName(pb::NamedUserOpt { name: name.into(), input: 3 }));
    assert_eq!(read("root"), (Some(ById(0)), None));
    assert_eq!(read("1000:staff"), (Some(ById(1000)), named("staff")));
    assert_eq!(read("www:33"), (named("www"), Some(ById(33))));
}
