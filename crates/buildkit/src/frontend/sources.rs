//! What a build begins with: the Dockerfile, the contexts, the images. All of it is asked of
//! BuildKit, which asks the client or a registry.

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::v1::frontend::{Ref, ResolveImageConfigRequest};
use koskit_dockerfile::Source as Text;
use koskit_frontend::{
    BaseImage, Context, ImageConfig, ImageResolver, Options, ResolveError, context_graph,
    ignore_patterns,
};
use koskit_llb::{Builder, Digest, Local, Note, Platform, Reference, ResolveMode, Source, pb};

use super::gateway::Gateway;
use super::options::Given;
use super::{Failure, Result};

/// The largest Dockerfile or `.dockerignore` that is read.
const MAX_TEXT: u64 = 16 << 20;
const DOCKERFILE: &str = "Dockerfile";
const DOCKERIGNORE: &str = ".dockerignore";

/// The Dockerfile and the contexts.
pub(crate) struct Sources {
    pub dockerfile: Text,
    /// The graph that the Dockerfile is the result of: warnings are about it.
    pub definition: pb::Definition,
    pub context: Context,
    pub contexts: BTreeMap<String, Context>,
}

impl Sources {
    /// Reads them. `options` are those of any platform.
    pub fn read(gateway: &Gateway, given: &Given, options: &Options) -> Result<Self> {
        let inputs = gateway.inputs()?;
        let reader = Reader { gateway, given };
        let mut filename = given.get("filename").unwrap_or(DOCKERFILE).to_owned();
        let local = given.get("contextkey").unwrap_or("context");
        let remote = match given.get(local) {
            Some(text) => reader.remote(text, options)?,
            None => inputs.get("context").map(|input| graph(input, None)),
        };
        if let Some(Context::Http { archive: false, .. }) = &remote {
            // The file itself is the Dockerfile.
            filename = "context".to_owned();
        }
        let forced = given.get("dockerfilekey");
        let definition = match (&remote, forced, inputs.get("dockerfile")) {
            (_, None, Some(input)) => input.clone(),
            // The Dockerfile is beside the subdirectory, not in it.
            (Some(remote), None, None) => {
                let context = remote.clone();
                context_graph(&Options { context, context_subdir: None, ..options.clone() })
            }
            _ => reader.folder(forced.unwrap_or("dockerfile"), &filename),
        };
        let folder = gateway.solve(&definition, &[])?;
        let dockerfile = reader.dockerfile(&folder, &filename)?;
        let own = format!("{filename}{DOCKERIGNORE}");
        let context = match remote {
            Some(remote) => remote,
            None => {
                let ignore = match reader.text(&folder, &own)? {
                    Some(text) => ignore_patterns(&text),
                    None => reader.ignore("context", &format!("[internal] load {DOCKERIGNORE}"))?,
                };
                Context::Local { name: "context".into(), ignore }
            }
        };
        let mut contexts = BTreeMap::new();
        for (name, text) in given.all("context:") {
            contexts.insert(name.clone(), reader.named(&name, &text, &inputs)?);
        }
        Ok(Self { dockerfile, definition, context, contexts })
    }
}

struct Reader<'a> {
    gateway: &'a Gateway,
    given: &'a Given,
}

impl Reader<'_> {
    /// A context from elsewhere; `None` is a folder of the client.
    fn remote(&self, text: &str, options: &Options) -> Result<Option<Context>> {
        let context = match text.parse::<Context>() {
            Ok(context @ (Context::Git { .. } | Context::Http { .. })) => context,
            _ => return Ok(None),
        };
        let Context::Http { url, .. } = context else { return Ok(Some(context)) };
        // What it is its first bytes tell, whatever its name.
        let context = Context::Http { url: url.clone(), archive: false };
        let graph = context_graph(&Options { context, context_subdir: None, ..options.clone() });
        let file = self.gateway.solve(&graph, &[])?;
        let begin = self.gateway.file(&file, "context", MAX_DOWNLOAD)?.unwrap_or_default();
        Ok(Some(Context::Http { url, archive: is_archive(&begin) }))
    }

    /// The graph of a folder of the client, as far as the Dockerfile needs it.
    fn folder(&self, name: &str, filename: &str) -> pb::Definition {
        let mut paths = vec![filename.to_owned(), format!("{filename}{DOCKERIGNORE}")];
        if let Some(lower) = lower(filename) {
            paths.push(lower);
        }
        let note = format!("[internal] load build definition from {filename}");
        self.local(name, name, paths, &note)
    }

    fn local(&self, name: &str, hint: &str, paths: Vec<String>, note: &str) -> pb::Definition {
        let mut builder = Builder::new();
        let local = Local {
            name: name.to_owned(),
            follow_paths: paths,
            shared_key_hint: hint.to_owned(),
            session: Some(self.given.session_of(name)),
            ..Local::default()
        };
        let state = builder.source(Source::Local(local), Note::new(note));
        builder.definition(state)
    }

    fn dockerfile(&self, folder: &Ref, filename: &str) -> Result<Text> {
        let mut text = self.text(folder, filename)?;
        if text.is_none() {
            if let Some(lower) = lower(filename) {
                text = self.text(folder, &lower)?;
            }
        }
        match text {
            Some(text) => Ok(Text::new(filename, text)),
            None => Err(Failure::Option(format!("there is no {filename} in the build context"))),
        }
    }

    fn text(&self, of: &Ref, path: &str) -> Result<Option<String>> {
        let Some(bytes) = self.gateway.file(of, path, MAX_TEXT)? else { return Ok(None) };
        let text = String::from_utf8(bytes);
        text.map(Some).map_err(|_| Failure::Option(format!("{path} is not UTF-8 text")))
    }

    /// What of a folder of the client does not count.
    fn ignore(&self, name: &str, note: &str) -> Result<Vec<String>> {
        let hint = format!("{name}-{DOCKERIGNORE}");
        let graph = self.local(name, &hint, vec![DOCKERIGNORE.to_owned()], note);
        let folder = self.gateway.solve(&graph, &[])?;
        let text = self.text(&folder, DOCKERIGNORE)?;
        Ok(ignore_patterns(&text.unwrap_or_default()))
    }

    /// A named context.
    fn named(
        &self,
        name: &str,
        text: &str,
        inputs: &BTreeMap<String, pb::Definition>,
    ) -> Result<Context> {
        if let Some(input) = text.strip_prefix("input:") {
            let definition = inputs.get(input).ok_or_else(|| {
                Failure::Option(format!(
                    "the context {name} is the input {input}, which is missing"
                ))
            })?;
            let metadata = self.given.get(&format!("input-metadata:{input}"));
            return Ok(graph(definition, metadata.and_then(config)));
        }
        let context = text.parse::<Context>().map_err(|e| Failure::Option(e.to_string()))?;
        match context {
            Context::Local { name: local, .. } => {
                let note = format!("[context {name}] load {DOCKERIGNORE}");
                let ignore = self.ignore(&local, &note)?;
                Ok(Context::Local { name: local, ignore })
            }
            other => Ok(other),
        }
    }
}

