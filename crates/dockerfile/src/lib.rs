//! Dockerfile text to instructions with spans.
//!
//! Three steps, each of use alone:
//! 1. [`Ast::parse`] finds the instructions of a file and splits them into words, as
//!    BuildKit's parser does. It never fails: what is wrong is in [`Ast::diagnostics`].
//! 2. [`Dockerfile::parse`] understands them: stages, typed instructions, flags. It gives
//!    all errors of a file at once.
//! 3. [`Expander`] puts the values of variables into words. When and with which variables is
//!    the frontend's business, since that depends on the base image.
//!
//! [`lint`] holds a file against BuildKit's rules of good style.
//!
//! Every word knows its [`Span`] in the file, so that a [`Diagnostic`] can point at it.

mod ast;
mod copy;
mod diagnostic;
mod dockerfile;
mod expand;
mod flags;
mod go;
mod healthcheck;
mod heredoc;
mod instruction;
mod json;
mod line;
mod lint;
mod mount;
mod pattern;
mod problems;
mod run;
mod span;
mod words;

pub use ast::{Args, Ast, Node, Pair};
pub use diagnostic::{Diagnostic, Errors, Severity, nearest};
pub use dockerfile::Dockerfile;
pub use expand::{Empty, Environment, ExpandError, Expander, Expansion};
pub use go::go_quote;
pub use heredoc::Heredoc;
pub use instruction::{
    Add, Command, CommandLine, Copy, Healthcheck, Instruction, Network, Place, Run, Security,
    Stage, Variable,
};
pub use line::Directive;
pub use lint::{Base, Given, Rule, Surroundings, lint};
pub use mount::{Mount, MountKind, Sharing};
pub use pattern::PatternError;
pub use span::{Source, Span, Word};
