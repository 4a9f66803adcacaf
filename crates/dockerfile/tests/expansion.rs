//! Properties of the expansion of words, and the rules of BuildKit's lexer that are easily
//! got wrong, one by one.

use std::collections::BTreeMap;

use koskit_dockerfile::{Empty, Environment, Expander};
use proptest::prelude::*;

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// The result, or `error`.
fn word(text: &str, env: &dyn Environment) -> String {
    Expander::new('\\').word(text, env).unwrap_or_else(|_| "error".into())
}

fn check(cases: &[(&str, &str)], env: &dyn Environment) {
    for (text, expected) in cases {
        assert_eq!(word(text, env), *expected, "{text}");
    }
}

#[test]
fn names_are_words_or_numbers_or_one_special_character() {
    let env = env(&[
        ("a1_", "x"),
        ("1", "one"),
        ("12", "twelve"),
        ("@", "at"),
        ("#", "hash"),
        ("-", "minus"),
        ("0", "zero"),
        ("é", "accent"),
    ]);
    let cases = [
        ("$a1_.", "x."),
        ("$12a", "twelvea"),
        ("${1}2", "one2"),
        ("$@$#$-", "athashminus"),
        ("$0", "zero"),
        ("$00", ""),
        ("$é", "accent"),
        ("$", "$"),
        ("$ $.", "$ $."),
        ("$$a", "a"),
        ("${#}", "hash"),
        ("${-}", "minus"),
        ("${@:-x}", "at"),
        ("${!:-x}", "x"),
        ("$*", ""),
        ("${a1_", "error"),
        ("${}", "error"),
        ("${ a}", "error"),
        ("${a b}", "error"),
        ("${:-x}", "error"),
        ("${{a}}", "error"),
    ];
    check(&cases, &env);
}

#[test]
fn empty_and_unset_differ_without_a_colon_only() {
    let env = env(&[("e", ""), ("s", "v")]);
    let cases = [
        ("${e-w}.${e:-w}.${u-w}.${u:-w}.${s-w}.${s:-w}", ".w.w.w.v.v"),
        ("${e+w}.${e:+w}.${u+w}.${u:+w}.${s+w}.${s:+w}", "w....w.w"),
        ("${e?w}.${s?w}.${s:?w}", ".v.v"),
        ("${e:?}", "error"),
        ("${u?}", "error"),
        ("${u?why}", "error"),
        ("${s:=w}", "error"),
        ("${s=w}", "error"),
        ("${s:}", "error"),
        ("${s:#v}", "error"),
        ("${s:%v}", "error"),
        ("${s:/v/w}", "error"),
        ("${s^^}", "error"),
        ("${s,}", "error"),
    ];
    check(&cases, &env);
}

#[test]
fn words_of_modifiers_are_expanded_with_quotes_and_braces() {
    let env = env(&[("s", "v"), ("t", "w")]);
    let cases = [
        ("${u:-$s}", "v"),
        ("${u:-${x:-${s}}}", "v"),
        ("${u:-'$s'}", "$s"),
        ("${u:-\"$s }\"}", "v }"),
        ("${u:-'}'}", "}"),
        ("${u:-\\}}", "}"),
        ("${u:-a b}", "a b"),
        ("${u:-'a}", "error"),
        ("${u:-${s}", "error"),
        ("\"${u:-\"a\"}\"", "a"),
        ("'${s}'\"${s}\"\\${s}", "${s}v${s}"),
        ("${s:+${t:+x$s}}", "xv"),
        ("${u:-${u?no}}", "error"),
        // Both sides are read, so that what is not taken fails, too.
        ("${s:-${u?no}}", "error"),
    ];
    check(&cases, &env);
}

