//! Rules that need the values of variables.

use std::collections::{BTreeMap, BTreeSet};

use super::{Base, Findings, Given, Rule, Surroundings};
use crate::{
    Add, Command, CommandLine, Copy, Dockerfile, Expander, Expansion, Instruction, Mount, Pair,
    Place, Span, Stage, Variable, Word, nearest,
};

pub(super) fn check(
    file: &Dockerfile,
    given: &Given,
    surroundings: &dyn Surroundings,
    findings: &mut Findings<'_>,
) {
    let expander = Expander::new(file.escape);
    let defaults = globals(file, given, &expander, &BTreeMap::new());
    for stage in &file.stages {
        let Ok(name) = expander.word(&stage.base.text, &defaults.values) else { break };
        if !surroundings.is_image_name(&name) {
            let message = "without build arguments, this names no image".to_owned();
            let hint = "give the ARG a default value, or write ${NAME:-default}";
            findings.add(Rule::InvalidDefaultArgInFrom, &[], stage.base.span, message, hint);
        }
    }
    let globals = globals(file, given, &expander, &given.build_args);
    let mut done: Vec<State> = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let platform = from(stage, &globals, &expander, surroundings, findings);
        let wanted = given.stages.as_ref().is_none_or(|stages| stages.contains(&index));
        let built = given.stages.as_ref().is_some_and(|stages| stages.contains(&index));
        let name = expander.word(&stage.base.text, &globals.values).unwrap_or_default();
        let named = |known: &Stage| known.name.as_ref().is_some_and(|n| n.text == name);
        let (mut state, triggers) = match file.stages[..index].iter().rposition(named) {
            Some(base) => {
                let texts =
                    file.stages[base].instructions.iter().filter_map(|i| match &i.command {
                        Command::Onbuild(text) => Some(text.clone()),
                        _ => None,
                    });
                (done[base].inherit(), texts.collect())
            }
            None if name == "scratch" => (State::new(Some(&Base::default())), Vec::new()),
            None => {
                let base = wanted.then(|| surroundings.base(&name, platform.as_deref())).flatten();
                if let Some((actual, asked)) = base.as_ref().and_then(|b| b.other_platform.as_ref())
                {
                    let message = format!("{name} is for {actual}, and not for {asked}");
                    let hint = "say by --platform which one is meant";
                    let rule = Rule::InvalidBaseImagePlatform;
                    findings.add(rule, &[], stage.base.span, message, hint);
                }
                (State::new(base.as_ref()), base.map(|b| b.on_build).unwrap_or_default())
            }
        };
        let mut linter = Linter {
            state: &mut state,
            given,
            globals: &globals,
            expander,
            surroundings,
            findings,
        };
        for trigger in triggers {
            if let Ok(mut instruction) = Instruction::parse(&trigger) {
                instruction.place.keyword.span = stage.base.span;
                if built {
                    let shown = instruction.place.original.clone();
                    linter.findings.trigger = Some((shown, stage.base.span));
                    linter.instruction(&instruction);
                    linter.findings.trigger = None;
                }
                linter.effects(&instruction);
            }
        }
        for instruction in &stage.instructions {
            if wanted {
                linter.instruction(instruction);
            }
            linter.effects(instruction);
        }
        done.push(state);
    }
}

/// The ARGs before the first FROM.
struct Globals {
    values: BTreeMap<String, String>,
    /// Those that are declared, with a value or not.
    names: BTreeSet<String>,
}

fn globals(
    file: &Dockerfile,
    given: &Given,
    expander: &Expander,
    build_args: &BTreeMap<String, String>,
) -> Globals {
    let mut values = given.predefined.clone();
    let mut names: BTreeSet<_> = values.keys().cloned().collect();
    for instruction in &file.args {
        let Command::Arg(variables) = &instruction.command else { continue };
        for Variable { name, default } in variables {
            names.insert(name.text.clone());
            let value = match (build_args.get(&name.text), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => expander.word(&default.text, &values).ok(),
                (None, None) => None,
            };
            values.extend(value.map(|value| (name.text.clone(), value)));
        }
    }
    Globals { values, names }
}

