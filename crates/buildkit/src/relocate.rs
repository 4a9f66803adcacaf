//! Graphs for a server that does not have our store: images that are wholly in it become
//! `oci-layout://` sources, whose blobs the server takes from us. Names and structure stay.

use std::collections::{BTreeSet, HashMap};

use koskit_image::{Image, Store};
use koskit_llb::{Digest, Edge, Graph, Platform, Reference, Vertex, pb};
use prost::Message as _;

/// The ID of the layout that is our store.
pub(crate) const STORE: &str = "koskit";

/// A graph in which images of the store are layouts.
pub(crate) struct Relocated {
    pub definition: pb::Definition,
    /// The blobs of those images.
    pub blobs: BTreeSet<Digest>,
}

/// Makes layouts of the images that the store has, with all their layers.
pub(crate) fn relocate(definition: &pb::Definition, store: &Store) -> Relocated {
    let unchanged = || Relocated { definition: definition.clone(), blobs: BTreeSet::new() };
    let mut relocated = unchanged();
    // From the digest of an op to that of the op that it becomes.
    let mut moved: HashMap<String, String> = HashMap::new();
    for bytes in &mut relocated.definition.def {
        // What cannot be read is the server's to complain of.
        let Ok(mut op) = pb::Op::decode(bytes.as_slice()) else { return unchanged() };
        let mut changed = false;
        for input in &mut op.inputs {
            if let Some(digest) = moved.get(&input.digest) {
                input.digest.clone_from(digest);
                changed = true;
            }
        }
        if let Some(image) = image(&op).and_then(|(name, platform)| {
            let image = store.resolve(&name, &platform).ok()?;
            whole(&image, store).then_some((name, image))
        }) {
            let (name, image) = image;
            let attrs = [("oci.store".to_owned(), STORE.to_owned())].into();
            let identifier = format!("oci-layout://{name}");
            op.op = Some(pb::op::Op::Source(pb::SourceOp { identifier, attrs }));
            relocated.blobs.extend(blobs(&image));
            relocated.blobs.extend(name.digest().cloned());
            changed = true;
        }
        if changed {
            let old = Digest::of(bytes);
            *bytes = op.encode_to_vec();
            moved.insert(old.to_string(), Digest::of(bytes).to_string());
        }
    }
    let definition = &mut relocated.definition;
    for (old, new) in &moved {
        if let Some(mut metadata) = definition.metadata.remove(old) {
            if metadata.caps.remove("source.image").is_some() {
                metadata.caps.insert("source.ocilayout".into(), true);
            }
            definition.metadata.insert(new.clone(), metadata);
        }
        let locations = definition.source.as_mut().map(|source| &mut source.locations);
        if let Some(locations) = locations {
            if let Some(location) = locations.remove(old) {
                locations.insert(new.clone(), location);
            }
        }
    }
    relocated
}

/// The image that an op stands for, where its name has a digest: only then is it the same
/// everywhere.
fn image(op: &pb::Op) -> Option<(Reference, Platform)> {
    let Some(pb::op::Op::Source(source)) = &op.op else { return None };
    let name = source.identifier.strip_prefix("docker-image://")?;
    let name: Reference = name.parse().ok()?;
    name.digest()?;
    let platform = op.platform.as_ref().map_or_else(Platform::host, Platform::from);
    Some((name, platform))
}

fn whole(image: &Image, store: &Store) -> bool {
    blobs(image).iter().all(|digest| store.has_blob(digest))
}

fn blobs(image: &Image) -> Vec<Digest> {
    let layers = image.layers.iter().map(|layer| layer.digest.clone());
    layers.chain([image.digest(), image.id()]).collect()
}

