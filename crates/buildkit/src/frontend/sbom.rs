//! A bill of materials: a command of its own, run behind the build, which looks at what was built.
//! BuildKit takes what it writes as an attestation of the image. Who writes is a generator's
//! image, by default our own, which has koskit in it.
//! <https://github.com/moby/buildkit/blob/master/docs/attestations/sbom-protocol.md>

use std::collections::{BTreeMap, HashMap};

use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    Attestation, AttestationKind, Attestations,
};
use koskit_frontend::{ImageConfig, ImageResolver};
use koskit_llb::pb::op::Op;
use koskit_llb::{
    Builder, Exec, Graph, Mount, MountKind, Note, Platform, Reference, Source, State, pb,
};

use super::gateway::Gateway;
use super::options::Given;
use super::sources::Images;
use super::{Failure, Result};

const OUT: &str = "/run/out/";
/// The last part of it is what the bill is called.
const CORE: &str = "/run/src/core/sbom";
const NAME: &str = "sbom";
const SPDX: &str = "https://spdx.dev/Document";
/// Label of an SDK image: the packages of it that its toolchain links into programs.
const LINKS: &str = "com.koskit.sdk.links";

/// A generator that is there.
pub(crate) struct Scanner<'a> {
    gateway: &'a Gateway,
    images: Images<'a>,
    image: Reference,
    config: ImageConfig,
    is_own: bool,
    parameters: BTreeMap<String, String>,
    network: pb::NetMode,
}

impl<'a> Scanner<'a> {
    /// The generator that a build asks for, if it does.
    ///
    /// # Errors
    /// Its image cannot be had, or it has no command.
    pub fn find(
        gateway: &'a Gateway,
        given: &Given,
        options: &koskit_frontend::Options,
        images: Images<'a>,
    ) -> Result<Option<Self>> {
        let Some(asked) = given.sbom() else { return Ok(None) };
        let Some(name) = asked.generator else {
            return Err(Failure::Option(
                "BuildKit does not say which image this frontend is, so that it cannot be the \
                 generator of the SBOM; name one: --attest type=sbom,generator=IMAGE"
                    .into(),
            ));
        };
        for only in ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"] {
            if let Some(value) = given.get(&format!("build-arg:{only}")) {
                return Err(Failure::Option(format!(
                    "{only}={value} is not possible: this frontend lets a generator look at the \
                     result alone"
                )));
            }
        }
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::Option(format!("the generator {name} of the SBOM cannot be used: {why}"))
        };
        let image = name.parse::<Reference>().map_err(|error| wrong(&error))?.tagged();
        let found = images.resolve(&image, &gateway.platform).map_err(|error| wrong(&error))?;
        let command = &found.config.config;
        if command.entrypoint.is_none() && command.cmd.is_none() {
            return Err(wrong(&"it has no command"));
        }
        Ok(Some(Self {
            gateway,
            images,
            image: image.with_digest(found.digest),
            config: found.config,
            is_own: asked.is_own,
            parameters: asked.parameters,
            network: options.network,
        }))
    }

    /// The bill of one platform, which is written when somebody needs it.
    ///
    /// # Errors
    /// BuildKit does not take the command.
    pub fn scan(&self, platform: &Platform, built: &pb::Definition) -> Result<Attestations> {
        let mut builder = Builder::new();
        let root = self.source(&mut builder, &self.image, &self.gateway.platform);
        let core = builder.import(built)?;
        let mut mounts = vec![
            mount(CORE, core, MountKind::Bind),
            mount("/tmp", None, MountKind::Tmpfs { size: 0 }),
        ];
        let config = &self.config.config;
        let mut env = config.env.clone();
        env.push(format!("BUILDKIT_SCAN_DESTINATION={OUT}"));
        env.push(format!("BUILDKIT_SCAN_SOURCE={CORE}"));
        let parameters = self.parameters.iter();
        env.extend(parameters.map(|(key, value)| format!("BUILDKIT_SCAN_{key}={value}")));
        if self.is_own {
            for (number, (image, platform, links)) in self.sdks(built).iter().enumerate() {
                let folder = format!("/run/src/sdk/{number}");
                let sdk = self.source(&mut builder, image, platform);
                mounts.push(mount(&folder, sdk, MountKind::Bind));
                env.push(format!("KOSKIT_SCAN_SDK_{number}={folder}:{links}"));
            }
        }
        let words = config.entrypoint.iter().chain(&config.cmd).flatten();
        let exec = Exec {
            args: words.cloned().collect(),
            env,
            cwd: match config.working_dir.as_str() {
                "" => "/".to_owned(),
                folder => folder.to_owned(),
            },
            // Our own looks at files and at nothing else.
            network: if self.is_own { pb::NetMode::None } else { self.network },
            mounts,
            ..Exec::default()
        };
        let note = Note::new(format!("[{platform}] generating sbom using {}", self.image));
        let out = builder.exec_into(root, &self.gateway.platform, exec, OUT, note);
        let made = self.gateway.solve(&builder.definition(out), &[])?;
        let metadata = [("reason", NAME), ("sbom-core", NAME)];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        let attestation = Attestation {
            kind: AttestationKind::Bundle.into(),
            metadata: HashMap::from(metadata),
            r#ref: Some(made),
            in_toto_predicate_type: SPDX.to_owned(),
            ..Attestation::default()
        };
        Ok(Attestations { attestation: vec![attestation] })
    }

    fn source(&self, builder: &mut Builder, image: &Reference, platform: &Platform) -> State {
        let (reference, platform) = (image.clone(), platform.clone());
        let note = Note::new(format!("[internal] {image}"));
        builder.source(Source::Image { reference, platform, resolve: self.images.resolve }, note)
    }

    /// The toolchains in a graph, and which of their packages they link into programs.
    fn sdks(&self, built: &pb::Definition) -> Vec<(Reference, Platform, String)> {
        let Ok(graph) = Graph::new(built) else { return Vec::new() };
        let sdk = |vertex: &koskit_llb::Vertex| {
            let Op::Source(op) = &vertex.op else { return None };
            let name = op.identifier.strip_prefix("docker-image://")?.parse::<Reference>().ok()?;
            let platform = vertex.platform.clone()?;
            let config = self.images.resolve(&name, &platform).ok()?.config;
            let links = config.config.labels.get(LINKS)?.clone();
            Some((name, platform, links))
        };
        graph.vertices().iter().filter_map(sdk).collect()
    }
}

fn mount(target: &str, source: State, kind: MountKind) -> Mount {
    let readonly = kind == MountKind::Bind;
    Mount { target: target.to_owned(), source, selector: String::new(), readonly, kind }
}
