//! `koskit debug`, as a program sees it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn koskit(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_koskit"))
        .arg("debug")
        .args(arguments)
        .env("KOSKIT_TEST_VALUE", "from here")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who expands a word reads no input, and may be gone.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn stdout(arguments: &[&str], input: &str) -> String {
    let output = koskit(arguments, input);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_word_is_expanded_with_the_variables_that_are_given() {
    let version = ["expand", "-e", "V=1.2.3", "--env", "N=", "app-${V%.*}${N:-x}"];
    assert_eq!(stdout(&version, ""), "app-1.2x\n");
    assert_eq!(stdout(&["expand", "--escape", "`", "`$a\\b"], ""), "$a\\b\n");
    assert_eq!(stdout(&["expand", "--words", "-e", "P=-1 2", "$P '3 4'"], ""), "-1,2,3 4\n");
    assert_eq!(
        stdout(&["expand", "-e", "KOSKIT_TEST_VALUE", "$KOSKIT_TEST_VALUE"], ""),
        "from here\n"
    );
    assert_eq!(stdout(&["expand", "--not-a-flag"], ""), "--not-a-flag\n");
}

#[test]
fn a_wrong_word_ends_with_one() {
    for word in ["${", "'a", "${a?it is needed}", "${a=b}"] {
        let output = koskit(&["expand", word], "");
        assert_eq!(output.status.code(), Some(1), "{word}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn a_tree_is_printed_and_all_errors_are_told() {
    let tree = stdout(&["ast", "-"], "FROM a AS b\nRUN [\"x\"]\n");
    assert_eq!(tree, "(from \"a\" \"AS\" \"b\")\n(run \"x\")\n");
    let output = koskit(&["ast", "-"], "FROM a\nENV b\nLABEL c\n");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("-:2:5") && text.contains("-:3:7"), "{text}");
}
