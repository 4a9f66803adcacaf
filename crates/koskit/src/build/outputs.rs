//! Where an image is written besides the store, as `--output` says it.

use crate::build::annotations::Annotation;
use crate::build::fields::{boolean, fields, pairs};
use koskit_image::Compression;
use koskit_llb::Reference;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// In what form.
    pub kind: Kind,
    /// Where; not for registries and the store.
    pub dest: Option<Dest>,
    /// A tar archive rather than a directory; for OCI layouts.
    pub tar: Option<bool>,
    /// More names of the image.
    pub names: Vec<Reference>,
    /// Send it to the registries of its names.
    pub push: bool,
    /// How layers are compressed.
    pub compression: Option<Compression>,
    /// Compress layers of the base image anew, too.
    pub force_compression: bool,
    /// Use docker's media types.
    pub docker: bool,
    /// Annotations of this output alone.
    pub annotations: Vec<Annotation>,
    /// A directory for each platform, or not; by default if there are several.
    pub platform_split: Option<bool>,
    /// What the names of files begin with in which something is said about the others.
    pub attestation_prefix: String,
}

/// In what form an image is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An OCI image layout.
    Oci,
    /// An archive for `docker load`.
    Docker,
    /// Its files, in a directory.
    Local,
    /// Its files, in a tar archive.
    Tar,
    /// Names in the store.
    Image,
    /// Names in registries.
    Registry,
    /// Nowhere.
    CacheOnly,
}

/// A file or a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dest {
    /// `-`
    Stdout,
    /// A path.
    Path(PathBuf),
}

const KINDS: &str = "oci, docker, local, tar, image, registry and cacheonly";

