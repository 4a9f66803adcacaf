//! What is built: contexts and Dockerfiles.

use anyhow::Result;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The six-step build.
pub const SIX: &str = "\
FROM bench-base AS build
COPY src /src
RUN cat /src/nonce >/one && cp /src/main.c /main.c
RUN mkdir /out && cat /one /main.c >/out/two
RUN ls -lR /usr/lib >/out/three
FROM scratch
COPY --from=build /out /
";

/// So many stages, each with a command that works for a moment, and one that takes from all.
pub fn wide(stages: usize) -> String {
    let mut text = String::from("FROM bench-base AS base\nCOPY nonce /nonce\n");
    for stage in 0..stages {
        let work = "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done";
        let _ = write!(
            text,
            "FROM base AS s{stage}\nRUN {work}; echo {stage} >/made-{stage}; cat /nonce >>/made-{stage}\n"
        );
    }
    text += "FROM scratch\n";
    for stage in 0..stages {
        let _ = writeln!(text, "COPY --from=s{stage} /made-{stage} /");
    }
    text
}

/// An image of so many layers, each a file.
pub fn layers(count: usize) -> String {
    let copies: String = (0..count).map(|layer| format!("COPY {layer} /{layer}\n")).collect();
    format!("FROM scratch\n{copies}")
}

/// A context with this Dockerfile.
pub fn written(folder: &Path, name: &str, dockerfile: &str) -> Result<PathBuf> {
    let context = folder.join(name);
    fs::create_dir_all(&context)?;
    fs::write(context.join("Dockerfile"), dockerfile)?;
    Ok(context)
}

/// A file that was never there before.
pub fn nonce(path: &Path) -> Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(fs::write(path, format!("{}\n", now.as_nanos()))?)
}

/// So many files of so many bytes together, with about as much in them as text has.
pub fn files(folder: &Path, count: u64, bytes: u64) -> Result<()> {
    if folder.join((count / 100 - 1).to_string()).join("99").exists() {
        return Ok(());
    }
    for number in 0..count {
        let folder = folder.join((number / 100).to_string());
        fs::create_dir_all(&folder)?;
        let mut noise = Noise(number + 1);
        let mut text = Vec::with_capacity((bytes / count) as usize + 8);
        while (text.len() as u64) < bytes / count {
            // Eight letters of sixteen, and a word that comes again and again.
            text.extend(noise.next().to_le_bytes().map(|byte| b'a' + (byte & 15)));
            text.extend_from_slice(b"the same");
        }
        fs::write(folder.join((number % 100).to_string()), text)?;
    }
    Ok(())
}

/// A file that does not compress.
pub fn random(path: &Path, bytes: u64, seed: u64) -> Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() == bytes) {
        return Ok(());
    }
    let mut noise = Noise(seed + 1);
    let mut file = BufWriter::new(File::create(path)?);
    for _ in 0..bytes / 8 {
        file.write_all(&noise.next().to_le_bytes())?;
    }
    Ok(file.flush()?)
}

/// xorshift64*.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
