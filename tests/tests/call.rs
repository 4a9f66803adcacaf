//! `koskit build --call`: docker's own says the same of the same Dockerfiles, to programs and to
//! people.

use koskit_dockerfile::Source;
use koskit_frontend::{BaseImage, ImageResolver, Options, ResolveError, outline, targets};
use koskit_llb::{Platform, Reference};
use koskit_tests::{Docker, Home, Said, root, skip};
use serde_json::{Value, json};
use std::fs;

/// Dockerfiles and the target that is asked for. All begin with an empty image, as there is no
/// registry to ask for others.
const FILES: &[(&str, &str)] = &[
    ("", "FROM scratch\n"),
    ("", "# syntax is no comment\n# a the first\nFROM scratch AS A\n# b second\nFROM a AS b\n"),
    ("a", "# a the first\n\n# of two lines\nFROM scratch AS a\nFROM scratch AS b\n"),
    ("b", "# a not it\n#\n# b  two blanks\nFROM \\\n  scratch AS b\n"),
    ("", "FROM --platform=$BUILDPLATFORM scratch AS tools\nFROM --platform=linux/arm64 scratch\n"),
    (
        "",
        "# A all\n# B both\nARG A=1 B=$A C\nARG D=${B:-x}$TARGETOS\nFROM scratch\nARG A B C D E\n",
    ),
    ("", "ARG A=scratch\nARG B=$A\nARG UNUSED=1\nFROM $B\n"),
    ("", "ARG P=linux/amd64\nFROM --platform=$P scratch AS a\nFROM a AS b\nFROM b\n"),
    ("", "ARG A=1\nARG A=$A-2\nARG B=1\nARG B\nFROM scratch\nARG A B\n"),
    ("", "ARG A=1\nFROM scratch\n# A again\nARG A=2\nARG A=3\nARG B=$A\nENV C=4\nARG D=$C\n"),
    ("", "FROM scratch\nARG TARGETPLATFORM HTTP_PROXY SOURCE_DATE_EPOCH\nARG TARGETOS=other\n"),
    (
        "",
        "FROM scratch\n# A one\nARG A=1 \\\n  # within\n  B=2 \\\n  C=\"x y\"\n# D <&>\nARG D='$A'\n",
    ),
    ("", "FROM scratch AS a\nARG X=1\nFROM a AS b\nARG X=2\nFROM b\nARG Y=3\n"),
    (
        "",
        "FROM scratch AS a\nARG X=1\nFROM scratch AS b\nARG Z=2\nFROM scratch\nCOPY --from=a / /\n",
    ),
    ("", "FROM scratch AS a\nARG X=1\nFROM scratch\nRUN --mount=type=bind,from=a,target=/a true\n"),
    ("", "FROM scratch AS a\nARG X=1\nFROM scratch\nCOPY --from=0 / /\n"),
    ("a", "FROM scratch AS a\nARG X=1\nFROM a AS b\nARG Y=1\n"),
    (
        "",
        "FROM scratch\nRUN --mount=type=secret,id=k true\nRUN --mount=type=secret,id=k,required x\n",
    ),
    (
        "",
        "FROM scratch\nARG N=v\nRUN --mount=type=secret,target=/a/b \\\n  --mount=type=secret,source=s \\\n  \
         --mount=type=secret,id=i$N,required=true \\\n  --mount=type=ssh <<E\nx\nE\n",
    ),
    ("", "FROM scratch\nRUN --mount=type=ssh,required true\nRUN --mount=type=ssh,id=other true\n"),
    (
        "",
        "FROM scratch AS a\nRUN --mount=type=secret,id=x true\nRUN --mount=type=ssh true\nFROM a\n",
    ),
    ("", "FROM scratch\nRUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t true\n"),
    ("", "FROM scratch\nRUN --mount=type=secret,id=e,env=E echo $E\n"),
    ("", "FROM scratch AS a\nONBUILD RUN --mount=type=secret,id=o true\nFROM a\n"),
    ("", "FROM scratch AS a\n# X no\nONBUILD ARG X=1\n# here\nFROM \\\n a\n"),
    ("", "\u{feff}# \u{fc} is a letter\nFROM scratch\nARG \u{fc}=\u{df}\n"),
    ("", "# escape=`\n# A is windows'\nARG A=`\n1\nFROM scratch\nARG A\n"),
    ("none", "FROM scratch AS a\n"),
    ("", "FROM scratch\nARG A=${A\n"),
    ("", "FROM scratch\nARG A=${B:?needed}\n"),
    ("", "FROM\n"),
];

/// The same, with an ARG that the build gives a value to.
const GIVEN: &[(&str, &str)] = &[
    ("", "ARG GIVEN=1\nARG B=$GIVEN\nFROM scratch\nARG GIVEN B\n"),
    ("", "ARG GIVEN=1\nFROM scratch\n# GIVEN it is\nARG GIVEN\nARG C=$GIVEN\n"),
    ("", "FROM scratch\nARG GIVEN=1\n"),
];

struct NoImages;

impl ImageResolver for NoImages {
    fn resolve(&self, name: &Reference, _: &Platform) -> Result<BaseImage, ResolveError> {
        Err(format!("there is no image {}", name.familiar()).into())
    }
}

