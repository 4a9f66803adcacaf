//! The programs that tests bring along: they are what they are said to be.

use koskit_tests::{program, skip};
use std::process::Command;

#[test]
fn a_test_program_in_c_is_static_and_runs_on_linux() {
    let program = program("greet");
    let output = match Command::new("qemu-aarch64-static").arg(program).arg("hello").output() {
        Ok(output) => output,
        Err(error) => return skip(format!("qemu-aarch64-static does not start: {error}")),
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2 words, the last: hello\n");
    assert_eq!(output.status.code(), Some(3));
}
