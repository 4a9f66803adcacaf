//! `./x bench build`: koskit beside docker and buildah, the same builds one after the other.
//!
//! Each case is done several times, and each time by every tool in turn, so that a busy moment of
//! the machine meets all of them; the figure is the median. buildah, to which no goal is tied, has
//! one round where it is slow. A round in which a peer fails is not in its median, and the table
//! says so; after a failed push or pull it has no further rounds of these. koskit may not fail.
//!
//! What must not be in a figure, as the unpacking of the base image or the writing of what another
//! tool has made to the disk, is done before. All tools get
//! the same context, the same Dockerfile, an image store of their own that is kept on the same
//! disk, and no network.
//!
//! - *six steps, cold*: a Debian base, COPY, three RUN, COPY --from into scratch; a file that all
//!   steps depend on is another one each time.
//! - *six steps, cached*: the same again.
//! - *wide*: 40 stages that do not need each other, and one that copies from all of them.
//! - *changed file*: COPY of a 1 GiB context of 20,000 files, of which one has changed.
//! - *push*, *pull*: 500 MB that do not compress, in five layers, to and from an empty registry on
//!   127.0.0.1.

mod context;
mod report;
mod tools;

use anyhow::{Context, Result, anyhow, ensure};
use koskit_tests::registry::Registry;
use koskit_tests::{Docker, Home, Peers, root};
use report::{Case, Report};
use std::fs;
use std::path::Path;
use std::process::Command;
use tools::{Ran, Tool};

/// Rounds where nothing else is asked for.
const ROUNDS: usize = 3;
/// So many seconds of one case are enough for a tool that is not compared with: buildah.
const ENOUGH: f64 = 15.0;
/// Where contexts and the base are kept between runs.
const FOLDER: &str = "target/bench";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        words.get(at + 1).cloned()
    };
    let rounds = value("--rounds").map_or(Ok(ROUNDS), |text| text.parse()).context("--rounds")?;
    let only: Option<Vec<String>> =
        value("--only").map(|text| text.split(',').map(str::to_owned).collect());
    let wanted = |case: &str| only.as_ref().is_none_or(|only| only.iter().any(|o| o == case));

    let folder = root().join(FOLDER);
    fs::create_dir_all(&folder)?;
    let home = Home::new();
    let peers = Peers::enter();
    let docker = peers.is_ok().then(Docker::start).and_then(Result::ok);
    if let Ok(peers) = &peers {
        tools::stand_in(peers)?;
    }
    let mut tools = vec![Tool::Koskit(&home)];
    tools.extend(docker.as_ref().map(Tool::Docker));
    tools.extend(peers.as_ref().ok().map(Tool::Buildah));
    if let Err(why) = &peers {
        println!("docker and buildah are not measured: {why}");
    }

    give_base(&folder, &home, &mut tools)?;
    let mut report = Report::new(&tools);
    let bench = Bench { folder: &folder, tools: &tools, rounds };
    if wanted("six") {
        let (cold, cached) = bench.six()?;
        report.add(cold);
        report.add(cached);
    }
    if wanted("wide") {
        report.add(bench.wide()?);
    }
    if wanted("changed") {
        report.add(bench.changed()?);
    }
    if wanted("transfer") {
        let cases = bench.transfer(&home)?;
        report.cases.extend(cases);
    }
    print!("{}", report.text());
    report.write(&folder.join("build"))?;
    if only.is_none() {
        report.write(&root().join("bench/results/build"))?;
    }
    Ok(())
}

/// Makes the base image and gives it to all tools, unpacked. A peer that does not work on this
/// machine is said, and left out.
fn give_base(folder: &Path, home: &Home, tools: &mut Vec<Tool<'_>>) -> Result<()> {
    let files = folder.join("base");
    if !files.join("rootfs/bin/sh").exists() {
        eprintln!("=> make the base image of Debian packages");
        let _ = fs::remove_dir_all(&files);
        fs::create_dir_all(&files)?;
        let mut command = Command::new("mmdebstrap");
        command.args(["--mode=root", "--variant=minbase", "--format=directory"]);
        command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
        let done = command.arg("stable").arg(files.join("rootfs")).output();
        let done = done.context("cannot start mmdebstrap")?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let _ = fs::remove_dir_all(files.join("rootfs/dev"));
        fs::write(files.join("Dockerfile"), "FROM scratch\nCOPY rootfs /\n")?;
    }
    let archive = home.path().join("base.tar");
    let koskit = Tool::Koskit(home);
    let mut command = koskit.build("bench-base", &files);
    command.arg(format!("--output=type=oci,dest={}", archive.display()));
    tools::must(command)?;
    // Nobody unpacks it within a figure.
    let warm = context::written(folder, "warm", "FROM bench-base\nRUN true\n")?;
    tools::must(koskit.build("bench-warm", &warm))?;
    tools.retain(|tool| {
        let Tool::Koskit(_) = tool else {
            let ready = tools::must(tool.load(&archive))
                .and_then(|()| tools::must(tool.build("bench-warm", &warm)));
            if let Err(why) = &ready {
                println!("{} is not measured: {why:#}", tool.label());
            }
            return ready.is_ok();
        };
        true
    });
    Ok(())
}

struct Bench<'a> {
    folder: &'a Path,
    tools: &'a [Tool<'a>],
    rounds: usize,
}

