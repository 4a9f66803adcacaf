//! Who a command is, and what it may.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::stage::failed;
use crate::namespace::MORE_IDS;

pub(super) type Uid = rustix::process::Uid;
pub(super) type Gid = rustix::process::Gid;

/// The largest `/etc/passwd` that is read.
const MAX_FILE: u64 = 16 << 20;

/// What Docker leaves to a container, but for `CAP_MKNOD`: there a cgroup keeps it harmless.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// A user with its groups.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    uid: u32,
    gid: u32,
    /// Further groups.
    groups: Vec<u32>,
    /// The home directory.
    pub home: String,
}

/// Finds `USER` or `USER:GROUP` in the files of the root that this process has. Reading follows
/// Docker: a number needs no entry, a name does; a group that is named is the only one.
pub(super) fn find(name: &str) -> Result<User, String> {
    find_in(name, &read(Path::new("/etc/passwd"))?, &read(Path::new("/etc/group"))?)
}

fn find_in(name: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (user, own_group) = match name.split_once(':') {
        Some((user, group)) => (user, group),
        None => (name, ""),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        let uid = fields.get(2).and_then(|uid| uid.parse::<u32>().ok());
        fields[0] == user || number.is_some() && uid == number
    });
    let field = |n: usize| entry.as_ref().and_then(|fields| fields.get(n)).copied();
    let uid = match field(2).and_then(|uid| uid.parse().ok()).or(number) {
        Some(uid) => uid,
        None => return Err(format!("there is no user {user:?} in the image's /etc/passwd")),
    };
    let home = field(5).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    let groups = group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?.parse::<u32>().ok()?);
        Some((name, gid, fields.next().unwrap_or_default()))
    });
    if !own_group.is_empty() {
        let mut groups = groups;
        let gid = groups.find(|(name, ..)| *name == own_group).map(|(_, gid, _)| gid);
        let gid = gid.or_else(|| own_group.parse().ok());
        let missing = || format!("there is no group {own_group:?} in the image's /etc/group");
        return Ok(User { uid, gid: gid.ok_or_else(missing)?, groups: Vec::new(), home });
    }
    let gid = field(3).and_then(|gid| gid.parse().ok()).unwrap_or(0);
    let mut member_of = Vec::new();
    if let Some(name) = field(0) {
        let theirs = groups.filter(|(_, _, members)| members.split(',').any(|m| m == name));
        member_of.extend(theirs.map(|(_, gid, _)| gid));
    }
    Ok(User { uid, gid, groups: member_of, home })
}

/// Reads a file that somebody else has made: a pipe there would never end.
fn read(path: &Path) -> Result<String, String> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => file,
        // An image need not have one.
        _ => return Ok(String::new()),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE)
        .read_to_end(&mut bytes)
        .map_err(failed(format!("read {}", path.display())))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl User {
    pub fn uid(&self) -> Uid {
        Uid::from_raw(self.uid)
    }

    pub fn gid(&self) -> Gid {
        Gid::from_raw(self.gid)
    }

    /// Makes this process, which has one thread, the user's. Without `many` users there is only
    /// root, with no groups to set. An `insecure` one keeps all capabilities that there are.
    pub fn become_it(&self, many: bool, insecure: bool) -> Result<(), String> {
        let allowed = if insecure { CapabilitySet::from_bits_retain(!0) } else { CAPABILITIES };
        let other = self.uid != 0 || self.gid != 0;
        if other && !many {
            return Err(format!(
                "it is to run as user {} and group {}, but here is only one user: {MORE_IDS}",
                self.uid, self.gid
            ));
        }
        let capability = |n: u32| CapabilitySet::from_bits_retain(1 << n);
        for capability in (0..63).map(capability).filter(|c| !allowed.contains(*c)) {
            match remove_capability_from_bounding_set(capability) {
                // The kernel does not know so many.
                Err(rustix::io::Errno::INVAL) => break,
                other => other.map_err(failed("give up a capability"))?,
            }
        }
        let _ = clear_ambient_capability_set();
        if many {
            let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
            set_thread_groups(&groups).map_err(failed("set the groups"))?;
            let (uid, gid) = (self.uid(), self.gid());
            let unmapped = |what, number| {
                move |e: rustix::io::Errno| match e {
                    rustix::io::Errno::INVAL => {
                        format!("{what} {number} is none of those that there are here")
                    }
                    e => failed(format!("become {what} {number}"))(e),
                }
            };
            set_thread_res_gid(gid, gid, gid).map_err(unmapped("group", self.gid))?;
            set_thread_res_uid(uid, uid, uid).map_err(unmapped("user", self.uid))?;
        }
        // For another user than root, the kernel has emptied them.
        let mine = capabilities(None).map_err(failed("read the capabilities"))?;
        let left = mine.permitted & allowed;
        let left = if self.uid == 0 { left } else { CapabilitySet::empty() };
        let sets = CapabilitySets {
            effective: left,
            permitted: left,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets).map_err(failed("give up capabilities"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:bob,ann\nadm:x:4:root\nbroken\n";

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<User, String> {
        Ok(User { uid, gid, groups: groups.into(), home: home.into() })
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let find = |name| find_in(name, PASSWD, GROUP);
        assert_eq!(find(""), user(0, 0, &[4], "/root"));
        assert_eq!(find("ann"), user(1000, 100, &[10], "/home/ann"));
        assert_eq!(find("1000"), user(1000, 100, &[10], "/home/ann"));
        assert_eq!(find("ann:wheel"), user(1000, 10, &[], "/home/ann"));
        assert_eq!(find("ann:77"), user(1000, 77, &[], "/home/ann"));
        assert_eq!(find("4000"), user(4000, 0, &[], "/"));
        assert_eq!(find(":users"), user(0, 100, &[], "/root"));
        assert!(find("eve").unwrap_err().contains("eve"));
        assert!(find("ann:eves").unwrap_err().contains("eves"));
        assert!(find("-1").is_err());
    }

    #[test]
    fn an_image_without_users_has_root_and_numbers() {
        assert_eq!(find_in("", "", ""), user(0, 0, &[], "/"));
        assert_eq!(find_in("7:8", "", ""), user(7, 8, &[], "/"));
    }
}
