//! The graphs of the corpus in `tests/llb` are BuildKit's, op for op.
//!
//! `tests/llb/buildkit.txt` has what BuildKit 0.25 (docker 28.5.2) makes of each Dockerfile:
//! for each step the beginning of its digest, its lines and its name, then the configuration
//! of the image. Addresses of servers and names of connections, which differ from machine to
//! machine, are replaced before digests are computed. One test compares koskit's graphs with
//! that file; the other asks a real daemon anew and compares whole ops, and writes the file
//! with `KOSKIT_BLESS=1`.
//!
//! Where they differ and why is in `tests/llb/README.md`.

mod case;
mod decode;
mod docker;
mod files;
mod graph;
mod images;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::Mutex;
use std::thread;

use case::{Case, World, folder};
use koskit_tests::{Docker, skip};
use serde_json::Value;

/// What is known of BuildKit, by case.
fn known() -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder().join("buildkit.txt")).unwrap_or_default();
    let mut known = BTreeMap::new();
    for section in text.split("\n== ").filter(|section| !section.trim().is_empty()) {
        let (name, rest) = section.trim_start_matches("== ").split_once('\n').unwrap();
        known.insert(name.to_owned(), format!("{}\n", rest.trim_end()));
    }
    known
}

/// What the exporter notes, where there are more layers than the frontend has told of.
const EXPORTER: &str = "buildkit.exporter.image.v0";

/// A configuration without what a build adds when it is done.
fn plain(config: &Value, world: &World) -> String {
    let mut config = config.clone();
    let object = config.as_object_mut().unwrap();
    object.remove("created");
    object.remove("rootfs");
    if let Some(history) = config["history"].as_array_mut() {
        history.retain(|entry| entry["comment"] != EXPORTER);
        for entry in history {
            entry.as_object_mut().unwrap().remove("created");
        }
    }
    sort(&mut config);
    world.names().iter().fold(config.to_string(), |text, (from, to)| text.replace(from, to))
}

/// Puts the fields of all objects into the order of their names.
fn sort(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.sort_keys();
            map.values_mut().for_each(sort);
        }
        Value::Array(values) => values.iter_mut().for_each(sort),
        _ => {}
    }
}

fn show(results: Vec<(graph::Steps, String)>, world: &World) -> String {
    let mut out = String::new();
    for (mut steps, config) in results {
        steps.normalise(&world.names());
        let _ = writeln!(out, "{}{config}", steps.show());
    }
    out
}

fn ours(
    case: &Case,
    world: &World,
    images: &images::Images,
) -> Result<Vec<(graph::Steps, String)>, String> {
    let config =
        |build: koskit_frontend::Build| plain(&serde_json::to_value(&build.config).unwrap(), world);
    let builds = case.ours(world, images)?.into_iter();
    Ok(builds.map(|(steps, build)| (steps, config(build))).collect())
}

#[test]
fn graphs_are_those_that_buildkit_has_made() {
    let (images, world, known) = (images::Images::new(), World::nowhere(), known());
    let cases = case::all();
    assert!(cases.len() >= 100);
    let mut wrong = Vec::new();
    for case in &cases {
        let here = ours(case, &world, &images);
        let here = here.map_or_else(|error| format!("{error}\n"), |here| show(here, &world));
        let there = known.get(&case.name).map_or("nothing is known\n", String::as_str);
        if here != there {
            wrong.push(format!("== {}\nhere:\n{here}there:\n{there}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn graphs_are_those_that_buildkit_makes() {
    if !cfg!(target_arch = "x86_64") {
        return skip("the base images of the corpus are for x86-64");
    }
    let docker = match Docker::shared() {
        Ok(docker) => docker,
        Err(why) => return skip(why),
    };
    let images = images::Images::new();
    let oracle = docker::Oracle::new(docker, &images);
    let only = std::env::var("KOSKIT_CASE").unwrap_or_default();
    let cases: Vec<_> = case::all().into_iter().filter(|c| c.name.contains(&only)).collect();
    let queue = Mutex::new(cases.iter());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().unwrap().next() else { break };
                    let result = compare(case, &oracle, &images);
                    results.lock().unwrap().push((case, result));
                }
            });
        }
    });
    let (mut wrong, mut told) = (BTreeMap::<String, String>::new(), BTreeMap::new());
    for (case, result) in results.into_inner().unwrap() {
        // BuildKit calls a step that several builds have at once as one of them does. So what
        // differs has another chance, alone.
        let result = match result {
            Ok((_, differences)) if !differences.is_empty() => compare(case, &oracle, &images),
            other => other,
        };
        match result {
            Err(error) => drop(wrong.insert(case.name.clone(), error)),
            Ok((text, differences)) => {
                told.insert(case.name.clone(), text);
                if !differences.is_empty() {
                    wrong.insert(case.name.clone(), differences.join("\n  "));
                }
            }
        }
    }
    if std::env::var_os("KOSKIT_BLESS").is_some() {
        let mut all = known();
        all.retain(|name, _| folder().join(format!("{name}.Dockerfile")).exists());
        all.extend(told);
        let all: Vec<_> = all.iter().map(|(name, text)| format!("== {name}\n{text}")).collect();
        fs::write(folder().join("buildkit.txt"), all.join("\n")).unwrap();
    } else {
        let known = known();
        for (name, text) in &told {
            if known.get(name) != Some(text) {
                let entry = wrong.entry(name.clone()).or_default();
                entry.push_str("\n  tests/llb/buildkit.txt has something else");
            }
        }
    }
    println!("{} Dockerfiles, {} graphs differ", cases.len(), wrong.len());
    let all: Vec<_> = wrong.iter().map(|(name, text)| format!("== {name}\n  {text}")).collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), all.join("\n"));
}

/// Options that koskit's own solver refuses.
const UNFIT: [&str; 2] = ["--ulimit", "--cgroup-parent"];

/// What BuildKit makes of a case, as the file has it, and in what koskit differs.
fn compare(
    case: &Case,
    oracle: &docker::Oracle<'_>,
    images: &images::Images,
) -> Result<(String, Vec<String>), String> {
    let theirs = oracle.build(case)?;
    let world = &oracle.world;
    let ours = ours(case, world, images)?;
    let mut differences = Vec::new();
    if ours.len() != theirs.len() {
        return Err(format!("{} graphs here, {} there", ours.len(), theirs.len()));
    }
    let one = theirs.len() == 1;
    let mut told = Vec::new();
    for ((ours, ours_config), theirs) in ours.into_iter().zip(theirs) {
        let (mut here, mut there) = (ours, theirs.steps.clone());
        // The name of a connection is part of digests, and provenance leaves it out.
        if here.has_connection() {
            here.normalise(&[]);
            there.normalise(&[]);
        }
        differences.extend(here.differences(&there));
        let config = plain(&theirs.config, world);
        if ours_config != config {
            differences.push(format!("config:\n    here  {ours_config}\n    there {config}"));
        }
        if one && !UNFIT.iter().any(|flag| case.words.iter().any(|word| word == flag)) {
            match oracle.koskit(case) {
                Ok(ours) => differences.extend(files::differences(&ours, &theirs.files)),
                Err(error) => differences.push(format!("koskit fails: {error}")),
            }
        }
        told.push((theirs.steps, config));
    }
    Ok((show(told, world), differences))
}
