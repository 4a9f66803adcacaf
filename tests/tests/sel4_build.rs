//! Builds for seL4: they get the SDK's toolchain and labels, and images hold nothing of it.

use koskit_tests::Home;
use std::io::Read;

/// A stage without a compiler, and an image of all that is left of it.
const DOCKERFILE: &str = "\
FROM --platform=$BUILDPLATFORM kos/busybox AS build
COPY greet.c /src/
RUN $CC -O2 -o /greet /src/greet.c && env | cut -d= -f1 | sort >/names
FROM scratch
COPY --from=build / /all/
COPY --from=build /greet /
ENTRYPOINT [\"/greet\"]
CMD [\"seL4\"]
";
const GREET: &str = "#include <stdio.h>\n\
                     int main(int n, char **words) { printf(\"hello %s\\n\", words[n - 1]); }\n";

fn home(dockerfile: &str) -> Home {
    let home = Home::with_sdk();
    home.write("app/Dockerfile", dockerfile);
    home.write("app/greet.c", GREET);
    home
}

/// All files of an image by their paths.
fn files(home: &Home, name: &str) -> Vec<(String, Vec<u8>)> {
    let store = home.store();
    let platform = koskit_llb::Platform::new("linux", "arm64", "");
    let image = store.resolve(&name.parse().unwrap(), &platform).unwrap();
    let mut files = Vec::new();
    for layer in &image.layers {
        let mut archive = tar::Archive::new(store.layer(layer).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.push((path, bytes));
        }
    }
    files
}

#[test]
fn a_stage_without_a_compiler_builds_with_the_sdk_and_keeps_nothing_of_it() {
    let home = home(DOCKERFILE);
    home.must(&["build", "-t", "app", "app"]);
    let files = files(&home, "app");
    let opt: Vec<_> = files.iter().filter(|(path, _)| path.starts_with("all/opt")).collect();
    assert!(opt.is_empty(), "{opt:?}");
    let (_, names) = files.iter().find(|(path, _)| path == "all/names").unwrap();
    let names = String::from_utf8(names.clone()).unwrap();
    for name in ["AR", "CC", "CXX", "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER"] {
        assert!(names.lines().any(|line| line == name), "{name} in {names}");
    }
    let image = home.inspect("app");
    let known = [&image["Config"], &image["History"]].map(ToString::to_string).concat();
    assert!(!known.contains("/opt/kos"), "{known}");

    let ran = home.koskit(&["run", "app"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "hello seL4\n"), "{}", ran.stderr);
}

#[test]
fn computed_labels_are_those_that_the_author_has_not_set() {
    let home = home(&format!(
        "{DOCKERFILE}LABEL com.koskit.app.name=mine com.koskit.app.spec.priority=200\n"
    ));
    home.must(&["build", "-t", "app", "app"]);
    let labels = &home.inspect("app")["Config"]["Labels"];
    let label = |name: &str| labels[format!("com.koskit.app.{name}")].as_str();
    assert_eq!(label("name"), Some("mine"));
    assert_eq!(label("spec.priority"), Some("200"));
    assert_eq!(label("spec.max_priority"), Some("200"));
    assert_eq!(label("binary.loopback"), Some("/greet"));
    assert_eq!(label("spec.heap_pages"), Some("32"));
    // They do not bind who starts something else.
    let ran = home.koskit(&["run", "--entrypoint", "/all/bin/busybox", "app", "true"]);
    assert!(ran.stderr.contains("\"/all/bin/busybox\""), "{}", ran.stderr);
}

#[test]
fn a_build_that_is_not_for_sel4_is_what_it_would_be_anywhere() {
    let home = home("FROM scratch\nCOPY greet.c /\nCMD [\"/greet.c\"]\n");
    home.must(&["build", "-t", "app", "app"]);
    home.must(&["build", "--sel4=false", "-t", "linux", "app"]);
    home.must(&["build", "--sel4", "-t", "sel4", "app"]);
    let digest = |name| home.inspect(name)["Digest"].clone();
    assert_eq!(digest("app"), digest("linux"));
    assert_ne!(digest("app"), digest("sel4"));
    assert_eq!(home.inspect("app")["Config"]["Labels"], serde_json::Value::Null);
    let refused = home.koskit(&["build", "--sel4", "--platform=linux/amd64", "app"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("whose machines run linux/arm64"), "{}", refused.stderr);
}

#[test]
fn explain_shows_both_graphs_and_runs_nothing() {
    let home = home(DOCKERFILE);
    let text = home.must(&["explain", "app"]).stdout;
    assert!(text.starts_with("A build for seL4: a stage begins with kos/busybox.\n"), "{text}");
    assert!(text.contains("\n~ ") && text.contains("+ the SDK, mounted from"), "{text}");
    let json = home.must(&["explain", "--format", "json", "app"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["sel4"], true);
    home.must(&["explain", "--format", "svg", "-o", "app.svg", "app"]);
    let svg = std::fs::read_to_string(home.path().join("app.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    let dot = home.must(&["explain", "--format", "dot", "app"]).stdout;
    assert!(dot.starts_with("digraph build {") && dot.contains("orange"), "{dot}");
    assert!(!home.path().join("cache/koskit/build").exists());
}

#[test]
fn a_program_in_cpp_is_built_with_the_sdk_and_runs_on_sel4() {
    let dockerfile = "FROM --platform=$BUILDPLATFORM kos/busybox AS build\n\
                      COPY greet.cc /src/\nRUN $CXX -O2 -o /greet /src/greet.cc\n\
                      FROM scratch\nCOPY --from=build /greet /\nENTRYPOINT [\"/greet\"]\n";
    let home = home(dockerfile);
    home.write(
        "app/greet.cc",
        "#include <iostream>\n#include <stdexcept>\n#include <vector>\n\
         int main() {\n  std::vector<int> v{1, 2};\n\
         try { v.at(2); } catch (const std::out_of_range &) { std::cout << \"caught\" << std::endl; }\n}\n",
    );
    home.must(&["build", "-t", "app", "app"]);
    let ran = home.koskit(&["run", "app"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "caught\n"), "{}", ran.stderr);
}