#[test]
fn patterns_are_literal_but_for_stars_question_marks_and_escapes() {
    let env = env(&[
        ("f", "a.b.c"),
        ("stars", "x*y*z"),
        ("q", "who?me?"),
        ("slash", "/a/b/c"),
        ("brackets", "[a](b){c}^$|+"),
        ("p", "*."),
        ("back", "a\\b"),
        ("lines", "ab\ncd"),
        ("한", "한국어"),
    ]);
    let cases = [
        ("${f#*.}", "b.c"),
        ("${f##*.}", "c"),
        ("${f%.*}", "a.b"),
        ("${f%%.*}", "a"),
        ("${f#?}", ".b.c"),
        ("${f%??}", "a.b"),
        ("${f#b}", "a.b.c"),
        ("${f%}", "a.b.c"),
        ("${f#a.b.c}", ""),
        ("${f##*}", ""),
        ("${f#*}", "a.b.c"),
        ("${f%%*}", ""),
        ("${stars#*\\*}", "y*z"),
        ("${stars##*\\*}", "z"),
        ("${stars%\\**}", "x*y"),
        ("${q%\\?}", "who?me"),
        ("${q%%\\?*}", "who"),
        ("${back#a\\\\}", "b"),
        ("${back%\\\\b}", "a"),
        ("${f#\\a}", "error"),
        ("${f#$p}", "b.c"),
        ("${f#\"$p\"}", "b.c"),
        ("${slash##*/}", "c"),
        ("${slash%/*}", "/a/b"),
        ("${slash//\\//.}", ".a.b.c"),
        ("${slash/\\/a/x}", "x/b/c"),
        ("${brackets/[a]/x}", "x(b){c}^$|+"),
        ("${brackets/(b)/x}", "[a]x{c}^$|+"),
        ("${brackets/{c\\}/x}", "[a](b)x^$|+"),
        ("${brackets/^/x}", "[a](b){c}x$|+"),
        ("${brackets/+/x}", "[a](b){c}^$|x"),
        ("${lines#*d}", "ab\ncd"),
        ("${lines//?/x}", "xx\nxx"),
        ("${한#한}", "국어"),
        ("${한%?}", "한국"),
    ];
    check(&cases, &env);
}

#[test]
fn replacing_takes_the_first_or_all_and_the_longest_at_each_place() {
    let env = env(&[("v", "banana"), ("r", "$0!"), ("e", "")]);
    let cases = [
        ("${v/a/o}", "bonana"),
        ("${v//a/o}", "bonono"),
        ("${v//a/}", "bnn"),
        ("${v/a*a/o}", "bo"),
        ("${v//?/x}", "xxxxxx"),
        ("${v/z/x}", "banana"),
        ("${v//z/x}", "banana"),
        ("${v///-}", "-b-a-n-a-n-a-"),
        ("${e/x/y}.${e//x/y}.${u//x/y}", ".."),
        ("${v/a/$e}", "bnana"),
        ("${v/$u/x}", "xbanana"),
        ("${v/an/$r}", "b$0!ana"),
        ("${v//an/$r}", "ban!an!a"),
        ("${v//an/'$1'}", "ba"),
        ("${v/a}", "error"),
        ("${v/a/b", "error"),
        ("${v//a}", "error"),
    ];
    check(&cases, &env);
}

#[test]
fn a_backtick_may_be_the_escape_character() {
    let windows = Expander::new('`');
    let env = env(&[("v", "x")]);
    let cases = [
        ("C:\\dir\\$v", "C:\\dir\\x"),
        ("`$v", "$v"),
        ("``$v", "`x"),
        ("\"`$v`\"`a\"", "$v\"`a"),
        ("'`'", "`"),
        ("a` b", "a b"),
        ("end`", "end"),
        ("${u:-`}}", "}"),
    ];
    for (text, expected) in cases {
        assert_eq!(windows.word(text, &env).as_deref(), Ok(expected), "{text}");
    }
    // In patterns, a backslash escapes all the same.
    assert_eq!(windows.word("${v#\\?}", &env).as_deref(), Ok("x"));
}

