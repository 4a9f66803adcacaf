//! Diff ops: what one file system has on another one. Where the upper one was made of the lower
//! one, nothing is copied, and neither is unpacked.

use std::sync::Arc;

use koskit_llb::pb;

use super::{Build, Outcome};
use crate::Problem;
use crate::cache::KeyBuilder;
use crate::filesystem::{FileSystem, Layers};

impl Build<'_> {
    /// Does a diff op.
    pub fn diff(&self, op: &pb::DiffOp, inputs: &[FileSystem]) -> Result<Outcome, Problem> {
        let input = |index: Option<i64>| match index.and_then(|index| usize::try_from(index).ok()) {
            Some(index) => self.layers(&inputs[index]),
            None => Ok(Arc::new(Layers::scratch())),
        };
        let lower = input(op.lower.as_ref().map(|lower| lower.input))?;
        let upper = input(op.upper.as_ref().map(|upper| upper.input))?;
        let key = KeyBuilder::new("diff").with(lower.id.as_str()).with(upper.id.as_str()).finish();
        let difference = match Layers::between(key.clone(), &lower, &upper) {
            Some(difference) => difference,
            None => {
                let (lower, upper) = (self.snapshot(&lower)?, self.snapshot(&upper)?);
                let made = self.solver.snapshots.difference(&lower, &upper, &key)?;
                Layers::made(key, &Layers::scratch(), &made)
            }
        };
        Ok(Outcome { outputs: vec![FileSystem::Layers(Arc::new(difference))], cached: false })
    }
}
