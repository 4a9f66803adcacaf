//! From instructions to steps: variables get their values, the config grows.

use std::collections::BTreeSet;

use koskit_dockerfile::{
    Command, CommandLine, Dockerfile, Environment, Expander, Instruction, Place, Word,
};
use koskit_llb::{Note, Platform, Reference, Source, path};

use crate::context::{self, Context, NamedContext};
use crate::images::Images;
use crate::name::{Names, uppercase};
use crate::outline::Taken;
use crate::plan::{self, Base, Origin, Plan, PlannedStage};
use crate::step::{Folder, From, Step};
use crate::variables::{self, Variables};
use crate::{Diagnostic, ImageConfig, Options, Result};

/// The steps of all stages that the target needs.
pub(crate) struct Evaluated {
    /// As [`Plan::stages`]; `None` are those that are not needed.
    pub stages: Vec<Option<Stage>>,
    /// What is copied from the main build context.
    pub context_paths: BTreeSet<String>,
    /// The named contexts that are folders, each as often as it is met.
    pub folders: Vec<Folder>,
    /// Build arguments that some ARG declares.
    pub used_args: BTreeSet<String>,
    /// The config of the target.
    pub config: ImageConfig,
}

/// The steps of one stage.
pub(crate) struct Stage {
    pub root: From,
    pub steps: Vec<Step>,
    /// Which folder it began with, if with one.
    folder: Option<usize>,
    /// How the world looks after them.
    end: State,
    /// What its instructions take from who builds.
    pub taken: Taken,
}

/// What later instructions of a stage, and stages that begin with it, take over.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// What is set for RUN and for expansion, by ENV and ARG.
    pub variables: Variables,
    /// The ARGs so far and what they had set.
    pub args: Vec<(String, Option<String>)>,
    pub image: ImageConfig,
}

