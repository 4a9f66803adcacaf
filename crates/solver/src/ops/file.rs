//! File ops: files copied, made and removed, without a command.

use std::collections::BTreeMap;
use std::sync::Arc;

use koskit_llb::{Digest, Patterns, pb};
use pb::file_action::Action;
use pb::user_opt::User;

use super::{Build, Outcome};
use crate::cache::KeyBuilder;
use crate::files::{
    Changes, FileError, Filter, Find, Ids, Links, ModeChange, Ownership, Root, Selection, Target,
    View, lookup,
};
use crate::filesystem::{Context, FileSystem, Layers};
use crate::snapshot;
use crate::{Event, Problem};

/// A file op that is a chain: one change after the other to one file system.
struct FileOp<'a> {
    /// Which input is changed; `None` is an empty file system.
    base: Option<usize>,
    actions: &'a [pb::FileAction],
    inputs: usize,
}

/// The file systems that an op copies from, as they were seen when its key was found, and what
/// it takes of them.
struct Found {
    sources: BTreeMap<usize, Source>,
    /// For each action; `None` for one that copies nothing.
    selections: Vec<Option<Selection>>,
}

/// A source that is held open.
struct Source {
    view: View,
    /// Its mount, which ends with this.
    _mount: Option<snapshot::View>,
}

impl Build<'_> {
    /// Does a file op.
    pub fn file(
        &self,
        index: usize,
        op: &pb::FileOp,
        inputs: &[FileSystem],
    ) -> Result<Outcome, Problem> {
        if is_chain(op, inputs.len()) {
            return self.chain(index, op, inputs, None);
        }
        // Each action is a step of its own, whose result others can start from.
        let mut all = inputs.to_vec();
        let mut outputs = Vec::new();
        let mut cached = true;
        for (part, action) in op.actions.iter().enumerate() {
            let alone =
                pb::FileOp { actions: vec![pb::FileAction { output: 0, ..action.clone() }] };
            let mut done = self.chain(index, &alone, &all, Some(part))?;
            cached &= done.cached;
            let made = done.outputs.remove(0);
            if action.output >= 0 {
                outputs.push((action.output, made.clone()));
            }
            all.push(made);
        }
        outputs.sort_by_key(|(number, _)| *number);
        let outputs = outputs.into_iter().map(|(_, output)| output).collect();
        Ok(Outcome { outputs, cached })
    }

    /// Does actions that change one file system, one after the other. `part` tells those of an op
    /// apart which are done each by itself.
    fn chain(
        &self,
        index: usize,
        op: &pb::FileOp,
        inputs: &[FileSystem],
        part: Option<usize>,
    ) -> Result<Outcome, Problem> {
        let vertex = &self.graph.vertices()[index];
        let op = FileOp::new(op, inputs.len());
        let whole = op.whole_inputs();
        let mut inputs = inputs.to_vec();
        for &index in &whole {
            inputs[index] = FileSystem::Layers(self.layers(&inputs[index])?);
        }
        let base = match op.base {
            Some(index) => self.layers(&inputs[index])?,
            None => Arc::new(Layers::scratch()),
        };

        // By name, all inputs count as a whole. A context has no name.
        let key = self.key("file", vertex).with(self.options.epoch.to_le_bytes());
        let key = match part {
            Some(part) => key.with(part.to_le_bytes()),
            None => key,
        };
        let names = inputs.iter().map(|input| match input {
            FileSystem::Layers(layers) => Some(&layers.id),
            FileSystem::Context(_) => None,
        });
        let names = names.collect::<Option<Vec<_>>>();
        let alias =
            names.map(|all| all.iter().fold(key.clone(), |k, id| k.with(id.as_str())).finish());
        if let Some(key) = alias.as_ref().and_then(|alias| self.alias(alias)) {
            if let Some(made) = self.known(vertex, &base, &key, None)? {
                return Ok(Outcome { outputs: vec![made], cached: true });
            }
        }
        let output = part.is_none().then_some(0);
        if let (Some(alias), Some(output)) = (&alias, output) {
            // What is copied need not be fetched for this.
            if let Some(made) = self.known_to_buildkit(vertex, &base, alias, output)? {
                return Ok(Outcome { outputs: vec![made], cached: true });
            }
        }

        let mount = |layers: &Layers| Ok(self.solver.snapshots.view(&self.snapshot(layers)?)?);
        let key = whole.iter().fold(key, |key, &index| match &inputs[index] {
            FileSystem::Layers(layers) => key.with(layers.id.as_str()),
            FileSystem::Context(_) => unreachable!("it was made layers"),
        });
        let ownership = self.solver.snapshots.ownership();
        let (found, key) = op.find(&inputs, key, &mount, ownership)?;
        let remember = || match &alias {
            Some(alias) => self.put_alias(alias, &key),
            None => Ok(()),
        };
        if let Some(made) = self.known(vertex, &base, &key, output)? {
            remember()?;
            return Ok(Outcome { outputs: vec![made], cached: true });
        }

        let _claim = self.claim(vertex, &key)?;
        if let Some(made) = self.known(vertex, &base, &key, output)? {
            remember()?;
            return Ok(Outcome { outputs: vec![made], cached: true });
        }

        let mut active = self.solver.snapshots.prepare(&self.snapshot(&base)?)?;
        let root = Root::open(&active.path())?;
        let warn = |text| (self.tell)(Event::Warning { vertex: index, text });
        let copied = op.copied_context(&inputs).filter(|_| !self.anew(vertex));
        // The same step, whatever is in the context.
        let last = copied.map(|context| {
            self.key("last", vertex).with(context.path.as_os_str().as_encoded_bytes()).finish()
        });
        let links = last.as_ref().map(|last| self.links(last)).transpose()?;
        let changes = Changes {
            root: &root,
            ownership,
            epoch: self.options.epoch,
            warn: &warn,
            links: links.as_ref(),
        };
        // Where users are looked up.
        let mut users = BTreeMap::new();
        for &index in whole.iter().filter(|&&index| Some(index) != op.base) {
            if let FileSystem::Layers(layers) = &inputs[index] {
                users.insert(index, mount(layers)?);
            }
        }
        op.apply(&found, &changes, &|input| match users.get(&input) {
            Some(mounted) => Root::open(&mounted.path()).map(Some),
            None if op.base == Some(input) => Root::open(&active.path()).map(Some),
            None => Ok(None),
        })?;
        drop(root);
        if let Some(links) = links {
            active.copies(links);
        }
        let made = self.commit(active, vertex, &base, key.clone())?;
        remember()?;
        if let Some(last) = last {
            self.solver.aliases.put(&last, &key)?;
        }
        Ok(Outcome { outputs: vec![made], cached: false })
    }

    /// What a step that copies a context need not write, as it did so before.
    fn links(&self, last: &Digest) -> Result<Links, Problem> {
        let earlier = match self.solver.aliases.get(last) {
            Some(key) => self.solver.snapshots.get(&key)?,
            None => None,
        };
        Ok(self.solver.snapshots.links(earlier.as_ref())?)
    }
}

