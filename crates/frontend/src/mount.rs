//! RUN --mount: what a command sees besides the file system of its stage.

use koskit_dockerfile::{Diagnostic, Mount, MountKind, Place, Sharing, Word};
use koskit_llb::{self as llb, SecretMount, SshMount, path, pb};

use crate::Result;
use crate::evaluate::Evaluator;
use crate::plan::Origin;
use crate::step::{From, Mounted};

/// The mounts of one RUN.
#[derive(Default)]
pub(crate) struct Mounts {
    pub mounted: Vec<Mounted>,
    pub secrets: Vec<SecretMount>,
    pub ssh: Vec<SshMount>,
}

/// Reads the mounts of a RUN.
pub(crate) fn read(
    evaluator: &mut Evaluator<'_, '_>,
    words: &[Word],
    place: &Place,
) -> Result<Mounts> {
    let mut mounts = Mounts::default();
    for word in words {
        let (expander, variables) = (&evaluator.expander, &evaluator.state.variables);
        let mount = Mount::parse(word, &mut |text| expander.word(text, variables))?;
        match mount.kind {
            MountKind::Secret => {
                let secret = secret(mount);
                evaluator.taken.secret(&secret.id, !secret.optional, place.lines);
                mounts.secrets.push(secret);
            }
            MountKind::Ssh => {
                let ssh = ssh(mount, word)?;
                evaluator.taken.ssh(&ssh.id, !ssh.optional, place.lines);
                mounts.ssh.push(ssh);
            }
            MountKind::Bind | MountKind::Cache | MountKind::Tmpfs => {
                mounts.mounted.push(mounted(evaluator, mount, word)?);
            }
        }
    }
    Ok(mounts)
}

fn secret(mount: Mount) -> SecretMount {
    let base = |path: &str| {
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        if name.is_empty() { "/".to_owned() } else { name.to_owned() }
    };
    let named = [mount.source, mount.id].into_iter().find(|text| !text.is_empty());
    let id = named.unwrap_or_else(|| base(&mount.target));
    let given = Some(mount.target).filter(|target| !target.is_empty());
    let target = match mount.env {
        Some(_) => given,
        None => Some(given.unwrap_or_else(|| format!("/run/secrets/{}", base(&id)))),
    };
    SecretMount {
        target,
        env: mount.env,
        uid: mount.uid.unwrap_or_default(),
        gid: mount.gid.unwrap_or_default(),
        mode: mount.mode.unwrap_or(0o400),
        optional: !mount.required,
        id,
    }
}

fn ssh(mount: Mount, word: &Word) -> Result<SshMount> {
    if !mount.source.is_empty() {
        let error = Diagnostic::error(word.span, "a mount of type ssh has no source");
        return Err(Box::new(error.hint("id=… says which agent is meant")));
    }
    Ok(SshMount {
        id: mount.id,
        target: mount.target,
        uid: mount.uid.unwrap_or_default(),
        gid: mount.gid.unwrap_or_default(),
        mode: mount.mode.unwrap_or(0o600),
        optional: !mount.required,
    })
}

fn mounted(evaluator: &mut Evaluator<'_, '_>, mount: Mount, word: &Word) -> Result<Mounted> {
    let origin = match (mount.from.as_str(), mount.kind) {
        ("", MountKind::Cache) => Origin::Scratch,
        ("", _) => Origin::Context,
        (name, _) => evaluator.plan.named_origin(name, evaluator.index, word, evaluator.options)?,
    };
    let mut from = evaluator.from(origin, word, None)?;
    // What a tmpfs does not take from the context is noted, too, as BuildKit does: it is part
    // of what the context is asked for.
    evaluator.need(&from, &mount.source);
    let kind = match mount.kind {
        MountKind::Tmpfs => {
            from = From::Scratch;
            llb::MountKind::Tmpfs { size: mount.size }
        }
        MountKind::Cache => cache(evaluator, &mount),
        _ => llb::MountKind::Bind,
    };
    let absolute = path::clean(&mount.target).starts_with('/');
    let target = match absolute {
        true => mount.target,
        false => path::join(evaluator.state.workdir(), &mount.target),
    };
    if target == "/" {
        let error = Diagnostic::error(word.span, "a mount cannot hide the root of the stage");
        return Err(Box::new(error.label("expected a target below /")));
    }
    let mut selector = path::clean_absolute(&mount.source);
    let mut directory = None;
    if selector == "/" {
        selector.clear();
        if mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some() {
            selector = "/cache".into();
            let (user, group) = (mount.uid.unwrap_or_default(), mount.gid.unwrap_or_default());
            directory = Some((mount.mode.unwrap_or(0o755), user, group));
        }
    }
    let mount = llb::Mount { target, source: None, selector, readonly: mount.read_only, kind };
    Ok(Mounted { from, directory, mount })
}

fn cache(evaluator: &Evaluator<'_, '_>, mount: &Mount) -> llb::MountKind {
    let id = match mount.id.as_str() {
        "" => path::clean(&mount.target),
        id => id.to_owned(),
    };
    let space = evaluator.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS");
    let sharing = match mount.sharing {
        None | Some(Sharing::Shared) => pb::CacheSharingOpt::Shared,
        Some(Sharing::Private) => pb::CacheSharingOpt::Private,
        Some(Sharing::Locked) => pb::CacheSharingOpt::Locked,
    };
    let space = space.map(String::as_str).unwrap_or_default();
    llb::MountKind::Cache { id: format!("{space}/{id}"), sharing }
}