impl Output {
    /// An output of this kind, with nothing else said.
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            dest: None,
            tar: None,
            names: Vec::new(),
            push: kind == Kind::Registry,
            compression: None,
            force_compression: false,
            docker: false,
            annotations: Vec::new(),
            platform_split: None,
            attestation_prefix: String::new(),
        }
    }

    /// Whether it is a tar archive.
    pub fn is_archive(&self) -> bool {
        match (self.kind, &self.dest) {
            (Kind::Docker | Kind::Tar, _) | (Kind::Oci, Some(Dest::Stdout)) => true,
            (Kind::Oci, Some(Dest::Path(path))) => {
                let file = path.extension().is_some_and(|end| end == "tar") || path.is_file();
                self.tar.unwrap_or(file)
            }
            _ => false,
        }
    }

    /// Whether it goes to standard output.
    pub fn is_stdout(&self) -> bool {
        self.dest == Some(Dest::Stdout)
    }

    /// Whether it is made of layers, which must be here then.
    pub fn needs_layers(&self) -> bool {
        matches!(self.kind, Kind::Oci | Kind::Docker | Kind::Local | Kind::Tar)
            && (self.kind != Kind::Docker || self.dest.is_some())
    }

    /// What it is called while it is written.
    pub fn describe(&self) -> String {
        let to = match &self.dest {
            Some(Dest::Path(path)) => path.display().to_string(),
            Some(Dest::Stdout) => "standard output".to_owned(),
            None => String::new(),
        };
        match self.kind {
            Kind::Oci => format!("exporting to oci image format, {to}"),
            Kind::Docker => format!("exporting to docker image format, {to}"),
            Kind::Local => format!("exporting to client directory {to}"),
            Kind::Tar => format!("exporting to client tarball {to}"),
            Kind::Image | Kind::Registry | Kind::CacheOnly => "exporting to image".to_owned(),
        }
    }

    fn check(&self) -> Result<(), String> {
        let no_dest = self.dest.is_none();
        match self.kind {
            Kind::Local if no_dest => Err("dest is required for local output".into()),
            Kind::Local if self.is_stdout() => {
                Err("a directory cannot be written to standard output; use type=tar".into())
            }
            Kind::Oci if no_dest => Err("dest is required for oci output: dest=DIR, \
                 dest=FILE.tar, or dest=- for standard output"
                .into()),
            Kind::Oci if self.is_stdout() && self.tar == Some(false) => {
                Err("a directory cannot be written to standard output; leave out tar=false".into())
            }
            Kind::Tar if no_dest => {
                Err("dest is required for tar output: dest=FILE, or dest=- for standard output"
                    .into())
            }
            Kind::Image | Kind::Registry | Kind::CacheOnly if !no_dest => {
                Err("dest is for outputs that are files; a name is given by name=NAME or -t".into())
            }
            _ => Ok(()),
        }
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A path alone is a directory of files, and a lone - an archive of them.
        if let [field] = &fields(text)?[..] {
            if field == "-" {
                return Ok(Self { dest: Some(Dest::Stdout), ..Self::of(Kind::Tar) });
            }
            if !field.is_empty() && !field.contains('=') {
                return Ok(Self { dest: Some(Dest::Path(field.into())), ..Self::of(Kind::Local) });
            }
        }
        let all = fields(text)?;
        let pairs = pairs(text)?;
        let kind = pairs.iter().find(|(key, _)| key == "type");
        let kind = match kind.map(|(_, kind)| kind.as_str()) {
            Some("oci") => Kind::Oci,
            Some("docker") => Kind::Docker,
            Some("local") => Kind::Local,
            Some("tar") => Kind::Tar,
            Some("image") => Kind::Image,
            Some("registry") => Kind::Registry,
            Some("cacheonly") => Kind::CacheOnly,
            Some(other) => {
                return Err(format!("there is no output of type {other:?}, only {KINDS}"));
            }
            None => return Err(format!("type is required for output; it is one of {KINDS}")),
        };
        let mut output = Self::of(kind);
        let (mut compression, mut level) = (None, None);
        for ((key, value), field) in pairs.iter().zip(&all) {
            match key.as_str() {
                "type" => {}
                "dest" | "destination" if value == "-" => output.dest = Some(Dest::Stdout),
                "dest" | "destination" if !value.is_empty() => {
                    output.dest = Some(Dest::Path(value.into()));
                }
                "tar" => output.tar = Some(boolean(key, value)?),
                "name" => {
                    for name in value.split(',').filter(|name| !name.is_empty()) {
                        let name = name.trim().parse::<Reference>();
                        output.names.push(name.map_err(|error| error.to_string())?.tagged());
                    }
                }
                "push" => output.push = boolean(key, value)?,
                "compression" => compression = Some(value.as_str()),
                "compression-level" => {
                    let number = value.parse::<i32>();
                    level = Some(number.map_err(|_| format!("{key}={value} is no number"))?);
                }
                "force-compression" => output.force_compression = boolean(key, value)?,
                "oci-mediatypes" => output.docker = !boolean(key, value)?,
                "attestation-prefix" if value.contains('/') => {
                    return Err(format!("{key}={value} is no beginning of a file's name"));
                }
                "attestation-prefix" => output.attestation_prefix.clone_from(value),
                "platform-split" => output.platform_split = Some(boolean(key, value)?),
                "rewrite-timestamp" => {
                    if !boolean(key, value)? {
                        return Err(
                            "rewrite-timestamp=false cannot be had: no file in a layer is \
                                    later than SOURCE_DATE_EPOCH, which is 1970 by default"
                                .into(),
                        );
                    }
                }
                // It is always in the store, and unpacked where a step needs it.
                "store" | "unpack" | "buildinfo" => {
                    boolean(key, value)?;
                }
                _ => {
                    // The key of an annotation is written in the case that it has.
                    let key = field.split_once('=').map_or(key.as_str(), |(key, _)| key.trim());
                    match Annotation::of_field(key, value)? {
                        Some(annotation) => output.annotations.push(annotation),
                        None => return Err(format!("{field:?} is no field of an output")),
                    }
                }
            }
        }
        output.compression = choose(compression, level)?;
        output.check()?;
        Ok(output)
    }
}

/// A compression by its name and level.
fn choose(name: Option<&str>, level: Option<i32>) -> Result<Option<Compression>, String> {
    let within = |level: i32, least: i32, most: i32| match (least..=most).contains(&level) {
        true => Ok(level),
        false => Err(format!("compression-level={level} is not from {least} to {most}")),
    };
    Ok(Some(match (name, level) {
        (None, None) => return Ok(None),
        (None | Some("gzip"), Some(level)) => {
            Compression::Gzip(within(level, 0, 9)?.unsigned_abs())
        }
        (Some("gzip"), None) => Compression::default(),
        (Some("zstd"), level) => Compression::Zstd(within(level.unwrap_or(3), 1, 22)?),
        (Some("uncompressed"), _) => Compression::None,
        (Some(other), _) => {
            return Err(format!("compression={other} is none of gzip, zstd and uncompressed"));
        }
    }))
}

