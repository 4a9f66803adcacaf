//! The labels that an image's author has left out, computed at build time.
//!
//! They say what [`crate::lower`] would choose by itself, for everybody who looks at the image
//! to see. Not among them is `stack_pages`: how large the stack must be also depends on the
//! words that a container is started with, so a number fixed at build time would be too small
//! for some of them. Nor is `ut_large_page` of a dynamic program, which depends on its libraries.
//! An author's own is kept, of course.

use crate::contract::{SPEC_PREFIX, Stated, name_of_image};
use crate::process::{self, Words};
use crate::{LowerError, Options};
use koskit_image::Tree;
use koskit_image::oci::ImageConfiguration;
use koskit_spec::{elf, label};
use std::collections::BTreeMap;

/// The labels that are missing of an image's contract. `tree` need hold no more of the image
/// than its program, the file that [`label::SPEC`] names, and the links that lead there.
///
/// What cannot be known is left out: the program's labels where no file of the image can be a
/// program that runs natively.
///
/// # Errors
/// The labels that are there state no contract.
pub fn labels(
    tree: &Tree,
    config: &ImageConfiguration,
) -> Result<BTreeMap<String, String>, LowerError> {
    let options = Options::default();
    let stated = Stated::read(tree, config, &options)?;
    let words = Words::of(config, &options);
    let program = words
        .as_ref()
        .ok()
        .and_then(|words| process::program(tree, words, stated.binary.as_deref()).ok());
    let mut labels = BTreeMap::new();
    if let Some((path, _)) = &program {
        let binary = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        labels.insert(label::NAME.to_owned(), name_of_image(&binary));
        if let Some(path) = path.to_str() {
            labels.insert(label::BINARY.to_owned(), path.to_owned());
        }
    }
    let nothing = Words { args: Vec::new(), env: Vec::new(), cwd: "/".into() };
    let file: &[u8] = program.as_ref().map_or(&[], |(_, file)| file);
    let contract = stated.contract(file, words.as_ref().unwrap_or(&nothing), 0)?;
    let numbers = [
        ("heap_pages", u64::from(contract.heap_pages)),
        ("ut_large_page", contract.ut_large_page.into()),
        ("ut_4k_pages", contract.ut_4k_pages.into()),
        ("priority", contract.priority.into()),
        ("max_priority", contract.max_priority.into()),
    ];
    // What the contract's file says is as good as a label, which would hide it.
    let is_dynamic = elf::interpreter(file).is_some();
    let unknown = |key: &str| is_dynamic && key == "ut_large_page";
    let left_out = |key: &str| !stated.states(key) && !unknown(key);
    for (key, number) in numbers.into_iter().filter(|(key, _)| left_out(key)) {
        labels.insert(format!("{SPEC_PREFIX}{key}"), number.to_string());
    }
    let image = config.config().as_ref().and_then(|c| c.labels().clone()).unwrap_or_default();
    labels.retain(|name, _| !image.contains_key(name));
    Ok(labels)
}

/// The label's path, if it counts. Where the user starts another program than the image's own,
/// a label that only says what the image's own is must not stand in the way: `labels` may have
/// written it.
pub(crate) fn binary<'a>(
    tree: &Tree,
    config: &ImageConfiguration,
    options: &Options,
    stated: Option<&'a str>,
) -> Option<&'a str> {
    let stated = stated?;
    let has_entrypoint = config
        .config()
        .as_ref()
        .and_then(|c| c.entrypoint().as_ref())
        .is_some_and(|words| !words.is_empty());
    let other = options.entrypoint.is_some() || !has_entrypoint && !options.args.is_empty();
    if !other || options.labels.contains_key(label::BINARY) {
        return Some(stated);
    }
    let own = Words::of(config, &Options::default()).ok();
    let own = own.and_then(|words| process::program(tree, &words, None).ok());
    own.is_none_or(|(path, _)| path.as_os_str() != stated).then_some(stated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use koskit_image::Node;

    fn config(json: &str) -> ImageConfiguration {
        let text = format!(
            r#"{{"os":"linux","architecture":"arm64",
                "rootfs":{{"type":"layers","diff_ids":[]}},"config":{json}}}"#
        );
        ImageConfiguration::from_reader(text.as_bytes()).unwrap()
    }

    fn tree() -> Tree {
        let mut tree = Tree::new();
        tree.insert("bin/tool", Node::file(0o755, &b"\x7fELF"[..]));
        tree.insert("bin/ls", Node::symlink("tool"));
        tree.insert("hello", Node::file(0o755, &b"\x7fELF"[..]));
        tree.insert("spec.json", Node::file(0o644, &br#"{"heap_pages": 7}"#[..]));
        tree
    }

    fn shown(json: &str) -> Vec<String> {
        let labels = labels(&tree(), &config(json)).unwrap();
        let short = |name: &str| name.strip_prefix("com.koskit.app.").unwrap().to_owned();
        labels.iter().map(|(name, value)| format!("{}={value}", short(name))).collect()
    }

    #[test]
    fn all_that_is_missing_is_computed() {
        assert_eq!(
            shown(r#"{"Entrypoint": ["/hello"], "Cmd": ["x"]}"#),
            [
                "binary.loopback=/hello",
                "name=hello",
                "spec.heap_pages=32",
                "spec.max_priority=190",
                "spec.priority=180",
                "spec.ut_4k_pages=16",
                "spec.ut_large_page=1",
            ]
        );
    }

    #[test]
    fn what_the_author_states_is_left_alone_and_counts_for_the_rest() {
        let labels = shown(
            r#"{"Entrypoint": ["/hello"], "Labels": {"com.koskit.app.name": "mine",
                "com.koskit.app.spec": "/spec.json", "com.koskit.app.spec.priority": "200"}}"#,
        );
        let expected = [
            "binary.loopback=/hello",
            "spec.max_priority=200",
            "spec.ut_4k_pages=16",
            "spec.ut_large_page=1",
        ];
        assert_eq!(labels, expected);
    }

    #[test]
    fn an_image_without_a_program_gets_what_can_be_known() {
        for json in ["{}", r#"{"Cmd": ["/none"]}"#, r#"{"Cmd": ["/spec.json"]}"#] {
            let labels = shown(json);
            assert_eq!(labels.len(), 5, "{labels:?}");
            assert!(labels.iter().all(|label| label.starts_with("spec.")), "{labels:?}");
        }
    }

    #[test]
    fn a_computed_label_does_not_stand_in_the_way_of_another_program() {
        let tree = tree();
        let json = r#"{"Cmd": ["/bin/ls"],
            "Labels": {"com.koskit.app.binary.loopback": "/bin/tool"}}"#;
        let counts = |json: &str, stated, options: &Options| {
            binary(&tree, &config(json), options, Some(stated)).is_some()
        };
        let other = Options { entrypoint: Some("/hello".into()), ..Options::default() };
        let args = Options { args: vec!["/hello".into()], ..Options::default() };
        assert!(counts(json, "/bin/tool", &Options::default()));
        assert!(!counts(json, "/bin/tool", &other));
        assert!(!counts(json, "/bin/tool", &args));
        // An author who names another file than the first word's means it.
        assert!(counts(json, "/hello", &other));
        let with_entrypoint = r#"{"Entrypoint": ["/hello"]}"#;
        assert!(counts(with_entrypoint, "/hello", &args));
        let labels = [(label::BINARY.to_owned(), "/bin/tool".to_owned())].into();
        assert!(counts(json, "/bin/tool", &Options { labels, ..other }));
    }
}