impl<'a> FileOp<'a> {
    fn new(op: &'a pb::FileOp, inputs: usize) -> Self {
        let base = usize::try_from(op.actions[0].input).ok();
        Self { base, actions: &op.actions, inputs }
    }

    /// The inputs of which all matters, in order: the base, and those in which users are looked
    /// up. Of all others only what is copied does.
    fn whole_inputs(&self) -> Vec<usize> {
        let mut whole: Vec<usize> = self.base.into_iter().collect();
        for action in self.actions {
            let Some(owner) = owner(action) else { continue };
            for user in [&owner.user, &owner.group].into_iter().flatten() {
                if let Some(User::ByName(named)) = &user.user {
                    whole.extend(usize::try_from(named.input));
                }
            }
        }
        whole.sort_unstable();
        whole.dedup();
        whole
    }

    /// The context that is copied, if that is all that is done, and nothing is unpacked or taken
    /// away for it.
    fn copied_context<'b>(&self, inputs: &'b [FileSystem]) -> Option<&'b Context> {
        let [pb::FileAction { action: Some(Action::Copy(copy)), secondary_input, .. }] =
            self.actions
        else {
            return None;
        };
        if copy.attempt_unpack_docker_compatibility || copy.always_replace_existing_dest_paths {
            return None;
        }
        match inputs.get(usize::try_from(*secondary_input).ok()?)? {
            FileSystem::Context(context) => Some(context),
            FileSystem::Layers(_) => None,
        }
    }

    /// Finds all files that are to be copied, and adds their digests to a key.
    fn find(
        &self,
        inputs: &[FileSystem],
        key: KeyBuilder,
        mount: &dyn Fn(&Layers) -> Result<snapshot::View, Problem>,
        ownership: Ownership,
    ) -> Result<(Found, Digest), Problem> {
        let mut key = key;
        let mut found = Found { sources: BTreeMap::new(), selections: Vec::new() };
        for action in self.actions {
            let Some(Action::Copy(copy)) = &action.action else {
                found.selections.push(None);
                continue;
            };
            // An empty file system is one more input.
            let index = usize::try_from(action.secondary_input).unwrap_or(self.inputs);
            if let std::collections::btree_map::Entry::Vacant(vacant) = found.sources.entry(index) {
                vacant.insert(Source::open(inputs.get(index), mount, ownership)?);
            }
            let view = &found.sources[&index].view;
            let find = Find {
                follow: copy.follow_symlink,
                wildcard: copy.allow_wildcard,
                allow_none: copy.allow_empty_wildcard,
                contents: copy.dir_copy_contents,
            };
            let filter = Filter {
                include: Patterns::new(&copy.include_patterns).map_err(FileError::from)?,
                exclude: Patterns::new(&copy.exclude_patterns).map_err(FileError::from)?,
            };
            let mut selection = view.select(&copy.src, find, &filter)?;
            for path in &copy.required_paths {
                selection.require(path, view)?;
            }
            key = key.with(selection.digest(view)?);
            found.selections.push(Some(selection));
        }
        Ok((found, key.finish()))
    }

    /// Does it, to files under a root.
    fn apply(
        &self,
        found: &Found,
        changes: &Changes<'_>,
        user_files: &dyn Fn(usize) -> Result<Option<Root>, FileError>,
    ) -> Result<(), Problem> {
        for (action, selection) in self.actions.iter().zip(&found.selections) {
            let ids = |owner: &Option<pb::ChownOpt>| -> Result<Option<Ids>, FileError> {
                let root = |input: i64| match usize::try_from(input) {
                    Ok(input) => user_files(input),
                    Err(_) => Ok(None),
                };
                owner.as_ref().map(|owner| lookup(owner, &root)).transpose()
            };
            let root = |owner| Ok::<_, FileError>(ids(owner)?.unwrap_or((0, 0)));
            match action.action.as_ref().expect("the graph was checked") {
                Action::Copy(copy) => {
                    let index = usize::try_from(action.secondary_input).unwrap_or(self.inputs);
                    let target = Target {
                        path: copy.dest.clone(),
                        owner: ids(&copy.owner)?,
                        mode: mode(copy)?,
                        parents: copy.create_dest_path,
                        contents: copy.dir_copy_contents,
                        time: time(copy.timestamp),
                        unpack: copy.attempt_unpack_docker_compatibility,
                        replace: copy.always_replace_existing_dest_paths,
                    };
                    let selection = selection.as_ref().expect("a copy has one");
                    changes.copy(selection, &found.sources[&index].view, &target)?;
                }
                Action::Mkdir(dir) => {
                    let owner = root(&dir.owner)?;
                    let (mode, time) = (dir.mode as u32, time(dir.timestamp));
                    changes.mkdir(&dir.path, mode, dir.make_parents, owner, time)?;
                }
                Action::Mkfile(file) => {
                    let owner = root(&file.owner)?;
                    let (mode, time) = (file.mode as u32, time(file.timestamp));
                    changes.mkfile(&file.path, mode, &file.data, owner, time)?;
                }
                Action::Symlink(link) => {
                    let owner = root(&link.owner)?;
                    changes.symlink(&link.oldpath, &link.newpath, owner, time(link.timestamp))?;
                }
                Action::Rm(rm) => {
                    changes.remove(&rm.path, rm.allow_not_found, rm.allow_wildcard)?
                }
            }
        }
        Ok(())
    }
}

