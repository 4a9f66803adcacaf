//! Merge ops: file systems one on the other. Nothing is copied.

use koskit_llb::pb;

use super::{Build, Outcome};
use crate::Problem;
use crate::cache::KeyBuilder;
use crate::filesystem::{FileSystem, Layers};
use std::sync::Arc;

impl Build<'_> {
    /// Does a merge op.
    pub fn merge(&self, op: &pb::MergeOp, inputs: &[FileSystem]) -> Result<Outcome, Problem> {
        let input = |part: &pb::MergeInput| match usize::try_from(part.input) {
            Ok(index) => self.layers(&inputs[index]),
            Err(_) => Ok(Arc::new(Layers::scratch())),
        };
        let parts = op.inputs.iter().map(input).collect::<Result<Vec<_>, _>>()?;
        let ids = parts.iter().map(|layers| layers.id.as_str());
        let id = ids.fold(KeyBuilder::new("merge"), KeyBuilder::with).finish();
        let merged = Layers::merged(id, &parts);
        Ok(Outcome { outputs: vec![FileSystem::Layers(Arc::new(merged))], cached: false })
    }
}
