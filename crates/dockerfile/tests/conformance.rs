//! BuildKit's own test data, where it is at hand: `../shared/conformance`, seen from the
//! project's root.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use koskit_dockerfile::{Ast, Environment, Expander, Source};

/// The folder, or `None` with a note that the test was skipped.
fn folder(name: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("KOSKIT_CONFORMANCE") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"),
    };
    let folder = root.join(name);
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

fn parse(file: &Path) -> Ast {
    let text = fs::read(file).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ast::parse(Arc::new(Source::new("Dockerfile", text)))
}

fn cases(folder: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    cases
}

#[test]
fn the_tree_of_each_dockerfile_is_buildkits() {
    let Some(folder) = folder("dockerfile-parser") else { return };
    let mut failed = Vec::new();
    let cases = cases(&folder);
    for case in &cases {
        let ast = parse(&case.join("Dockerfile"));
        let expected = fs::read_to_string(case.join("result")).unwrap();
        if ast.has_errors() || ast.dump() != expected.trim() {
            failed.push(format!("{}:\n{}\n{:?}", case.display(), ast.dump(), ast.diagnostics));
        }
    }
    println!("dockerfile-parser: {} passed of {}", cases.len() - failed.len(), cases.len());
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn what_buildkits_parser_refuses_is_refused() {
    let Some(folder) = folder("dockerfile-parser-negative") else { return };
    let cases = cases(&folder);
    let accepted: Vec<_> =
        cases.iter().filter(|case| !parse(&case.join("Dockerfile")).has_errors()).collect();
    println!(
        "dockerfile-parser-negative: {} passed of {}",
        cases.len() - accepted.len(),
        cases.len()
    );
    assert!(accepted.is_empty(), "{accepted:?}");
}

#[test]
fn words_are_expanded_as_buildkit_does() {
    let Some(folder) = folder("shell") else { return };
    let pairs = [("PWD", "/home"), ("SHELL", "bash"), ("KOREAN", "한국어"), ("NULL", "")];
    let env: BTreeMap<_, _> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let text = fs::read_to_string(folder.join("envVarTest")).unwrap();
    let (mut tried, mut failed) = (0, Vec::new());
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let columns: Vec<_> = line.split('|').collect();
        let [platform, word, expected] = columns[..] else { continue };
        // Windows compares names without regard to case; koskit builds for Linux.
        if !platform.trim().contains(['A', 'U']) {
            continue;
        }
        tried += 1;
        let result = Expander::new('\\').word(word.trim(), &env);
        let shown = result.clone().unwrap_or_else(|_| "error".into());
        if shown != expected.trim() {
            failed.push(format!("{word}: {result:?}, expected {expected:?}"));
        }
    }
    println!("envVarTest: {} passed of {tried}", tried - failed.len());
    assert!(tried > 0 && failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn words_are_split_as_buildkit_does() {
    let Some(folder) = folder("shell") else { return };
    let text = fs::read_to_string(folder.join("wordsTest")).unwrap();
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let (mut tried, mut failed) = (0, Vec::new());
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
        if let Some(setting) = line.strip_prefix("ENV ") {
            let (name, value) = setting.trim_start().split_once('=').unwrap();
            env.insert(name.into(), value.into());
            continue;
        }
        let (word, expected) = line.split_once('|').unwrap();
        tried += 1;
        let result = Expander::new('\\').words(word.trim(), &env as &dyn Environment);
        let shown = result.map_or_else(|_| "error".into(), |words| words.join(","));
        if shown != expected.trim_start() {
            failed.push(format!("{word}: {shown:?}, expected {expected:?}"));
        }
    }
    println!("wordsTest: {} passed of {tried}", tried - failed.len());
    assert!(tried > 0 && failed.is_empty(), "{}", failed.join("\n"));
}
