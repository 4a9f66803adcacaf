use koskit_image::Store;
use koskit_llb::{Digest, Graph, Inputs, Reference};
use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::Event;
use crate::solver::Solved;
use crate::solver::tests::{World, add_base, chain};
use crate::testing::inside;

const TEXT: &str = "FROM base AS build
COPY a /a
RUN cat /a >/b && echo x >/c
RUN cat /b
FROM base
COPY --from=build /b /b
RUN cat /b /c* >/d || cat /b >/d
";

/// Builds and gives how many steps were done, and not known.
fn build(world: &World, text: &str) -> (Solved, Records, usize) {
    let (graph, _) = world.graph(text);
    let done = Mutex::new(0);
    let tell = |event| {
        if let Event::Completed { vertex, .. } = event {
            let source = matches!(graph.vertices()[vertex].op, koskit_llb::pb::op::Op::Source(_));
            *done.lock().unwrap() += usize::from(!source);
        }
    };
    let (solved, records) = solve(world, &graph, &tell);
    let done = done.into_inner().unwrap();
    (solved, records, done)
}

fn solve(world: &World, graph: &Graph, tell: &(dyn Fn(Event) + Send + Sync)) -> (Solved, Records) {
    let local = [("context".to_owned(), world.context.clone())].into();
    let inputs = Inputs { local, ..Inputs::default() };
    let solved = world.solver.solve_recorded(graph, &inputs, &world.options, tell);
    let (mut solved, records) = solved.unwrap_or_else(|e| panic!("{}", chain(&e)));
    (solved.remove(0), records)
}

/// Two worlds that share nothing but a base image and a context.
fn two(dir: &Path) -> (World, World) {
    let worlds = ["one", "other"].map(|name| {
        let dir = dir.join(name);
        std::fs::create_dir(&dir).unwrap();
        let world = World::new(&dir);
        add_base(&world, &dir);
        world.write("a", "a");
        world
    });
    worlds.into()
}

fn imported(world: &mut World, import: Import) {
    world.solver = world.solver.clone().with_imports(vec![import]);
}

#[test]
fn another_machine_finds_all_steps_in_a_directory() {
    inside(|_, dir| {
        let (one, mut other) = two(dir);
        let (solved, records, done) = build(&one, TEXT);
        assert_eq!(done, 5);
        let cache = one.solver.export(&records, &[&solved], Mode::Max).unwrap();
        cache.write(&one.store, &dir.join("cache"), "latest").unwrap();
        let import = Import::read_directory(&dir.join("cache"), "latest").unwrap();
        assert!(import.len() >= 5, "{}", import.len());
        imported(&mut other, import);
        let (again, _, done) = build(&other, TEXT);
        assert_eq!((again, done), (solved, 0));
        // What comes after it is done on it.
        let (_, _, done) = build(&other, &format!("{TEXT}RUN cat /d\n"));
        assert_eq!(done, 1);
        assert!(Import::read_directory(&dir.join("cache"), "other").is_err());
    });
}

#[test]
fn the_smaller_one_has_the_steps_of_the_result() {
    inside(|_, dir| {
        let (one, mut other) = two(dir);
        let (solved, records, _) = build(&one, TEXT);
        let [min, max] =
            [Mode::Min, Mode::Max].map(|m| one.solver.export(&records, &[&solved], m).unwrap());
        assert!(min.layers().len() < max.layers().len());
        assert_eq!(min.layers(), solved.layers);
        min.write(&one.store, &dir.join("cache"), "latest").unwrap();
        imported(&mut other, Import::read_directory(&dir.join("cache"), "latest").unwrap());
        let (again, _, done) = build(&other, TEXT);
        assert_eq!((again, done), (solved, 3));
    });
}

#[test]
fn an_image_can_have_its_cache_within() {
    inside(|_, dir| {
        let (one, mut other) = two(dir);
        let text = "FROM base\nCOPY a /a\nRUN cat /a >/b\nRUN cat /b\n";
        let (solved, records, _) = build(&one, text);
        let cache = one.solver.export(&records, &[&solved], Mode::Min).unwrap();
        let inline = cache.inline(&solved.layers).unwrap();
        let config = serde_json::json!({ "architecture": "amd64", "os": "linux", INLINE: inline });
        let image = one.store.add_image(&config, &solved.layers).unwrap();
        let name: Reference = "registry.example/cached".parse().unwrap();
        imported(&mut other, Import::within(&image, &name).unwrap().unwrap());
        // Nothing is fetched of it, as no step needs a file.
        let (again, _, done) = build(&other, text);
        assert_eq!((&again, done), (&solved, 0));
        assert!(again.layers[1..].iter().all(|layer| !other.store.has_blob(&layer.digest)));
        assert_eq!(other.store.source_of(&solved.layers[1].digest), Some(name.clone()));
        let config = serde_json::json!({ "architecture": "amd64", "os": "linux" });
        let plain = one.store.add_image(&config, &solved.layers).unwrap();
        assert!(Import::within(&plain, &name).unwrap().is_none());
    });
}

