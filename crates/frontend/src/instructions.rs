//! What each instruction does; COPY and RUN have modules of their own.

use koskit_dockerfile::{Command, Environment, Instruction, Pair, Place, Variable, Word, go_quote};
use koskit_llb::{Owner, path};

use crate::config::Empty;
use crate::evaluate::Evaluator;
use crate::step::Step;
use crate::{Diagnostic, Result, copy, health, ports, run, signal, variables};

impl Evaluator<'_, '_> {
    /// Does one instruction.
    pub fn instruction(&mut self, instruction: &Instruction) -> Result<()> {
        let place = &instruction.place;
        match &instruction.command {
            Command::Add(add) => copy::add(self, add, place)?,
            Command::Arg(variables) => self.arg(variables, place)?,
            Command::Cmd(line) => {
                self.cmd_set = true;
                let args = self.command_line(line);
                self.note(format!("CMD {}", quoted(&args)));
                self.state.image.config.cmd = Some(args);
                self.state.image.config.args_escaped = true;
            }
            Command::Copy(copy) => copy::copy(self, copy, place)?,
            Command::Entrypoint(line) => {
                let args = self.command_line(line);
                self.note(format!("ENTRYPOINT {}", quoted(&args)));
                let config = &mut self.state.image.config;
                config.entrypoint = Some(args).filter(|args| !args.is_empty());
                if !self.cmd_set {
                    config.cmd = None;
                }
            }
            Command::Env(pairs) => {
                let pairs = self.pairs(pairs)?;
                for (name, value) in &pairs {
                    self.state.variables.set(name, value);
                    self.state.image.config.set_env(name, value);
                }
                self.note(format!("ENV{}", joined(&pairs)));
            }
            Command::Expose(words) => self.expose(words)?,
            Command::Healthcheck(check) => {
                let config = health::config(check);
                self.note(health::history(&config));
                self.state.image.config.healthcheck = Some(config);
            }
            Command::Label(pairs) => {
                let pairs = self.pairs(pairs)?;
                self.note(format!("LABEL{}", joined(&pairs)));
                self.state.image.config.labels.extend(pairs);
            }
            Command::Maintainer(name) => {
                self.note(format!("MAINTAINER {}", name.text));
                self.state.image.author = Some(name.text.clone());
            }
            Command::Onbuild(text) => self.state.image.config.on_build.push(text.clone()),
            Command::Run(run) => run::evaluate(self, run, place)?,
            Command::Shell(words) => {
                let shell: Vec<_> = words.iter().map(|w| w.text.clone()).collect();
                self.note(format!("SHELL [{}]", shell.join(" ")));
                self.state.image.config.shell = shell;
            }
            Command::StopSignal(word) => self.stop_signal(word)?,
            Command::User(word) => {
                let user = self.expand(word)?;
                self.note(format!("USER {user}"));
                self.state.image.config.user = user;
            }
            Command::Volume(words) => self.volume(words)?,
            Command::Workdir(word) => self.workdir(word, place)?,
        }
        Ok(())
    }

    /// A note in the history for what changes no files.
    fn note(&mut self, text: String) {
        self.state.image.note(text, false);
    }

    /// All values are those from before the instruction.
    fn pairs(&self, pairs: &[Pair]) -> Result<Vec<(String, String)>> {
        pairs.iter().map(|p| Ok((self.expand(&p.name)?, self.expand(&p.value)?))).collect()
    }

    fn arg(&mut self, variables: &[Variable], place: &Place) -> Result<()> {
        let mut words = vec!["ARG".to_owned()];
        for variable in variables {
            let name = &variable.name.text;
            let value = match (self.options.build_args.get(name), &variable.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.plan.globals.get(name).map(str::to_owned),
            };
            self.out.used_args.insert(name.clone());
            let is_global = variable.default.is_none()
                && !self.options.build_args.contains_key(name)
                && value.is_some();
            if is_global {
                self.taken.takes.insert(name.clone());
            } else {
                self.taken.declare(name, place, value.as_deref());
            }
            self.state.args.push((name.clone(), value.clone()));
            match value {
                None => words.push(name.clone()),
                Some(value) => {
                    // What is only for a scanner is not for commands.
                    if !variables::SCANNER.contains(&name.as_str()) {
                        self.state.variables.set(name, &value);
                    }
                    words.push(format!("{name}={value}"));
                }
            }
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
        let ports = all.into_iter().map(|port| (port, Empty {}));
        self.state.image.config.exposed_ports.extend(ports);
        Ok(())
    }

    fn stop_signal(&mut self, word: &Word) -> Result<()> {
        let signal = self.expand(word)?;
        if !signal::is_signal(&signal) {
            return Err(Box::new(
                Diagnostic::error(word.span, format!("there is no signal {signal:?}"))
                    .label("expected a signal of Linux, such as SIGTERM or 15"),
            ));
        }
        self.note(format!("STOPSIGNAL {signal}"));
        self.state.image.config.stop_signal = signal;
        Ok(())
    }

    fn volume(&mut self, words: &[Word]) -> Result<()> {
        let paths = words.iter().map(|w| self.expand(w)).collect::<Result<Vec<_>>>()?;
        if let Some(empty) = paths.iter().position(String::is_empty) {
            let error = Diagnostic::error(words[empty].span, "a volume has no path");
            return Err(Box::new(error.label("expected a path")));
        }
        self.note(format!("VOLUME [{}]", paths.join(" ")));
        let volumes = paths.into_iter().map(|path| (path, Empty {}));
        self.state.image.config.volumes.extend(volumes);
        Ok(())
    }

    fn workdir(&mut self, word: &Word, place: &Place) -> Result<()> {
        let path = self.expand(word)?;
        let path = match path.starts_with('/') {
            true => path,
            false => path::join(self.state.workdir(), &path),
        };
        self.state.image.config.working_dir.clone_from(&path);
        // The directory `/` is there without a step.
        let makes = path != "/";
        if makes {
            let user = &self.state.image.config.user;
            let owner = (!user.is_empty()).then(|| Owner::parse(user));
            let note = self.step(place);
            let time = self.options.epoch().map(|seconds| seconds.saturating_mul(1_000_000_000));
            self.steps.push(Step::Mkdir { path: path.clone(), owner, time, note });
        }
        self.state.image.note(format!("WORKDIR {path}"), makes);
        Ok(())
    }
}

/// As Go prints a list of quoted strings.
fn quoted(args: &[String]) -> String {
    let args: Vec<_> = args.iter().map(|arg| go_quote(arg)).collect();
    format!("[{}]", args.join(" "))
}

fn joined(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!(" {name}={value}")).collect()
}
