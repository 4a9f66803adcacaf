//! BuildKit's build checks: docker's own find the same in the same lines.

use koskit_dockerfile::Source;
use koskit_frontend::{
    BaseImage, Context, ImageResolver, Options, ResolveError, check, ignore_patterns,
};
use koskit_llb::{Platform, Reference};
use koskit_tests::{Docker, root, skip};
use serde_json::Value;
use std::fs;

/// Dockerfiles, some with a `.dockerignore` before them. All begin with an empty image, as there
/// is no registry to ask for others.
///
/// BuildKit 0.25, which is in docker 28.5, has CopyIgnoredFile among the experimental rules, also
/// where the `.dockerignore` takes something back, and does not read `check=` above an
/// instruction; later ones are as koskit is.
const FILES: &[(&str, &str)] = &[
    ("", "FROM scratch\nCOPY a /\nCMD [\"/a\"]\n"),
    ("", "FROM scratch AS Build\nFROM scratch\nCOPY --from=build / /\n"),
    ("", "FROM scratch as b\n"),
    ("", "from scratch AS b\n"),
    ("", "FROM scratch\ncopy a /\nCOPY b /\n"),
    ("", "from scratch\ncopy a /\nCOPY b /\n"),
    ("", "From scratch\nCOPY b /\n"),
    ("", "FROM scratch AS a\nFROM scratch AS a\nCOPY x /\n"),
    ("", "FROM scratch AS context\nCOPY x /\n"),
    ("", "FROM scratch\nCOPY a /\nMAINTAINER somebody\n"),
    ("", "FROM scratch\nENV a b\nLABEL c d\nENV e=f\n"),
    ("", "FROM scratch\nRUN a \\\n\n  b\n"),
    ("", "FROM scratch\nCMD a b\nENTRYPOINT c\n"),
    ("", "FROM scratch\nSHELL [\"/s\"]\nCMD a b\n"),
    ("", "FROM scratch\nCMD [\"a\"]\nCMD [\"b\"]\nENTRYPOINT [\"c\"]\nENTRYPOINT [\"d\"]\n"),
    ("", "FROM scratch\nHEALTHCHECK NONE\nHEALTHCHECK CMD a\n"),
    ("", "FROM scratch\nEXPOSE 80/TCP 81/Udp 82\n"),
    ("", "FROM scratch\nEXPOSE 127.0.0.1:80:80 81:82 83\n"),
    ("", "FROM scratch\nCOPY $foo /x\nWORKDIR /$bar\nUSER $baz\n"),
    ("", "FROM scratch\nARG foo\nENV bar=1\nCOPY $foo$bar /x\n"),
    ("", "FROM scratch\nENV PATH=$PAHT:/x\nENV a=1 b=$a\nARG c=$d e=2 f=$e\n"),
    ("", "FROM scratch\nLABEL a=$b ${c:-x}=${PATH}\nVOLUME /$v\nSTOPSIGNAL ${s:-9}\n"),
    ("", "FROM scratch\nRUN --mount=type=cache,target=/$t true\n"),
    ("", "FROM scratch\nCOPY <<E <<'F' /x/\n$u\nE\n$w\nF\n"),
    ("", "FROM scratch AS a\nARG x=1\nENV y=2\nFROM a\nUSER $x$y$z\n"),
    ("", "FROM scratch AS a\nONBUILD ARG q\nFROM a\nUSER $q\n"),
    ("", "ARG X\nFROM scratch$X\nCOPY a /\n"),
    ("", "ARG X=scratch\nFROM $X\nCOPY a /\n"),
    ("", "ARG X=b\nFROM scratch AS b1\nFROM ${X}1\nCOPY $X /\n"),
    ("", "FROM scratch$Y AS b\nCOPY a /\n"),
    ("", "FROM --platform=$TARGETPLATFORM scratch\nCOPY a /\n"),
    ("", "FROM --platform=${BUILDPLATFORM} scratch\nCOPY a /\n"),
    ("", "FROM --platform=linux/amd64 scratch\nCOPY a /\n"),
    ("", "FROM --platform=linux/amd64 scratch AS on-amd64\nCOPY a /\n"),
    ("", "FROM scratch\nARG API_KEY\nENV GITHUB_TOKEN=x PUBLIC_KEY=y KEY_FILE=z\nARG password=1\n"),
    ("", "FROM scratch\nARG MONKEY authtoken AUTH credential_x\n"),
    ("", "FROM scratch\nWORKDIR a\nWORKDIR b\n"),
    ("", "FROM scratch AS a\nWORKDIR /\nFROM a\nWORKDIR b\n"),
    (
        "*.o\nd\n",
        "# check=experimental=all\nFROM scratch\nCOPY a.o b.c /\nADD d/e https://example.org/a.o /\n",
    ),
    (
        "*.o\n",
        "# check=experimental=all\nFROM scratch AS b\nFROM scratch\nCOPY --from=b x.o /\nCOPY . /\n",
    ),
    ("*\n", "# check=experimental=all\nFROM scratch\nCOPY . /\n"),
    ("", "# check=skip=FromAsCasing\nFROM scratch as b\nMAINTAINER x\n"),
    ("", "# check=skip=all\nFROM scratch as b\nMAINTAINER x\n"),
    (
        "",
        "# check=experimental=all\n\n# not it\nFROM scratch AS b\n# V is it\nARG V\n# it\nARG W\n",
    ),
    ("", "# check=skip=JSONArgsRecommended;error=true\nFROM scratch\nCMD a\nENV a b\n"),
    // ONBUILD is looked at where it is done, and the FROM is told of it.
    ("", "FROM scratch\nONBUILD COPY $foo /x\n"),
    ("", "FROM scratch AS a\nONBUILD COPY $foo /x\nFROM a\nCOPY b /\n"),
    ("", "FROM scratch AS a\nONBUILD WORKDIR b\nONBUILD CMD a b\nFROM a\n"),
    ("", "FROM scratch AS a\nONBUILD CMD a b\nONBUILD ENV a b\nCOPY a /\n"),
    ("", "FROM scratch AS a\nONBUILD ENV a b\nONBUILD ARG API_KEY\nFROM a\n"),
    ("", "FROM scratch AS a\nONBUILD copy a /\nFROM a\n"),
    ("", "FROM scratch AS a\nonbuild copy a /\nFROM a\n"),
    ("", "FROM scratch AS a\nONBUILD EXPOSE 80/TCP\nFROM a\n"),
    ("", "FROM scratch AS a\nONBUILD CMD [\"a\"]\nFROM a\nCMD [\"b\"]\n"),
    ("", "FROM scratch AS a\nONBUILD HEALTHCHECK NONE\nFROM a\nHEALTHCHECK NONE\n"),
    ("", "FROM scratch AS a\nONBUILD ENV X=1\nONBUILD USER $X$Y\nFROM a\nUSER $X\n"),
    ("", "FROM scratch AS a\nONBUILD WORKDIR /\nFROM a\nWORKDIR b\n"),
    ("", "FROM scratch AS a\nONBUILD SHELL [\"/s\"]\nFROM a\nCMD a b\n"),
    ("", "FROM scratch AS a\nONBUILD ENTRYPOINT a\nFROM a\nFROM a\n"),
    ("*.o\n", "# check=experimental=all\nFROM scratch AS a\nONBUILD COPY x.o /\nFROM a\n"),
];

