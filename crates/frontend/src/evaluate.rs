//! From instructions to steps: variables get their values, the config grows.

use std::collections::{BTreeMap, BTreeSet};

use koskit_dockerfile::{
    Command, CommandLine, Diagnostic, Dockerfile, Environment, Expander, Instruction, Pair, Place,
    Variable, Word, go_quote, nearest,
};
use koskit_llb::{Note, Owner, Platform, Reference, path};

use crate::config::Config;
use crate::name::{Names, uppercase};
use crate::plan::{self, Base, Origin, Plan};
use crate::step::{From, Image, Root, Step};
use crate::variables::{self, Variables};
use crate::{BaseImage, ImageResolver, Options, Result, copy, ports, run};

/// The steps of all stages that the target needs.
pub(crate) struct Evaluated {
    /// As [`Plan::stages`]; `None` are those that are not needed.
    pub stages: Vec<Option<Stage>>,
    /// What is copied from the build context.
    pub context_paths: BTreeSet<String>,
    /// Build arguments that some ARG declares.
    pub used_args: BTreeSet<String>,
    /// The config of the target.
    pub config: Config,
}

/// The steps of one stage.
pub(crate) struct Stage {
    pub root: Root,
    pub steps: Vec<Step>,
    /// How the world looks after them.
    end: State,
}

impl Stage {
    /// What its steps run on.
    pub fn platform(&self) -> &Platform {
        &self.end.platform
    }
}

/// What later instructions of a stage, and of those that begin with it, take over.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub platform: Platform,
    /// What is set for RUN and for expansion, by ENV and ARG.
    pub variables: Variables,
    /// The ARGs so far, each with the value that it had.
    pub args: Vec<(String, Option<String>)>,
    pub config: Config,
}