impl Bench<'_> {
    /// One case: each round is prepared, then done by all tools. `again` where it is about doing
    /// something again: then a tool does it once before its first round, and after a failure.
    fn case(
        &self,
        name: &str,
        goal: f64,
        again: bool,
        prepare: impl Fn() -> Result<()>,
        command: impl Fn(&Tool<'_>) -> Command,
    ) -> Result<Case> {
        let mut case = Case::new(name, goal, self.tools.len());
        let mut ready = vec![!again; self.tools.len()];
        for _ in 0..self.rounds {
            let enough: Vec<bool> = (0..self.tools.len())
                .map(|place| {
                    matches!(self.tools[place], Tool::Buildah(_)) && case.total(place) >= ENOUGH
                })
                .collect();
            for (place, tool) in self.tools.iter().enumerate() {
                if !ready[place] && !enough[place] {
                    ready[place] = case.worked(place, tools::must(command(tool)))?.is_some();
                }
            }
            prepare()?;
            for (place, tool) in self.tools.iter().enumerate() {
                if ready[place] && !enough[place] {
                    match case.worked(place, tools::measure(command(tool)))? {
                        Some(ran) => case.add(place, ran),
                        None => ready[place] = !again,
                    }
                }
            }
        }
        Ok(case)
    }

    fn six(&self) -> Result<(Case, Case)> {
        let context = context::written(self.folder, "six", context::SIX)?;
        let build = |tool: &Tool<'_>| tool.build("bench-six", &context);
        let nonce = || context::nonce(&context.join("src/nonce"));
        fs::create_dir_all(context.join("src"))?;
        fs::write(context.join("src/main.c"), "int main(void) { return 0; }\n")?;
        let cold = self.case("six steps, cold", 0.5, false, nonce, build)?;
        let cached = self.case("six steps, cached", 0.1, true, || Ok(()), build)?;
        Ok((cold, cached))
    }

    fn wide(&self) -> Result<Case> {
        let context = context::written(self.folder, "wide", &context::wide(40))?;
        let build = |tool: &Tool<'_>| tool.build("bench-wide", &context);
        let nonce = || context::nonce(&context.join("nonce"));
        self.case("40 stages, cold", 0.6, false, nonce, build)
    }

    fn changed(&self) -> Result<Case> {
        let context = context::written(self.folder, "large", "FROM scratch\nCOPY files /files\n")?;
        context::files(&context.join("files"), 20_000, 1 << 30)?;
        let build = |tool: &Tool<'_>| tool.build("bench-large", &context);
        let change = || context::nonce(&context.join("files/17/42"));
        self.case("1 GiB, one file changed", 0.3, true, change, build)
    }

    /// Push and pull, by those who can.
    fn transfer(&self, home: &Home) -> Result<Vec<Case>> {
        let context = context::written(self.folder, "layers", &context::layers(5))?;
        for layer in 0..5 {
            context::random(&context.join(layer.to_string()), 100_000_000, layer)?;
        }
        let archive = home.path().join("layers.tar");
        let mut command = self.tools[0].build("bench-layers", &context);
        command.arg(format!("--output=type=oci,dest={}", archive.display()));
        tools::must(command)?;
        let mut push = Case::new("push of 500 MB", 0.8, self.tools.len());
        let mut pull = Case::new("pull of 500 MB", 0.8, self.tools.len());
        for (place, tool) in self.tools.iter().enumerate().skip(1) {
            if push.worked(place, tools::must(tool.load(&archive)))?.is_none() {
                pull.worked::<()>(place, Err(anyhow!("it has no image")))?;
            }
        }
        fs::remove_file(&archive)?;
        for _ in 0..self.rounds {
            for (place, tool) in self.tools.iter().enumerate() {
                // What it then has of the image, nobody knows.
                if pull.has_failed(place) {
                    continue;
                }
                // It must not know any of the layers.
                let Some(registry) = Registry::start() else { return Ok(Vec::new()) };
                let name = registry.name("bench-layers:latest");
                let Some(ran) = push.worked(place, pushed(tool, &name))? else {
                    pull.worked::<()>(place, Err(anyhow!("nothing was pushed")))?;
                    continue;
                };
                push.add(place, ran);
                if let Some(ran) = pull.worked(place, pulled(tool, &name))? {
                    pull.add(place, ran);
                }
            }
        }
        Ok(vec![push, pull])
    }
}

/// Pushes to a registry.
fn pushed(tool: &Tool<'_>, name: &str) -> Result<Ran> {
    for command in tool.name("bench-layers", name) {
        tools::must(command)?;
    }
    tools::measure(tool.push(name))
}

/// Pulls what was pushed into an empty store.
fn pulled(tool: &Tool<'_>, name: &str) -> Result<Ran> {
    if let Tool::Koskit(_) = tool {
        let elsewhere = Home::new();
        return tools::measure(Tool::Koskit(&elsewhere).pull(name));
    }
    // The others have one store; nothing of the image may stay in it.
    for command in tool.forget(&["bench-layers", name]) {
        tools::must(command)?;
    }
    let ran = tools::measure(tool.pull(name))?;
    // The name of this registry must not keep it for the next round.
    for command in tool.name(name, "bench-layers").into_iter().chain(tool.untag(name)) {
        tools::must(command)?;
    }
    Ok(ran)
}
