//! Build ops: a graph that a file of another file system holds.

use std::io::Read;
use std::path::Path;

use koskit_llb::{Graph, pb};
use rustix::fs::FileType;

use super::{Build, Outcome};
use crate::files::{Root, failed};
use crate::filesystem::{FileSystem, Layers};
use crate::{Event, Problem};

/// The input that holds the graph, and the name of the file unless the op says another one.
const DEFINITION: &str = "buildkit.llb.definition";
/// The largest graph, in bytes.
const MAX_SIZE: u64 = 64 << 20;
/// How deep graphs may lie in each other.
const MAX_DEPTH: usize = 16;

impl Build<'_> {
    /// Does a build op. What its steps write is told as if this one had.
    pub fn build(
        &self,
        index: usize,
        op: &pb::BuildOp,
        inputs: &[FileSystem],
    ) -> Result<Outcome, Problem> {
        if op.builder != -1 {
            return Err(Problem::Unsupported("a build op with a builder of its own".into()));
        }
        if self.depth >= MAX_DEPTH {
            let why = format!("build ops lie in each other more than {MAX_DEPTH} deep");
            return Err(Problem::Invalid(why));
        }
        let input = op.inputs.get(DEFINITION).and_then(|i| usize::try_from(i.input).ok());
        let Some(input) = input.and_then(|input| inputs.get(input)) else {
            return Err(Problem::Invalid(format!("a build op has no input {DEFINITION}")));
        };
        let name = op.attrs.get("llbbuild.filename").map_or(DEFINITION, String::as_str);
        let bytes = self.read_file(input, Path::new(name))?;
        let invalid = |e: &dyn std::fmt::Display| {
            Problem::Invalid(format!("the file {name:?} of a build op holds no graph: {e}"))
        };
        let graph = Graph::decode(&bytes).map_err(|e| invalid(&e))?;
        let tell = |event| {
            if let Event::Output { stream, bytes, .. } = event {
                (self.tell)(Event::Output { vertex: index, stream, bytes });
            }
        };
        let inner = Build { graph: &graph, tell: &tell, depth: self.depth + 1, ..*self };
        let done = inner.run().map_err(|(_, problem)| problem)?;
        let output = match graph.result() {
            Some(edge) => done[edge.vertex][edge.output as usize].clone(),
            None => FileSystem::Layers(Layers::scratch().into()),
        };
        Ok(Outcome { outputs: vec![output], cached: false })
    }

    fn read_file(&self, from: &FileSystem, path: &Path) -> Result<Vec<u8>, Problem> {
        let layers = self.layers(from)?;
        let mounted = self.solver.snapshots.view(&self.snapshot(&layers)?)?;
        let root = Root::open(&mounted.path())?;
        let at = root.resolve(path, true)?;
        let is_file =
            |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !root.stat(&at)?.is_some_and(is_file) {
            return Err(Problem::Invalid(format!("a build op needs the file {path:?}")));
        }
        let mut bytes = Vec::new();
        let file = root.file(&at)?;
        file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(failed("read", &at))?;
        match bytes.len() as u64 > MAX_SIZE {
            true => Err(Problem::Invalid(format!("the file {path:?} of a build op is too large"))),
            false => Ok(bytes),
        }
    }
}