/// Evaluates the stages that are needed. What is wrong with them is added to `diagnostics`.
pub(crate) fn evaluate(
    file: &Dockerfile,
    plan: &Plan<'_>,
    options: &Options,
    resolver: &dyn ImageResolver,
    diagnostics: &mut Vec<Diagnostic>,
) -> Evaluated {
    let mut images = Images { plan, resolver, known: BTreeMap::new() };
    let mut out = Evaluated {
        stages: Vec::new(),
        context_paths: BTreeSet::new(),
        used_args: file.args.iter().flat_map(arg_names).map(str::to_owned).collect(),
        config: Config::scratch(),
    };
    for (index, planned) in plan.stages.iter().enumerate() {
        if !planned.needed {
            out.stages.push(None);
            continue;
        }
        let mut names = names(plan, index);
        let begin = begin(plan, index, options, &mut images, &mut names, &out.stages);
        let (root, state) = begin.unwrap_or_else(|diagnostic| {
            diagnostics.push(*diagnostic);
            let platform = options.target_platform.clone();
            (Root::Scratch, State::new(platform, Config::scratch()))
        });
        let mut evaluator = Evaluator {
            plan,
            options,
            images: &mut images,
            index,
            expander: Expander::new(file.escape),
            state,
            names,
            cmd_set: false,
            steps: Vec::new(),
            context_paths: &mut out.context_paths,
            used_args: &mut out.used_args,
        };
        for instruction in &planned.stage.instructions {
            if let Err(diagnostic) = evaluator.instruction(instruction) {
                diagnostics.push(*diagnostic);
            }
        }
        let Evaluator { state: end, steps, .. } = evaluator;
        if index == plan.target {
            out.config = end.config.clone();
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
    let own = matches!(planned.base, Base::Image(_));
    let steps =
        planned.stage.instructions.iter().filter(|i| {
            matches!(i.command, Command::Copy(_) | Command::Run(_) | Command::Workdir(_))
        });
    let total = usize::from(own) + steps.count();
    // The name of a stage is of no use where there is nothing else.
    let foreign = |i: &Instruction| match &i.command {
        Command::Copy(copy) => {
            matches!(plan.origin(copy, index), Ok(Origin::Image(_) | Origin::Scratch))
        }
        _ => false,
    };
    let alone = plan.stages.len() == 1 && !planned.stage.instructions.iter().any(foreign);
    let stage = match &planned.stage.name {
        _ if alone => String::new(),
        Some(name) => name.text.clone(),
        None => format!("stage-{index}"),
    };
    Names::new(stage, total)
}

/// What a stage begins with.
fn begin(
    plan: &Plan<'_>,
    index: usize,
    options: &Options,
    images: &mut Images<'_>,
    names: &mut Names,
    done: &[Option<Stage>],
) -> Result<(Root, State)> {
    let planned = &plan.stages[index];
    Ok(match &planned.base {
        Base::Scratch => {
            let platform = options.target_platform.clone();
            (Root::Scratch, State::new(platform, Config::scratch()))
        }
        Base::Stage(base) => {
            let end = &done[*base].as_ref().expect("a base is evaluated before its user").end;
            (Root::Stage(*base), State::new_on(end))
        }
        Base::Image(name) => {
            let platform = planned.platform.as_ref().unwrap_or(&options.target_platform);
            let image = images.get(name, platform, &planned.stage.base)?;
            let config = Config::of(&image.config);
            let has_layers = has_layers(&image);
            let reference = name.clone().with_digest(image.digest);
            let note = Note {
                name: names.next(&format!("FROM {reference}")),
                command: Some(planned.stage.place.original.clone()),
                lines: Some(planned.stage.place.lines),
                ignore_cache: false,
            };
            let root = match has_layers {
                true => {
                    Root::Image(Box::new(Image { reference, platform: platform.clone(), note }))
                }
                false => Root::Scratch,
            };
            (root, State::new(platform.clone(), config))
        }
    })
}

/// An image may be a config and nothing else.
fn has_layers(image: &BaseImage) -> bool {
    let changes = |h: &oci_spec::image::History| !h.empty_layer().unwrap_or_default();
    !image.config.rootfs().diff_ids().is_empty()
        || image.config.history().iter().flatten().any(changes)
}

impl State {
    fn new(platform: Platform, config: Config) -> Self {
        let mut state =
            Self { platform, variables: Variables::default(), args: Vec::new(), config };
        state.take_environment();
        state
    }

    /// A stage on top of another.
    fn new_on(base: &State) -> Self {
        let mut state = base.clone();
        state.take_environment();
        state
    }

    fn take_environment(&mut self) {
        for entry in &self.config.env {
            let (name, value) = variables::split(entry);
            self.variables.set(name, value);
        }
    }

    pub fn workdir(&self) -> &str {
        if self.config.workdir.is_empty() { "/" } else { &self.config.workdir }
    }
}

/// Images that were asked for.
pub(crate) struct Images<'a> {
    plan: &'a Plan<'a>,
    resolver: &'a dyn ImageResolver,
    known: BTreeMap<(Reference, Platform), BaseImage>,
}

impl Images<'_> {
    fn get(&mut self, name: &Reference, platform: &Platform, word: &Word) -> Result<BaseImage> {
        let key = (name.clone(), platform.clone());
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let image = self.resolver.resolve(name, platform).map_err(|error| {
            let text = chain(&*error);
            let diagnostic =
                Diagnostic::error(word.span, text).label(format!("needed for {platform}"));
            let stages = self.plan.names();
            Box::new(match nearest(&word.text, stages.iter().map(String::as_str)) {
                Some(near) => diagnostic.hint(format!("did you mean the stage {near}?")),
                None => diagnostic,
            })
        })?;
        self.known.insert(key, image.clone());
        Ok(image)
    }
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Evaluates the instructions of one stage.
pub(crate) struct Evaluator<'a, 'i> {
    plan: &'a Plan<'a>,
    pub options: &'a Options,
    images: &'a mut Images<'i>,
    index: usize,
    expander: Expander,
    pub state: State,
    names: Names,
    /// Whether this stage has a CMD, which an ENTRYPOINT then leaves alone.
    cmd_set: bool,
    pub steps: Vec<Step>,
    pub context_paths: &'a mut BTreeSet<String>,
    used_args: &'a mut BTreeSet<String>,
}

impl Evaluator<'_, '_> {
    fn instruction(&mut self, instruction: &Instruction) -> Result<()> {
        let place = &instruction.place;
        match &instruction.command {
            Command::Arg(variables) => self.arg(variables),
            Command::Cmd(line) => {
                self.cmd_set = true;
                let args = self.command_line(line);
                self.note(format!("CMD {}", quoted(&args)));
                self.state.config.cmd = Some(args);
                Ok(())
            }
            Command::Copy(copy) => copy::evaluate(self, copy, place),
            Command::Entrypoint(line) => {
                let args = self.command_line(line);
                self.note(format!("ENTRYPOINT {}", quoted(&args)));
                self.state.config.entrypoint = Some(args).filter(|args| !args.is_empty());
                if !self.cmd_set {
                    self.state.config.cmd = None;
                }
                Ok(())
            }
            Command::Env(pairs) => {
                let pairs = self.pairs(pairs)?;
                for (name, value) in &pairs {
                    self.state.variables.set(name, value);
                    self.state.config.set_env(name, value);
                }
                self.note(format!("ENV{}", joined(&pairs)));
                Ok(())
            }
            Command::Expose(words) => self.expose(words),
            Command::Label(pairs) => {
                let pairs = self.pairs(pairs)?;
                self.note(format!("LABEL{}", joined(&pairs)));
                self.state.config.labels.extend(pairs);
                Ok(())
            }
            Command::Maintainer(name) => {
                self.note(format!("MAINTAINER {}", name.text));
                self.state.config.author = Some(name.text.clone());
                Ok(())
            }
            Command::Run(run) => run::evaluate(self, run, place),
            Command::StopSignal(word) => self.stop_signal(word),
            Command::User(word) => {
                let user = self.expand(word)?;
                self.note(format!("USER {user}"));
                self.state.config.user = user;
                Ok(())
            }
            Command::Volume(words) => {
                let paths = words.iter().map(|w| self.expand(w)).collect::<Result<Vec<_>>>()?;
                if let Some(empty) = paths.iter().position(String::is_empty) {
                    let span = words[empty].span;
                    return Err(Box::new(Diagnostic::error(span, "a volume has no path")));
                }
                self.note(format!("VOLUME [{}]", paths.join(" ")));
                self.state.config.volumes.extend(paths);
                Ok(())
            }
            Command::Workdir(word) => self.workdir(word, place),
        }
    }

    /// A note in the history for what changes no files.
    fn note(&mut self, text: String) {
        self.state.config.note(text, false);
    }

    /// Puts the values of variables into a word.
    pub fn expand(&self, word: &Word) -> Result<String> {
        plan::expand(&self.expander, word, &self.state.variables)
    }

    fn pairs(&self, pairs: &[Pair]) -> Result<Vec<(String, String)>> {
        // All values are those from before the instruction.
        pairs.iter().map(|p| Ok((self.expand(&p.name)?, self.expand(&p.value)?))).collect()
    }

    /// What a step is called: its instruction with the values of variables.
    pub fn step(&mut self, place: &Place) -> String {
        let expanded = self.expander.word(&place.original, &self.state.variables);
        self.names.next(&uppercase(&expanded.unwrap_or_else(|_| place.original.clone())))
    }

    /// The same for a command of the shell: what is not set is the shell's, and quotes stay.
    pub fn run_step(&mut self, text: String) -> String {
        let expander = Expander { raw_quotes: true, keep_unset: true, ..self.expander };
        let expanded = expander.word(&text, &self.state.variables);
        self.names.next(&uppercase(&expanded.unwrap_or(text)))
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
        ["/bin/sh", "-c", text].map(str::to_owned).into()
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
                if !has_layers(&image) {
                    return Ok(From::Scratch);
                }
                let reference = name.with_digest(image.digest);
                let note = Note::new(format!("FROM {reference}"));
                From::Image(Box::new(Image { reference, platform, note }))
            }
        })
    }

    fn arg(&mut self, variables: &[Variable]) -> Result<()> {
        let mut words = vec!["ARG".to_owned()];
        for variable in variables {
            let name = &variable.name.text;
            let value = match (self.options.build_args.get(name), &variable.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.plan.globals.get(name).map(str::to_owned),
            };
            self.used_args.insert(name.clone());
            words.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            if let Some(value) = &value {
                self.state.variables.set(name, value);
            }
            self.state.args.push((name.clone(), value));
        }
        self.note(words.join(" "));
        Ok(())
    }

    fn expose(&mut self, words: &[Word]) -> Result<()> {
        let mut sorted: Vec<_> = words.iter().collect();
        sorted.sort_by(|a, b| a.text.cmp(&b.text));
        let mut all = Vec::new();
        for word in sorted {
            let error = |text: String| Box::new(Diagnostic::error(word.span, text));
            let texts = self.expander.words(&word.text, &self.state.variables);
            for text in texts.map_err(|e| error(e.to_string()))? {
                all.extend(ports::parse(&text).map_err(error)?);
            }
        }
        self.note(format!("EXPOSE [{}]", all.join(" ")));
        self.state.config.ports.extend(all);
        Ok(())
    }

    fn stop_signal(&mut self, word: &Word) -> Result<()> {
        let signal = self.expand(word)?;
        if !is_signal(&signal) {
            return Err(Box::new(
                Diagnostic::error(word.span, format!("there is no signal {signal:?}"))
                    .label("expected a signal of Linux, such as SIGTERM or 15"),
            ));
        }
        self.note(format!("STOPSIGNAL {signal}"));
        self.state.config.stop_signal = Some(signal);
        Ok(())
    }

    fn workdir(&mut self, word: &Word, place: &Place) -> Result<()> {
        let path = self.expand(word)?;
        let path =
            if path.starts_with('/') { path } else { path::join(self.state.workdir(), &path) };
        self.state.config.workdir.clone_from(&path);
        // The directory `/` is there without a step.
        let makes = path != "/";
        if makes {
            let owner = Some(&self.state.config.user).filter(|user| !user.is_empty());
            let owner = owner.map(|user| Owner::parse(user));
            let name = self.step(place);
            let note = Note { name, lines: Some(place.lines), ..Note::default() };
            self.steps.push(Step::Mkdir { path: path.clone(), owner, note });
        }
        self.state.config.note(format!("WORKDIR {path}"), makes);
        Ok(())
    }
}

fn quoted(args: &[String]) -> String {
    let args: Vec<_> = args.iter().map(|arg| go_quote(arg)).collect();
    format!("[{}]", args.join(" "))
}

fn joined(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!(" {name}={value}")).collect()
}

fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 34] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT",
        "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM",
        "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = |text: &str, last: u8| text.parse::<u8>().is_ok_and(|n| (1..=last).contains(&n));
    NAMES.contains(&name)
        || matches!(name, "RTMIN" | "RTMAX")
        || name.strip_prefix("RTMIN+").is_some_and(|n| number(n, 15))
        || name.strip_prefix("RTMAX-").is_some_and(|n| number(n, 14))
}
