//! Image to bundle: what the root server needs to start an image natively.
//!
//! ```text
//! configuration ─► process   the words of the process, and which file is its program
//! rootfs ────────► rewrite   programs and libraries, their system calls turned into branches to
//!                            libkos
//!                  initrd    all files, as a newc cpio
//!                  closure   what the program loads at its start
//! labels ────────► contract  what it may hold; defaults from all of the above
//! ```
//! [`lower`] does all of it in memory and gives a [`Bundle`]; nothing here runs code of the
//! image. The same image, options and libkos give the same bundle, byte for byte.

mod a64;
mod bundle;
mod closure;
mod contract;
mod error;
mod initrd;
mod labels;
mod process;
pub mod rewrite;
mod rootfs;

pub use bundle::Bundle;
pub use error::{LowerError, Source};
pub use initrd::write as archive;
pub use labels::labels;

use koskit_image::oci::ImageConfiguration;
use koskit_image::{NodeKind, Tree};
use koskit_spec::contract::Process;
use koskit_spec::elf::Elf;
use koskit_spec::layout::{KOS_BASE, KOS_END};
use koskit_spec::plan::Plan;
use std::collections::BTreeMap;
use std::path::Path;

/// What a user says beside the image. The default changes nothing of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Name of the container where no label states one: that of the image. Its last part,
    /// without tag, is what counts.
    pub name: String,
    /// Instead of the image's CMD, where there are any.
    pub args: Vec<String>,
    /// One word instead of the image's ENTRYPOINT; the image's CMD then does not count either.
    /// An empty word removes the ENTRYPOINT.
    pub entrypoint: Option<String>,
    /// `NAME=value` sets a variable, `NAME` removes it.
    pub env: Vec<String>,
    /// Absolute path, instead of the image's WORKDIR.
    pub workdir: Option<String>,
    /// Labels ([`koskit_spec::label`]) that win over those of the image.
    pub labels: BTreeMap<String, String>,
}

/// Makes a bundle of an image. `libkos` is the ELF file that will be mapped beside the program;
/// its size counts in the plan.
///
/// # Errors
/// Why this image cannot run natively, in a sentence for its author.
pub fn lower(
    tree: &Tree,
    config: &ImageConfiguration,
    options: &Options,
    libkos: &[u8],
) -> Result<Bundle, LowerError> {
    let stated = contract::Stated::read(tree, config, options)?;
    let words = process::Words::of(config, options)?;
    let mut tree = tree.clone();
    process::make_workdir(&mut tree, &words.cwd)?;
    let binary = labels::binary(&tree, config, options, stated.binary.as_deref());
    let (path, file) = process::program(&tree, &words, binary)?;
    let refuse = |source| LowerError::Program { path: path.clone(), source };
    Elf::program(&file).map_err(|e| refuse(e.into()))?;
    let closure = closure::Closure::of(&tree, &path, &file, &words.env)
        .map_err(|interpreter| LowerError::Interpreter { path: path.clone(), interpreter })?;
    let rootfs::Done { sites, refused } = rootfs::rewrite_all(&mut tree);
    let inside = path.strip_prefix("/").unwrap_or(&path);
    if let Some(why) = refused.get(inside) {
        return Err(refuse(why.clone()));
    }
    if let Some((library, why)) = closure.paths().find_map(|at| refused.get_key_value(at)) {
        let library = Path::new("/").join(library);
        return Err(LowerError::Library { path: library, program: path, source: why.clone() });
    }
    let process =
        Process::encode(&words.args, &words.env, &words.cwd).map_err(LowerError::Process)?;
    let initrd = initrd::write(&tree)?;

    let program = match tree.get(inside).map(|node| &node.kind) {
        Some(NodeKind::File(bytes)) => bytes.to_vec(),
        _ => file.to_vec(),
    };
    let elf = Elf::program(&program).map_err(|e| refuse(e.into()))?;
    let libkos = Elf::within(libkos, KOS_BASE, KOS_END).map_err(LowerError::Libkos)?;
    let mut contract = stated.contract(&file, &words, closure.pages())?;
    let size = |bytes: &[u8]| bytes.len() as u64;
    let plan = Plan::new(&contract, &elf, &libkos, size(&initrd), size(&process))
        .map_err(|e| stated.explain(e))?;
    contract.untyped_bits = plan.untyped_bits();
    contract.check().map_err(|e| stated.explain(e))?;
    plan.admit(&contract).map_err(|e| stated.explain(e))?;
    Ok(Bundle {
        contract,
        plan,
        args: words.args,
        env: words.env,
        cwd: words.cwd,
        path,
        program,
        initrd,
        publishes: stated.publishes,
        sites,
        refused,
    })
}

#[cfg(test)]
mod tests;
