//! What the instructions of a Dockerfile say.
//!
//! All words are as they were written, with their quotes and variables; [`crate::Expander`]
//! makes values of them when the variables are known.

use std::time::Duration;

use crate::{Heredoc, Pair, Span, Word};

/// `FROM` and the instructions up to the next one.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// An image, an earlier stage or `scratch`.
    pub base: Word,
    /// What is after `AS`, in lower case.
    pub name: Option<Word>,
    /// The `AS` itself, as it is written.
    pub as_word: Option<Word>,
    /// `--platform`.
    pub platform: Option<Word>,
    /// Where the FROM is written.
    pub place: Place,
    /// What is done on top of the base.
    pub instructions: Vec<Instruction>,
}

/// An instruction and where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// What it does.
    pub command: Command,
    /// Where it is written.
    pub place: Place,
}

/// Where an instruction is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The whole instruction on one line.
    pub original: String,
    /// The whole instruction; here-documents are not in it.
    pub span: Span,
    /// The first and last line, counted from 1, with here-documents.
    pub lines: (usize, usize),
    /// The instruction's name as it is written.
    pub keyword: Word,
    /// The comments right above it, without the `#`.
    pub comments: Vec<String>,
}

/// What an instruction does.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `ADD`.
    Add(Add),
    /// `ARG name`, `ARG name=value`.
    Arg(Vec<Variable>),
    /// `CMD`.
    Cmd(CommandLine),
    /// `COPY`.
    Copy(Copy),
    /// `ENTRYPOINT`.
    Entrypoint(CommandLine),
    /// `ENV`.
    Env(Vec<Pair>),
    /// `EXPOSE`.
    Expose(Vec<Word>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`.
    Label(Vec<Pair>),
    /// `MAINTAINER`: the image's author.
    Maintainer(Word),
    /// `ONBUILD`: an instruction for stages that begin with this one, as it is written.
    Onbuild(String),
    /// `RUN`.
    Run(Run),
    /// `SHELL`: the program and arguments that commands for a shell are put behind.
    Shell(Vec<Word>),
    /// `STOPSIGNAL`.
    StopSignal(Word),
    /// `USER`.
    User(Word),
    /// `VOLUME`.
    Volume(Vec<Word>),
    /// `WORKDIR`.
    Workdir(Word),
}

impl Command {
    /// The keyword that stands for it.
    pub fn keyword(&self) -> &'static str {
        match self {
            Command::Add(_) => "ADD",
            Command::Arg(_) => "ARG",
            Command::Cmd(_) => "CMD",
            Command::Copy(_) => "COPY",
            Command::Entrypoint(_) => "ENTRYPOINT",
            Command::Env(_) => "ENV",
            Command::Expose(_) => "EXPOSE",
            Command::Healthcheck(_) => "HEALTHCHECK",
            Command::Label(_) => "LABEL",
            Command::Maintainer(_) => "MAINTAINER",
            Command::Onbuild(_) => "ONBUILD",
            Command::Run(_) => "RUN",
            Command::Shell(_) => "SHELL",
            Command::StopSignal(_) => "STOPSIGNAL",
            Command::User(_) => "USER",
            Command::Volume(_) => "VOLUME",
            Command::Workdir(_) => "WORKDIR",
        }
    }
}

/// A variable of an `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: Word,
    /// Its default value, if it has one.
    pub default: Option<Word>,
}

/// A command, for a shell or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// `RUN make all`: the text is a shell's business; nothing at all is an empty text.
    Shell(Word),
    /// `RUN ["make", "all"]`.
    Exec(Vec<Word>),
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub command: CommandLine,
    /// The here-documents that the command line begins.
    pub heredocs: Vec<Heredoc>,
    /// The values of `--mount`, to be read by [`crate::Mount::parse`] when the variables are
    /// known.
    pub mounts: Vec<Word>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
}

/// Which network a RUN has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// What the builder gives to all.
    #[default]
    Default,
    /// None but the loopback device.
    None,
    /// The machine's own.
    Host,
}

/// How far a RUN is locked in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// As all are.
    #[default]
    Sandbox,
    /// Not at all. Builders refuse this unless their user allows it.
    Insecure,
}

/// `COPY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Paths of files and directories, with wildcards.
    pub sources: Vec<Word>,
    /// Files whose content stands in the Dockerfile.
    pub heredocs: Vec<Heredoc>,
    /// Where to. A slash at the end makes it a directory.
    pub destination: Word,
    /// `--from`: a stage, its number, or an image. `None` is the build context.
    pub from: Option<Word>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`: what is copied does not depend on the files that are there already.
    pub link: bool,
    /// `--parents`: the directories of a source are made in the destination, too.
    pub parents: bool,
    /// `--exclude`: patterns of what is left out.
    pub exclude: Vec<Word>,
}

/// `ADD`: COPY with sources that are URLs or archives, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// What it has in common with COPY; `from` and `parents` are never set.
    pub copy: Copy,
    /// `--checksum`: the digest of the one source, or the commit of a git repository.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`: whether the `.git` of a repository is kept.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`: whether archives are unpacked; by default those of the context are, and
    /// those of a URL are not.
    pub unpack: Option<bool>,
}

/// `HEALTHCHECK`. A time of zero is not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// The command; `None` is `NONE`, which turns off the check of the base image.
    pub test: Option<CommandLine>,
    /// `--interval`: the time from one check to the next.
    pub interval: Duration,
    /// `--timeout`: how long one check may take.
    pub timeout: Duration,
    /// `--start-period`: how long failures do not count at first.
    pub start_period: Duration,
    /// `--start-interval`: the interval in that time.
    pub start_interval: Duration,
    /// `--retries`: so many failures in a row are needed; 0 is not set.
    pub retries: u32,
}