/// The answer as JSON; `None` is an error.
fn ours(call: &str, target: &str, dockerfile: &str) -> Option<Value> {
    let source = Source::new("Dockerfile", dockerfile);
    let answer = match call {
        "targets" => serde_json::to_value(targets(source).ok()?),
        _ => {
            let options = Options {
                target: Some(target.to_owned()).filter(|target| !target.is_empty()),
                build_args: [("GIVEN".to_owned(), "given".to_owned())].into(),
                target_platform: Platform::new("linux", "amd64", ""),
                build_platform: Platform::new("linux", "amd64", ""),
                ..Options::default()
            };
            serde_json::to_value(outline(source, &options, &NoImages).ok()?)
        }
    };
    Some(answer.unwrap())
}

fn docker(docker: &Docker, call: &str, target: &str, dockerfile: &str) -> Said {
    let base = root().join("target/tests");
    fs::create_dir_all(&base).unwrap();
    let context = tempfile::tempdir_in(base).unwrap();
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    let (call, target) = (format!("--call={call}"), format!("--target={target}"));
    let words =
        ["buildx", "build", "--progress=plain", "--build-arg=GIVEN=given", &call, &target, "."];
    Said::of(docker.command(context.path(), &words).output().unwrap())
}

fn theirs(from: &Docker, call: &str, target: &str, dockerfile: &str) -> Option<Value> {
    let said = docker(from, &format!("{call},format=json"), target, dockerfile);
    (said.code == 0).then(|| serde_json::from_str(&said.stdout).unwrap())
}

/// What stands in the same lines has no order in docker's: it is sorted by name.
fn sorted(mut answer: Option<Value>) -> Option<Value> {
    for part in ["args", "secrets", "ssh"] {
        if let Some(list) = answer.as_mut().and_then(|answer| answer[part].as_array_mut()) {
            list.sort_by_key(|one| {
                (one["location"]["ranges"][0]["start"]["line"].as_u64(), one["name"].to_string())
            });
        } else if let Some(answer) = answer.as_mut().and_then(Value::as_object_mut) {
            answer.remove(part);
        }
    }
    answer
}

/// Those of the corpus of Dockerfiles that take something, on empty images.
fn corpus() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root().join("tests/llb")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "Dockerfile") {
            let text = fs::read_to_string(&path).unwrap();
            if !["ARG", "ssh", "secret", "AS one"].iter().any(|part| text.contains(part)) {
                continue;
            }
            let mut known: Vec<String> = vec!["scratch".into()];
            let mut empty = String::new();
            for line in text.lines() {
                let words: Vec<_> = line.split_whitespace().collect();
                let base = words.iter().position(|word| !word.starts_with("--") && *word != "FROM");
                let line = match (words.first(), base) {
                    (Some(&"FROM"), Some(at)) => {
                        let mut words: Vec<_> = words.iter().map(|w| (*w).to_owned()).collect();
                        if !words[at].contains('$') && !known.contains(&words[at].to_lowercase()) {
                            words[at] = "scratch".into();
                        }
                        known.extend(words.get(at + 2).map(|name| name.to_lowercase()));
                        words.join(" ")
                    }
                    _ => line.to_owned(),
                };
                empty += &format!("{line}\n");
            }
            files.push((path.file_stem().unwrap().to_string_lossy().into_owned(), empty));
        }
    }
    files.sort();
    files
}

#[test]
fn docker_tells_programs_the_same() {
    let docker = match Docker::shared() {
        Ok(docker) => docker,
        Err(why) => return skip(why),
    };
    let corpus = corpus();
    let corpus = corpus.iter().map(|(name, text)| (name.as_str(), "", text.as_str()));
    let own = FILES.iter().chain(GIVEN).map(|(target, text)| ("", *target, *text));
    let (mut different, mut answers, mut errors) = (Vec::new(), 0, 0);
    for (name, target, text) in own.chain(corpus) {
        for call in ["outline", "targets"] {
            let ours = sorted(ours(call, target, text));
            let theirs = sorted(theirs(docker, call, target, text));
            match theirs.is_some() {
                true => answers += 1,
                false => errors += 1,
            }
            if ours != theirs {
                let both = json!({ "koskit": ours, "docker": theirs });
                different.push(format!("{name} {call} {target}\n{text}{both:#}"));
            }
        }
    }
    println!("{answers} answers and {errors} errors of docker's");
    assert!(different.is_empty(), "{}", different.join("\n\n"));
    assert!(answers > 100 && errors > 5, "{answers} answers, {errors} errors");
}

#[test]
fn docker_tells_people_the_same() {
    let from = match Docker::shared() {
        Ok(docker) => docker,
        Err(why) => return skip(why),
    };
    let home = Home::new();
    let mut shown = 0;
    for (target, text) in FILES.iter().chain(GIVEN) {
        // Docker has no order of what stands in one instruction.
        let several = ["ARG A=1 B", "ARG A=1 \\", "A B", "GIVEN B", "id=i$N", "PLATFORM HTTP"];
        let has_order = !several.iter().any(|part| text.contains(part));
        let lines = |text: &str| {
            let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
            if !has_order {
                lines.sort();
            }
            lines
        };
        home.write("context/Dockerfile", text);
        for call in ["outline", "targets"] {
            let theirs = docker(from, call, target, text);
            let mut words = vec!["build", "--call", call, "--build-arg=GIVEN=given", "context"];
            if !target.is_empty() {
                words.extend(["--target", target]);
            }
            let ours = home.koskit(&words);
            let (our_lines, their_lines) = (lines(&ours.stdout), lines(&theirs.stdout));
            assert_eq!(our_lines, their_lines, "{call}:\n{text}{}", ours.stderr);
            assert_eq!(ours.code == 0, theirs.code == 0, "{call}:\n{text}{}", theirs.stderr);
            shown += usize::from(theirs.code == 0);
        }
    }
    assert!(shown > 30, "{shown}");
}
