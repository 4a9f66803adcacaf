//! Several errors of one instruction.

use crate::Diagnostic;

/// All that is wrong with an instruction; at least one thing is.
#[derive(Debug)]
pub(crate) struct Problems(pub Vec<Diagnostic>);

impl From<Box<Diagnostic>> for Problems {
    fn from(diagnostic: Box<Diagnostic>) -> Self {
        Self(vec![*diagnostic])
    }
}

impl From<Diagnostic> for Problems {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}