/// Whether each action of an op changes what the one before it made, the last one is the result,
/// and none copies out of what the op itself makes.
fn is_chain(op: &pb::FileOp, inputs: usize) -> bool {
    op.actions.iter().enumerate().all(|(i, action)| {
        let last = i + 1 == op.actions.len();
        let in_order = i == 0 || action.input == (inputs + i - 1) as i64;
        let output = if last { 0 } else { -1 };
        in_order && action.output == output && action.secondary_input < inputs as i64
    })
}

impl Source {
    fn open(
        input: Option<&FileSystem>,
        mount: &dyn Fn(&Layers) -> Result<snapshot::View, Problem>,
        ownership: Ownership,
    ) -> Result<Self, Problem> {
        let layers = match input {
            Some(FileSystem::Context(context)) => {
                return Ok(Self { view: context.view()?, _mount: None });
            }
            Some(FileSystem::Layers(layers)) => mount(layers)?,
            None => mount(&Layers::scratch())?,
        };
        let root = Root::open(&layers.path())?;
        Ok(Self { view: View::image(root, ownership), _mount: Some(layers) })
    }
}

fn owner(action: &pb::FileAction) -> Option<&pb::ChownOpt> {
    match action.action.as_ref()? {
        Action::Copy(copy) => copy.owner.as_ref(),
        Action::Mkdir(dir) => dir.owner.as_ref(),
        Action::Mkfile(file) => file.owner.as_ref(),
        Action::Symlink(link) => link.owner.as_ref(),
        Action::Rm(_) => None,
    }
}

fn mode(copy: &pb::FileActionCopy) -> Result<ModeChange, FileError> {
    match (copy.mode_str.as_str(), u32::try_from(copy.mode)) {
        ("", Ok(bits)) => Ok(ModeChange::Set(bits & 0o7777)),
        ("", Err(_)) => Ok(ModeChange::Keep),
        (text, _) => ModeChange::parse(text),
    }
}

/// -1 is none.
fn time(nanoseconds: i64) -> Option<i64> {
    (nanoseconds != -1).then_some(nanoseconds)
}