/// Evaluates the stages that are needed. What is wrong with them is added to `diagnostics`.
pub(crate) fn evaluate(
    file: &Dockerfile,
    plan: &Plan<'_>,
    options: &Options,
    images: &mut Images<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Evaluated {
    let mut out = Evaluated {
        stages: Vec::new(),
        context_paths: BTreeSet::new(),
        folders: Vec::new(),
        used_args: file.args.iter().flat_map(arg_names).map(str::to_owned).collect(),
        config: ImageConfig::scratch(),
    };
    for (index, planned) in plan.stages.iter().enumerate() {
        if !planned.needed {
            out.stages.push(None);
            continue;
        }
        let mut names = names(plan, index, options);
        let (root, state) = begin(planned, options, &mut names, &mut out);
        let folder = match &root {
            From::Folder(folder) => Some(*folder),
            From::Stage(base) => out.stages[*base].as_ref().and_then(|stage| stage.folder),
            _ => None,
        };
        // The FROM was counted without what its image wants done.
        names.grow(planned.triggers.len());
        let mut evaluator = Evaluator {
            plan,
            options,
            images,
            index,
            expander: Expander::new(file.escape),
            state,
            names,
            triggered: true,
            cmd_set: false,
            steps: Vec::new(),
            taken: Taken::default(),
            out: &mut out,
            folder,
        };
        for trigger in &planned.triggers {
            if let Err(mut diagnostic) = evaluator.instruction(trigger) {
                // Its places are in a text that nobody sees.
                diagnostic.span = trigger.place.span;
                let hint = format!("the base has ONBUILD {}", trigger.place.original);
                diagnostics.push(diagnostic.hint(hint));
            }
        }
        evaluator.triggered = false;
        let own = if planned.replaced { &[] } else { planned.stage.instructions.as_slice() };
        for instruction in own {
            if let Err(diagnostic) = evaluator.instruction(instruction) {
                diagnostics.push(*diagnostic);
            }
        }
        let Evaluator { state: end, steps, taken, .. } = evaluator;
        if index == plan.target {
            out.config = end.image.clone();
            out.need(folder, "/");
        }
        out.stages.push(Some(Stage { root, steps, folder, end, taken }));
    }
    out
}

impl Evaluated {
    /// Notes that a path of a folder is needed.
    fn need(&mut self, folder: Option<usize>, path: &str) {
        if let Some(folder) = folder {
            self.folders[folder].paths.insert(path::clean_absolute(path));
        }
    }

    /// A named context where it is met.
    fn named(&mut self, named: &NamedContext, platform: &Platform, options: &Options) -> From {
        let NamedContext { name, short, context } = named;
        let source = |source, note| From::Source(Box::new((source, note)));
        match context {
            Context::Local { name: local, ignore } => {
                let (local, name, ignore) = (local.clone(), name.clone(), ignore.clone());
                self.folders.push(Folder { local, name, ignore, paths: BTreeSet::new() });
                From::Folder(self.folders.len() - 1)
            }
            Context::Scratch => From::Scratch,
            Context::Image(reference) => {
                let note = Note::new(format!("[context {name}] {}", reference.familiar()));
                let (reference, platform) = (reference.clone().tagged(), platform.clone());
                source(Source::Image { reference, platform, resolve: Default::default() }, note)
            }
            Context::Git { url, text } => {
                source(Source::Git(context::git(url, false)), context::git_note(text))
            }
            Context::Http { url, .. } => {
                let note = Note::new(format!("[context {name}] {url}"));
                source(
                    Source::Http(koskit_llb::Http { url: url.clone(), ..Default::default() }),
                    note,
                )
            }
            Context::OciLayout { store, digest } => {
                let session = options.session.clone();
                let layout = context::layout(short, store, digest, platform, session);
                let note = Note::new(format!("[context {name}] OCI load from client"));
                source(Source::OciLayout(layout), note)
            }
            Context::Graph { definition, .. } => From::Graph(Box::new(definition.clone())),
        }
    }
}

fn arg_names(instruction: &Instruction) -> impl Iterator<Item = &str> {
    let variables = match &instruction.command {
        Command::Arg(variables) => variables.as_slice(),
        _ => &[],
    };
    variables.iter().map(|v| v.name.text.as_str())
}

/// How the steps of a stage are called and counted.
fn names(plan: &Plan<'_>, index: usize, options: &Options) -> Names {
    let planned = &plan.stages[index];
    let own = || planned.stage.instructions.iter();
    let base = usize::from(matches!(planned.base, Base::Image(_) | Base::Context(_)));
    let steps = own().filter(|i| {
        let command = &i.command;
        matches!(
            command,
            Command::Add(_) | Command::Copy(_) | Command::Run(_) | Command::Workdir(_)
        )
    });
    // The name of a stage is of no use where there is nothing else.
    let foreign = |origin| !matches!(origin, Ok(Origin::Stage(_)) | Err(_));
    let mut origins = own().flat_map(|i| plan.origins(&i.command, index, options));
    let alone = plan.stages.len() == 1 && !origins.any(foreign);
    let stage = match &planned.stage.name {
        _ if alone => String::new(),
        Some(name) => name.text.clone(),
        None => format!("stage-{index}"),
    };
    let total = match planned.replaced {
        true => 0,
        false => base + steps.count(),
    };
    Names::new(stage, options.multi_platform.then(|| planned.platform.clone()), total)
}

/// What a stage begins with.
fn begin(
    planned: &PlannedStage<'_>,
    options: &Options,
    names: &mut Names,
    out: &mut Evaluated,
) -> (From, State) {
    let config = planned.config.as_ref();
    match (&planned.base, &planned.digest) {
        (Base::Stage(base), _) => {
            let end = &out.stages[*base].as_ref().expect("a base is evaluated first").end;
            (From::Stage(*base), State::new_on(end))
        }
        (Base::Context(named), _) if planned.replaced => {
            let image = config.map(|c| ImageConfig { created: None, ..c.clone() });
            let state = State::replaced(image.unwrap_or_default());
            (out.named(named, &planned.platform, options), state)
        }
        (Base::Context(named), _) => {
            let image = config.map_or_else(ImageConfig::scratch, ImageConfig::inherit);
            (out.named(named, &planned.platform, options), State::new(image))
        }
        (Base::Image(name), Some(digest)) => {
            let config = config.expect("an image that was found has a configuration");
            let reference = name.clone().with_digest(digest.clone());
            let state = State::new(config.inherit());
            if !config.has_layers() {
                return (From::Scratch, state);
            }
            let none = Variables::default();
            let note = Note {
                name: names.next(&format!("FROM {reference}"), &none),
                command: Some(planned.stage.place.original.clone()),
                lines: Some(planned.stage.place.lines),
                ..Note::default()
            };
            (image(reference, planned.platform.clone(), note, options), state)
        }
        // An image that was not found is an error already.
        (Base::Scratch | Base::Image(_), _) => (From::Scratch, State::new(ImageConfig::scratch())),
    }
}

fn image(reference: Reference, platform: Platform, note: Note, options: &Options) -> From {
    let source = Source::Image { reference, platform, resolve: options.resolve };
    From::Source(Box::new((source, note)))
}

impl State {
    fn new(image: ImageConfig) -> Self {
        let mut state = Self { variables: Variables::default(), args: Vec::new(), image };
        state.settle();
        state
    }

    /// A stage on top of another.
    fn new_on(base: &State) -> Self {
        let mut state = base.clone();
        state.settle();
        state
    }

    /// A stage that a context stands for, as it is.
    fn replaced(image: ImageConfig) -> Self {
        let mut state = Self { variables: Variables::default(), args: Vec::new(), image };
        state.import_env();
        state
    }

    /// What an image says becomes what holds for the instructions on top of it.
    fn settle(&mut self) {
        // What ONBUILDs of the base say is done in this stage, and not in the next one.
        self.image.config.on_build.clear();
        self.image.ensure_path();
        self.import_env();
    }

    fn import_env(&mut self) {
        for entry in &self.image.config.env {
            let (name, value) = variables::split(entry);
            self.variables.set(name, value);
        }
    }

    /// The working directory.
    pub fn workdir(&self) -> &str {
        let path = &self.image.config.working_dir;
        if path.is_empty() { "/" } else { path }
    }
}

/// Evaluates the instructions of one stage. What each of them does is in `instructions`.
pub(crate) struct Evaluator<'a, 'i> {
    pub plan: &'a Plan<'a>,
    pub options: &'a Options,
    images: &'a mut Images<'i>,
    pub index: usize,
    pub expander: Expander,
    pub state: State,
    names: Names,
    /// Whether the instruction is an ONBUILD of the base.
    triggered: bool,
    /// Whether this stage has a CMD, which an ENTRYPOINT then leaves alone.
    pub cmd_set: bool,
    pub steps: Vec<Step>,
    pub taken: Taken,
    pub out: &'a mut Evaluated,
    /// The folder that this stage began with, if with one.
    folder: Option<usize>,
}

impl Evaluator<'_, '_> {
    /// Puts the values of variables into a word.
    pub fn expand(&self, word: &Word) -> Result<String> {
        plan::expand(&self.expander, word, &self.state.variables)
    }

    /// The note of a step that an instruction makes. It is called as the instruction, with
    /// the values of variables.
    pub fn step(&mut self, place: &Place) -> Note {
        let expanded = self.expander.word(&place.original, &self.state.variables);
        let name = expanded.unwrap_or_else(|_| place.original.clone());
        Note { name: self.name(&name), lines: Some(place.lines), ..Note::default() }
    }

    /// The same for a command: what is not set is the shell's business, and quotes stay.
    pub fn run_step(&mut self, place: &Place, text: &str, variables: &dyn Environment) -> Note {
        let expander = Expander { raw_quotes: true, keep_unset: true, ..self.expander };
        let expanded = expander.word(text, variables);
        Note {
            name: self.name(&expanded.unwrap_or_else(|_| text.to_owned())),
            command: Some(place.original.clone()),
            lines: Some(place.lines),
            ignore_cache: self.ignore_cache(),
            ..Note::default()
        }
    }

    fn name(&mut self, text: &str) -> String {
        let text = self.titled(&uppercase(text));
        self.names.next(&text, &self.state.variables)
    }

    /// The name of another part of the next step.
    pub fn part(&self, place: &Place, prefix: &str) -> String {
        let expanded = self.expander.word(&place.original, &self.state.variables);
        let name = expanded.unwrap_or_else(|_| place.original.clone());
        let text = self.titled(&format!("{prefix}{}", uppercase(&name)));
        self.names.same(&text, &self.state.variables)
    }

    fn titled(&self, text: &str) -> String {
        if self.triggered { format!("ONBUILD {text}") } else { text.to_owned() }
    }

    /// Whether the steps of this stage are to be run even if their results are known.
    pub fn ignore_cache(&self) -> bool {
        let stage = &self.plan.stages[self.index].stage.name;
        let named = |name: &String| match stage {
            Some(stage) => stage.text.eq_ignore_ascii_case(name),
            None => name.is_empty(),
        };
        self.options.no_cache || self.options.no_cache_filter.iter().any(named)
    }

    /// A command as the kernel gets it.
    pub fn command_line(&self, line: &CommandLine) -> Vec<String> {
        match line {
            CommandLine::Exec(words) => words.iter().map(|w| w.text.clone()).collect(),
            CommandLine::Shell(word) => self.in_shell(&word.text),
        }
    }

    /// A command for the shell.
    pub fn in_shell(&self, text: &str) -> Vec<String> {
        let mut args = self.state.image.config.shell.clone();
        if args.is_empty() {
            args = ["/bin/sh", "-c"].map(str::to_owned).into();
        }
        args.push(text.to_owned());
        args
    }

    /// The file system that something stands for; `word` is where it is named, and `lines`
    /// are those that an image is put down to.
    pub fn from(
        &mut self,
        origin: Origin,
        word: &Word,
        lines: Option<(usize, usize)>,
    ) -> Result<From> {
        let platform = self.options.target_platform.clone();
        Ok(match origin {
            Origin::Context => From::Context,
            Origin::Scratch => From::Scratch,
            Origin::Stage(index) => From::Stage(index),
            Origin::Named(named) => {
                plan::load(&named.context, &platform, word, self.images)?;
                self.out.named(&named, &platform, self.options)
            }
            Origin::Image(name) => {
                let found = self.images.get(&name, &platform, word)?;
                if !found.config.has_layers() {
                    return Ok(From::Scratch);
                }
                let reference = name.with_digest(found.digest);
                let command = Some(String::new());
                let note = Note { command, lines, ..Note::new(format!("FROM {reference}")) };
                image(reference, platform, note, self.options)
            }
        })
    }

    /// Notes that a path of a file system is needed.
    pub fn need(&mut self, from: &From, path: &str) {
        match from {
            From::Context => {
                self.out.context_paths.insert(path::clean_absolute(path));
            }
            From::Folder(folder) => self.out.need(Some(*folder), path),
            From::Stage(index) => {
                let folder = self.out.stages[*index].as_ref().and_then(|stage| stage.folder);
                self.out.need(folder, path);
            }
            _ => {}
        }
    }

    /// Notes that all of what this stage began with is needed.
    pub fn need_own(&mut self) {
        self.out.need(self.folder, "/");
    }
}