/// The image of the store that the result of a graph begins with, if there is one.
pub(crate) fn base(graph: &Graph, store: &Store) -> Option<Image> {
    let mut edge = graph.result()?;
    loop {
        let vertex = &graph.vertices()[edge.vertex];
        if let pb::op::Op::Source(source) = &vertex.op {
            let name: Reference =
                source.identifier.strip_prefix("docker-image://")?.parse().ok()?;
            let platform = vertex.platform.clone().unwrap_or_else(Platform::host);
            return store.resolve(&name, &platform).ok();
        }
        edge = below(vertex, edge.output)?;
    }
}

/// What an output of an op begins with.
fn below(vertex: &Vertex, output: u32) -> Option<Edge> {
    let input = |index: i64| vertex.inputs.get(usize::try_from(index).ok()?).copied();
    match &vertex.op {
        pb::op::Op::Exec(exec) => {
            let mount = exec.mounts.iter().find(|mount| mount.output == i64::from(output))?;
            input(mount.input)
        }
        pb::op::Op::File(file) => {
            let action = |action: &&pb::FileAction| action.output == i64::from(output);
            let mut action = file.actions.iter().find(action)?;
            // Beyond the inputs are the results of the actions before.
            while action.input >= vertex.inputs.len() as i64 {
                action = file.actions.get(action.input as usize - vertex.inputs.len())?;
            }
            input(action.input)
        }
        pb::op::Op::Merge(merge) => input(merge.inputs.first()?.input),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use koskit_llb::{Builder, FileOp, Note, ResolveMode, Source};
    use std::io::Write;

    fn store_with_image(folder: &std::path::Path) -> (Store, Image) {
        let store = Store::open(folder).unwrap();
        let mut writer = store.layer_writer(koskit_image::Compression::default()).unwrap();
        writer.write_all(&[0; 1024]).unwrap();
        let layer = writer.finish().unwrap();
        let config = serde_json::json!({"architecture": "arm64", "os": "linux", "config": {}});
        let image = store.add_image(&config, &[layer]).unwrap();
        (store, image)
    }

    fn graph(digest: &Digest) -> pb::Definition {
        let mut builder = Builder::new();
        let reference = format!("docker.io/kos/base:latest@{digest}").parse().unwrap();
        let platform = Platform::new("linux", "arm64", "");
        let resolve = ResolveMode::Default;
        let base = Source::Image { reference, platform: platform.clone(), resolve };
        let base = builder.source(base, Note::new("FROM kos/base"));
        let mkdir = FileOp::new().mkdir("/a", 0o755, false, None);
        let made = builder.file(base, mkdir, Note::new("mkdir"));
        builder.definition(made)
    }

    #[test]
    fn an_image_of_the_store_becomes_a_layout_and_vertices_keep_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let (store, image) = store_with_image(folder.path());
        let definition = graph(&image.digest());
        let relocated = relocate(&definition, &store);
        let (old, new) =
            (Graph::new(&definition).unwrap(), Graph::new(&relocated.definition).unwrap());
        let name = |graph: &Graph, index: usize| {
            graph.vertices()[index].metadata.description["llb.customname"].clone()
        };
        for index in 0..2 {
            assert_ne!(new.vertices()[index].digest, old.vertices()[index].digest);
            assert_eq!(name(&new, index), name(&old, index));
        }
        let pb::op::Op::Source(source) = &new.vertices()[0].op else { panic!() };
        assert!(source.identifier.starts_with("oci-layout://docker.io/kos/base:latest@sha256:"));
        assert_eq!(source.attrs["oci.store"], STORE);
        assert_eq!(relocated.blobs.len(), 3);
        assert_eq!(base(&old, &store).unwrap().digest(), image.digest());
    }

    #[test]
    fn an_image_that_is_not_here_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (store, image) = store_with_image(folder.path());
        let unknown = graph(&Digest::of(b"unknown"));
        assert_eq!(relocate(&unknown, &store).definition, unknown);
        std::fs::remove_file(folder.path().join("blobs/sha256").join(image.layers[0].digest.hex()))
            .unwrap();
        let lazy = graph(&image.digest());
        assert_eq!(relocate(&lazy, &store).definition, lazy);
    }
}
