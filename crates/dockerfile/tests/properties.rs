//! What holds for every text.

use std::sync::Arc;
use std::time::Instant;

use koskit_dockerfile::{Ast, Command, CommandLine, Dockerfile, Source, Span, Word};
use proptest::prelude::*;

fn parse(text: &str) -> Result<Dockerfile, koskit_dockerfile::Errors> {
    Dockerfile::parse(Arc::new(Source::new("Dockerfile", text)))
}

/// Failures are shown, not written beside the sources.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) }
}

/// Pieces that mean something to the parser, in any order.
fn text() -> impl Strategy<Value = String> {
    let pieces = vec![
        "FROM a\n",
        "from a as b\n",
        "RUN ",
        "COPY ",
        "ENV ",
        "LABEL ",
        "ARG ",
        "CMD ",
        "ONBUILD ",
        "HEALTHCHECK ",
        "EXPOSE ",
        "VOLUME ",
        "USER ",
        "--from=",
        "--x",
        "<<E",
        "<<-'E'",
        "\nE\n",
        "\\",
        "`",
        "\n",
        "\r\n",
        "#",
        "# escape=`\n",
        "[",
        "]",
        "\"",
        "'",
        ",",
        "=",
        "$",
        "${",
        "}",
        ":-",
        " ",
        "\t",
        "a",
        "b=c",
        "é",
        "한",
        "\u{feff}",
        "\0",
        "\u{2028}",
    ];
    let piece = prop_oneof![
        6 => prop::sample::select(pieces).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// The words of a file and the places of its instructions.
fn spans(file: &Dockerfile) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut words = |words: &[&Word]| spans.extend(words.iter().map(|word| word.span));
    let mut places = Vec::new();
    for stage in &file.stages {
        words(&[&stage.base]);
        stage.name.iter().chain(&stage.platform).for_each(|w| words(&[w]));
        places.push(stage.place.span);
        for instruction in &stage.instructions {
            places.push(instruction.place.span);
            match &instruction.command {
                Command::Run(run) => match &run.command {
                    CommandLine::Shell(word) => words(&[word]),
                    CommandLine::Exec(all) => all.iter().for_each(|w| words(&[w])),
                },
                Command::Copy(copy) => {
                    copy.sources.iter().chain([&copy.destination]).for_each(|w| words(&[w]));
                    let flags = copy.from.iter().chain(&copy.chown).chain(&copy.chmod);
                    flags.for_each(|w| words(&[w]));
                }
                Command::Env(pairs) | Command::Label(pairs) => {
                    pairs.iter().for_each(|pair| words(&[&pair.name, &pair.value]));
                }
                _ => {}
            }
        }
    }
    spans.extend(places);
    spans
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_text_makes_the_parser_panic_and_all_places_are_in_the_text(text in text()) {
        let spans = match parse(&text) {
            Ok(file) => spans(&file),
            Err(errors) => {
                prop_assert!(!errors.render(true).is_empty());
                errors.diagnostics.iter().map(|d| d.span).collect()
            }
        };
        for span in spans {
            prop_assert!(text.get(span.range()).is_some(), "{:?} in {:?}", span, text);
        }
    }

    #[test]
    fn a_word_that_is_on_one_line_stands_where_it_says(name in "[a-z]{1,8}", path in "/[a-z]{1,8}") {
        let text = format!("FROM scratch\nCOPY \\\n --from={name} {path} \\\n  /x\n");
        let file = parse(&text).unwrap();
        let Command::Copy(copy) = &file.stages[0].instructions[0].command else { panic!() };
        prop_assert_eq!(&text[copy.from.as_ref().unwrap().span.range()], name);
        prop_assert_eq!(&text[copy.sources[0].span.range()], path);
        prop_assert_eq!(&text[copy.destination.span.range()], "/x");
    }
}

#[test]
fn text_made_to_be_slow_or_deep_is_refused_or_read_in_time() {
    let many = 50_000;
    let hostile = [
        format!("FROM a\nONBUILD {}RUN x\n", "ONBUILD ".repeat(many)),
        format!("FROM a\nCMD {}\n", "[".repeat(many)),
        format!("FROM a\nCMD {}\n", "[\"a\",".repeat(many)),
        format!("FROM a\nRUN x \\\n{}\n", "\\\n".repeat(many)),
        format!("FROM a\nENV {}\n", "a=b ".repeat(many)),
        format!("FROM a\nRUN {}\n", "<<E ".repeat(2_000)),
        format!("FROM a\nCOPY {} /\n", "--from=a ".repeat(many)),
        "# escape=`\n".repeat(many),
        "FROM a AS b\n".repeat(20_000),
    ];
    for text in hostile {
        let begin = Instant::now();
        let source = Arc::new(Source::new("Dockerfile", text));
        let ast = Ast::parse(source.clone());
        let result = Dockerfile::parse(source);
        let short: String = ast.source.text().chars().take(40).collect();
        let took = begin.elapsed();
        assert!(took.as_secs() < 5, "{short:?} takes {took:?}");
        if let Err(errors) = result {
            assert!(!errors.diagnostics.is_empty(), "{short:?}");
        }
    }
}
