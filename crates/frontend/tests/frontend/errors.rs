//! What a person sees when a Dockerfile is wrong.

use koskit_frontend::Options;

use crate::common::{errors, options, try_build};

#[test]
fn all_mistakes_of_a_file_are_told_at_once_each_with_its_place() {
    let text = "\
FROM kos/busybox AS files
RUM mkdir /out
ADD --unpack=maybe a.tar /
COPY --form=files /out
RUN --network=hots true
ENV a
";
    let expected = "\
error: there is no instruction RUM
 --> Dockerfile:2:1
  |
2 | RUM mkdir /out
  | ^^^ expected an instruction
  |
  = hint: did you mean RUN?

error: --unpack is a switch, and \"maybe\" is neither on nor off
 --> Dockerfile:3:14
  |
3 | ADD --unpack=maybe a.tar /
  |              ^^^^^ expected true or false

error: COPY has no flag --form
 --> Dockerfile:4:6
  |
4 | COPY --form=files /out
  |      ^^^^^^ expected --from, --chown, --chmod, --link, --parents, --exclude
  |
  = hint: did you mean --from?

error: COPY does not say where to put what it takes
 --> Dockerfile:4:23
  |
4 | COPY --form=files /out
  |                       ^ expected a destination, such as /app/

error: --network cannot be \"hots\"
 --> Dockerfile:5:15
  |
5 | RUN --network=hots true
  |               ^^^^ expected default or none or host
  |
  = hint: did you mean host?

error: ENV needs a name and a value
 --> Dockerfile:6:5
  |
6 | ENV a
  |     ^ expected name=value
";
    assert_eq!(errors(text), expected);
}

#[test]
fn what_can_only_be_known_with_the_values_of_variables_is_told_in_the_same_form() {
    let text = "\
ARG VERSION=1
FROM --platform=$BUILDPLATFROM kos/busybox AS files
FROM fies AS second
COPY --from=last /a /
COPY --from=7 /a /
COPY --from=$X /a /
COPY https://example.org/a /
COPY --chmod=u+q a /
EXPOSE http
STOPSIGNAL TERMINATE
ENV A=\"${VERSION:?set it}\"
RUN
FROM $BASE AS last
COPY --from=second /a /
COPY --from=files /a /
";
    let expected = "\
error: the platform is empty
 --> Dockerfile:2:17
  |
2 | FROM --platform=$BUILDPLATFROM kos/busybox AS files
  |                 ^^^^^^^^^^^^^^ expected OS/ARCHITECTURE, such as linux/arm64
  |
  = hint: BUILDPLATFROM is not set; did you mean BUILDPLATFORM?

error: there is no image fies:latest
 --> Dockerfile:3:6
  |
3 | FROM fies AS second
  |      ^^^^ needed for linux/arm64
  |
  = hint: did you mean the stage files?

error: the stage last is not built before this one
 --> Dockerfile:4:13
  |
4 | COPY --from=last /a /
  |             ^^^^ expected a stage that stands above
  |
  = hint: move the stage that is copied from before the one that copies

error: there is no stage 7
 --> Dockerfile:5:13
  |
5 | COPY --from=7 /a /
  |             ^ the file has 3 stages, the first is 0

error: --from cannot have variables or quotes
 --> Dockerfile:6:13
  |
6 | COPY --from=$X /a /
  |             ^^ expected a stage or an image name
  |
  = hint: FROM … AS name, with the variable in the FROM, gives it a name

error: COPY cannot fetch anything; ADD can
 --> Dockerfile:7:6
  |
7 | COPY https://example.org/a /
  |      ^^^^^^^^^^^^^^^^^^^^^

error: \"u+q\" is not a file mode
 --> Dockerfile:8:14
  |
8 | COPY --chmod=u+q a /
  |              ^^^ expected an octal number up to 7777, or one as u+x,g=rw

error: \"http\" is not a port; expected a number from 0 to 65535
 --> Dockerfile:9:8
  |
9 | EXPOSE http
  |        ^^^^

error: there is no signal \"TERMINATE\"
  --> Dockerfile:10:12
   |
10 | STOPSIGNAL TERMINATE
   |            ^^^^^^^^^ expected a signal of Linux, such as SIGTERM or 15

error: VERSION: set it
  --> Dockerfile:11:7
   |
11 | ENV A=\"${VERSION:?set it}\"
   |       ^^^^^^^^^^^^^^^^^^^^

error: there is nothing to run
  --> Dockerfile:12:1
   |
12 | RUN
   | ^^^ expected a command

error: the name of the base image is empty
  --> Dockerfile:13:6
   |
13 | FROM $BASE AS last
   |      ^^^^^ expected an image name or a stage
   |
   = hint: BASE is not set here: declare it by ARG BASE=… before the first FROM
";
    assert_eq!(errors(text), expected);
}

#[test]
fn a_target_that_is_not_there_is_told_with_those_that_are() {
    let options = Options { target: Some("tset".into()), ..options() };
    let error = |text: &str| try_build(text, &options).unwrap_err().to_string();
    let expected = "the Dockerfile has no stage \"tset\"; it has build, test";
    assert_eq!(error("FROM scratch AS build\nFROM scratch AS test\n"), expected);
    let expected = "the Dockerfile has no stage \"tset\"; none of its stages has a name";
    assert_eq!(error("FROM scratch\n"), expected);
}

#[test]
fn what_is_wrong_with_an_onbuild_is_told_where_it_is_written_or_used() {
    let expected = "\
error: the ONBUILD of the base is wrong: FROM cannot be in an ONBUILD
 --> Dockerfile:1:6
  |
1 | FROM broken
  |      ^^^^^^ it has ONBUILD FROM scratch
";
    assert_eq!(errors("FROM broken\n"), expected);
    let expected = "\
error: there is no image tools:latest
 --> Dockerfile:1:1
  |
1 | FROM onbuild
  | ^^^^^^^^^^^^ needed for linux/arm64
  |
  = hint: the base has ONBUILD COPY --from=tools /tool /
";
    assert_eq!(errors("FROM onbuild\n"), expected);
    let expected = "\
error: there is no instruction RUM
 --> Dockerfile:2:9
  |
2 | ONBUILD RUM x
  |         ^^^ expected an instruction
  |
  = hint: did you mean RUN?
";
    assert_eq!(errors("FROM scratch\nONBUILD RUM x\n"), expected);
}

#[test]
fn times_and_kinds_of_a_health_check_are_checked() {
    let text = "\
FROM scratch
HEALTHCHECK --interval=5 CMD a
HEALTHCHECK --retries=x CMD a
HEALTHCHECK CHECK a
HEALTHCHECK CMD
HEALTHCHECK NONE a
SHELL /bin/bash
";
    let all = errors(text);
    let messages: Vec<_> = all.lines().filter(|l| l.starts_with("error")).collect();
    let expected = [
        "error: \"5\" is not a time",
        "error: \"x\" is no number of retries",
        "error: HEALTHCHECK has no kind \"CHECK\"",
        "error: HEALTHCHECK CMD has no command",
        "error: HEALTHCHECK NONE has no arguments",
        "error: SHELL takes a list",
    ];
    assert_eq!(messages, expected);
}
