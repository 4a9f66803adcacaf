use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Base, Given, Rule, Surroundings, lint};
use crate::{Diagnostic, Dockerfile, Severity, Source};

struct World;

impl Surroundings for World {
    fn base(&self, name: &str, _: Option<&str>) -> Option<Base> {
        let env = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        match name {
            "unknown" => None,
            "shell" => Some(Base { has_shell: true, ..Base::default() }),
            "trigger" => Some(Base { on_build: vec!["ARG BUILT".into()], ..Base::default() }),
            "other" => Some(Base {
                other_platform: Some(("linux/arm".into(), "linux/amd64".into())),
                ..Base::default()
            }),
            _ => Some(Base { env: env(&[("PATH", "/bin"), ("PYTHON", "3")]), ..Base::default() }),
        }
    }

    fn platform(&self, text: &str) -> Option<(String, String)> {
        text.split_once('/').map(|(os, arch)| (os.to_owned(), arch.to_owned()))
    }

    fn is_image_name(&self, text: &str) -> bool {
        !text.is_empty() && !text.ends_with(':') && !text.starts_with(':')
    }

    fn is_ignored(&self, path: &str) -> bool {
        path == "hidden"
    }
}

fn given() -> Given {
    let predefined = [("TARGETPLATFORM", "linux/arm64"), ("BUILDPLATFORM", "linux/amd64")];
    let predefined = predefined.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    Given { predefined, ..Given::default() }
}

fn findings_with(text: &str, given: &Given) -> Vec<Diagnostic> {
    let file = Dockerfile::parse(Arc::new(Source::new("Dockerfile", text))).unwrap();
    lint(&file, given, &World).unwrap()
}

/// Rules and the text that their carets stand under.
fn findings(text: &str) -> Vec<(String, &str)> {
    let all = findings_with(text, &given());
    all.iter().map(|d| (d.rule.unwrap().name(), &text[d.span.range()])).collect()
}

