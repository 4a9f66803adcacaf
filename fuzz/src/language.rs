//! Readers of text.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use koskit_dockerfile::{Ast, Diagnostic, Dockerfile, Expander, Source};
use koskit_frontend::{
    BaseImage, FrontendError, ImageConfig, ImageResolver, Options, ResolveError, check, convert,
    ignore_patterns,
};
use koskit_llb::{Digest, Graph, Patterns, Platform, Reference};

/// A Dockerfile, up to its build graph.
pub fn dockerfile(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let source = Source::new("Dockerfile", text);
    let ast = Ast::parse(Arc::new(source.clone()));
    shown(&ast.source, &ast.diagnostics);
    let _ = ast.dump();
    if let Err(errors) = Dockerfile::parse(Arc::new(source.clone())) {
        assert!(!errors.diagnostics.is_empty(), "an error says what is wrong");
        shown(&source, &errors.diagnostics);
    }
    let options = Options::default();
    match convert(source.clone(), &options, &Images) {
        Ok(build) => {
            Graph::new(&build.definition).expect("what the frontend writes is a graph");
            serde_json::to_string(&build.config).expect("a configuration is JSON");
        }
        Err(FrontendError::Dockerfile(errors)) => {
            assert!(!errors.diagnostics.is_empty(), "an error says what is wrong");
        }
        Err(error) => panic!("no target was asked for, and yet: {error}"),
    }
    let check = check(source, &options, &Images).expect("no target is asked for");
    shown(&check.source, &check.diagnostics);
}

/// Every place is in the text, and every picture can be drawn.
fn shown(source: &Source, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        assert!(source.text().get(diagnostic.span.range()).is_some(), "{diagnostic:?}");
        let picture = diagnostic.render(source, false);
        let printable = |c: char| c == '\n' || !c.is_control();
        assert!(picture.chars().all(printable), "{picture:?}");
    }
}

/// One image of every name.
struct Images;

impl ImageResolver for Images {
    fn resolve(&self, _: &Reference, _: &Platform) -> Result<BaseImage, ResolveError> {
        let mut config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
        config.config.env = vec!["PATH=/bin".into(), "V=1.2".into()];
        config.config.on_build = vec!["RUN $V".into()];
        config.rootfs.diff_ids = vec![Digest::of(b"layer").to_string()];
        Ok(BaseImage { digest: Digest::of(b"image"), config })
    }
}

/// A word with variables. The first byte says which of the options are on.
pub fn expansion(data: &[u8]) {
    let Some((options, data)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(data);
    let pairs = [("a", "some.tar.gz"), ("empty", ""), ("한", "x y"), ("1", "*?\\"), ("_", "$a")];
    let env: BTreeMap<_, _> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let on = |bit: u8| options & (1 << bit) != 0;
    let expander = Expander {
        raw_quotes: on(0),
        raw_escapes: on(1),
        ignore_quotes: on(2),
        keep_unset: on(3),
        ..Expander::new(if on(4) { '`' } else { '\\' })
    };
    if let Ok(done) = expander.expand(&text, &env) {
        assert!(done.words.iter().all(|word| !word.is_empty()), "no word is empty");
        assert!(done.matched.is_disjoint(&done.unmatched), "set or not, but not both");
        assert!(done.matched.iter().all(|name| env.contains_key(name)), "a match is set");
    }
    let quoted = format!("'{}'", text.replace('\'', "'\\''"));
    let same = Expander::new('\\').word(&quoted, &env);
    assert_eq!(same.as_deref(), Ok(&*text), "quotes keep what is in them");
}

/// A `.dockerignore`, then a zero byte and a path.
pub fn dockerignore(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (text, path) = text.split_once('\0').unwrap_or((&text, "a/b/c.txt"));
    let Ok(patterns) = Patterns::new(&ignore_patterns(text)) else { return };
    let path = path.trim_matches('/');
    let matched = patterns.matches(Path::new(path));
    if patterns.take_back() {
        return;
    }
    // What holds for a directory holds for what is in it.
    if !path.is_empty() && matched {
        assert!(patterns.matches(&Path::new(path).join("below")), "{path:?} hides what is in it");
    }
}