/// Checks a FROM, and gives its platform.
fn from(
    stage: &Stage,
    globals: &Globals,
    expander: &Expander,
    surroundings: &dyn Surroundings,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let comments = &stage.place.comments;
    let mut undeclared = |word: &Word| -> Option<Expansion> {
        let expansion = expander.expand(&word.text, &globals.values).ok()?;
        for name in expansion.unmatched.difference(&globals.names) {
            let message = format!("no ARG before the first FROM declares {name}");
            let hint = match nearest(name, globals.names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("ARG {name}=… at the top of the file declares it"),
            };
            findings.add(Rule::UndefinedArgInFrom, comments, word.span, message, hint);
        }
        Some(expansion)
    };
    undeclared(&stage.base);
    let word = stage.platform.as_ref()?;
    let expansion = undeclared(word)?;
    let only_target = expansion.unmatched.is_empty()
        && expansion.matched.iter().eq(["TARGETPLATFORM"])
        && globals.values.get("TARGETPLATFORM") == Some(&expansion.text);
    if only_target {
        let message = format!("--platform={} is what it is without", word.text);
        let hint = "leave it out";
        findings.add(Rule::RedundantTargetPlatform, comments, word.span, message, hint);
    }
    if expansion.matched.is_empty() && expansion.unmatched.is_empty() {
        let name = stage.name.as_ref().map_or("", |name| name.text.as_str());
        let parsed = surroundings.platform(&expansion.text);
        let told = |(os, arch): &(String, String)| name.contains(os) || name.contains(arch);
        if parsed.is_some_and(|parsed| !told(&parsed)) {
            let message = format!("the stage is for {} whatever is asked for", expansion.text);
            let hint = "leave --platform out, use $BUILDPLATFORM, or have the platform in the \
                        name of the stage";
            let rule = Rule::FromPlatformFlagConstDisallowed;
            findings.add(rule, comments, word.span, message, hint);
        }
    }
    Some(expansion.text)
}

/// How things are at an instruction.
#[derive(Clone, Debug, Default)]
struct State {
    /// What is set; values are of no use where the base is not known.
    values: BTreeMap<String, String>,
    /// What is declared by ARG, set or not.
    args: BTreeSet<String>,
    /// Whether all that is set is in `values`.
    is_known: bool,
    has_workdir: bool,
    has_shell: bool,
    cmd: Option<Span>,
    entrypoint: Option<Span>,
    healthcheck: Option<Span>,
}

impl State {
    fn new(base: Option<&Base>) -> Self {
        let mut state = Self { is_known: base.is_some(), ..Self::default() };
        if let Some(base) = base {
            state.values.extend(base.env.iter().cloned());
            state.has_shell = base.has_shell;
        }
        state.values.entry("PATH".into()).or_default();
        state
    }

    /// For a stage on top of this one.
    fn inherit(&self) -> Self {
        Self { cmd: None, entrypoint: None, healthcheck: None, ..self.clone() }
    }
}

struct Linter<'a, 'f> {
    state: &'a mut State,
    given: &'a Given,
    globals: &'a Globals,
    expander: Expander,
    surroundings: &'a dyn Surroundings,
    findings: &'a mut Findings<'f>,
}

impl Linter<'_, '_> {
    /// What an instruction changes for those after it.
    fn effects(&mut self, instruction: &Instruction) {
        match &instruction.command {
            Command::Env(pairs) => {
                // All values are those from before the instruction.
                let before = self.state.values.clone();
                for pair in pairs {
                    let name = self.expander.word(&pair.name.text, &before).unwrap_or_default();
                    let value = self.expander.word(&pair.value.text, &before).unwrap_or_default();
                    self.state.values.insert(name, value);
                }
            }
            Command::Arg(variables) => {
                for variable in variables {
                    self.declare(variable);
                }
            }
            Command::Shell(_) => self.state.has_shell = true,
            Command::Workdir(_) => self.state.has_workdir = true,
            _ => {}
        }
    }

