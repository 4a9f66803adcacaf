//! What the comparison with BuildKit in `tests/llb` cannot show: what its version there does
//! not have, or what it would need other machines for.

use std::collections::BTreeMap;

use koskit_frontend::{Context, Options, context_graph};
use koskit_llb::{Graph, ResolveMode, pb};

use crate::common::{self, build, build_with, errors, options, show};

fn contexts(pairs: &[(&str, &str)]) -> Options {
    let context = |text: &str| text.parse::<Context>().unwrap_or_else(|error| panic!("{error}"));
    let contexts = pairs.iter().map(|(name, text)| ((*name).to_owned(), context(text))).collect();
    Options { contexts, ..options() }
}

/// The sources of a graph with their attributes.
fn sources(graph: &Graph) -> Vec<(String, BTreeMap<String, String>)> {
    let sources = graph.vertices().iter().filter_map(|vertex| match &vertex.op {
        pb::op::Op::Source(source) => {
            Some((source.identifier.clone(), source.attrs.clone().into_iter().collect()))
        }
        _ => None,
    });
    sources.collect()
}

fn copies(graph: &Graph) -> Vec<pb::FileActionCopy> {
    let mut copies = Vec::new();
    for vertex in graph.vertices() {
        let pb::op::Op::File(file) = &vertex.op else { continue };
        for action in &file.actions {
            if let Some(pb::file_action::Action::Copy(copy)) = &action.action {
                copies.push(copy.clone());
            }
        }
    }
    copies
}

#[test]
fn copy_parents_keeps_the_directories_behind_the_pivot() {
    let cases = [("a/b/*.c", "/", "a/b/*.c"), ("./x/./a/b", "/x", "a/b"), ("/a/../b", "/", "b")];
    for (source, src, pattern) in cases {
        let (build, graph) = build(&format!("FROM scratch\nCOPY --parents {source} /to/\n"));
        let copy = &copies(&graph)[0];
        assert_eq!((copy.src.as_str(), copy.include_patterns.join(",")), (src, pattern.into()));
        let history = build.config.history[0].created_by.clone().unwrap();
        assert_eq!(history, format!("COPY --parents {source} /to/ # buildkit"));
        let caps = &graph.vertices().last().unwrap().metadata.caps;
        assert!(caps.contains_key("file.copy.includeexcludepatterns"), "{caps:?}");
    }
}

#[test]
fn a_command_that_is_not_locked_in_says_so() {
    let (_, graph) = build("FROM base\nRUN --security=insecure x\n");
    let vertex = graph.vertices().last().unwrap();
    let pb::op::Op::Exec(exec) = &vertex.op else { panic!("{vertex:?}") };
    assert_eq!(exec.security(), pb::SecurityMode::Insecure);
    assert!(vertex.metadata.caps.contains_key("exec.meta.security"));
    assert!(errors("FROM base\nRUN --device=gpu x\n").contains("RUN has no flag --device"));
}

#[test]
fn a_repository_by_ssh_asks_for_the_agent() {
    let (_, graph) = build("FROM scratch\nADD git@example.org:a/b.git#v1 /\n");
    let (identifier, attrs) = &sources(&graph)[0];
    assert_eq!(identifier, "git://example.org/a/b.git#v1");
    assert_eq!(attrs["git.fullurl"], "git@example.org:a/b.git");
    assert_eq!(attrs["git.mountsshsock"], "default");
    assert!(!attrs.contains_key("git.knownsshhosts"));
}

#[test]
fn images_can_be_asked_of_the_registry() {
    let options = Options { resolve: ResolveMode::Pull, ..options() };
    let (_, graph) = build_with("FROM base\nCOPY --from=kos/busybox /a /\n", &options);
    for (_, attrs) in sources(&graph) {
        assert_eq!(attrs["image.resolvemode"], "pull");
    }
}

#[test]
fn a_named_context_can_be_a_file_of_a_web_server() {
    let options = contexts(&[("other", "https://example.org/a.txt")]);
    let (_, graph) = build_with("FROM scratch\nCOPY --from=other / /\n", &options);
    let shown = show(&graph);
    assert!(shown.contains("[context other] https://example.org/a.txt"), "{shown}");
}

#[test]
fn a_named_context_can_be_the_result_of_another_build() {
    let (other, other_graph) = build("FROM base\nENV FROM_OTHER=1\nRUN other\n");
    let config = Some(Box::new(other.config.clone()));
    let context = Context::Graph { definition: other.definition, config };
    let mut options = options();
    options.contexts.insert("other".into(), context);
    let (_, graph) = build_with("FROM other\nRUN more\n", &options);
    let digests: Vec<_> = graph.vertices().iter().map(|vertex| &vertex.digest).collect();
    for vertex in other_graph.vertices() {
        assert!(digests.contains(&&vertex.digest), "{}", vertex.name());
    }
    assert!(show(&graph).contains("FROM_OTHER=1"));

    let broken = pb::Definition { def: vec![vec![1]], ..pb::Definition::default() };
    options.contexts.insert("other".into(), Context::Graph { definition: broken, config: None });
    let error = common::try_build("FROM other\nRUN more\n", &options).unwrap_err().to_string();
    assert!(error.contains("the context other cannot be used"), "{error}");
}

#[test]
fn the_graph_of_the_main_context_alone_is_where_a_dockerfile_is_read_from() {
    let cases = [
        ("https://example.org/a.tar.gz", 2),
        ("https://example.org/Dockerfile", 1),
        ("https://example.org/a.git#main:sub", 1),
    ];
    for (text, count) in cases {
        let options = Options { context: text.parse().unwrap(), ..options() };
        let graph = Graph::new(&context_graph(&options)).unwrap();
        assert_eq!(graph.vertices().len(), count, "{text}");
        let (_, used) = build_with("FROM scratch\nCOPY x /\n", &options);
        assert_eq!(used.vertices()[count - 1].digest, graph.vertices()[count - 1].digest);
        assert_eq!(used.vertices().len(), count + 1);
    }
    let context = "https://example.org/a.tar.gz".parse().unwrap();
    let context_subdir = Some("sub".to_owned());
    let options = Options { context, context_subdir, ..options() };
    let graph = Graph::new(&context_graph(&options)).unwrap();
    let copies = copies(&graph);
    assert_eq!((copies[1].src.as_str(), copies[1].dir_copy_contents), ("/sub", true));
}

#[test]
fn what_add_cannot_fetch_is_told() {
    let text = "\
FROM scratch
ADD https://example.org/a.git?x=y /
ADD --checksum=sha256:00 https://example.org/a /
ADD --checksum=abc a /
ADD --checksum=abc https://example.org/a https://example.org/b /
ADD --keep-git-dir=false https://example.org/a.git?keep-git-dir=true /
COPY https://example.org/a.git /
RUN --mount=type=ssh,source=x x
RUN --mount=target=/ x
";
    let told = errors(text);
    for part in [
        "a git URL has no \"x\"",
        "\"sha256:00\" is not a checksum",
        "--checksum is for files of web servers and for git repositories",
        "--checksum is for one source",
        "--keep-git-dir and the keep-git-dir of the URL differ",
        "COPY cannot fetch anything; ADD can",
        "a mount of type ssh has no source",
        "a mount cannot hide the root of the stage",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
}
