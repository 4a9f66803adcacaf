//! The tree of a Dockerfile in BuildKit's form: its rules, one by one.

use std::sync::Arc;

use koskit_dockerfile::{Ast, Source};

fn ast(text: &str) -> Ast {
    Ast::parse(Arc::new(Source::new("Dockerfile", text)))
}

fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let ast = ast(text);
        assert!(!ast.has_errors(), "{text:?}: {:?}", ast.diagnostics);
        assert_eq!(ast.dump(), *expected, "{text:?}");
    }
}

#[test]
fn each_instruction_splits_its_arguments_in_its_own_way() {
    check(&[
        ("FROM  a \t as\tb ", r#"(from "a" "as" "b")"#),
        ("run echo  'a b'  ", r#"(run "echo  'a b'")"#),
        ("RUN [ \"a\" ,\"b\\n\"] ", r#"(run "a" "b\n")"#),
        ("RUN [\"a\",]", r#"(run "[\"a\",]")"#),
        ("RUN []", "(run)"),
        ("CMD", "(cmd)"),
        ("COPY [\"a b\", \"c\"]", r#"(copy "a b" "c")"#),
        ("COPY ['a b', \"c\"]", r#"(copy "['a" "b'," "\"c\"]")"#),
        ("ARG a b=\"c d\" e=", r#"(arg "a" "b=\"c d\"" "e=")"#),
        ("ENV a=b c=\"d e\" f=g\\ h", r#"(env "a" "b" "=" "c" "\"d e\"" "=" "f" "g\\ h" "=")"#),
        ("ENV a b  c=d ", r#"(env "a" "b  c=d" "")"#),
        ("LABEL a.b='c", r#"(label "a.b" "'c" "=")"#),
        ("ENV a==b", r#"(env "a" "=b" "=")"#),
        ("USER a b", r#"(user "a b")"#),
        ("EXPOSE 80  443/tcp", r#"(expose "80" "443/tcp")"#),
        ("VOLUME [\"/a\"]", r#"(volume "/a")"#),
        ("VOLUME /a /b", r#"(volume "/a" "/b")"#),
        ("WORKDIR /a b", r#"(workdir "/a b")"#),
        ("STOPSIGNAL 9", r#"(stopsignal "9")"#),
        ("MAINTAINER A <a@b>", r#"(maintainer "A <a@b>")"#),
        ("SHELL [\"a\"]", r#"(shell "a")"#),
        ("HEALTHCHECK --retries=3 CMD  a b", r#"(healthcheck ["--retries=3"] "CMD" "a b")"#),
        ("HEALTHCHECK CMD [\"a\", \"b\"]", r#"(healthcheck "CMD" "a" "b")"#),
        ("HEALTHCHECK NONE", r#"(healthcheck "NONE")"#),
        ("FROB a b", r#"(frob "")"#),
        ("frob", r#"(frob "")"#),
    ]);
}

#[test]
fn onbuild_holds_the_tree_of_another_instruction() {
    check(&[
        ("ONBUILD COPY --from=a b c", r#"(onbuild (copy ["--from=a"] "b" "c"))"#),
        ("ONBUILD", "(onbuild)"),
        ("ONBUILD frob x", r#"(onbuild (frob ""))"#),
        ("ONBUILD ONBUILD RUN a", r#"(onbuild (onbuild (run "a")))"#),
        ("ONBUILD RUN [\"a\"]", r#"(onbuild (run "a"))"#),
    ]);
}

#[test]
fn flags_end_at_the_first_word_without_dashes_and_lose_their_quotes() {
    check(&[
        ("COPY --a --b=c d --e", r#"(copy ["--a" "--b=c"] "d" "--e")"#),
        ("COPY --a=\"b c\" --d='e \"f' g h", r#"(copy ["--a=b c" "--d=e \"f"] "g" "h")"#),
        ("COPY --a=b\\ c d e", r#"(copy ["--a=b c"] "d" "e")"#),
        ("RUN -- --a b", r#"(run "--a b")"#),
        ("RUN --a", r#"(run ["--a"])"#),
        ("RUN --", "(run)"),
        ("RUN - a", r#"(run "- a")"#),
        ("RUN --a [\"b\"]", r#"(run ["--a"] "b")"#),
        ("RUN --a=\"b", r#"(run ["--a=b"])"#),
        ("COPY --a=b\\", r#"(copy ["--a=b"])"#),
    ]);
}

#[test]
fn lines_go_on_behind_an_escape_character_that_is_not_escaped() {
    check(&[
        ("RUN a \\\n  b", r#"(run "a   b")"#),
        ("RUN a\\ \t\nb", r#"(run "ab")"#),
        ("RUN a\\\\\nRUN b", "(run \"a\\\\\\\\\")\n(run \"b\")"),
        ("RUN a \\\n# no\n\n   # no\nb", r#"(run "a b")"#),
        ("RUN a \\\n\\\nb", r#"(run "a b")"#),
        ("RUN a \\\r\nb\r\n", r#"(run "a b")"#),
        ("RUN a \\", r#"(run "a")"#),
        ("\\\nRUN a", r#"(run "a")"#),
        ("# escape=`\nRUN a\\\nRUN b`\n c", "(run \"a\\\\\")\n(run \"b c\")"),
        ("  \u{feff}RUN a", "(\u{feff}run \"\")"),
        ("\u{feff}  RUN a", r#"(run "a")"#),
        ("#c\n\n  # d\n RUN a # e", r#"(run "a # e")"#),
    ]);
}

#[test]
fn here_documents_are_taken_from_the_lines_below() {
    let file = ast("RUN <<A cat <<-\"B\" 3<<'C'\nx\nA\n\ty\n\tB\n$z\nC\nCMD a");
    assert!(!file.has_errors());
    assert_eq!(file.dump(), "(run \"<<A cat <<-\\\"B\\\" 3<<'C'\")\n(cmd \"a\")");
    let docs: Vec<_> = file.nodes[0]
        .heredocs
        .iter()
        .map(|d| (d.name.as_str(), d.content.as_str(), d.descriptor, d.expand, d.strip_tabs))
        .collect();
    let expected = [
        ("A", "x\n", 0, true, false),
        ("B", "\ty\n", 0, false, true),
        ("C", "$z\n", 3, false, false),
    ];
    assert_eq!(docs, expected);
    assert_eq!(file.nodes[0].lines, (1, 7));
    // Where none can be, the text is only that.
    check(&[
        ("CMD <<A", r#"(cmd "<<A")"#),
        ("RUN [\"<<A\"]", r#"(run "<<A")"#),
        ("RUN a <<< b", r#"(run "a <<< b")"#),
        ("ONBUILD COPY <<A /b\nx\nA", r#"(onbuild (copy "<<A" "/b"))"#),
    ]);
    assert!(ast("RUN <<A\nx\n").has_errors());
}

#[test]
fn what_is_no_dockerfile_is_an_error() {
    for text in [
        "",
        "\n# only this\n",
        "ENV a",
        "LABEL a",
        "ENV a=b c",
        "CMD [1]",
        "RUN [\"a\", null]",
        "SHELL [[\"a\"]]",
        "# escape=x\nRUN a",
        "# escape= \nRUN a",
        "# escape=`\n# escape=`\nRUN a",
        "# syntax=a\n# syntax=b\nRUN a",
    ] {
        assert!(ast(text).has_errors(), "{text:?}");
    }
}

#[test]
fn errors_do_not_hide_the_rest_of_the_file() {
    let file = ast("FROM a\nENV b\nRUN c\nLABEL d\nCMD e");
    assert_eq!(file.diagnostics.len(), 2);
    assert_eq!(file.dump(), "(from \"a\")\n(run \"c\")\n(cmd \"e\")");
}
