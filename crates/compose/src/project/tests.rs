use super::*;
use crate::BuildSecret;

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Project, Errors> {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let variables = Environment::new(variables.collect());
    Project::read(Source::new("compose.yaml", text), Path::new("/work/My.App"), None, &variables)
}

fn project(text: &str) -> Project {
    read_with(text, &[]).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> Vec<String> {
    let errors = read_with(text, &[]).expect_err("it is read");
    errors.diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect()
}

#[test]
fn the_talks_file_is_read() {
    let text = "\
name: example_compose

services:
  client:
    image: kos:apps/client
    command: [\"client\", \"5050\"]
    depends_on:
      - server
    networks:
      back-tier:
  server:
    image: kos:apps/server
    command: [\"server\", \"5050\"]
    networks:
      back-tier:

networks:
  back-tier:
    x-msg-server: \"Poukai.msg0\"
";
    let project = project(text);
    assert_eq!(project.name, "example_compose");
    assert_eq!(project.image("client"), "apps/client");
    assert_eq!(project.services["client"].is_native(), Some(true));
    assert!(project.to_build(&Selection::default()).unwrap().is_empty());
}

#[test]
fn a_build_section_is_read_in_all_forms() {
    let text = "\
secrets:
  token: {file: ./token}
  key: {environment: KEY}
services:
  a: {build: ./a}
  b:
    image: ${REGISTRY:-example.com}/b:${TAG}
    build:
      context: b
      dockerfile: other.Dockerfile
      args: [V=1, FROM_HERE]
      labels: {l: 1}
      target: dev
      additional_contexts: {lib: ../lib, a: \"service:a\", git: \"https://example.com/x.git\"}
      extra_hosts: {db: [10.0.0.1, \"::1\"]}
      ulimits: {nproc: 9, nofile: {hard: 2, soft: 1}}
      secrets: [token, {source: key, target: id}]
      ssh: default
      no_cache: \"true\"
      pull: yes
  c:
    build:
      context: https://example.com/c.git#main
      dockerfile: sub/Dockerfile
      args: {A: null, B: 2}
";
    let project = read_with(text, &[("TAG", "2")]).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(project.name, "myapp");
    assert_eq!(project.image("a"), "myapp-a");
    assert_eq!(project.image("b"), "example.com/b:2");
    let build = |name: &str| project.services[name].build.as_ref().unwrap();
    assert_eq!(build("a").context, "/work/My.App/a");
    let b = build("b");
    assert_eq!(b.dockerfile.as_deref(), Some(Path::new("/work/My.App/b/other.Dockerfile")));
    let args = [("FROM_HERE".to_owned(), None), ("V".to_owned(), Some("1".to_owned()))];
    assert_eq!(b.args, args.into());
    assert_eq!(b.labels["l"], "1");
    assert_eq!(b.additional_contexts["lib"], "/work/My.App/../lib");
    assert_eq!(b.additional_contexts["git"], "https://example.com/x.git");
    assert_eq!(b.ulimits, ["nproc=9", "nofile=1:2"]);
    assert_eq!(b.extra_hosts, ["db:10.0.0.1", "db:::1"]);
    assert_eq!(b.secrets[1], BuildSecret { id: "id".into(), source: "key".into() });
    assert_eq!(project.secrets["token"], "src=/work/My.App/./token");
    assert_eq!((b.ssh.as_slice(), b.no_cache, b.pull), (&["default".to_owned()][..], true, true));
    assert_eq!(build("c").dockerfile.as_deref(), Some(Path::new("sub/Dockerfile")));
    assert_eq!(build("c").args["A"], None);

    let order = project.to_build(&Selection::default()).unwrap();
    let names: Vec<&str> = order.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn services_are_chosen_by_name_profile_and_need() {
    let text = "\
services:
  app: {build: ., depends_on: {db: {condition: service_healthy}}}
  db: {build: db, depends_on: [base]}
  base: {build: base}
  debug: {build: debug, profiles: [dev]}
";
    let project = project(text);
    let names = |services: &[&str], profiles: &[&str], with_dependencies| {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let (services, profiles) = (owned(services), owned(profiles));
        let selection = Selection { services, profiles, with_dependencies };
        let order = project.to_build(&selection).map_err(|error| error.to_string())?;
        Ok::<_, String>(order.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(names(&[], &[], false).unwrap(), "app base db");
    assert_eq!(names(&[], &["dev"], false).unwrap(), "app base db debug");
    assert_eq!(names(&["app"], &[], false).unwrap(), "app");
    assert_eq!(names(&["app"], &[], true).unwrap(), "base db app");
    assert_eq!(names(&["debug"], &[], false).unwrap(), "debug");
    let error = names(&["ap"], &[], false).unwrap_err();
    assert_eq!(error, "the project myapp has no service ap; did you mean app?");
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let text = "\
service: {}
services:
  a:
    imgae: x
    build: {contxt: ., dockerfile: [a], isolation: hyperv, ulimits: {nofile: {soft: 1}}, secrets: [none]}
    depends_on: [bb]
  b: {build: {no_cache: maybe}, depends_on: [c]}
  c: {depends_on: [b], command: \"$\"}
";
    assert_eq!(
        errors(text),
        [
            "a compose file has no key service",
            "a service has no key imgae",
            "there is no secret none",
            "build has no key contxt",
            "dockerfile is a list, and must be text",
            "build has isolation, which koskit cannot honour",
            "the limit nofile must have soft and hard",
            "there is no service bb",
            "no_cache is a value, and must be true or false",
            "b and c need each other",
            "c and b need each other",
            "\"$\" is no variable; write $$ for a dollar sign",
        ]
    );
}

#[test]
fn an_error_shows_file_line_and_source() {
    let shown = read_with("services:\n  a:\n    biuld: .\n", &[]).unwrap_err().to_string();
    let expected = "\
error: a service has no key biuld
 --> compose.yaml:3:5
  |
3 |     biuld: .
  |     ^^^^^
  |
  = hint: did you mean build?";
    assert_eq!(shown, expected);
}

#[test]
fn a_file_without_services_is_no_compose_file() {
    assert_eq!(errors("name: x\n"), ["the compose file has no services"]);
    assert_eq!(errors("- a\n")[0], "the compose file is a list, and must be a mapping");
    assert_eq!(errors("name: Not Good\nservices: {}\n"), ["\"Not Good\" is no name for a project"]);
}
