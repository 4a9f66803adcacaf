//! What holds for every text.

use koskit_frontend::{FrontendError, Options};
use koskit_llb::Graph;
use proptest::prelude::*;

use crate::common::{options, try_build};

/// Text that looks like a Dockerfile more often than not.
fn dockerfile() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("$A".to_owned()),
        Just("${A:-b}".to_owned()),
        Just("a/../b*".to_owned()),
        Just("--from=0".to_owned()),
        Just("--from=s".to_owned()),
        Just("--platform=$BUILDPLATFORM".to_owned()),
        Just("<<E".to_owned()),
        Just("E".to_owned()),
        Just("scratch".to_owned()),
        Just("kos/busybox".to_owned()),
        Just("AS s".to_owned()),
        Just("A=1".to_owned()),
        Just("/".to_owned()),
        Just("\\\n".to_owned()),
        Just("[\"a\", \"b\"]".to_owned()),
        "[ -~é]{0,6}",
    ];
    let keyword = prop::sample::select(vec![
        "FROM",
        "COPY",
        "RUN",
        "ENV",
        "ARG",
        "WORKDIR",
        "LABEL",
        "USER",
        "ENTRYPOINT",
        "CMD",
        "EXPOSE",
        "VOLUME",
        "STOPSIGNAL",
        "ADD",
        "ONBUILD",
        "HEALTHCHECK",
        "x",
    ]);
    let line = (keyword, prop::collection::vec(word, 0..5))
        .prop_map(|(keyword, words)| format!("{keyword} {}\n", words.join(" ")));
    prop::collection::vec(line, 0..8)
        .prop_map(|lines| format!("FROM kos/busybox AS s\n{}", lines.concat()))
}

/// Failures are shown, not written beside the sources.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_text_gives_a_graph_that_can_be_read_or_errors_that_can_be_shown(
        text in dockerfile(),
        given in "[A-Z]?",
    ) {
        let mut options = options();
        options.build_args.insert(given, "value".into());
        match try_build(&text, &options) {
            Ok(build) => {
                let graph = Graph::new(&build.definition).unwrap();
                let layers = build.config.history.iter().filter(|h| !h.empty_layer);
                prop_assert!(layers.count() >= usize::from(graph.result().is_some()));
            }
            Err(FrontendError::Dockerfile(errors)) => {
                prop_assert!(errors.to_string().starts_with("error: ") || errors.diagnostics.len() > 1);
                for diagnostic in &errors.diagnostics {
                    prop_assert!(text.get(diagnostic.span.range()).is_some(), "{diagnostic:?}");
                }
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn the_same_file_gives_the_same_bytes(text in dockerfile()) {
        let definition = || try_build(&text, &Options::default()).ok().map(|b| b.definition);
        prop_assert_eq!(definition(), definition());
    }
}
