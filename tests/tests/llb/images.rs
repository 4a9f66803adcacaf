//! The base images of the corpus: small, and the same on each day and machine.

use std::collections::BTreeMap;

use koskit_frontend::{BaseImage, ImageConfig, ImageResolver, ResolveError};
use koskit_llb::{Digest, Platform, Reference};
use serde_json::{Value, json};

/// A program for x86-64 that ends at once with 0: `mov eax, 60; xor edi, edi; syscall`. It is
/// the shell of all images, so that every RUN of the corpus works and does nothing.
const PROGRAM: &[u8] = b"\xb8\x3c\0\0\0\x31\xff\x0f\x05";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// All images.
pub struct Images {
    blobs: BTreeMap<Digest, Vec<u8>>,
    /// By name: the descriptor of the manifest or index.
    named: BTreeMap<String, Value>,
    configs: BTreeMap<(String, String), ImageConfig>,
}

impl Images {
    pub fn new() -> Self {
        let mut images =
            Self { blobs: BTreeMap::new(), named: BTreeMap::new(), configs: BTreeMap::new() };
        let path = json!({"Env": ["PATH=/bin", "FROM_BASE=1"]});
        images.single("base", &path);
        images.single(
            "full",
            &json!({
                "User": "user:staff", "Env": ["PATH=/bin:/usr/bin", "SET=by image"],
                "WorkingDir": "/work/dir", "Entrypoint": ["/e"], "Cmd": ["c"],
                "Labels": {"a": "0", "image": "full"}, "ExposedPorts": {"80/tcp": {}},
                "Volumes": {"/data": {}}, "Shell": ["/bin/sh", "-x", "-c"],
                "StopSignal": "SIGTERM",
            }),
        );
        let triggers = ["COPY a /triggered", "ENV T=1", "RUN one $T", "WORKDIR /t"];
        images.single("trigger", &json!({"Env": ["PATH=/bin"], "OnBuild": triggers}));
        let from = ["COPY --from=tools /bin/sh /sh", "RUN --mount=from=tools,target=/t one"];
        images.single("trigger-from", &json!({"OnBuild": from}));
        let empty = images.manifest("empty", "amd64", &path, None);
        images.named.insert("empty".into(), empty);
        let both = ["amd64", "arm64"].map(|architecture| {
            let layer = images.layer();
            let mut descriptor = images.manifest("multi", architecture, &path, Some(layer));
            descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
            descriptor
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": both});
        let index = images.blob(INDEX, index.to_string().into_bytes());
        images.named.insert("multi".into(), index);
        images
    }

    fn single(&mut self, name: &str, config: &Value) {
        let layer = self.layer();
        let manifest = self.manifest(name, "amd64", config, Some(layer));
        self.named.insert(name.into(), manifest);
    }

    fn blob(&mut self, kind: &str, data: Vec<u8>) -> Value {
        let digest = Digest::of(&data);
        let descriptor = json!({"mediaType": kind, "digest": digest.as_str(), "size": data.len()});
        self.blobs.insert(digest, data);
        descriptor
    }

    fn layer(&mut self) -> Value {
        let sh = program();
        // Where a command finds devices and the like: BuildKit would leave them otherwise.
        let files: [(&str, u32, Option<&[u8]>); 11] = [
            ("bin/", 0o755, None),
            ("bin/sh", 0o755, Some(&sh)),
            ("dev/", 0o755, None),
            ("etc/", 0o755, None),
            ("etc/group", 0o644, Some(b"root:x:0:\nstaff:x:9:\n")),
            ("etc/passwd", 0o644, Some(b"root:x:0:0::/:\nuser:x:7:8::/:\n")),
            ("proc/", 0o755, None),
            ("sys/", 0o755, None),
            ("tmp/", 0o1777, None),
            ("t/", 0o755, None),
            ("x/", 0o755, None),
        ];
        self.blob("application/vnd.oci.image.layer.v1.tar", archive(&files))
    }

    fn manifest(
        &mut self,
        name: &str,
        architecture: &str,
        config: &Value,
        layer: Option<Value>,
    ) -> Value {
        let layers: Vec<Value> = layer.into_iter().collect();
        let ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let history: Vec<Value> = ids.iter().map(|_| json!({"created_by": "base"})).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": ids}, "history": history,
        });
        let read = serde_json::from_value(config.clone()).unwrap();
        self.configs.insert((name.into(), architecture.into()), read);
        let kind = "application/vnd.oci.image.config.v1+json";
        let config = self.blob(kind, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        self.blob(MANIFEST, manifest.to_string().into_bytes())
    }

    /// The digest that names an image.
    pub fn digest(&self, name: &str) -> Digest {
        self.named[name]["digest"].as_str().unwrap().parse().unwrap()
    }

    /// An OCI archive of all of them, as `docker load` takes it.
    pub fn archive(&self) -> Vec<u8> {
        let manifests = self.named.iter().map(|(name, descriptor)| {
            let mut descriptor = descriptor.clone();
            descriptor["annotations"] = json!({
                "io.containerd.image.name": format!("docker.io/library/{name}:latest"),
                "org.opencontainers.image.ref.name": "latest",
            });
            descriptor
        });
        self.layout(manifests.collect())
    }

    /// An OCI layout, as an archive, of one image.
    pub fn one(&self, name: &str) -> Vec<u8> {
        let mut descriptor = self.named[name].clone();
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        self.layout(vec![descriptor])
    }

    fn layout(&self, manifests: Vec<Value>) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        let blobs: Vec<_> = self
            .blobs
            .iter()
            .map(|(digest, data)| (format!("blobs/sha256/{}", digest.hex()), data))
            .collect();
        let mut files: Vec<(&str, u32, Option<&[u8]>)> = vec![
            ("oci-layout", 0o644, Some(br#"{"imageLayoutVersion":"1.0.0"}"#)),
            ("index.json", 0o644, Some(index.as_bytes())),
        ];
        files.extend(blobs.iter().map(|(path, data)| (path.as_str(), 0o644, Some(&data[..]))));
        archive(&files)
    }
}

impl ImageResolver for Images {
    fn resolve(&self, name: &Reference, platform: &Platform) -> Result<BaseImage, ResolveError> {
        let familiar = name.familiar();
        let short = familiar.split([':', '@']).next().unwrap_or_default();
        let of = |platform: &str| self.configs.get(&(short.to_owned(), platform.to_owned()));
        // An image of one platform alone is that for all, as docker has it.
        let config = of(&platform.architecture).or_else(|| of("amd64"));
        let config = config.ok_or_else(|| format!("there is no image {familiar}"))?.clone();
        Ok(BaseImage { digest: self.digest(short), config })
    }

    fn resolve_layout(
        &self,
        _: &str,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<BaseImage, ResolveError> {
        let name = self.named.keys().find(|name| self.digest(name) == *digest);
        let name = name.ok_or("there is no such layout")?;
        self.resolve(&name.parse()?, platform)
    }
}

/// The smallest file that Linux takes for a program.
fn program() -> Vec<u8> {
    let length = 120 + PROGRAM.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend(b"\x02\0\x3e\0\x01\0\0\0");
    elf.extend(0x40_0078u64.to_le_bytes());
    elf.extend(64u64.to_le_bytes());
    elf.extend([0; 12]);
    elf.extend(b"\x40\0\x38\0\x01\0\0\0\0\0\0\0");
    elf.extend(b"\x01\0\0\0\x05\0\0\0");
    for field in [0, 0x40_0000, 0x40_0000, length, length, 0x1000] {
        elf.extend(u64::to_le_bytes(field));
    }
    elf.extend(PROGRAM);
    elf
}

/// A tar archive of files and, where there is no content, directories.
pub fn archive(files: &[(&str, u32, Option<&[u8]>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, data) in files {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(match data {
            Some(_) => tar::EntryType::Regular,
            None => tar::EntryType::Directory,
        });
        header.set_mode(*mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let data = data.unwrap_or_default();
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, path, data).unwrap();
    }
    builder.into_inner().unwrap()
}
