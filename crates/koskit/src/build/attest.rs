//! What is said about the image beside it: `--sbom`, `--provenance`, `--attest`.

use crate::build::fields::pairs;
use anyhow::{Context as _, Result, bail};
use koskit_attest::sbom::Format;
use koskit_attest::{Material, Package, Predicate, Programs, Provenance, linked, of_files};
use koskit_frontend::Build;
use koskit_image::{Image, Layer, Store};
use koskit_llb::pb::op::Op;
use koskit_llb::{Graph, Inputs, Platform, Reference, Vertex};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Label of an SDK image: the packages of it that its toolchain links into programs, by name,
/// separated by commas.
const LINKS: &str = "com.koskit.sdk.links";

/// What is to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attest {
    /// What is in the image.
    pub sbom: Option<Format>,
    /// How it was built.
    pub provenance: Option<Mode>,
    /// Who built it: a URI.
    builder: Option<String>,
}

/// How much a provenance tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What was asked for and what was taken.
    #[default]
    Min,
    /// Also every step.
    Max,
}

impl Attest {
    /// Whether nothing is to be said.
    pub fn is_nothing(&self) -> bool {
        self.sbom.is_none() && self.provenance.is_none()
    }

    /// From the values of the three options, as docker has them.
    ///
    /// # Errors
    /// One of them is none.
    pub fn parse(attest: &[String], sbom: Option<&str>, provenance: Option<&str>) -> Result<Self> {
        let mut wanted = Self::default();
        for text in attest {
            wanted.add(text).with_context(|| format!("--attest {text}"))?;
        }
        for (name, text) in [("sbom", sbom), ("provenance", provenance)] {
            let Some(text) = text else { continue };
            let all = match text.contains('=') {
                true => format!("type={name},{text}"),
                false => format!("type={name},disabled={}", !text.parse::<bool>().unwrap_or(true)),
            };
            let known = text.contains('=') || text.parse::<bool>().is_ok();
            if !known {
                bail!("--{name} is true, false, or what docker takes for it, and not {text:?}");
            }
            wanted.add(&all).with_context(|| format!("--{name} {text}"))?;
        }
        Ok(wanted)
    }

    fn add(&mut self, text: &str) -> Result<()> {
        let pairs = pairs(text).map_err(anyhow::Error::msg)?;
        let kind = pairs.iter().find(|(key, _)| key == "type").map(|(_, value)| value.as_str());
        let others = pairs.iter().filter(|(key, _)| key != "type");
        let mut disabled = false;
        match kind {
            Some("sbom") => {
                let mut format = Format::default();
                for (key, value) in others {
                    match key.as_str() {
                        "format" => format = value.parse().map_err(anyhow::Error::msg)?,
                        "disabled" => disabled = value.parse()?,
                        "generator" => bail!(
                            "koskit looks into the image itself and runs no other generator; \
                             leave out generator={value}"
                        ),
                        _ => bail!("{key}= means nothing here; there are format and disabled"),
                    }
                }
                self.sbom = (!disabled).then_some(format);
            }
            Some("provenance") => {
                let mut mode = Mode::default();
                for (key, value) in others {
                    match (key.as_str(), value.as_str()) {
                        ("mode", "min") => mode = Mode::Min,
                        ("mode", "max") => mode = Mode::Max,
                        ("version", "v1") => {}
                        ("builder-id", id) => self.builder = Some(id.to_owned()),
                        ("disabled", value) => disabled = value.parse()?,
                        _ => bail!(
                            "{key}={value} means nothing here; there are mode=min|max, \
                             version=v1, builder-id=URI and disabled=BOOL"
                        ),
                    }
                }
                self.provenance = (!disabled).then_some(mode);
            }
            _ => bail!("it is neither type=sbom nor type=provenance"),
        }
        Ok(())
    }
}

/// What a build for one platform tells of itself.
#[derive(Clone, Debug, Default)]
pub struct Told {
    sbom: Option<(Format, koskit_attest::Scan, Vec<Package>)>,
    provenance: Option<Predicate>,
}

/// What is known of a build besides its graph.
pub struct About<'a> {
    /// The Dockerfile, as it is called.
    pub dockerfile: &'a str,
    /// Options of the frontend that a user has given.
    pub arguments: BTreeMap<String, String>,
    /// What was taken from outside.
    pub inputs: &'a Inputs,
}

impl Told {
    /// Looks at a build and its layers, which are all in the store.
    ///
    /// # Errors
    /// A layer cannot be read.
    pub fn of(
        wanted: &Attest,
        store: &Store,
        build: &Build,
        layers: &[Layer],
        about: &About<'_>,
    ) -> Result<Self> {
        let graph = Graph::new(&build.definition)?;
        let sbom = wanted.sbom.map(|format| {
            let scan = of_files(&store.files(layers, &koskit_attest::is_wanted)?);
            Ok::<_, anyhow::Error>((format, scan, parts(store, &graph, layers)?))
        });
        let provenance = wanted.provenance.map(|mode| provenance(mode, wanted, &graph, about));
        Ok(Self { sbom: sbom.transpose()?, provenance })
    }

    /// Whether nothing is said.
    pub fn is_nothing(&self) -> bool {
        self.sbom.is_none() && self.provenance.is_none()
    }

    /// What could not be read, as warnings.
    pub fn skipped(&self) -> impl Iterator<Item = String> {
        let scans = self.sbom.iter().flat_map(|(_, scan, _)| &scan.skipped);
        scans.map(|s| format!("the packages of /{} are not listed: {}\n", s.path.display(), s.why))
    }