    fn declare(&mut self, variable: &Variable) {
        let name = &variable.name.text;
        let value = match (self.given.build_args.get(name), &variable.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => self.expander.word(&default.text, &self.state.values).ok(),
            (None, None) => self.globals.values.get(name).cloned(),
        };
        self.state.values.extend(value.map(|value| (name.clone(), value)));
        self.state.args.insert(name.clone());
    }

    fn instruction(&mut self, instruction: &Instruction) {
        let place = &instruction.place;
        match &instruction.command {
            Command::Add(Add { copy, checksum, .. }) => {
                checksum.iter().for_each(|word| self.variables(place, word));
                self.copy(place, copy, true);
            }
            Command::Copy(copy) => self.copy(place, copy, false),
            Command::Arg(variables) => {
                // Each sees those before it.
                let before = self.state.clone();
                for variable in variables {
                    self.secret(place, &variable.name);
                    let given = self.given.build_args.contains_key(&variable.name.text);
                    if let Some(default) = variable.default.as_ref().filter(|_| !given) {
                        self.variables(place, default);
                    }
                    self.declare(variable);
                }
                *self.state = before;
            }
            Command::Env(pairs) => {
                self.pairs(place, pairs);
                for pair in pairs {
                    let name = self.value(&pair.name).unwrap_or_default();
                    self.secret(place, &Word { text: name, span: pair.name.span });
                }
            }
            Command::Label(pairs) => self.pairs(place, pairs),
            Command::Run(run) => {
                for word in &run.mounts {
                    let mut texts = Vec::new();
                    let mut keep = |text: &str| {
                        texts.push(text.to_owned());
                        Ok(text.to_owned())
                    };
                    // What is wrong with the mount is told where it is read for the build.
                    let _ = Mount::parse(word, &mut keep);
                    for text in texts {
                        self.variables(place, &Word { text, span: word.span });
                    }
                }
            }
            Command::StopSignal(word) | Command::User(word) => self.variables(place, word),
            Command::Volume(words) => words.iter().for_each(|word| self.variables(place, word)),
            Command::Workdir(word) => self.workdir(place, word),
            Command::Expose(words) => words.iter().for_each(|word| self.expose(place, word)),
            Command::Cmd(line) => {
                self.once(place, |state| &mut state.cmd);
                self.json(place, line);
            }
            Command::Entrypoint(line) => {
                self.once(place, |state| &mut state.entrypoint);
                self.json(place, line);
            }
            Command::Healthcheck(_) => self.once(place, |state| &mut state.healthcheck),
            Command::Maintainer(_) | Command::Onbuild(_) | Command::Shell(_) => {}
        }
    }

    fn add(&mut self, rule: Rule, place: &Place, span: Span, message: String, hint: String) {
        self.findings.add(rule, &place.comments, span, message, hint);
    }

    /// Tells of variables in a word that are not set.
    fn variables(&mut self, place: &Place, word: &Word) {
        self.variables_by(self.expander, place, word);
    }

    fn variables_by(&mut self, expander: Expander, place: &Place, word: &Word) {
        if !self.state.is_known {
            return;
        }
        let Ok(expansion) = expander.expand(&word.text, &self.state.values) else { return };
        for name in expansion.unmatched.difference(&self.state.args.clone()) {
            if matches!(name.as_str(), "BUILDKIT_SBOM_SCAN_CONTEXT" | "BUILDKIT_SBOM_SCAN_STAGE") {
                continue;
            }
            let message = format!("the variable {name} is not set here");
            let hint = match nearest(name, self.state.values.keys().map(String::as_str)) {
                Some(near) => format!("did you mean ${near}?"),
                None => format!("set it before by ARG {name} or ENV {name}=…"),
            };
            self.add(Rule::UndefinedVar, place, word.span, message, hint);
        }
    }

    fn value(&self, word: &Word) -> Option<String> {
        self.expander.word(&word.text, &self.state.values).ok()
    }

    fn pairs(&mut self, place: &Place, pairs: &[Pair]) {
        for pair in pairs {
            self.variables(place, &pair.name);
            self.variables(place, &pair.value);
            if !pair.delimited {
                let keyword = place.keyword.text.as_str();
                let message = format!("{keyword} has no = between name and value");
                let hint = format!("write {keyword} {}=…", pair.name.text);
                self.add(Rule::LegacyKeyValueFormat, place, pair.name.span, message, hint);
            }
        }
    }

