//! Changing files without running anything.

use super::{Builder, Draft, Inputs, Note, State};
use crate::path;
use crate::pb;

/// Several changes to one file system, done in order.
#[derive(Debug, Default)]
pub struct FileOp {
    actions: Vec<Action>,
}

#[derive(Debug)]
enum Action {
    Copy { from: State, copy: Copy },
    Mkdir { path: String, mode: u32, parents: bool, owner: Option<Owner>, time: i64 },
    Mkfile { path: String, mode: u32, data: Vec<u8>, owner: Option<Owner>, time: i64 },
    Rm { path: String, allow_missing: bool, wildcard: bool },
}

/// What a copy does. Paths are absolute; a slash at the end of `to` says that it is a
/// directory.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    /// The path in the file system that is copied from.
    pub src: String,
    /// The path in the one that is copied to.
    pub dest: String,
    /// Who owns the copies; `None` is root for a copy from the context or another stage.
    pub owner: Option<Owner>,
    /// Permissions of the copies; `None` leaves them as they are.
    pub mode: Option<Mode>,
    /// Symbolic links in `src` are followed.
    pub follow_symlinks: bool,
    /// Of a directory, what is in it is copied, not itself.
    pub contents_only: bool,
    /// An archive is unpacked.
    pub unpack: bool,
    /// Directories on the way to `dest` are made.
    pub create_dest: bool,
    /// `*`, `?` and `[…]` in `src` mean something.
    pub wildcard: bool,
    /// A wildcard may match nothing.
    pub allow_empty_wildcard: bool,
    /// Only what matches one of these.
    pub include: Vec<String>,
    /// Not what matches one of these.
    pub exclude: Vec<String>,
    /// Time stamp of the copies in nanoseconds since 1970; `None` leaves it.
    pub time: Option<i64>,
}

/// Permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As bits.
    Bits(u32),
    /// As `chmod` reads them: `u+x,g=rw`.
    Symbolic(String),
}

/// User and group, each a number or a name; `1000:staff`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    user: Id,
    group: Option<Id>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Id {
    Number(u32),
    Name(String),
}

impl Owner {
    /// Reads `user`, `user:group`, `uid:gid`; `root` is 0 without a look into any file.
    pub fn parse(text: &str) -> Self {
        let id = |text: &str| match text.parse::<i32>() {
            _ if text == "root" => Id::Number(0),
            Ok(number) => Id::Number(number as u32),
            Err(_) => Id::Name(text.to_owned()),
        };
        match text.split_once(':') {
            None => Self { user: id(text), group: None },
            Some((user, group)) => Self { user: id(user), group: Some(id(group)) },
        }
    }

    /// A user and a group by their numbers.
    pub fn ids(user: u32, group: u32) -> Self {
        Self { user: Id::Number(user), group: Some(Id::Number(group)) }
    }

    /// Names are looked up in the file system that the action changes.
    pub(super) fn to_pb(&self, base: i64) -> pb::ChownOpt {
        let id = |id: &Id| pb::UserOpt {
            user: Some(match id {
                // An empty name is no name; BuildKit writes it as number 0.
                Id::Name(name) if name.is_empty() => pb::user_opt::User::ById(0),
                Id::Number(number) => pb::user_opt::User::ById(*number),
                Id::Name(name) => {
                    let name = name.clone();
                    pb::user_opt::User::ByName(pb::NamedUserOpt { name, input: base })
                }
            }),
        };
        pb::ChownOpt { user: Some(id(&self.user)), group: self.group.as_ref().map(id) }
    }
}

impl FileOp {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies out of another file system.
    pub fn copy(mut self, from: State, copy: Copy) -> Self {
        self.actions.push(Action::Copy { from, copy });
        self
    }

    /// Makes a directory, with those above it if `parents`.
    pub fn mkdir(mut self, path: &str, mode: u32, parents: bool, owner: Option<Owner>) -> Self {
        let path = path::clean_absolute(path);
        self.actions.push(Action::Mkdir { path, mode, parents, owner, time: -1 });
        self
    }

    /// Makes a file.
    pub fn mkfile(mut self, path: &str, mode: u32, data: Vec<u8>, owner: Option<Owner>) -> Self {
        let path = path::clean_absolute(path);
        self.actions.push(Action::Mkfile { path, mode, data, owner, time: -1 });
        self
    }

