//! `koskit build --check`, as a person and as a program sees it.

use std::process::{Command, Output};

fn check(dockerfile: &str, ignore: &str, arguments: &[&str]) -> Output {
    let context = tempfile::tempdir().unwrap();
    std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    std::fs::write(context.path().join(".dockerignore"), ignore).unwrap();
    Command::new(env!("CARGO_BIN_EXE_koskit"))
        .args(["build", "."])
        .args(arguments)
        .current_dir(context.path())
        .env("XDG_DATA_HOME", context.path().join("data"))
        .env("XDG_CACHE_HOME", context.path().join("cache"))
        .output()
        .unwrap()
}

#[test]
fn a_clean_file_ends_with_zero_and_nothing_is_built() {
    let output = check("FROM scratch\nCOPY a /\nCMD [\"/a\"]\n", "", &["--check"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Dockerfile: nothing to be said\n");
}

#[test]
fn findings_and_errors_are_shown_together_and_end_with_one() {
    let text = "FROM scratch as a\nCOPY --form=x a.o /\nFROM scratch\nCOPY b.o /\n";
    let output = check(text, "*.o\n", &["--check"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("COPY has no flag --form"), "{shown}");

    let text = "FROM scratch as a\nFROM scratch\nCOPY b.o /\nUSER $me\n";
    let output = check(text, "*.o\n", &["--check"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8(output.stdout).unwrap();
    for part in [
        "warning[FromAsCasing]",
        "--> Dockerfile:1:14",
        "warning[CopyIgnoredFile]",
        "warning[UndefinedVar]",
        "/rule/undefined-var/",
        "3 warnings\n",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}

#[test]
fn programs_get_json() {
    let output = check("FROM scratch\nCMD a\n", "", &["--check=json"]);
    assert_eq!(output.status.code(), Some(1));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["warnings"][0]["ruleName"], "JSONArgsRecommended");
    assert_eq!(document["warnings"][0]["location"]["ranges"][0]["start"]["line"], 2);
    assert_eq!(document["errors"], serde_json::json!([]));
}

#[test]
fn a_file_may_make_findings_errors() {
    let text = "# check=error=true\nFROM scratch as a\n";
    let output = check(text, "", &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("error[FromAsCasing]"), "{told}");
}
