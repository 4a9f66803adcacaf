//! From instructions to steps: variables get their values, the config grows.

use std::collections::BTreeSet;

use koskit_dockerfile::{Command, CommandLine, Dockerfile, Expander, Instruction, Place, Word};
use koskit_llb::Note;

use crate::images::Images;
use crate::name::{Names, uppercase};
use crate::plan::{self, Base, Origin, Plan, PlannedStage};
use crate::step::{From, Image, Root, Step};
use crate::variables::{self, Variables};
use crate::{Diagnostic, ImageConfig, Options, Result};

/// The steps of all stages that the target needs.
pub(crate) struct Evaluated {
    /// As [`Plan::stages`]; `None` are those that are not needed.
    pub stages: Vec<Option<Stage>>,
    /// What is copied from the build context.
    pub context_paths: BTreeSet<String>,
    /// Build arguments that some ARG declares.
    pub used_args: BTreeSet<String>,
    /// The config of the target.
    pub config: ImageConfig,
}

/// The steps of one stage.
pub(crate) struct Stage {
    pub root: Root,
    pub steps: Vec<Step>,
    /// How the world looks after them.
    end: State,
}

/// What later instructions of a stage, and stages that begin with it, take over.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// What is set for RUN and for expansion, by ENV and ARG.
    pub variables: Variables,
    /// The names of the ARGs so far.
    pub args: Vec<String>,
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
        used_args: file.args.iter().flat_map(arg_names).map(str::to_owned).collect(),
        config: ImageConfig::scratch(),
    };
    for (index, planned) in plan.stages.iter().enumerate() {
        if !planned.needed {
            out.stages.push(None);
            continue;
        }
        let mut names = names(plan, index);
        let (root, state) = begin(planned, &mut names, &out.stages);
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
            context_paths: &mut out.context_paths,
            used_args: &mut out.used_args,
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
        for instruction in &planned.stage.instructions {
            if let Err(diagnostic) = evaluator.instruction(instruction) {
                diagnostics.push(*diagnostic);
            }
        }
        let Evaluator { state: end, steps, .. } = evaluator;
        if index == plan.target {
            out.config = end.image.clone();
        }
        out.stages.push(Some(Stage { root, steps, end }));
    }
    out
}

fn arg_names(instruction: &Instruction) -> impl Iterator<Item = &str> {
    let variables = match &instruction.command {
        Command::Arg(variables) => variables.as_slice(),
        _ => &[],
    };
    variables.iter().map(|v| v.name.text.as_str())
}

/// How the steps of a stage are called and counted.
fn names(plan: &Plan<'_>, index: usize) -> Names {
    let planned = &plan.stages[index];
    let instructions = || planned.triggers.iter().chain(&planned.stage.instructions);
    let own = usize::from(matches!(planned.base, Base::Image(_)));
    let steps = instructions()
        .filter(|i| matches!(i.command, Command::Copy(_) | Command::Run(_) | Command::Workdir(_)));
    // The name of a stage is of no use where there is nothing else.
    let foreign = |i: &Instruction| match &i.command {
        Command::Copy(copy) => {
            matches!(plan.origin(copy, index), Ok(Origin::Image(_) | Origin::Scratch))
        }
        _ => false,
    };
    let alone = plan.stages.len() == 1 && !instructions().any(foreign);
    let stage = match &planned.stage.name {
        _ if alone => String::new(),
        Some(name) => name.text.clone(),
        None => format!("stage-{index}"),
    };
    Names::new(stage, own + steps.count())
}

/// What a stage begins with.
fn begin(planned: &PlannedStage<'_>, names: &mut Names, done: &[Option<Stage>]) -> (Root, State) {
    match (&planned.base, &planned.image) {
        (Base::Stage(base), _) => {
            let end = &done[*base].as_ref().expect("a base is evaluated before its user").end;
            (Root::Stage(*base), State::new_on(end))
        }
        (Base::Image(name), Some(image)) => {
            let reference = name.clone().with_digest(image.digest.clone());
            let note = Note {
                name: names.next(&format!("FROM {reference}")),
                command: Some(planned.stage.place.original.clone()),
                lines: Some(planned.stage.place.lines),
                ..Note::default()
            };
            let platform = planned.platform.clone();
            let root = match image.config.has_layers() {
                true => Root::Image(Box::new(Image { reference, platform, note })),
                false => Root::Scratch,
            };
            (root, State::new(image.config.inherit()))
        }
        // An image that was not found is an error already.
        (Base::Scratch | Base::Image(_), _) => (Root::Scratch, State::new(ImageConfig::scratch())),
    }
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

    /// What an image says becomes what holds for the instructions on top of it.
    fn settle(&mut self) {
        // What ONBUILDs of the base say is done in this stage, and not in the next one.
        self.image.config.on_build.clear();
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
    index: usize,
    pub expander: Expander,
    pub state: State,
    names: Names,
    /// Whether the instruction is an ONBUILD of the base.
    triggered: bool,
    /// Whether this stage has a CMD, which an ENTRYPOINT then leaves alone.
    pub cmd_set: bool,
    pub steps: Vec<Step>,
    pub context_paths: &'a mut BTreeSet<String>,
    pub used_args: &'a mut BTreeSet<String>,
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
    pub fn run_step(&mut self, place: &Place, text: &str) -> Note {
        let expander = Expander { raw_quotes: true, keep_unset: true, ..self.expander };
        let expanded = expander.word(text, &self.state.variables);
        let name = self.name(&expanded.unwrap_or_else(|_| text.to_owned()));
        let command = Some(place.original.clone());
        Note {
            name,
            command,
            lines: Some(place.lines),
            ignore_cache: self.options.no_cache,
            ..Note::default()
        }
    }

    fn name(&mut self, text: &str) -> String {
        let text = uppercase(text);
        self.names.next(&if self.triggered { format!("ONBUILD {text}") } else { text })
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

    /// The file system that a COPY takes files from.
    pub fn origin(&mut self, copy: &koskit_dockerfile::Copy) -> Result<From> {
        Ok(match self.plan.origin(copy, self.index)? {
            Origin::Context => From::Context,
            Origin::Scratch => From::Scratch,
            Origin::Stage(index) => From::Stage(index),
            Origin::Image(name) => {
                let platform = self.options.target_platform.clone();
                let word = copy.from.as_ref().unwrap_or(&copy.destination);
                let image = self.images.get(&name, &platform, word)?;
                if !image.config.has_layers() {
                    return Ok(From::Scratch);
                }
                let reference = name.with_digest(image.digest);
                let note = Note::new(format!("FROM {reference}"));
                From::Image(Box::new(Image { reference, platform, note }))
            }
        })
    }
}
