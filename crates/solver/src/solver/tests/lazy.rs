//! Images whose layers are not in the store.

use std::error::Error as StdError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Another store, as if it were a registry; counts what is fetched.
struct Elsewhere {
    store: Store,
    fetched: AtomicUsize,
}

impl Fetch for Elsewhere {
    fn layer(
        &self,
        image: &Reference,
        layer: &Layer,
        store: &Store,
    ) -> Result<(), Box<dyn StdError + Send + Sync>> {
        assert_eq!(image.familiar(), "base:latest");
        self.fetched.fetch_add(1, Ordering::SeqCst);
        let mut writer = store.blob_writer()?;
        std::io::copy(&mut self.store.blob(&layer.digest, layer.size)?, &mut writer)?;
        Ok(writer.finish_as(&layer.digest, layer.size)?)
    }
}

/// A world in which the image `base` has a manifest and a configuration, but no layers.
fn lazy(dir: &Path) -> (World, Arc<Elsewhere>) {
    let far = World::new(&dir.join("far"));
    add_base(&far, dir);
    let name: Reference = "base:latest".parse().unwrap();
    let image = far.store.resolve(&name, &Platform::host()).unwrap();
    let mut near = World::new(&dir.join("near"));
    for layer in &image.layers {
        near.store.note_source(&layer.digest, &name).unwrap();
    }
    let copy = near.store.add_image(&image.config_json, &image.layers).unwrap();
    assert_eq!(copy.digest(), image.digest());
    near.store.tag(&name, &copy.descriptor).unwrap();
    let elsewhere = Arc::new(Elsewhere { store: far.store, fetched: AtomicUsize::new(0) });
    near.solver = near.solver.with_fetch(elsewhere.clone());
    (near, elsewhere)
}

#[test]
fn what_only_changes_metadata_fetches_nothing() {
    inside(|_, dir| {
        let (world, elsewhere) = lazy(dir);
        world.write("a", "a");
        let built = world.build("FROM base\nENV A=b\nLABEL c=d\n");
        assert_eq!(built.solved.layers.len(), 1);
        world.store.add_image(&built.config, &built.solved.layers).unwrap();
        assert_eq!(elsewhere.fetched.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_step_that_needs_the_files_fetches_them_once_and_a_cached_build_does_not() {
    inside(|_, dir| {
        let (world, elsewhere) = lazy(dir);
        let text = "FROM base\nRUN cat /bin/sh >/copy\n";
        let built = world.build(text);
        assert_eq!(elsewhere.fetched.load(Ordering::SeqCst), 1);
        assert_eq!(built.solved.layers.len(), 2);
        // Even where the blob is gone again, as nothing needs it.
        let layer = &built.solved.layers[0];
        fs::remove_file(world.store.path().join("blobs/sha256").join(layer.digest.hex())).unwrap();
        let again = world.build(text);
        assert_eq!(again.solved, built.solved);
        assert_eq!(elsewhere.fetched.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn without_a_registry_the_missing_layer_is_named() {
    inside(|_, dir| {
        let (mut world, _) = lazy(dir);
        world.solver.fetch = None;
        let error = world.error("FROM base\nRUN cat /bin/sh\n");
        assert!(error.contains("is not in the store"), "{error}");
    });
}
