//! How an image was built: SLSA provenance, version 1.
//! <https://slsa.dev/spec/v1.0/provenance>, with the fields that BuildKit gives a build.

use crate::statement::{PROVENANCE, Predicate};
use crate::{TOOL, VERSION};
use koskit_llb::Digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The type of build: what the parameters mean is described there.
const BUILD_TYPE: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";

/// One build.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// Who built: a URI that names the builder. By default, none is claimed.
    pub builder: Option<String>,
    /// The Dockerfile's path in its context.
    pub dockerfile: String,
    /// Where the context is from and what it was, if it was fetched.
    pub source: Option<Material>,
    /// The options of the frontend, as BuildKit names them: `target`, `build-arg:NAME`,
    /// `platform`, `label:NAME`.
    pub arguments: BTreeMap<String, String>,
    /// Names of local directories.
    pub locals: Vec<String>,
    /// Names of secrets; never what they are.
    pub secrets: Vec<String>,
    /// Names of ssh agents.
    pub ssh: Vec<String>,
    /// What the build began with.
    pub materials: Vec<Material>,
    /// The platform it ran on.
    pub build_platform: String,
    /// The graph, for `mode=max`.
    pub definition: Option<Value>,
}

/// Something that a build takes from outside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// Where it is from: a package URL or a URL.
    pub uri: String,
    /// What it was. By `sha256`, or `sha1` for a git commit.
    pub digest: BTreeMap<String, String>,
}

impl Material {
    /// An image, by its name and the digest that was taken.
    pub fn image(name: &str, platform: &str, digest: &Digest) -> Self {
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, format!("@{tag}")),
            _ => (name, String::new()),
        };
        let platform = platform.replace('/', "%2F");
        Self {
            uri: format!("pkg:docker/{name}{tag}?platform={platform}"),
            digest: BTreeMap::from([("sha256".into(), digest.hex().into())]),
        }
    }
}

impl Provenance {
    /// The predicate. It has no times: the same build says the same on any day.
    pub fn predicate(&self) -> Predicate {
        let mut source = json!({ "path": self.dockerfile });
        if let Some(material) = &self.source {
            source["uri"] = material.uri.as_str().into();
            source["digest"] = json!(material.digest);
        }
        let ids = |names: &[String], optional| {
            let ids = names.iter().map(|id| match optional {
                true => json!({ "id": id, "optional": true }),
                false => json!({ "name": id }),
            });
            Value::from(ids.collect::<Vec<_>>())
        };
        let mut internal = json!({ "builderPlatform": self.build_platform });
        if let Some(definition) = &self.definition {
            internal["buildConfig"] = definition.clone();
        }
        let mut materials = self.materials.clone();
        materials.sort();
        materials.dedup();
        let materials: Vec<Value> = materials
            .iter()
            .map(|material| json!({ "uri": material.uri, "digest": material.digest }))
            .collect();
        let document = json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "configSource": source,
                    "request": {
                        "frontend": "dockerfile.v0",
                        "args": self.arguments,
                        "locals": ids(&self.locals, false),
                        "secrets": ids(&self.secrets, true),
                        "ssh": ids(&self.ssh, true),
                    },
                },
                "internalParameters": internal,
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": {
                    "id": self.builder.as_deref().unwrap_or_default(),
                    "version": { TOOL: VERSION },
                },
                "metadata": {
                    "buildkit_completeness": {
                        "request": self.definition.is_some(),
                        "resolvedDependencies": false,
                    },
                    "buildkit_reproducible": false,
                },
            },
        });
        Predicate { kind: PROVENANCE.into(), document }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provenance_names_what_was_taken_and_no_secret() {
        let image = Material::image("debian:12", "linux/arm64", &Digest::of(b"x"));
        let provenance = Provenance {
            dockerfile: "Dockerfile".into(),
            arguments: BTreeMap::from([("build-arg:A".into(), "1".into())]),
            secrets: vec!["token".into()],
            materials: vec![image.clone(), image],
            ..Provenance::default()
        };
        let Predicate { kind, document } = provenance.predicate();
        assert_eq!(kind, "https://slsa.dev/provenance/v1");
        let definition = &document["buildDefinition"];
        assert_eq!(
            definition["resolvedDependencies"],
            json!([{
                "uri": "pkg:docker/debian@12?platform=linux%2Farm64",
                "digest": { "sha256": Digest::of(b"x").hex() },
            }])
        );
        let request = &definition["externalParameters"]["request"];
        assert_eq!(request["secrets"], json!([{ "id": "token", "optional": true }]));
        assert_eq!(request["args"]["build-arg:A"], "1");
        assert!(definition["internalParameters"].get("buildConfig").is_none());
    }

    #[test]
    fn the_port_of_a_registry_is_no_tag() {
        let image = Material::image("localhost:5000/a", "linux/arm64", &Digest::of(b""));
        assert_eq!(image.uri, "pkg:docker/localhost:5000/a?platform=linux%2Farm64");
    }
}
