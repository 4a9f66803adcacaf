//! The boot archive of a set of containers.

use crate::{Error, Platform};
use koskit_spec::archive::{Builder, Kind};
use koskit_spec::contract::Contract;
use rustix::fs::{MemfdFlags, memfd_create};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;

/// A container to be started when the machine has come up.
#[derive(Clone, Debug)]
pub struct Container {
    /// What it may hold.
    pub contract: Contract,
    /// Its words: [`koskit_spec::contract::Process::encode`].
    pub process: Vec<u8>,
    /// Its program: a rewritten ELF file.
    pub program: Vec<u8>,
    /// Its files: a newc cpio. May be empty.
    pub initrd: Vec<u8>,
}

/// What the machine shall know of the world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// From which the random numbers of all containers are made.
    pub seed: [u8; 32],
    /// Nanoseconds since 1970.
    pub epoch_ns: u64,
    /// MiB that the machine may use; 0 is all.
    pub memory: u32,
}

/// The archive's bytes.
pub(crate) fn assemble(
    platform: &Platform,
    kernel: &str,
    containers: &[Container],
    world: World,
) -> Result<Vec<u8>, Error> {
    let mut builder = Builder::default();
    builder.add(Kind::Kernel, platform.read(kernel)?);
    builder.add(Kind::RootServer, platform.read(Platform::ROOT_SERVER)?);
    builder.add(Kind::Libkos, platform.libkos()?);
    add(&mut builder, containers);
    builder.memory = world.memory;
    builder.finish(world.seed, world.epoch_ns).map_err(Error::Archive)
}

/// Adds the containers; what several of them have in common is stored once, and then is in
/// the machine's memory once.
fn add(builder: &mut Builder, containers: &[Container]) {
    let (mut programs, mut initrds) = (HashMap::new(), HashMap::new());
    for container in containers {
        let program = *programs
            .entry(&container.program)
            .or_insert_with_key(|bytes| builder.add(Kind::Program, bytes.to_vec()));
        let initrd = *initrds
            .entry(&container.initrd)
            .or_insert_with_key(|bytes| builder.add(Kind::Initrd, bytes.to_vec()));
        let mut bytes = container.contract.to_bytes().to_vec();
        bytes.extend_from_slice(&container.process);
        builder.add_container(Kind::Container, bytes, program, initrd);
    }
}

/// A file with these bytes that has no name and goes away with its last user.
pub(crate) fn nameless(bytes: &[u8]) -> Result<File, Error> {
    let make = || {
        let mut file = File::from(memfd_create("koskit-boot-archive", MemfdFlags::CLOEXEC)?);
        file.write_all(bytes)?;
        Ok(file)
    };
    make().map_err(|source| Error::Host { what: "keep the boot archive in memory", source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use koskit_spec::archive::Archive;
    use std::io::Read;

    fn container(name: &str, program: u8, initrd: u8) -> Container {
        let mut contract = Contract::new(name);
        contract.untyped_bits = 20;
        Container {
            contract,
            process: vec![9; 5],
            program: vec![program; 5000],
            initrd: vec![initrd; 10],
        }
    }

    #[test]
    fn what_containers_have_in_common_is_stored_once() {
        let mut builder = Builder::default();
        let containers = [container("a", 1, 7), container("b", 1, 8), container("c", 2, 7)];
        add(&mut builder, &containers);
        let bytes = builder.finish([0; 32], 0).unwrap();
        let archive = Archive::from_page(&bytes).unwrap();
        let count = |kind| archive.iter().filter(|entry| entry.kind == kind).count();
        assert_eq!((count(Kind::Program), count(Kind::Initrd), count(Kind::Container)), (2, 2, 3));
        let first = |index: u32| bytes[archive.get(index as usize).unwrap().offset as usize];
        let found: Vec<_> = archive
            .iter()
            .filter(|entry| entry.kind == Kind::Container)
            .map(|entry| (first(entry.program), first(entry.initrd)))
            .collect();
        assert_eq!(found, [(1, 7), (1, 8), (2, 7)]);
    }

    #[test]
    fn a_container_is_its_contract_and_then_its_process_block() {
        let mut builder = Builder::default();
        add(&mut builder, &[container("a", 1, 7)]);
        let bytes = builder.finish([0; 32], 0).unwrap();
        let entry = Archive::from_page(&bytes).unwrap().find(Kind::Container).unwrap();
        let bytes = &bytes[entry.offset as usize..][..entry.size as usize];
        assert_eq!(Contract::from_bytes(bytes).unwrap().name(), "a");
        assert_eq!(bytes[Contract::SIZE..], [9; 5]);
    }

    #[test]
    fn another_process_can_open_the_nameless_file() {
        use std::os::fd::AsRawFd;
        let file = nameless(b"bytes").unwrap();
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let mut child = std::process::Command::new("cat")
            .arg(path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
        child.wait().unwrap();
        assert_eq!(out, b"bytes");
    }
}
