//! Which stages there are, what each begins with, and which of them the target needs.

use std::collections::{BTreeMap, BTreeSet};

use koskit_dockerfile::{
    Command, Copy, Diagnostic, Dockerfile, Empty, Environment, Expander, Instruction, Mount, Stage,
    Word, nearest,
};
use koskit_llb::{Digest, Platform, Reference};

use crate::context::{self, Context, NamedContext};
use crate::images::Images;
use crate::outline::Declared;
use crate::variables::{self, Variables};
use crate::{FrontendError, ImageConfig, Options, Result};

/// The stages of a file with their bases.
pub(crate) struct Plan<'a> {
    /// The ARGs before the first FROM and the predefined ones.
    pub globals: Variables,
    /// What is to be told of the ARGs before the first FROM.
    pub args: BTreeMap<String, Declared>,
    /// In the order of the file.
    pub stages: Vec<PlannedStage<'a>>,
    /// Which stage is built.
    pub target: usize,
}

/// A stage whose base is known.
pub(crate) struct PlannedStage<'a> {
    pub stage: &'a Stage,
    pub base: Base,
    /// What its steps run on.
    pub platform: Platform,
    /// Whether the target needs it.
    pub needed: bool,
    /// Whether the base stands for the stage itself, whose instructions are not done then.
    pub replaced: bool,
    /// The digest of its base, if that is an image that was found.
    pub digest: Option<Digest>,
    /// The configuration of its base, if it has one.
    pub config: Option<ImageConfig>,
    /// What the ONBUILDs of its base say; done before its own instructions.
    pub triggers: Vec<Instruction>,
    /// The variables that its FROM takes.
    pub variables: BTreeSet<String>,
}

/// What a stage begins with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Base {
    Scratch,
    /// A stage before it.
    Stage(usize),
    Image(Reference),
    Context(NamedContext),
}

/// Where files are copied from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Origin {
    /// The main context.
    Context,
    Scratch,
    Stage(usize),
    Image(Reference),
    Named(NamedContext),
}