/// No images: BuildKit asks none for `scratch` either.
struct NoImages;

impl ImageResolver for NoImages {
    fn resolve(&self, name: &Reference, _: &Platform) -> Result<BaseImage, ResolveError> {
        Err(format!("there is no image {}", name.familiar()).into())
    }
}

/// A rule, and the lines that it is about.
type Finding = (String, Vec<u64>);

fn ours(ignore: &str, dockerfile: &str) -> Vec<Finding> {
    let options = Options {
        context: Context::Local { name: "context".into(), ignore: ignore_patterns(ignore) },
        target_platform: Platform::new("linux", "amd64", ""),
        build_platform: Platform::new("linux", "amd64", ""),
        ..Options::default()
    };
    let check = check(Source::new("Dockerfile", dockerfile), &options, &NoImages).unwrap();
    let finding = |d: &koskit_dockerfile::Diagnostic| {
        let (line, _) = check.source.position(d.span.start);
        Some((d.rule?.name(), vec![line as u64]))
    };
    check.diagnostics.iter().filter_map(finding).collect()
}

fn theirs(docker: &Docker, ignore: &str, dockerfile: &str) -> Vec<Finding> {
    let base = root().join("target/tests");
    fs::create_dir_all(&base).unwrap();
    let context = tempfile::tempdir_in(base).unwrap();
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    fs::write(context.path().join(".dockerignore"), ignore).unwrap();
    let words = ["buildx", "build", "--call=check,format=json", "."];
    let output = docker.command(context.path(), &words).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("docker says of\n{dockerfile}\n{output:?}"));
    let lines = |warning: &Value| {
        let ranges = warning["location"]["ranges"].as_array().cloned().unwrap_or_default();
        ranges.iter().filter_map(|range| range["start"]["line"].as_u64()).collect()
    };
    let warnings = document["warnings"].as_array().cloned().unwrap_or_default();
    warnings.iter().map(|w| (w["ruleName"].as_str().unwrap().to_owned(), lines(w))).collect()
}

#[test]
fn docker_finds_the_same_in_the_same_lines() {
    let docker = match Docker::shared() {
        Ok(docker) => docker,
        Err(why) => return skip(why),
    };
    let mut different = Vec::new();
    let mut count = 0;
    for (ignore, dockerfile) in FILES {
        let (ours, theirs) = (ours(ignore, dockerfile), theirs(docker, ignore, dockerfile));
        count += theirs.len();
        // A caret stands at a word, docker's lines are those of the whole instruction; of an
        // empty line they are only the one in which the instruction ends.
        let found = |one: &Finding, all: &[Finding]| {
            let near = |line: &u64| one.0 == "NoEmptyContinuation" && one.1[0].abs_diff(*line) == 1;
            let same = |line: &u64| one.1.contains(line) || near(line);
            all.iter().any(|(rule, lines)| *rule == one.0 && lines.iter().any(same))
        };
        let missing = theirs.iter().filter(|finding| !found(finding, &ours));
        let surplus = ours.iter().filter(|finding| !found(finding, &theirs));
        let (missing, surplus): (Vec<_>, Vec<_>) = (missing.collect(), surplus.collect());
        if !missing.is_empty() || !surplus.is_empty() {
            different
                .push(format!("{dockerfile}docker only: {missing:?}, koskit only: {surplus:?}"));
        }
    }
    println!("{count} findings of docker's in {} files", FILES.len());
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}
