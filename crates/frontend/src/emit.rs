//! From steps to a graph.

use koskit_dockerfile::Dockerfile;
use koskit_llb::{
    Builder, Exec, FileOp, Local, Mount, MountKind, Note, Platform, ResolveMode, Source, State, pb,
};

use crate::Options;
use crate::evaluate::Evaluated;
use crate::plan::Plan;
use crate::step::{DOCUMENTS, Document, From, Image, Root, Step};

/// The graph of the target.
pub(crate) fn emit(
    file: &Dockerfile,
    plan: &Plan<'_>,
    evaluated: &Evaluated,
    options: &Options,
) -> pb::Definition {
    let mut emitter = Emitter {
        builder: Builder::new(),
        context: context(evaluated, options),
        stages: Vec::new(),
    };
    emitter.builder.source_file(file.source.name(), "Dockerfile", file.source.text());
    for (planned, stage) in plan.stages.iter().zip(&evaluated.stages) {
        let Some(stage) = stage else {
            emitter.stages.push(None);
            continue;
        };
        let mut state = match &stage.root {
            Root::Scratch => None,
            Root::Stage(index) => emitter.stages[*index],
            Root::Image(image) => emitter.image(image),
        };
        for step in &stage.steps {
            state = emitter.step(state, step, &planned.platform);
        }
        emitter.stages.push(state);
    }
    emitter.builder.definition(emitter.stages[plan.target])
}

/// The build context, or what is needed of it.
fn context(evaluated: &Evaluated, options: &Options) -> Local {
    let mut paths: Vec<String> = evaluated
        .context_paths
        .iter()
        .map(|path| path.trim_start_matches('/').to_owned())
        .collect();
    // An empty path is the root of the context: all of it.
    if paths.iter().any(String::is_empty) {
        paths.clear();
    }
    paths.sort();
    Local {
        name: options.context.clone(),
        follow_paths: paths,
        exclude_patterns: options.ignore.clone(),
        shared_key_hint: options.context.clone(),
        ..Local::default()
    }
}

struct Emitter {
    builder: Builder,
    context: Local,
    /// The results of the stages so far.
    stages: Vec<State>,
}

impl Emitter {
    fn step(&mut self, state: State, step: &Step, platform: &Platform) -> State {
        match step {
            Step::Run { exec, document, note } => {
                let mut exec = Exec::clone(exec);
                if let Some(document) = document {
                    exec.mounts.push(Mount {
                        target: DOCUMENTS.into(),
                        source: self.document(document),
                        selector: "/".into(),
                        readonly: true,
                        kind: MountKind::Bind,
                    });
                }
                self.builder.exec(state, platform, exec, note.clone())
            }
            Step::Copy { from, copies, documents, note } => {
                let source = match from {
                    From::Context if copies.is_empty() => None,
                    From::Context => {
                        let name = Note::new("[internal] load build context");
                        self.builder.source(Source::Local(self.context.clone()), name)
                    }
                    From::Scratch => None,
                    From::Stage(index) => self.stages[*index],
                    From::Image(image) => self.image(image),
                };
                let mut op = FileOp::new();
                for copy in copies {
                    op = op.copy(source, copy.clone());
                }
                for (document, copy) in documents {
                    op = op.copy(self.document(document), copy.clone());
                }
                self.builder.file(state, op, note.clone())
            }
            Step::Mkdir { path, owner, note } => {
                let op = FileOp::new().mkdir(path, 0o755, true, owner.clone());
                self.builder.file(state, op, note.clone())
            }
        }
    }

    fn image(&mut self, image: &Image) -> State {
        let reference = image.reference.clone();
        let (platform, resolve) = (image.platform.clone(), ResolveMode::Default);
        let source = Source::Image { reference, platform, resolve };
        self.builder.source(source, image.note.clone())
    }

    fn document(&mut self, document: &Document) -> State {
        let op = FileOp::new().mkfile(&document.name, document.mode, document.data.clone(), None);
        self.builder.file(None, op, Note::new("[internal] preparing inline document"))
    }
}