    fn secret(&mut self, place: &Place, name: &Word) {
        if is_secret(&name.text) {
            let message = format!("{} looks like a secret, and the image keeps it", name.text);
            let hint = "RUN --mount=type=secret gives it to one command only".to_owned();
            self.add(Rule::SecretsUsedInArgOrEnv, place, name.span, message, hint);
        }
    }

    fn copy(&mut self, place: &Place, copy: &Copy, is_add: bool) {
        let flags = copy.chown.iter().chain(&copy.chmod);
        for word in flags.chain(&copy.sources).chain([&copy.destination]) {
            self.variables(place, word);
        }
        for doc in copy.heredocs.iter().filter(|doc| doc.expand) {
            let raw = Expander { ignore_quotes: true, ..Expander::new('\\') };
            self.variables_by(raw, place, &Word { text: doc.data(), span: doc.span });
        }
        if copy.from.as_ref().is_some_and(|from| !from.text.is_empty()) {
            return;
        }
        for word in &copy.sources {
            let Some(source) = self.value(word) else { continue };
            if is_add && is_remote(&source) {
                continue;
            }
            if self.surroundings.is_ignored(&source) {
                let message = format!("the .dockerignore hides {source}");
                let hint = "it is not in the context; take it out of the .dockerignore".to_owned();
                self.add(Rule::CopyIgnoredFile, place, word.span, message, hint);
            }
        }
    }

    fn workdir(&mut self, place: &Place, word: &Word) {
        self.variables(place, word);
        let Some(path) = self.value(word).filter(|_| !self.state.has_workdir) else { return };
        if !path.starts_with('/') {
            let message = format!("where {path} is depends on the base image");
            let hint = "begin with an absolute path".to_owned();
            self.add(Rule::WorkdirRelativePath, place, word.span, message, hint);
        }
    }

    fn expose(&mut self, place: &Place, word: &Word) {
        let ports = self.expander.words(&word.text, &self.state.values).unwrap_or_default();
        for port in ports {
            let (host, container) = port.rsplit_once(':').unwrap_or(("", &port));
            let protocol = container.split_once('/').map_or("", |(_, protocol)| protocol);
            let known = ["", "tcp", "udp", "sctp"].contains(&protocol.to_lowercase().as_str());
            if known && protocol != protocol.to_lowercase() {
                let message = format!("the protocol of {port} is not in lower case");
                let hint = format!("write {}", port.to_lowercase());
                self.add(Rule::ExposeProtoCasing, place, word.span, message, hint);
            }
            if known && !host.trim_matches(':').is_empty() {
                let message = format!("{port} names an address or a port of the host");
                let hint = format!("write {container}; what it is outside, who runs it says");
                self.add(Rule::ExposeInvalidFormat, place, word.span, message, hint);
            }
        }
    }

    /// Of several, the earlier ones mean nothing.
    fn once(&mut self, place: &Place, slot: impl Fn(&mut State) -> &mut Option<Span>) {
        if let Some(earlier) = slot(self.state).replace(place.keyword.span) {
            let message = format!("{} comes again below", place.keyword.text);
            let hint = "only the last one of a stage counts".to_owned();
            self.add(Rule::MultipleInstructionsDisallowed, place, earlier, message, hint);
        }
    }

    fn json(&mut self, place: &Place, line: &CommandLine) {
        let CommandLine::Shell(word) = line else { return };
        if !self.state.has_shell {
            let span = if word.text.is_empty() { place.keyword.span } else { word.span };
            let keyword = &place.keyword.text;
            let message = format!("a shell runs this {keyword}, and does not pass on signals");
            let hint = format!("write {keyword} [\"program\", \"argument\"]");
            self.add(Rule::JSONArgsRecommended, place, span, message, hint);
        }
    }
}

/// Whether a part of the name, between underscores, says so, and none that it is harmless.
fn is_secret(name: &str) -> bool {
    let secret = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&secret) && !has(&["public", "file", "version"])
}

/// What ADD fetches.
fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|p| source.starts_with(p))
}
