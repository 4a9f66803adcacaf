//! How a command ends that cannot do what it was asked to.
//!
//! ```text
//! koskit: the layer sha256:… cannot be used
//!   caused by: the layer is refused because of its entry "../x": its path has .. in it
//! ```
//! Errors of a Dockerfile are shown with their place instead.

use crate::output::{self, Paint};
use clap::error::ErrorKind;
use koskit_dockerfile::Errors;
use koskit_frontend::FrontendError;
use std::fmt;
use std::io;
use std::process::ExitCode;

/// What docker ends with where the container's own status is not to be had.
pub const RUN_FAILED: u8 = 125;
/// 128 + SIGPIPE, as a shell sees it of programs that the signal ends.
pub const BROKEN_PIPE: u8 = 141;

/// The command failed, and has told already why.
#[derive(Debug)]
pub struct Silent;

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the command has told why it failed")
    }
}

impl std::error::Error for Silent {}

/// Tells on standard error what went wrong.
pub fn report(error: &anyhow::Error, status: u8) -> ExitCode {
    crate::build::interrupt::wait();
    if is_broken_pipe(error) {
        // Who read our output has gone; nobody is to be told that.
        return ExitCode::from(BROKEN_PIPE);
    }
    if error.is::<Silent>() {
        return ExitCode::from(status);
    }
    let paint = Paint::stderr();
    match errors(error) {
        Some(errors) => output::error(&errors.render(paint.is_on())),
        None => output::error(&sentence(error, paint)),
    }
    ExitCode::from(status)
}

/// Tells that the arguments are wrong, or shows the help that was asked for.
pub fn usage(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // Where this fails there is nobody to tell.
    let _ = error.print();
    let of_run = std::env::args_os().nth(1).is_some_and(|word| word == "run");
    match (asked, of_run) {
        (true, _) => ExitCode::SUCCESS,
        (false, true) => ExitCode::from(RUN_FAILED),
        (false, false) => ExitCode::from(2),
    }
}

/// The error and its causes, a line each.
fn sentence(error: &anyhow::Error, paint: Paint) -> String {
    let mut text = format!("{} {error}\n", paint.with("1;31", "koskit:"));
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some libraries quote their cause in their own sentence.
        if !last.contains(&cause) {
            text.push_str(&format!("  caused by: {cause}\n"));
        }
        last = cause;
    }
    text
}

fn errors(error: &anyhow::Error) -> Option<&Errors> {
    if let Some(FrontendError::Dockerfile(errors)) = error.downcast_ref() {
        return Some(errors);
    }
    error.downcast_ref()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let of = |cause: &(dyn std::error::Error + 'static)| {
        let write = cause.downcast_ref::<output::WriteError>();
        write.is_some_and(|error| error.0.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(of)
}