impl<'a> Plan<'a> {
    pub fn new(
        file: &'a Dockerfile,
        options: &Options,
        images: &mut Images<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> std::result::Result<Self, FrontendError> {
        let last = file.stages.last().and_then(|s| s.name.as_ref());
        let target = options.target.as_deref().or(last.map(|name| name.text.as_str()));
        let predefined = variables::predefined(
            &options.build_platform,
            &options.target_platform,
            target,
            &options.build_args,
        );
        let (globals, args) = globals(file, options, predefined, diagnostics);
        let mut plan = Self { globals, args, stages: Vec::new(), target: 0 };
        for stage in &file.stages {
            let mut planned = plan.stage(stage, file.escape, options).unwrap_or_else(|error| {
                diagnostics.push(*error);
                PlannedStage::new(stage, Base::Scratch, options.target_platform.clone())
            });
            let expander = Expander::new(file.escape);
            for word in std::iter::once(&stage.base).chain(&stage.platform) {
                planned.variables.extend(matched(&expander, word, &plan.globals));
            }
            plan.stages.push(planned);
        }
        plan.target = match &options.target {
            None => plan.stages.len() - 1,
            Some(name) => plan.find(name).ok_or_else(|| FrontendError::Target {
                name: name.clone(),
                known: names(file).iter().map(|name| (*name).to_owned()).collect(),
            })?,
        };
        plan.mark(plan.target, options, images, diagnostics);
        Ok(plan)
    }

    /// What a stage begins with, and the platform of its steps.
    fn stage(&self, stage: &'a Stage, escape: char, options: &Options) -> Result<PlannedStage<'a>> {
        let expander = Expander::new(escape);
        let target = &options.target_platform;
        let base = expand(&expander, &stage.base, &self.globals)?;
        if base.is_empty() {
            let error = Diagnostic::error(stage.base.span, "the name of the base image is empty")
                .label("expected an image name or a stage");
            return Err(Box::new(match unset(&expander, &stage.base, &self.globals) {
                Some(name) => error.hint(format!(
                    "{name} is not set here: declare it by ARG {name}=… before the first FROM"
                )),
                None => error,
            }));
        }
        let platform = match &stage.platform {
            None => None,
            Some(word) => Some(self.platform(&expander, word)?),
        };
        let own = platform.clone().unwrap_or_else(|| target.clone());
        if let Some(name) = &stage.name
            && let Some(named) = context::named(options, &name.text, &own)
        {
            let planned = PlannedStage::new(stage, Base::Context(named), own);
            return Ok(PlannedStage { replaced: true, ..planned });
        }
        // The latest of several stages of one name counts, and a name is in lower case.
        let named = |s: &PlannedStage<'_>| s.stage.name.as_ref().is_some_and(|n| n.text == base);
        let (base, platform) = match self.stages.iter().rposition(named) {
            // Who begins with a stage or with nothing takes over the platform.
            Some(index) => (Base::Stage(index), self.stages[index].platform.clone()),
            None if base == "scratch" => (Base::Scratch, target.clone()),
            None => {
                let name = reference(&base, &stage.base)?;
                match context::named(options, &name.to_string(), &own) {
                    Some(named) => (Base::Context(named), own),
                    None => (Base::Image(name), own),
                }
            }
        };
        Ok(PlannedStage::new(stage, base, platform))
    }

    fn platform(&self, expander: &Expander, word: &Word) -> Result<Platform> {
        let text = expand(expander, word, &self.globals)?;
        text.parse::<Platform>().map_err(|error| {
            let diagnostic = match text.as_str() {
                "" => Diagnostic::error(word.span, "the platform is empty")
                    .label("expected OS/ARCHITECTURE, such as linux/arm64"),
                _ => Diagnostic::error(word.span, error.to_string()),
            };
            Box::new(match unset(expander, word, &self.globals) {
                Some(name) => match nearest(&name, self.globals.names()) {
                    Some(near) => {
                        diagnostic.hint(format!("{name} is not set; did you mean {near}?"))
                    }
                    None => diagnostic.hint(format!("{name} is not set")),
                },
                None => diagnostic,
            })
        })
    }

    /// The last stage of a name.
    fn find(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.stages
            .iter()
            .rposition(|s| s.stage.name.as_ref().is_some_and(|known| known.text == name))
    }

    /// What a COPY in the stage `at` copies from.
    pub fn origin(&self, copy: &Copy, at: usize, options: &Options) -> Result<Origin> {
        let Some(from) = &copy.from else { return Ok(Origin::Context) };
        if Expander::new('\\').word(&from.text, &Empty).ok().as_ref() != Some(&from.text) {
            return Err(Box::new(
                Diagnostic::error(from.span, "--from cannot have variables or quotes")
                    .label("expected a stage or an image name")
                    .hint("FROM … AS name, with the variable in the FROM, gives it a name"),
            ));
        }
        match from.text.parse::<usize>() {
            Ok(index) if index < self.stages.len() => earlier(index, at, &from.text, from),
            Ok(index) => {
                let message = format!("there is no stage {index}");
                let label = format!("the file has {} stages, the first is 0", self.stages.len());
                Err(Box::new(Diagnostic::error(from.span, message).label(label)))
            }
            Err(_) => self.named_origin(&from.text, at, from, options),
        }
    }

    /// What a mount of a RUN in the stage `at` is taken from: a stage, a context or an image,
    /// but no number.
    pub fn named_origin(
        &self,
        name: &str,
        at: usize,
        word: &Word,
        options: &Options,
    ) -> Result<Origin> {
        if let Some(index) = self.find(name) {
            return earlier(index, at, name, word);
        }
        if name == "scratch" {
            return Ok(Origin::Scratch);
        }
        let image = reference(name, word)?;
        let named = context::named(options, &image.to_string(), &options.target_platform);
        Ok(named.map_or(Origin::Image(image), Origin::Named))
    }

    /// Marks a stage and all that it needs, and asks for the images.
    fn mark(
        &mut self,
        target: usize,
        options: &Options,
        images: &mut Images<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let mut todo = vec![target];
        while let Some(index) = todo.pop() {
            let planned = &mut self.stages[index];
            if std::mem::replace(&mut planned.needed, true) {
                continue;
            }
            if let Err(diagnostic) = planned.resolve(&options.target_platform, images) {
                diagnostics.push(*diagnostic);
            }
            if planned.replaced {
                continue;
            }
            match self.triggers(index) {
                Ok(triggers) => self.stages[index].triggers = triggers,
                Err(diagnostic) => diagnostics.push(*diagnostic),
            }
            let planned = &self.stages[index];
            if let Base::Stage(base) = planned.base {
                todo.push(base);
            }
            for instruction in planned.triggers.iter().chain(&planned.stage.instructions) {
                // What is wrong with an origin is told when its stage is evaluated.
                for origin in self.origins(&instruction.command, index, options) {
                    if let Ok(Origin::Stage(from)) = origin {
                        todo.push(from);
                    }
                }
            }
        }
    }

    /// All that an instruction takes files from, the main context aside. A mount without a
    /// `from` is one from scratch.
    pub fn origins(&self, command: &Command, at: usize, options: &Options) -> Vec<Result<Origin>> {
        match command {
            Command::Copy(copy) if copy.from.is_some() => vec![self.origin(copy, at, options)],
            Command::Run(run) => {
                let origin = |word: &Word| match Mount::origin(word) {
                    None => self.named_origin("scratch", at, word, options),
                    Some(name) => self.named_origin(&name, at, word, options),
                };
                run.mounts.iter().map(origin).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What the base of a stage has to be done in it.
    fn triggers(&self, index: usize) -> Result<Vec<Instruction>> {
        let planned = &self.stages[index];
        let texts: Vec<&String> = match planned.base {
            Base::Scratch => Vec::new(),
            Base::Image(_) | Base::Context(_) => {
                planned.config.iter().flat_map(|config| &config.config.on_build).collect()
            }
            Base::Stage(base) => {
                let instructions = self.stages[base].stage.instructions.iter();
                let texts = instructions.map(|instruction| match &instruction.command {
                    Command::Onbuild(text) => Some(text),
                    _ => None,
                });
                texts.flatten().collect()
            }
        };
        let from = &planned.stage.place;
        let parse = |text: &String| match Instruction::parse(text) {
            Ok(mut instruction) => {
                // It is written elsewhere; the FROM is what brought it here.
                instruction.place.span = from.span;
                instruction.place.lines = from.lines;
                Ok(instruction)
            }
            Err(error) => Err(Box::new(
                Diagnostic::error(
                    planned.stage.base.span,
                    format!("the ONBUILD of the base is wrong: {}", error.message),
                )
                .label(format!("it has ONBUILD {text}")),
            )),
        };
        texts.into_iter().map(parse).collect()
    }
}

impl<'a> PlannedStage<'a> {
    fn new(stage: &'a Stage, base: Base, platform: Platform) -> Self {
        Self {
            stage,
            base,
            platform,
            needed: false,
            replaced: false,
            digest: None,
            config: None,
            triggers: Vec::new(),
            variables: BTreeSet::new(),
        }
    }

    /// Asks for the image that it begins with, if it is one.
    fn resolve(&mut self, target: &Platform, images: &mut Images<'_>) -> Result<()> {
        let word = &self.stage.base;
        match &self.base {
            Base::Scratch | Base::Stage(_) => {}
            Base::Image(name) => {
                let image = images.get(name, &self.platform, word)?;
                if !image.config.has_layers() {
                    // What has no files is for any platform.
                    self.platform = target.clone();
                }
                (self.digest, self.config) = (Some(image.digest), Some(image.config));
            }
            Base::Context(named) => {
                self.config = load(&named.context, &self.platform, word, images)?;
            }
        }
        Ok(())
    }
}

/// The configuration of the image that a context is, if it is one.
pub(crate) fn load(
    context: &Context,
    platform: &Platform,
    word: &Word,
    images: &mut Images<'_>,
) -> Result<Option<ImageConfig>> {
    match context {
        Context::Image(name) => {
            Ok(Some(images.get(&name.clone().tagged(), platform, word)?.config))
        }
        Context::OciLayout { store, digest } => {
            Ok(Some(images.layout(store, digest, platform, word)?.config))
        }
        Context::Graph { definition, config } => match koskit_llb::Graph::new(definition) {
            Ok(_) => Ok(config.as_deref().cloned()),
            Err(error) => {
                let message = format!("the context {} cannot be used: {error}", word.text);
                Err(Box::new(Diagnostic::error(word.span, message)))
            }
        },
        _ => Ok(None),
    }
}

/// A stage, if it comes before the one that needs it.
fn earlier(index: usize, at: usize, name: &str, word: &Word) -> Result<Origin> {
    if index < at {
        return Ok(Origin::Stage(index));
    }
    Err(Box::new(
        Diagnostic::error(word.span, format!("the stage {name} is not built before this one"))
            .label("expected a stage that stands above")
            .hint("move the stage that is copied from before the one that copies"),
    ))
}

/// The names of all stages that have one.
pub(crate) fn names(file: &Dockerfile) -> Vec<&str> {
    file.stages.iter().filter_map(|s| s.name.as_ref()).map(|name| name.text.as_str()).collect()
}

fn reference(text: &str, word: &Word) -> Result<Reference> {
    text.parse::<Reference>().map(Reference::tagged).map_err(|error| {
        Box::new(
            Diagnostic::error(word.span, error.to_string())
                .label("expected an image name or a stage"),
        )
    })
}

/// The ARGs before the first FROM.
fn globals(
    file: &Dockerfile,
    options: &Options,
    mut globals: Variables,
    diagnostics: &mut Vec<Diagnostic>,
) -> (Variables, BTreeMap<String, Declared>) {
    let expander = Expander::new(file.escape);
    let mut all: BTreeMap<String, Declared> = BTreeMap::new();
    for instruction in &file.args {
        let Command::Arg(variables) = &instruction.command else { continue };
        for variable in variables {
            let name = &variable.name.text;
            let mut declared = Declared::new(name, &instruction.place);
            let value = match (options.build_args.get(name), &variable.default) {
                (Some(given), _) => Some(Ok(given.clone())),
                (None, Some(default)) => {
                    declared.takes = matched(&expander, default, &globals);
                    if declared.takes.remove(name)
                        && let Some(before) = all.get(name)
                    {
                        declared.takes.extend(before.takes.iter().cloned());
                    }
                    Some(expand(&expander, default, &globals))
                }
                (None, None) => None,
            };
            match value.transpose() {
                Ok(value) => {
                    value.iter().for_each(|value| globals.set(name, value));
                    declared.value = value.unwrap_or_default();
                }
                Err(diagnostic) => diagnostics.push(*diagnostic),
            }
            all.insert(name.clone(), declared);
        }
    }
    (globals, all)
}

/// Puts the values of variables into a word.
pub(crate) fn expand(
    expander: &Expander,
    word: &Word,
    variables: &dyn Environment,
) -> Result<String> {
    expander
        .word(&word.text, variables)
        .map_err(|error| Box::new(Diagnostic::error(word.span, error.to_string())))
}

/// The variables of a word that are set.
fn matched(expander: &Expander, word: &Word, variables: &dyn Environment) -> BTreeSet<String> {
    expander.expand(&word.text, variables).map(|expansion| expansion.matched).unwrap_or_default()
}

/// The first variable of a word that is not set.
fn unset(expander: &Expander, word: &Word, variables: &dyn Environment) -> Option<String> {
    expander.expand(&word.text, variables).ok()?.unmatched.into_iter().next()
}