/// Whether several outputs can be written in one build.
///
/// # Errors
/// Two of them write to the same place.
pub fn check(outputs: &[Output]) -> Result<(), String> {
    if outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
        return Err("only one output can be written to standard output".into());
    }
    let paths: Vec<&Path> = outputs
        .iter()
        .filter_map(|output| match &output.dest {
            Some(Dest::Path(path)) => Some(path.as_path()),
            _ => None,
        })
        .collect();
    for (index, path) in paths.iter().enumerate() {
        if paths[..index].contains(path) {
            return Err(format!("two outputs are written to {}", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Output, String> {
        text.parse()
    }

    #[test]
    fn an_output_has_a_kind_and_a_place() {
        let path = |path: &str| Some(Dest::Path(path.into()));
        let archive = |text: &str| parse(text).map(|output| output.is_archive());
        assert_eq!(archive("type=oci,dest=a/b"), Ok(false));
        assert_eq!(archive("type=oci,dest=a/b.tar"), Ok(true));
        assert_eq!(archive("dest=x.tar,tar=false,type=oci"), Ok(false));
        assert_eq!(archive("dest=x,tar=true,type=oci"), Ok(true));
        assert_eq!(archive("type=docker,dest=x"), Ok(true));
        let local = Output { dest: path("out"), ..Output::of(Kind::Local) };
        assert_eq!(parse("out"), Ok(local.clone()));
        assert_eq!(parse("type=local,dest=out"), Ok(local));
        let tar = Output { dest: Some(Dest::Stdout), ..Output::of(Kind::Tar) };
        assert_eq!(parse("-"), Ok(tar));
        let image = parse("type=image,\"name=a,localhost:5000/b:1\",push=true").unwrap();
        let names: Vec<String> = image.names.iter().map(|name| name.familiar()).collect();
        assert_eq!(
            (names, image.push),
            (vec!["a:latest".into(), "localhost:5000/b:1".into()], true)
        );
        assert!(parse("type=registry,name=a").unwrap().push);
    }

    #[test]
    fn a_compression_has_a_level_of_its_own_range() {
        let compression =
            |text: &str| parse(&format!("type=oci,dest=x,{text}")).map(|output| output.compression);
        assert_eq!(compression("compression=zstd"), Ok(Some(Compression::Zstd(3))));
        assert_eq!(compression("compression-level=9"), Ok(Some(Compression::Gzip(9))));
        assert_eq!(compression("compression=uncompressed"), Ok(Some(Compression::None)));
        assert_eq!(compression("tar=true"), Ok(None));
        for bad in [
            "compression=gzip,compression-level=10",
            "compression=estargz",
            "compression-level=x",
            "compression=zstd,compression-level=23",
        ] {
            assert!(compression(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let bad = [
            "",
            "type=oci",
            "type=local",
            "type=floppy,dest=x",
            "dest=x",
            "type=oci,dest=",
            "type=oci,dest=x,tar=maybe",
            "type=image,dest=x",
            "type=oci,dest=x,unknown=1",
            "type=local,dest=-",
            "type=tar",
            "type=tar,dest=x,rewrite-timestamp=false",
        ];
        for bad in bad {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            parse("type=floppy,dest=x").unwrap_err(),
            "there is no output of type \"floppy\", only oci, docker, local, tar, image, registry \
             and cacheonly"
        );
        let twice = |text: &str| check(&[parse(text).unwrap(), parse(text).unwrap()]);
        assert!(twice("-").is_err() && twice("out").is_err());
        assert!(twice("type=image").is_ok());
    }

    #[test]
    fn annotations_keep_the_case_of_their_keys() {
        let output = parse("type=oci,dest=x,annotation-index.Org.Key=Value").unwrap();
        assert_eq!(output.annotations, ["index:Org.Key=Value".parse().unwrap()]);
    }
}