    /// What is said about the image.
    pub fn about(&self, name: Option<&Reference>, image: &Image) -> Vec<Predicate> {
        let sbom = self.sbom.iter().map(|(format, scan, parts)| Predicate {
            kind: format.predicate_type().into(),
            document: format.write(&crate::sbom::subject(name, image), scan, parts),
        });
        sbom.chain(self.provenance.clone()).collect()
    }
}

/// What SDK images of a graph have linked into the programs that they made.
fn parts(store: &Store, graph: &Graph, layers: &[Layer]) -> Result<Vec<Package>> {
    let mut parts = Vec::new();
    for (name, platform) in graph.vertices().iter().filter_map(image) {
        if name.domain() != "docker.io" || !name.path().starts_with("kos/") {
            continue;
        }
        let Ok(image) = store.resolve(&name, &platform) else { continue };
        let labels = image.config.config().as_ref().and_then(|c| c.labels().clone());
        let Some(links) = labels.and_then(|labels| labels.get(LINKS).cloned()) else { continue };
        parts.extend(linked(store, &image, &links.split(',').collect::<Vec<_>>())?);
    }
    parts.sort();
    parts.dedup();
    if parts.is_empty() {
        return Ok(parts);
    }
    Ok(Programs::of(store, layers)?.narrow(parts))
}

/// The image that a vertex takes.
fn image(vertex: &Vertex) -> Option<(Reference, Platform)> {
    let Op::Source(op) = &vertex.op else { return None };
    let name = op.identifier.strip_prefix("docker-image://")?;
    Some((name.parse().ok()?, vertex.platform.clone()?))
}

fn provenance(mode: Mode, wanted: &Attest, graph: &Graph, about: &About<'_>) -> Predicate {
    let inputs = about.inputs;
    let provenance = Provenance {
        builder: wanted.builder.clone(),
        dockerfile: about.dockerfile.to_owned(),
        source: None,
        arguments: about.arguments.clone(),
        locals: inputs.local.keys().cloned().collect(),
        secrets: inputs.secrets.keys().cloned().collect(),
        ssh: inputs.ssh.keys().cloned().collect(),
        materials: graph.vertices().iter().filter_map(material).collect(),
        build_platform: Platform::host().to_string(),
        definition: (mode == Mode::Max).then(|| definition(graph)),
    };
    provenance.predicate()
}

/// What a vertex takes from outside, if it was told which one it is.
fn material(vertex: &Vertex) -> Option<Material> {
    if let Some((name, platform)) = image(vertex) {
        let digest = name.digest()?.clone();
        let short = name.familiar();
        let short = short.split('@').next().unwrap_or_default();
        return Some(Material::image(short, &platform.to_string(), &digest));
    }
    let Op::Source(op) = &vertex.op else { return None };
    let uri = op.identifier.clone();
    let digest = match uri.split("://").next()? {
        "http" | "https" => op.attrs.get("http.checksum")?.strip_prefix("sha256:")?,
        _ => return None,
    };
    Some(Material { uri, digest: BTreeMap::from([("sha256".into(), digest.into())]) })
}

/// Every step, as BuildKit lists them.
fn definition(graph: &Graph) -> Value {
    let steps = graph.vertices().iter().enumerate().map(|(number, vertex)| {
        let inputs = vertex.inputs.iter().map(|e| format!("step{}:{}", e.vertex, e.output));
        json!({
            "id": format!("step{number}"),
            "digest": vertex.digest.as_str(),
            "name": vertex.name(),
            "platform": vertex.platform.as_ref().map(ToString::to_string),
            "op": op(&vertex.op),
            "inputs": inputs.collect::<Vec<_>>(),
        })
    });
    json!({ "llbDefinition": steps.collect::<Vec<_>>() })
}

fn op(op: &Op) -> Value {
    match op {
        Op::Source(op) => {
            let attrs: BTreeMap<_, _> = op.attrs.iter().collect();
            json!({ "source": { "identifier": op.identifier, "attrs": attrs } })
        }
        Op::Exec(op) => {
            let meta = op.meta.clone().unwrap_or_default();
            let mounts: Vec<Value> = op
                .mounts
                .iter()
                .map(|m| json!({ "dest": m.dest, "input": m.input, "readonly": m.readonly }))
                .collect();
            json!({ "exec": {
                "meta": {
                    "args": meta.args, "env": meta.env, "cwd": meta.cwd, "user": meta.user,
                },
                "mounts": mounts,
            } })
        }
        Op::File(op) => json!({ "file": { "actions": op.actions.len() } }),
        Op::Merge(_) => json!({ "merge": {} }),
        Op::Diff(_) => json!({ "diff": {} }),
        Op::Build(_) => json!({ "build": {} }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_dockers() {
        let parse = |attest: &[&str], sbom, provenance| {
            let attest: Vec<String> = attest.iter().map(ToString::to_string).collect();
            Attest::parse(&attest, sbom, provenance)
        };
        assert!(parse(&[], None, None).unwrap().is_nothing());
        let both = parse(&[], Some("true"), Some("mode=max")).unwrap();
        assert_eq!((both.sbom, both.provenance), (Some(Format::Spdx), Some(Mode::Max)));
        let same = parse(&["type=sbom", "type=provenance,mode=max"], None, None).unwrap();
        assert_eq!(both, same);
        let other = parse(&["type=sbom,format=cyclonedx"], None, Some("false")).unwrap();
        assert_eq!((other.sbom, other.provenance), (Some(Format::CycloneDx), None));
        for bad in ["type=sbom,generator=x", "type=x", "sbom", "type=provenance,mode=mid"] {
            assert!(parse(&[bad], None, None).is_err(), "{bad}");
        }
        let error = parse(&[], Some("yes"), None).unwrap_err().to_string();
        assert!(error.contains("--sbom is true, false"), "{error}");
    }
}