#[test]
fn results_are_found_by_the_names_that_buildkit_has_for_them() {
    inside(|_, dir| {
        let (mut one, mut other) = two(dir);
        one.solver = one.solver.clone().sharing();
        let (solved, records, _) = build(&one, TEXT);
        let cache = one.solver.export(&records, &[&solved], Mode::Max).unwrap();
        cache.write(&one.store, &dir.join("cache"), "latest").unwrap();
        let mut import = Import::read_directory(&dir.join("cache"), "latest").unwrap();
        import.results.clear();
        import.aliases.clear();
        imported(&mut other, import);
        let (again, _, done) = build(&other, TEXT);
        assert_eq!((again, done), (solved, 0));
        // Another file is another step, and so is all that is made of it.
        other.write("a", "another");
        let (_, _, done) = build(&other, TEXT);
        assert_eq!(done, 5);
    });
}

/// A cache with this configuration and one layer.
fn read(config: &str) -> Result<Import, CacheError> {
    let digest = Digest::of(b"layer");
    let config = config.replace("LAYER", digest.as_str());
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": { "mediaType": CONFIG_TYPE, "size": config.len(),
            "digest": Digest::of(config.as_bytes()).as_str() },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 5,
            "digest": digest.as_str(),
            "annotations": { "containerd.io/uncompressed": digest.as_str() } }],
    });
    let origin = Origin::Directory("/nowhere".into());
    Import::read(manifest.to_string().as_bytes(), origin, &|_, _| Ok(config.clone().into()))
}

#[test]
fn a_record_with_links_has_no_key_of_ours_and_nonsense_is_refused() {
    let key = Digest::of(b"key");
    let whole = format!(
        r#"{{"layers":[{{"blob":"LAYER","parent":-1}},{{"blob":"LAYER"}},{{"blob":"sha256:x"}}],
            "records":[{{"digest":"{key}","layers":[{{"layer":1,"createdAt":"2020-01-01T00:00:00Z"}}]}},
                {{"digest":"{key}","inputs":[[{{"link":0}}]],"layers":[{{"layer":0}}]}}]}}"#
    );
    let import = read(&whole).unwrap();
    assert_eq!((import.results.len(), import.results[&key].len()), (1, 2));
    assert_eq!((import.len(), import.records[1].inputs.len()), (2, 1));
    for bad in [
        r#"{"layers":[{"blob":"LAYER","parent":0}],"records":[{"digest":"KEY","layers":[{"layer":0}]}]}"#,
        r#"{"records":[{"digest":"KEY","layers":[{"layer":7}]}]}"#,
        r#"{"records":[{"digest":"KEY","layers":[{"layer":-2}]}]}"#,
        r#"{"records":[{"digest":"KEY","inputs":[[{"link":9}]]}]}"#,
        r#"{"records":[{"digest":"md5:1","layers":[]}]}"#,
        "7",
    ] {
        let bad = bad.replace("KEY", key.as_str());
        assert!(read(&bad).is_err(), "{bad}");
    }
    let missing = r#"{"layers":[{"blob":"sha256:0","parent":-1}],"records":[{"digest":"KEY","layers":[{"layer":0}]}]}"#;
    assert!(read(&missing.replace("KEY", key.as_str())).unwrap().is_empty());
}

#[test]
fn a_damaged_blob_is_an_error() {
    inside(|_, dir| {
        let (one, mut other) = two(dir);
        let text = "FROM base\nCOPY a /a\n";
        let (solved, records, _) = build(&one, text);
        let cache = one.solver.export(&records, &[&solved], Mode::Max).unwrap();
        let at = dir.join("cache");
        cache.write(&one.store, &at, "latest").unwrap();
        let blob = at.join("blobs/sha256").join(solved.layers[1].digest.hex());
        std::fs::write(&blob, vec![0; solved.layers[1].size as usize]).unwrap();
        imported(&mut other, Import::read_directory(&at, "latest").unwrap());
        let (graph, _) = other.graph(text);
        let local = [("context".to_owned(), other.context.clone())].into();
        let inputs = Inputs { local, ..Inputs::default() };
        let error = other.solver.solve(&graph, &inputs, &other.options, &|_| {}).unwrap_err();
        assert!(chain(&error).contains("damaged"), "{}", chain(&error));
        assert!(Store::open(dir.join("other/store")).is_ok());
    });
}