    /// Removes a file or a directory.
    pub fn rm(mut self, path: &str, allow_missing: bool, wildcard: bool) -> Self {
        let path = path::clean_absolute(path);
        self.actions.push(Action::Rm { path, allow_missing, wildcard });
        self
    }

    /// Gives the directory or file that was made last this time stamp, in nanoseconds since
    /// 1970.
    pub fn at_time(mut self, nanoseconds: i64) -> Self {
        match self.actions.last_mut() {
            Some(Action::Mkdir { time, .. } | Action::Mkfile { time, .. }) => *time = nanoseconds,
            Some(Action::Copy { copy, .. }) => copy.time = Some(nanoseconds),
            Some(Action::Rm { .. }) | None => {}
        }
        self
    }
}

impl Builder {
    /// Adds changes to `base`; gives the changed file system. Without any change that is
    /// `base` itself.
    pub fn file(&mut self, base: State, file: FileOp, note: Note) -> State {
        let count = file.actions.len();
        if count == 0 {
            return base;
        }
        let mut inputs = Inputs::default();
        // The base comes first, then each source as it is met.
        let base_index = inputs.index(base);
        let sources: Vec<i64> = file
            .actions
            .iter()
            .map(|action| match action {
                Action::Copy { from, .. } => inputs.index(*from),
                _ => -1,
            })
            .collect();
        // They are met from the last action on, but after the base.
        inputs.met[usize::from(base.is_some())..].reverse();
        let mut caps = vec!["file.base"];
        let mut actions = Vec::with_capacity(count);
        for (i, action) in file.actions.into_iter().enumerate() {
            if let Action::Copy { copy, .. } = &action {
                if !(copy.include.is_empty() && copy.exclude.is_empty()) {
                    caps.push("file.copy.includeexcludepatterns");
                }
                if matches!(copy.mode, Some(Mode::Symbolic(_))) {
                    caps.push("file.copy.modestring");
                }
            }
            actions.push(pb::FileAction {
                // The result of action k is input number `inputs + k`.
                input: match i.checked_sub(1) {
                    None => base_index,
                    Some(previous) => (inputs.unique.len() + previous) as i64,
                },
                secondary_input: sources[i],
                output: if i + 1 == count { 0 } else { -1 },
                action: Some(action.into_pb(base_index)),
            });
        }
        let op = pb::op::Op::File(pb::FileOp { actions });
        // What files are does not depend on a platform.
        self.add(Draft { op, inputs, caps }, None, note)
    }
}

impl Action {
    fn into_pb(self, base: i64) -> pb::file_action::Action {
        use pb::file_action::Action as Out;
        let owner = |owner: Option<Owner>| owner.map(|o| o.to_pb(base));
        match self {
            Action::Mkdir { path, mode, parents, owner: o, time } => {
                Out::Mkdir(pb::FileActionMkDir {
                    path,
                    mode: (mode & 0o777) as i32,
                    make_parents: parents,
                    owner: owner(o),
                    timestamp: time,
                })
            }
            Action::Mkfile { path, mode, data, owner: o, time } => {
                Out::Mkfile(pb::FileActionMkFile {
                    path,
                    mode: (mode & 0o777) as i32,
                    data,
                    owner: owner(o),
                    timestamp: time,
                })
            }
            Action::Rm { path, allow_missing, wildcard } => Out::Rm(pb::FileActionRm {
                path,
                allow_not_found: allow_missing,
                allow_wildcard: wildcard,
            }),
            Action::Copy { copy, .. } => {
                let (mode, mode_str) = match copy.mode {
                    None => (-1, String::new()),
                    Some(Mode::Bits(bits)) => (bits as i32, String::new()),
                    Some(Mode::Symbolic(text)) => (0, text),
                };
                Out::Copy(pb::FileActionCopy {
                    src: path::clean_absolute(&copy.src),
                    dest: path::clean_destination(&copy.dest),
                    owner: owner(copy.owner),
                    mode,
                    mode_str,
                    follow_symlink: copy.follow_symlinks,
                    dir_copy_contents: copy.contents_only,
                    attempt_unpack_docker_compatibility: copy.unpack,
                    create_dest_path: copy.create_dest,
                    allow_wildcard: copy.wildcard,
                    allow_empty_wildcard: copy.allow_empty_wildcard,
                    timestamp: copy.time.unwrap_or(-1),
                    include_patterns: copy.include,
                    exclude_patterns: copy.exclude,
                    ..pb::FileActionCopy::default()
                })
            }
        }
    }
}
