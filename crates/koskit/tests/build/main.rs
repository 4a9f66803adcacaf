//! `koskit build`, as a person and as a program sees it.

mod common;
mod outputs;
mod stopped;
