//! The bundle: everything that a machine must be given to start one container.

use crate::rewrite::RewriteError;
use koskit_image::directory::{self, DirectoryError};
use koskit_spec::contract::{Contract, Process};
use koskit_spec::plan::Plan;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the root server needs to start one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What it may hold.
    pub contract: Contract,
    /// What that comes to.
    pub plan: Plan,
    /// Words of the process; the first is what the program takes for its own name.
    pub args: Vec<String>,
    /// Its environment, each `NAME=value`.
    pub env: Vec<String>,
    /// Its working directory: absolute, and a directory of the initrd.
    pub cwd: String,
    /// Absolute path of the program in the image.
    pub path: PathBuf,
    /// The program: an ELF file, rewritten.
    pub program: Vec<u8>,
    /// All files of the image, the program among them: a newc cpio. Its programs and libraries
    /// are rewritten, too.
    pub initrd: Vec<u8>,
    /// Protocols that the container may publish.
    pub publishes: Vec<String>,
    /// Number of system calls that were rewritten in all files, by the x16 and the x8 form of the
    /// stub.
    pub sites: (usize, usize),
    /// Programs and libraries that cannot be rewritten, and why; the program does not load them
    /// at its start. A system call of theirs ends the container.
    pub refused: BTreeMap<PathBuf, RewriteError>,
}

/// File that states the contract; a directory with it is a bundle.
const SPEC: &str = "spec.json";
const INITRD: &str = "initrd.cpio";

impl Bundle {
    /// The process block ([`Process`]) of the container.
    pub fn process(&self) -> Vec<u8> {
        Process::encode(&self.args, &self.env, &self.cwd).expect("lower() has encoded it before")
    }

    /// Name of the program, without its directory.
    pub fn binary(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// Name of the program's file in a written bundle.
    pub fn elf_name(&self) -> String {
        format!("{}.elf", crate::contract::name_of_image(&self.binary()))
    }

    /// What a person may want to know of the bundle: first the table of kernel objects, with
    /// the names of the talk, then the rest of the contract and the process. Pages are of 4 KiB;
    /// `CNode` is the log2 of its slots; `Untyped` is in bytes.
    pub fn spec_json(&self) -> Value {
        let (contract, plan) = (&self.contract, &self.plan);
        let untyped = 1u64 << contract.untyped_bits;
        json!({
            "Untyped": format!("{untyped:#x}"),
            "VSpace": 1,
            "TCB": 1,
            "CNode": contract.cnode_bits,
            "Frames": plan.frames,
            "Cmd": self.args,
            "Binary": self.binary(),
            "Name": contract.name(),
            "SharedFrames": plan.shared_frames,
            "PageTables": plan.tables,
            "UntypedUsed": format!("{:#x}", plan.bytes),
            "Contract": {
                "heap_pages": contract.heap_pages,
                "stack_pages": contract.stack_pages,
                "ut_large_page": contract.ut_large_page,
                "ut_4k_pages": contract.ut_4k_pages,
                "priority": contract.priority,
                "max_priority": contract.max_priority,
                "threads": contract.threads,
                "cpu": contract.cpu,
                "devices": koskit_spec::board::devices(contract.devices)
                    .map(|(_, device)| device.name)
                    .collect::<Vec<_>>(),
                "publishes": self.publishes,
            },
            "Env": self.env,
            "Cwd": self.cwd,
            "Path": self.path.to_string_lossy(),
            "SystemCalls": { "x16": self.sites.0, "x8": self.sites.1 },
            "NotRewritten": self.refused.iter().map(|(path, why)| {
                (Path::new("/").join(path).to_string_lossy().into_owned(), why.to_string().into())
            }).collect::<serde_json::Map<_, _>>(),
            "Files": {
                self.elf_name(): self.program.len(),
                INITRD: self.initrd.len(),
            },
        })
    }

    /// Writes `spec.json`, the program and `initrd.cpio` into a directory, which then is there
    /// with all of them or as it was before. An older bundle is replaced.
    ///
    /// # Errors
    /// Something else is in the directory, or the system refuses.
    pub fn write(&self, directory: &Path) -> Result<(), DirectoryError> {
        let mut spec = serde_json::to_vec_pretty(&self.spec_json()).expect("JSON can be written");
        spec.push(b'\n');
        directory::replace(directory, SPEC, |at| {
            directory::write(&at.join(SPEC), &spec)?;
            directory::write(&at.join(self.elf_name()), &self.program)?;
            directory::write(&at.join(INITRD), &self.initrd)
        })
    }
}
