//! `koskit sbom`: the software in an image.

use crate::{inspect, names, output};
use anyhow::{Context, Result};
use clap::Args;
use koskit_attest::sbom::{Format, Subject};
use koskit_attest::{Scan, attached, scan};
use koskit_image::{Image, Store};
use koskit_llb::{Platform, Reference};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Show the software bill of materials of an image
///
/// Packages are found in the databases of dpkg and apk and in lock files of Rust, Node.js, Python,
/// Go, Ruby, PHP, Erlang and Elixir. An image that was built with --sbom has its bill with it, and
/// that one is shown.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// How it is written: spdx (2.3) or cyclonedx (1.5), both as JSON
    #[arg(long, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// The image for this platform; default: linux/arm64, or whatever there is
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Look into the image even where it has a bill with it
    #[arg(long)]
    rescan: bool,
    /// A file for it, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name of an image
    image: Reference,
}

const EXAMPLES: &str = "\
Examples:
  koskit sbom hello                                   an SPDX document
  koskit sbom --format cyclonedx -o bom.json hello    a CycloneDX document, in a file
  koskit build --sbom=true -t hello .                 build an image that has its bill with it";

/// Prints it.
///
/// # Errors
/// There is no such image, or it cannot be read.
pub fn sbom(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let image = inspect::find(&store, &arguments.image, arguments.platform.as_ref())?;
    let kept = match arguments.rescan {
        true => None,
        false => kept(&store, &arguments.image, &image, arguments.format)?,
    };
    let document = match kept {
        Some(document) => document,
        None => {
            let scan = scan(&store, &image)?;
            warn(&scan);
            let subject = subject(Some(&arguments.image), &image);
            arguments.format.write(&subject, &scan, &[]).to_string()
        }
    };
    match &arguments.output {
        Some(path) => File::create(path)
            .and_then(|file| indented(&document, file))
            .with_context(|| format!("cannot write {}", path.display())),
        None => match indented(&document, io::stdout().lock()) {
            // Who reads has seen enough.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        },
    }
}

/// Writes JSON for people: it may be too large to be taken apart for that. A text that is no
/// JSON comes out as another one that is none.
fn indented(text: &str, to: impl Write) -> io::Result<()> {
    let mut to = BufWriter::new(to);
    let mut depth = 0usize;
    // Whether a bracket was just opened, the character before in a text was a backslash, and
    // whether this is in one.
    let (mut opened, mut escaped, mut quoted) = (false, false, false);
    for &byte in text.as_bytes() {
        if quoted {
            to.write_all(&[byte])?;
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        let line = |to: &mut BufWriter<_>, depth: usize| write!(to, "\n{:1$}", "", 2 * depth);
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => continue,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !std::mem::take(&mut opened) {
                    line(&mut to, depth)?;
                }
                to.write_all(&[byte])?;
                continue;
            }
            _ => {}
        }
        if std::mem::take(&mut opened) {
            line(&mut to, depth)?;
        }
        to.write_all(&[byte])?;
        match byte {
            b'{' | b'[' => (depth, opened) = (depth + 1, true),
            b',' => line(&mut to, depth)?,
            b':' => to.write_all(b" ")?,
            b'"' => quoted = true,
            _ => {}
        }
    }
    to.write_all(b"\n")?;
    to.flush()
}

/// The bill that an image has with it.
fn kept(store: &Store, name: &Reference, image: &Image, format: Format) -> Result<Option<String>> {
    let Some(index) = store.find(&name.clone().tagged())? else { return Ok(None) };
    Ok(attached(store, &index, &image.digest(), format.predicate_type())?)
}

/// What a bill is of.
pub fn subject(name: Option<&Reference>, image: &Image) -> Subject {
    Subject {
        name: name.map(|name| name.clone().tagged()),
        digest: Some(image.digest()),
        platform: image.platform.clone(),
        created: image.config.created().clone().unwrap_or_else(|| names::created(0)),
    }
}

/// Tells what could not be read.
pub fn warn(scan: &Scan) {
    let head = output::Paint::stderr().with("1;33", "warning:");
    for skipped in &scan.skipped {
        let path = skipped.path.display();
        output::error(&format!("{head} the packages of /{path} are not listed: {}\n", skipped.why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_as_everybody_does_it() {
        for text in [
            r#"{"a":[1,2,{"b":{},"c":[]}],"d":"x\\","e":"{\"[,:","f":null}"#,
            "[]",
            "[[],[[1]],true]",
            "3",
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            for text in [text, &format!("{value:#}")] {
                let mut out = Vec::new();
                indented(text, &mut out).unwrap();
                assert_eq!(String::from_utf8(out).unwrap(), format!("{value:#}\n"));
            }
        }
    }
}
