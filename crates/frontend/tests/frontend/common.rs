//! A store of images that exist nowhere, and a short form of graphs.

use koskit_dockerfile::Source;
use koskit_frontend::{
    BaseImage, Build, FrontendError, ImageResolver, Options, ResolveError, convert,
};
use koskit_llb::{Digest, Graph, Platform, Reference, Vertex, pb};

/// Knows `kos/busybox`, `kos/dev-c-aarch64-kos-linux-musl`, `base` and two with an ONBUILD.
pub struct Images;

impl ImageResolver for Images {
    fn resolve(&self, name: &Reference, platform: &Platform) -> Result<BaseImage, ResolveError> {
        let config = match name.familiar().as_str() {
            "kos/busybox:latest" | "kos/dev-c-aarch64-kos-linux-musl:latest" => "{}",
            "base:latest" => {
                r#"{"User": "app", "Env": ["PATH=/bin", "A=1"], "Entrypoint": ["/e"],
                    "Cmd": ["c"], "WorkingDir": "/w", "ExposedPorts": {"80/tcp": {}},
                    "Labels": {"l": "1"}}"#
            }
            "onbuild:latest" => {
                r#"{"OnBuild": ["COPY --from=tools /tool /", "RUN /tool $V"],
                    "Shell": ["/bin/bash", "-c"]}"#
            }
            "broken:latest" => r#"{"OnBuild": ["FROM scratch"]}"#,
            other => return Err(format!("there is no image {other}").into()),
        };
        let text = format!(
            r#"{{"architecture": "{}", "os": "linux", "config": {config},
                "rootfs": {{"type": "layers", "diff_ids": ["{}"]}},
                "history": [{{"created_by": "base"}}]}}"#,
            platform.architecture,
            Digest::of(b"layer")
        );
        Ok(BaseImage { digest: digest(), config: serde_json::from_str(&text)? })
    }
}

/// The digest of all images.
pub fn digest() -> Digest {
    Digest::of(b"image")
}

pub fn options() -> Options {
    Options { build_platform: Platform::new("linux", "amd64", ""), ..Options::default() }
}

pub fn try_build(text: &str, options: &Options) -> Result<Build, FrontendError> {
    convert(Source::new("Dockerfile", text), options, &Images)
}

/// A build that succeeds, and its graph.
pub fn build_with(text: &str, options: &Options) -> (Build, Graph) {
    let build = try_build(text, options).unwrap_or_else(|error| panic!("{error}"));
    let graph = Graph::new(&build.definition).unwrap();
    (build, graph)
}

pub fn build(text: &str) -> (Build, Graph) {
    build_with(text, &options())
}

/// What is wrong with a file, as a person sees it.
pub fn errors(text: &str) -> String {
    match try_build(text, &options()) {
        Err(error) => format!("{error}\n"),
        Ok(_) => panic!("{text:?} is built"),
    }
}

/// One line a vertex: its name, its inputs, its platform and what it does.
pub fn show(graph: &Graph) -> String {
    let lines = graph.vertices().iter().enumerate().map(|(i, vertex)| {
        let inputs: Vec<_> = vertex.inputs.iter().map(|edge| edge.vertex.to_string()).collect();
        let platform = vertex.platform.as_ref().map(|p| format!(" on {p}")).unwrap_or_default();
        let name = vertex.name().replace(digest().as_str(), "DIGEST");
        format!("{i} <- [{}]{platform} {name}\n    {}\n", inputs.join(" "), what(vertex))
    });
    lines.collect()
}

fn what(vertex: &Vertex) -> String {
    match &vertex.op {
        pb::op::Op::Source(source) => {
            let attrs: Vec<_> = source.attrs.iter().map(|(k, v)| format!(" {k}={v}")).collect();
            let mut attrs = attrs;
            attrs.sort();
            let identifier = source.identifier.replace(digest().as_str(), "DIGEST");
            format!("{identifier}{}", attrs.concat())
        }
        pb::op::Op::Exec(exec) => {
            let meta = exec.meta.as_ref().unwrap();
            let user = if meta.user.is_empty() { "root" } else { &meta.user };
            format!("{:?} in {} as {user} with {:?}", meta.args, meta.cwd, meta.env)
        }
        pb::op::Op::File(_) => vertex.summary(),
        other => panic!("{other:?}"),
    }
}
