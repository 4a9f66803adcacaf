//! What a person sees when a Dockerfile is wrong.

use crate::common::errors;

#[test]
fn all_mistakes_of_a_file_are_told_at_once_each_with_its_place() {
    let text = "\
FROM kos/busybox AS files
RUM mkdir /out
ADD a.tar /
COPY --form=files /out
RUN --mount=type=cache,target=/c true
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

error: ADD is not supported yet by koskit
 --> Dockerfile:3:1
  |
3 | ADD a.tar /
  | ^^^ expected another instruction, such as COPY
  |
  = hint: COPY copies files of the context; RUN can fetch and unpack the rest

error: COPY has no flag --form
 --> Dockerfile:4:6
  |
4 | COPY --form=files /out
  |      ^^^^^^ expected --from, --chown, --chmod
  |
  = hint: did you mean --from?

error: RUN --mount is not supported yet by koskit
 --> Dockerfile:5:5
  |
5 | RUN --mount=type=cache,target=/c true
  |     ^^^^^^^

error: ENV needs a name and a value
 --> Dockerfile:6:5
  |
6 | ENV a
  |     ^ expected name=value
";
    assert_eq!(errors(text), expected);
}