/// A file that decides what it is may not be larger: all of it is fetched.
const MAX_DOWNLOAD: u64 = 1 << 30;

fn graph(definition: &pb::Definition, config: Option<Box<ImageConfig>>) -> Context {
    Context::Graph { definition: definition.clone(), config }
}

/// The configuration in the metadata of an input: a JSON object of base64.
fn config(metadata: &str) -> Option<Box<ImageConfig>> {
    use base64::Engine as _;
    let metadata: BTreeMap<String, String> = serde_json::from_str(metadata).ok()?;
    let config = metadata.get("containerimage.config")?;
    let config = base64::engine::general_purpose::STANDARD.decode(config).ok()?;
    serde_json::from_slice(&config).ok().map(Box::new)
}

/// Another way to write the default name.
fn lower(filename: &str) -> Option<String> {
    let (folder, name) = filename.rsplit_once('/').unwrap_or(("", filename));
    let lower = name.to_lowercase();
    (name == DOCKERFILE).then(|| match folder {
        "" => lower,
        folder => format!("{folder}/{lower}"),
    })
}

/// Whether a file begins as archives do: tar, or compressed.
fn is_archive(bytes: &[u8]) -> bool {
    let begins: [&[u8]; 4] = [b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"];
    begins.iter().any(|begin| bytes.starts_with(begin))
        || bytes.get(257..262).is_some_and(|magic| magic == b"ustar")
}

/// The images that BuildKit knows, or finds in registries.
pub(crate) struct Images<'a> {
    pub gateway: &'a Gateway,
    pub session: String,
    pub resolve: ResolveMode,
}

impl Images<'_> {
    fn ask(&self, request: ResolveImageConfigRequest) -> Result<BaseImage, ResolveError> {
        let response = self.gateway.image(request)?;
        let config = serde_json::from_slice(&response.config)?;
        Ok(BaseImage { digest: response.digest.parse()?, config })
    }
}

impl ImageResolver for Images<'_> {
    fn resolve(&self, name: &Reference, platform: &Platform) -> Result<BaseImage, ResolveError> {
        let name = name.clone().tagged();
        let mode = match self.resolve {
            ResolveMode::Default => "default",
            ResolveMode::Pull => "pull",
            ResolveMode::Local => "local",
        };
        self.ask(ResolveImageConfigRequest {
            r#ref: name.to_string(),
            platform: Some(platform.to_pb()),
            resolve_mode: mode.into(),
            log_name: format!("[internal] load metadata for {name}"),
            ..ResolveImageConfigRequest::default()
        })
    }

    fn resolve_layout(
        &self,
        store: &str,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<BaseImage, ResolveError> {
        self.ask(ResolveImageConfigRequest {
            r#ref: format!("docker.io/library/context@{digest}"),
            platform: Some(platform.to_pb()),
            log_name: format!("[context {store}] load metadata for {digest}"),
            // An OCI layout of the client.
            resolver_type: 1,
            session_id: self.session.clone(),
            store_id: store.to_owned(),
            ..ResolveImageConfigRequest::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_may_be_lower_case() {
        assert_eq!(lower("Dockerfile").as_deref(), Some("dockerfile"));
        assert_eq!(lower("a/Dockerfile").as_deref(), Some("a/dockerfile"));
        assert_eq!(lower("Other"), None);
    }

    #[test]
    fn archives_are_known_by_how_they_begin() {
        assert!(is_archive(b"\x1f\x8b\x08\x00"));
        let mut header = vec![0; 512];
        assert!(!is_archive(&header));
        header[257..262].copy_from_slice(b"ustar");
        assert!(is_archive(&header));
        assert!(!is_archive(b"FROM scratch\n"));
    }

    #[test]
    fn an_input_may_come_with_its_configuration() {
        use base64::Engine as _;
        let json = r#"{"architecture":"arm64","os":"linux"}"#;
        let encoded = base64::engine::general_purpose::STANDARD.encode(json);
        let metadata = format!(r#"{{"containerimage.config":"{encoded}"}}"#);
        assert_eq!(config(&metadata).unwrap().architecture, "arm64");
        assert_eq!(config("{}"), None);
    }
}
