use koskit_llb::Edge;

use super::*;

fn vertex(op: pb::op::Op, inputs: usize) -> Vertex {
    Vertex {
        digest: Digest::of(b""),
        op,
        inputs: vec![Edge { vertex: 0, output: 0 }; inputs],
        platform: Some(Platform::new("linux", "amd64", "")),
        outputs: 1,
        metadata: pb::OpMetadata::default(),
        locations: Vec::new(),
    }
}

fn exec(mounts: Vec<pb::Mount>) -> CacheMap {
    let meta = pb::Meta { args: vec!["a".into()], cwd: "/".into(), ..pb::Meta::default() };
    let op = pb::ExecOp { meta: Some(meta), mounts, ..pb::ExecOp::default() };
    CacheMap::of(&vertex(pb::op::Op::Exec(op), 2)).unwrap()
}

fn root() -> pb::Mount {
    pb::Mount { dest: "/".into(), ..pb::Mount::default() }
}

#[test]
fn a_directory_is_made_under_the_digest_that_buildkit_has_for_it() {
    let mkdir = pb::FileActionMkDir {
        path: "/work".into(),
        mode: 0o755,
        make_parents: true,
        owner: None,
        timestamp: -1,
    };
    let action = pb::FileAction {
        input: 0,
        secondary_input: -1,
        output: 0,
        action: Some(Action::Mkdir(mkdir)),
    };
    let map = CacheMap::of(&vertex(pb::op::Op::File(pb::FileOp { actions: vec![action] }), 1));
    let map = map.unwrap();
    // Of the record that docker 28.5.2 exports for WORKDIR /work.
    let expected = "sha256:759e89c7961b764dd40c0bcd68607b71f414c3db016f448be9b096abbf93232d";
    assert_eq!(Digest::of(format!("{}@0", map.digest).as_bytes()).as_str(), expected);
    assert_eq!(map.inputs, [Dependency::default()]);
}

#[test]
fn a_cache_that_somebody_named_may_have_another_name() {
    let with = |id: &str, sharing: i32| {
        let cache_opt = Some(pb::CacheOpt { id: id.into(), sharing });
        let mount_type = pb::MountType::Cache as i32;
        let (input, dest, output) = (-1, "/c".to_owned(), -1);
        exec(vec![root(), pb::Mount { input, dest, output, mount_type, cache_opt, ..root() }])
    };
    assert_eq!(with("one", 0).digest, with("other", 2).digest);
    assert_ne!(with("/c", 0).digest, with("other", 0).digest);
    assert_ne!(with("name//c", 0).digest, with("/c", 0).digest);
}

#[test]
fn what_a_command_cannot_change_is_known_by_its_contents() {
    let bound = |selector: &str, output: i64, readonly: bool| {
        let (selector, dest) = (selector.to_owned(), "/m".to_owned());
        let mount = pb::Mount { input: 1, selector, dest, output, readonly, ..root() };
        exec(vec![root(), mount]).inputs
    };
    let read = bound("/a", -1, true);
    assert_eq!(read[0].selector, Some(Digest::of(b"/")));
    assert_eq!(read[0].contents, None);
    assert_eq!(read[1].selector, Some(Digest::of(b"/a")));
    assert_eq!(read[1].contents, Some(vec![plain("/a".into(), true)]));
    assert_eq!(bound("", -1, true)[1].contents, Some(Vec::new()));
    assert_eq!(bound("/a", 1, false)[1].contents, None);
}

#[test]
fn json_is_as_go_writes_it() {
    let json = json!({ "a": "<&>\u{2028}\n\u{1}é\"" });
    let expected = "{\"a\":\"\\u003c\\u0026\\u003e\\u2028\\n\\u0001é\\\"\"}";
    assert_eq!(encoded(&json), expected.as_bytes());
}

#[test]
fn paths_are_as_go_has_them() {
    let absolute = ["", "/", "a", "/a/", "a/../b", "../a", "a//./b"].map(clean_absolute);
    assert_eq!(absolute, ["/", "/", "/a", "/a", "/b", "/a", "/a/b"]);
    assert_eq!(["", "/", "a", "/a/b/", "a/."].map(base), [".", "/", "a", "b", "."]);
    let all = ["/a", "/a/b", "/ab", "/c/d"].map(String::from).to_vec();
    assert_eq!(outermost(all), ["/a", "/ab", "/c/d"]);
}
