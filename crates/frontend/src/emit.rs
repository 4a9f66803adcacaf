//! From steps to a graph.

use koskit_dockerfile::Dockerfile;
use koskit_llb::{Builder, Exec, FileOp, Local, Mount, Note, Platform, Source, State, pb};

use crate::evaluate::Evaluated;
use crate::plan::Plan;
use crate::step::{Document, Folder, From, Mounted, Step};
use crate::{Options, context};

/// The graph of the target.
pub(crate) fn emit(
    file: &Dockerfile,
    plan: &Plan<'_>,
    evaluated: &Evaluated,
    options: &Options,
) -> pb::Definition {
    let mut emitter = Emitter {
        builder: Builder::new(),
        options,
        context_paths: paths(&evaluated.context_paths),
        folders: &evaluated.folders,
        stages: Vec::new(),
    };
    emitter.builder.source_file(file.source.name(), "Dockerfile", file.source.text());
    for (planned, stage) in plan.stages.iter().zip(&evaluated.stages) {
        let Some(stage) = stage else {
            emitter.stages.push(None);
            continue;
        };
        let mut state = emitter.from(&stage.root);
        for step in &stage.steps {
            state = emitter.step(state, step, &planned.platform);
        }
        emitter.stages.push(state);
    }
    emitter.builder.definition(emitter.stages[plan.target])
}

/// Paths without the slash before them. Where the root is one of them, all is needed, which
/// no path at all stands for.
fn paths<'p>(paths: impl IntoIterator<Item = &'p String>) -> Vec<String> {
    let paths = paths.into_iter().map(|path| path.trim_start_matches('/').to_owned());
    let mut paths: Vec<String> = paths.collect();
    if paths.iter().any(String::is_empty) {
        paths.clear();
    }
    paths.sort();
    paths
}

struct Emitter<'a> {
    builder: Builder,
    options: &'a Options,
    context_paths: Vec<String>,
    folders: &'a [Folder],
    /// The results of the stages so far.
    stages: Vec<State>,
}

impl Emitter<'_> {
    fn step(&mut self, state: State, step: &Step, platform: &Platform) -> State {
        match step {
            Step::Run { exec, mounts, note } => {
                let mut exec = Exec::clone(exec);
                for mounted in mounts {
                    let source = self.mounted(mounted);
                    exec.mounts.push(Mount { source, ..mounted.mount.clone() });
                }
                self.builder.exec(state, platform, exec, note.clone())
            }
            Step::Copy { copies, note, link } => {
                let mut op = FileOp::new();
                for (from, copy) in copies {
                    op = op.copy(self.from(from), copy.clone());
                }
                match link {
                    None => self.builder.file(state, op, note.clone()),
                    Some(link) => {
                        let files = self.builder.file(None, op, note.clone());
                        self.builder.merge(&[state, files], link.clone())
                    }
                }
            }
            Step::Mkdir { path, owner, time, note } => {
                let mut op = FileOp::new().mkdir(path, 0o755, true, owner.clone());
                if let Some(time) = time {
                    op = op.at_time(*time);
                }
                self.builder.file(state, op, note.clone())
            }
        }
    }

    fn from(&mut self, from: &From) -> State {
        match from {
            From::Scratch => None,
            From::Context => context::main(&mut self.builder, self.options, &self.context_paths),
            From::Stage(index) => self.stages[*index],
            From::Source(source) => {
                let (source, note) = &**source;
                self.builder.source(source.clone(), note.clone())
            }
            From::Folder(index) => self.folder(&self.folders[*index]),
            // A graph that cannot be read was refused when it was met.
            From::Graph(definition) => self.builder.import(definition).unwrap_or_default(),
            From::Document(document) => self.document(document),
        }
    }

    fn folder(&mut self, folder: &Folder) -> State {
        let local = Local {
            name: folder.local.clone(),
            follow_paths: paths(&folder.paths),
            exclude_patterns: folder.ignore.clone(),
            shared_key_hint: format!("context:{}", folder.name),
            session: self.options.session.clone(),
            ..Local::default()
        };
        let note = Note::new(format!("[context {}] load from client", folder.name));
        self.builder.source(Source::Local(local), note)
    }

    fn document(&mut self, document: &Document) -> State {
        let op = FileOp::new().mkfile(&document.name, document.mode, document.data.clone(), None);
        self.builder.file(None, op, Note::new("[internal] preparing inline document"))
    }

    fn mounted(&mut self, mounted: &Mounted) -> State {
        let state = self.from(&mounted.from);
        let Some((mode, user, group)) = mounted.directory else { return state };
        let owner = koskit_llb::Owner::ids(user, group);
        let op = FileOp::new().mkdir("/cache", mode, false, Some(owner));
        self.builder.file(state, op, Note::new("[internal] setting cache mount permissions"))
    }
}