fn check(text: &str, expected: &[(&str, &str)]) {
    let found = findings(text);
    let found: Vec<_> = found.iter().map(|(rule, at)| (rule.as_str(), *at)).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn a_file_without_faults_has_no_findings() {
    check(
        "ARG V=1\nFROM --platform=$BUILDPLATFORM a:$V AS build\nARG X=$PYTHON\nENV P=$X:$PATH\n\
         WORKDIR /a\nWORKDIR b\nCOPY --chown=$X a $P\nRUN x $unset\nEXPOSE 80/tcp 1-2\n\
         FROM scratch\nCOPY --from=build hidden /\nCMD [\"a\"]\nHEALTHCHECK CMD a\n",
        &[],
    );
}

#[test]
fn keywords_and_names_have_their_case() {
    check("FROM a AS Build\nRUN x\n", &[("StageNameCasing", "Build")]);
    check("FROM a as b\n", &[("FromAsCasing", "as")]);
    check("from a AS b\n", &[("FromAsCasing", "AS")]);
    check("FROM a\nrun x\nCOPY a b\n", &[("ConsistentInstructionCasing", "run")]);
    check("from a\nrun x\nCOPY a b\n", &[("ConsistentInstructionCasing", "COPY")]);
    check("FROM a\nRun x\n", &[("ConsistentInstructionCasing", "Run")]);
    check(
        "FROM a AS b\nFROM a AS B\nFROM a AS scratch\nFROM a AS context\n",
        &[
            ("StageNameCasing", "B"),
            ("DuplicateStageName", "B"),
            ("ReservedStageName", "scratch"),
            ("ReservedStageName", "context"),
        ],
    );
}

#[test]
fn old_forms_are_told() {
    check("FROM a\nMAINTAINER me\n", &[("MaintainerDeprecated", "MAINTAINER")]);
    check(
        "FROM a\nENV a b\nLABEL c d\nENV e=f\n",
        &[("LegacyKeyValueFormat", "a"), ("LegacyKeyValueFormat", "c")],
    );
    check("FROM a\nRUN x \\\n\n y\n", &[("NoEmptyContinuation", "")]);
    check("FROM a\nCMD x y\n", &[("JSONArgsRecommended", "x y")]);
    check("FROM a\nENTRYPOINT x\n", &[("JSONArgsRecommended", "x")]);
    check("FROM shell\nENTRYPOINT x\nFROM a\nSHELL [\"s\"]\nCMD x\n", &[]);
    check(
        "FROM a\nCMD [\"a\"]\nHEALTHCHECK NONE\nCMD [\"b\"]\nHEALTHCHECK NONE\n",
        &[
            ("MultipleInstructionsDisallowed", "CMD"),
            ("MultipleInstructionsDisallowed", "HEALTHCHECK"),
        ],
    );
    check(
        "FROM a\nEXPOSE 80/TCP 1.2.3.4:5:6 7:8/Udp\n",
        &[
            ("ExposeProtoCasing", "80/TCP"),
            ("ExposeInvalidFormat", "1.2.3.4:5:6"),
            ("ExposeProtoCasing", "7:8/Udp"),
            ("ExposeInvalidFormat", "7:8/Udp"),
        ],
    );
}

#[test]
fn variables_are_set_before_they_are_used() {
    let unset = |at| [("UndefinedVar", at)];
    check("FROM a\nCOPY $foo /x\n", &unset("$foo"));
    check("FROM a\nARG foo\nCOPY $foo /x\n", &[]);
    check("FROM a\nENV foo=1\nUSER $foo\n", &[]);
    check("FROM a\nENV a=1 b=$a\n", &unset("$a"));
    check("FROM a\nARG a=1 b=$a\n", &[]);
    check("FROM a\nARG b=$a\n", &unset("$a"));
    check("FROM a\nENV PATH=/x:$PAHT\n", &unset("/x:$PAHT"));
    check("FROM a\nRUN --mount=target=$t true\n", &unset("target=$t"));
    check("FROM a\nWORKDIR /${a:-$b}\n", &[("UndefinedVar", "/${a:-$b}"); 2]);
    check("FROM a\nCOPY <<E /x\n$u '$w'\nE\n", &[("UndefinedVar", "$u '$w'\n"); 2]);
    check("FROM a\nCOPY <<'E' /x\n$u\nE\n", &[]);
    check("FROM a AS b\nARG x\nENV y=1\nFROM b\nUSER $x$y\n", &[]);
    check("FROM a AS b\nFROM b\nUSER $x\n", &unset("$x"));
    check("FROM unknown\nUSER $x\n", &[]);
    check("FROM trigger\nUSER $BUILT\n", &[]);
    check("FROM scratch\nENV PATH=$PATH:/x\n", &[]);
    let hint = findings_with("FROM a\nENV PATH=/x:$PAHT\n", &given())[0].hint.clone();
    assert_eq!(hint.as_deref(), Some("did you mean $PATH?"));
}

#[test]
fn what_comes_first_uses_arguments_that_are_declared() {
    check("FROM a$X\n", &[("UndefinedArgInFrom", "a$X")]);
    check("ARG X\nFROM a$X\n", &[]);
    check("ARG X\nFROM a:$X\n", &[("InvalidDefaultArgInFrom", "a:$X")]);
    check("ARG X=1\nFROM a:$X\n", &[]);
    check("FROM --platform=$BULDPLATFORM a\n", &[("UndefinedArgInFrom", "$BULDPLATFORM")]);
    check("FROM --platform=$TARGETPLATFORM a\n", &[("RedundantTargetPlatform", "$TARGETPLATFORM")]);
    check("FROM --platform=linux/amd64 a\n", &[("FromPlatformFlagConstDisallowed", "linux/amd64")]);
    check("FROM --platform=linux/amd64 a AS on_amd64\n", &[]);
    check("FROM other\n", &[("InvalidBaseImagePlatform", "other")]);
    // With a value for it, the name is an image's; without, it still is not.
    let given = Given { build_args: BTreeMap::from([("X".to_owned(), "1".to_owned())]), ..given() };
    let rules: Vec<_> =
        findings_with("ARG X\nFROM a:$X\n", &given).iter().filter_map(|d| d.rule).collect();
    assert_eq!(rules, [Rule::InvalidDefaultArgInFrom]);
}

#[test]
fn secrets_files_and_directories_are_looked_at() {
    check("FROM a\nARG API_KEY\n", &[("SecretsUsedInArgOrEnv", "API_KEY")]);
    check("FROM a\nENV github_TOKEN=x\n", &[("SecretsUsedInArgOrEnv", "github_TOKEN")]);
    check("FROM a\nENV KEY_FILE=x PUBLIC_KEY=y MONKEY=z TOKEN_VERSION=1\n", &[]);
    check("FROM a\nCOPY hidden /\nADD hidden /\n", &[("CopyIgnoredFile", "hidden"); 2]);
    check("FROM a\nWORKDIR a\nWORKDIR b\n", &[("WorkdirRelativePath", "a")]);
    check("FROM a AS x\nWORKDIR /\nFROM x\nWORKDIR b\n", &[]);
}

#[test]
fn rules_are_turned_off_and_on_by_the_file() {
    check("# check=skip=FromAsCasing,StageNameCasing\nFROM a as B\n", &[]);
    check("# check=skip=all\nFROM a as B\nMAINTAINER x\n", &[]);
    check("# check=skip=other\nFROM a as b\n", &[("FromAsCasing", "as")]);
    check("FROM a\n# check=skip=MaintainerDeprecated\nMAINTAINER a\n", &[]);
    check("FROM a\n# check=skip=WorkdirRelativePath\nWORKDIR a\n", &[]);
    let described = "# what it is\nFROM a AS b\n# V is\nARG V\n# it is\nARG W\n";
    check(&format!("\n{described}"), &[]);
    let on = "# check=experimental=all\n\n";
    let text = format!("{on}{described}");
    check(
        &text,
        &[("InvalidDefinitionDescription", "FROM"), ("InvalidDefinitionDescription", "ARG")],
    );
    let strict = "# check=error=true\nFROM a as b\n";
    assert_eq!(findings_with(strict, &given())[0].severity, Severity::Error);
    for bad in ["skip", "eror=true", "error=maybe"] {
        let text = format!("# check={bad}\nFROM a\n");
        let file = Dockerfile::parse(Arc::new(Source::new("Dockerfile", text))).unwrap();
        assert!(lint(&file, &given(), &World).is_err(), "{bad}");
    }
}

#[test]
fn stages_that_are_not_built_are_not_looked_into() {
    let text = "FROM a AS x\nUSER $u\nFROM a\nUSER $v\n";
    let given = Given { stages: Some([1].into()), ..given() };
    let found = findings_with(text, &given);
    assert_eq!(found.len(), 1);
    assert_eq!(&text[found[0].span.range()], "$v");
}

#[test]
fn every_rule_has_a_name_and_a_page_of_its_own() {
    let urls: std::collections::BTreeSet<_> = Rule::ALL.iter().filter_map(|r| r.url()).collect();
    assert_eq!(urls.len(), Rule::ALL.len() - 1);
    assert!(urls.iter().any(|url| url.ends_with("/rule/json-args-recommended/")));
    assert!(urls.iter().any(|url| url.ends_with("/rule/secrets-used-in-arg-or-env/")));
}