#[test]
fn words_end_at_white_space_that_no_quote_holds() {
    let env = env(&[("s", "a  b"), ("blank", " "), ("e", "")]);
    let cases: [(&str, &[&str]); 12] = [
        ("$s c", &["a", "b", "c"]),
        ("x${s}y", &["xa", "by"]),
        ("\"$s\" c", &["a  b", "c"]),
        ("a\\ b", &["a b"]),
        (" a\tb\nc ", &["a", "b", "c"]),
        ("$e", &[]),
        ("\"\"", &[]),
        ("a\"\"b", &["ab"]),
        ("a$blank", &["a"]),
        ("'a b'c", &["a bc"]),
        ("x<<  EOF y", &["x<<  EOF", "y"]),
        ("a\u{a0}b", &["a", "b"]),
    ];
    for (text, expected) in cases {
        let words = Expander::new('\\').words(text, &env).unwrap();
        assert_eq!(words, expected, "{text}");
    }
}

/// Pieces that mean something to the lexer, in any order.
fn text() -> impl Strategy<Value = String> {
    let pieces = vec![
        "$", "${", "}", "a", "v", "e", "1", ":", "-", "+", "?", "#", "##", "%", "%%", "/", "//",
        "*", "\\", "`", "'", "\"", "<<", " ", "\n", "é", "한", "\u{301}", "\u{feff}",
    ];
    let piece = prop_oneof![
        9 => prop::sample::select(pieces).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// The text in single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2048) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_text_makes_the_lexer_panic_and_words_are_made_of_the_text(text in text()) {
        let env = env(&[("v", "value"), ("e", ""), ("1", "a b")]);
        for escape in ['\\', '`'] {
            if let Ok(done) = Expander::new(escape).expand(&text, &env) {
                // But for white space, the words are the text.
                let squeeze = |s: &str| s.split_whitespace().collect::<String>();
                if !text.contains("${") {
                    prop_assert_eq!(squeeze(&done.words.concat()), squeeze(&done.text));
                }
                prop_assert!(done.words.iter().all(|w| !w.is_empty()));
                prop_assert!(done.matched.is_disjoint(&done.unmatched));
            }
        }
    }

    #[test]
    fn what_stands_in_single_quotes_comes_out_as_it_is(text in text()) {
        prop_assert_eq!(Expander::new('\\').word(&quoted(&text), &Empty).unwrap(), text);
    }

    #[test]
    fn a_value_is_put_in_as_it_is(value in any::<String>()) {
        let env = env(&[("x", &value)]);
        for text in ["$x", "${x}", "\"$x\"", "${x-w}", "${x#}", "${x%}", "${x:-$x}", "${u-$x}"] {
            prop_assert_eq!(&word(text, &env), &value, "{}", text);
        }
    }

    #[test]
    fn trimming_and_what_it_takes_away_are_the_whole_value(value in "[a-c.]{0,12}") {
        let env = env(&[("x", &value)]);
        for (short, long) in [("${x#*.}", "${x##*.}"), ("${x%.*}", "${x%%.*}")] {
            let (short, long) = (word(short, &env), word(long, &env));
            prop_assert!(long.len() <= short.len());
            prop_assert!(value.starts_with(&short) || value.ends_with(&short));
        }
        // By hand, without any pattern.
        let after = value.split_once('.').map_or(value.as_str(), |(_, after)| after);
        prop_assert_eq!(word("${x#*.}", &env), after);
        let before = value.split_once('.').map_or(value.as_str(), |(before, _)| before);
        prop_assert_eq!(word("${x%%.*}", &env), before);
        let before = value.rsplit_once('.').map_or(value.as_str(), |(before, _)| before);
        prop_assert_eq!(word("${x%.*}", &env), before);
        prop_assert_eq!(word("${x//./-}", &env), value.replace('.', "-"));
        prop_assert_eq!(word("${x/./-}", &env), value.replacen('.', "-", 1));
    }
}
