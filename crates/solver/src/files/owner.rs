//! Who files belong to, by number or by name.

use std::io::{BufRead, BufReader};
use std::path::Path;

use koskit_llb::pb;
use pb::user_opt::User;

use super::{FileError, Result, Root, failed};

/// A user and a group, by number.
pub(crate) type Ids = (u32, u32);

/// Finds out who is meant. A name is looked up in the file system that `input` gives for its
/// index, `None` being an empty one.
///
/// A user without a group brings one along: by name, that of `/etc/passwd`; by number, the same
/// number.
pub(crate) fn lookup(
    owner: &pb::ChownOpt,
    input: &dyn Fn(i64) -> Result<Option<Root>>,
) -> Result<Ids> {
    let mut ids = match owner.user.as_ref().and_then(|user| user.user.as_ref()) {
        None => (0, 0),
        Some(User::ById(id)) => (*id, *id),
        Some(User::ByName(named)) => {
            let found = find(input(named.input)?.as_ref(), "etc/passwd", &named.name, |fields| {
                Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
            })?;
            found.ok_or_else(|| unknown("user", &named.name, "etc/passwd"))?
        }
    };
    match owner.group.as_ref().and_then(|group| group.user.as_ref()) {
        None => {}
        Some(User::ById(id)) => ids.1 = *id,
        Some(User::ByName(named)) => {
            let found = find(input(named.input)?.as_ref(), "etc/group", &named.name, |fields| {
                fields.get(2)?.parse().ok()
            })?;
            ids.1 = found.ok_or_else(|| unknown("group", &named.name, "etc/group"))?;
        }
    }
    Ok(ids)
}

fn unknown(what: &'static str, name: &str, file: &'static str) -> FileError {
    FileError::Unknown { what, name: name.to_owned(), file }
}

/// The first line for a name that makes sense.
fn find<T>(
    root: Option<&Root>,
    file: &'static str,
    name: &str,
    read: impl Fn(&[&str]) -> Option<T>,
) -> Result<Option<T>> {
    let Some(root) = root else { return Ok(None) };
    let Some(path) = root.find(Path::new(file), true)? else { return Ok(None) };
    for line in BufReader::new(root.file(&path)?).split(b'\n') {
        let line = line.map_err(failed("read", &path))?;
        let line = String::from_utf8_lossy(&line);
        let fields: Vec<&str> = line.trim().split(':').collect();
        if fields[0] == name {
            if let Some(found) = read(&fields) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn by_name(name: &str) -> Option<pb::UserOpt> {
        let named = pb::NamedUserOpt { name: name.into(), input: 0 };
        Some(pb::UserOpt { user: Some(User::ByName(named)) })
    }

    fn by_id(id: u32) -> Option<pb::UserOpt> {
        Some(pb::UserOpt { user: Some(User::ById(id)) })
    }

    #[test]
    fn names_are_those_of_the_image_and_bring_their_group() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/:/bin/sh\nbroken:x\napp:x:1000:50::/:/bin/sh\n";
        fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        fs::write(dir.path().join("etc/group"), "root:x:0:\nstaff:x:51:app\n").unwrap();
        let find = |user, group| {
            let owner = pb::ChownOpt { user, group };
            lookup(&owner, &|_| Root::open(dir.path()).map(Some)).map_err(|e| e.to_string())
        };
        assert_eq!(find(by_name("app"), None), Ok((1000, 50)));
        assert_eq!(find(by_name("app"), by_name("staff")), Ok((1000, 51)));
        assert_eq!(find(by_id(7), None), Ok((7, 7)));
        assert_eq!(find(by_id(7), by_id(0)), Ok((7, 0)));
        let message = r#"the image has no user "nobody" in /etc/passwd"#;
        assert_eq!(find(by_name("nobody"), None), Err(message.into()));
        assert!(find(by_name("broken"), None).is_err());
    }
}
