//! What registries answer besides documents and blobs, from bytes and header fields that nobody
//! vouches for. The shapes are those of the distribution specification 1.1 and, for tokens, of
//! docker's registry documentation.
//!
//! Nothing here trusts a length, and nothing of an answer is shown without [`plain`].

use std::time::{Duration, SystemTime};

use serde::Deserialize;

/// The largest answer that is read: errors, tokens. Documents have a limit of their own.
pub(crate) const MAX_ANSWER: u64 = 1 << 20;
/// Characters of a registry's words that are shown.
const MAX_WORDS: usize = 300;

/// How a registry wants to be convinced (RFC 9110, section 11.6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token, which another server gives for user and password.
    Bearer {
        /// The address of that server.
        realm: String,
        /// What the token is for.
        service: Option<String>,
        /// What it must allow.
        scope: Option<String>,
        /// Why the one that was sent is no good.
        error: Option<String>,
    },
}

/// A token, and how long it is good.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What is sent.
    pub token: String,
    /// From now on.
    pub lifetime: Duration,
    /// What gets further tokens without the password.
    pub refresh: Option<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// The errors of a JSON body (distribution specification, section "Error Codes"), as one line.
pub fn errors(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<One>,
        // What token servers say instead.
        details: Option<String>,
        error_description: Option<String>,
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct One {
        code: Option<String>,
        message: Option<String>,
    }
    let body: Errors = serde_json::from_slice(bytes).ok()?;
    let words = body.errors.into_iter().take(4).filter_map(|one| match (one.code, one.message) {
        (Some(code), Some(message)) => {
            let code = code.to_lowercase().replace('_', " ");
            let same = message.to_lowercase() == code;
            Some(if same || code == "unknown" { message } else { format!("{code}: {message}") })
        }
        (code, message) => code.or(message),
    });
    let mut words: Vec<String> = words.collect();
    words.extend(body.details.or(body.error_description).or(body.message));
    let text = plain(&words.join("; "));
    Some(text).filter(|text| !text.is_empty())
}

/// A text of a stranger, to be shown: one line, no control characters, not endless.
pub fn plain(text: &str) -> String {
    let one_line = text.chars().map(|c| if c.is_control() || is_format(c) { ' ' } else { c });
    let mut short: String = one_line.take(MAX_WORDS + 1).collect();
    if short.chars().count() > MAX_WORDS {
        short.pop();
        short.push('…');
    }
    short.trim().to_owned()
}

/// Characters that turn the direction of a line, or cannot be seen.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A token server's answer.
///
/// # Errors
/// What is wrong with it.
pub fn token(bytes: &[u8]) -> Result<Token, String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<f64>,
        refresh_token: Option<String>,
    }
    let answer: Answer =
        serde_json::from_slice(bytes).map_err(|e| format!("the token is not valid JSON: {e}"))?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
    let token = token.filter(|token| !token.is_empty()).ok_or("there is no token in it")?;
    // It becomes a header field.
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the token has characters that no token has".into());
    }
    // The specification's own default and minimum.
    let seconds = answer.expires_in.filter(|s| s.is_finite()).unwrap_or(60.0).clamp(60.0, 86400.0);
    Ok(Token {
        token,
        lifetime: Duration::from_secs_f64(seconds),
        refresh: answer.refresh_token.filter(|token| !token.is_empty()),
    })
}

/// The field `WWW-Authenticate`. Schemes that nobody here knows are left out.
pub fn challenges(field: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    for (scheme, parameters) in schemes(field) {
        let get = |name: &str| {
            let mut same = parameters.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
            same.next().map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer") {
            if let Some(realm) = get("realm") {
                let (service, scope, error) = (get("service"), get("scope"), get("error"));
                found.push(Challenge::Bearer { realm, service, scope, error });
            }
        }
    }
    found
}

/// A scheme and its parameters.
type Scheme<'a> = (&'a str, Vec<(&'a str, String)>);

/// `Scheme name=value, name="value", Scheme …`.
fn schemes(field: &str) -> Vec<Scheme<'_>> {
    let mut schemes: Vec<Scheme> = Vec::new();
    let mut rest = field;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| c == '=' || c == ',' || c.is_ascii_whitespace());
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        if word.is_empty() && after.is_empty() {
            return schemes;
        }
        let value = after.trim_start_matches([' ', '\t']);
        let Some(value) = value.strip_prefix('=').filter(|_| !word.is_empty()) else {
            if word.is_empty() {
                // A value without a name.
                rest = &after[1..];
            } else {
                schemes.push((word, Vec::new()));
                rest = after;
            }
            continue;
        };
        let value = value.trim_start_matches([' ', '\t']);
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find([',', ' ', '\t']).unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        if let Some((_, parameters)) = schemes.last_mut() {
            parameters.push((word, value));
        }
        rest = after;
    }
}

/// The text up to the closing quote, and what follows.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// The field `Range` of an upload: how many bytes the registry has. `0-0` is what registries say
/// of an empty one, too, and is taken as that.
pub fn received(field: &str) -> Option<u64> {
    let field = field.trim();
    let field = field.strip_prefix("bytes=").unwrap_or(field);
    let (first, last) = field.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    match (first, last) {
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

/// The field `Content-Range` of a part: its first byte, and the size of the whole where it is
/// told.
pub fn part(field: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = field.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.trim().split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let ordered = first <= last && total.is_none_or(|total: u64| last < total);
    ordered.then_some((first, total))
}

/// The field `Retry-After`: seconds, or a date.
pub fn retry_after(field: &str, now: SystemTime) -> Option<Duration> {
    let field = field.trim();
    if let Ok(seconds) = field.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = httpdate::parse_http_date(field).ok()?;
    Some(then.duration_since(now).unwrap_or_default())
}

/// The field `Link` of a list in parts: the address of the next one.
pub fn next(field: &str) -> Option<&str> {
    field.split(',').find_map(|link| {
        let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim();
            parameter == "rel=next" || parameter == "rel=\"next\""
        });
        is_next.then_some(address)
    })
}

/// Reads bytes as each answer there is, for a fuzzer: none of it may panic or take long.
pub fn fuzz(bytes: &[u8]) {
    let _ = errors(bytes);
    let _ = token(bytes);
    let text = String::from_utf8_lossy(bytes);
    let shown = plain(&text);
    assert!(shown.chars().count() <= MAX_WORDS + 1 && !shown.contains(char::is_control));
    for challenge in challenges(&text) {
        assert!(format!("{challenge:?}").len() < 16 * bytes.len() + 200);
    }
    let _ = received(&text);
    if let Some((first, Some(total))) = part(&text) {
        assert!(first < total);
    }
    let _ = retry_after(&text, SystemTime::UNIX_EPOCH);
    let _ = next(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_names_a_realm_and_perhaps_more() {
        let field = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: Some("registry.example".into()),
            scope: Some("repository:a/b:pull,push".into()),
            error: None,
        };
        assert_eq!(challenges(field), [expected]);
        assert_eq!(challenges("basic realm=x"), [Challenge::Basic]);
        let both =
            challenges(r#"Digest a="b", Basic realm="a \" , Bearer", bearer realm=http://x"#);
        assert_eq!(both.len(), 2);
        assert!(matches!(&both[1], Challenge::Bearer { realm, .. } if realm == "http://x"));
        assert!(challenges("Bearer service=x").is_empty(), "without a realm nobody can ask");
        assert!(challenges("= , ==\"").is_empty() && challenges("").is_empty());
    }

    #[test]
    fn errors_are_told_in_one_line_without_control_characters() {
        let body = br#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository\u001b[31m name\nnot known","detail":{}}]}"#;
        assert_eq!(errors(body).unwrap(), "name unknown: repository [31m name not known");
        assert_eq!(errors(br#"{"details":"incorrect username"}"#).unwrap(), "incorrect username");
        assert_eq!(errors(b"<html>"), None);
        assert_eq!(errors(b"{}"), None);
        assert_eq!(plain(&"x".repeat(1000)).chars().count(), MAX_WORDS + 1);
    }

    #[test]
    fn a_token_has_either_name_and_lives_for_a_minute_at_least() {
        let both = token(br#"{"token":"a.b","access_token":"c","expires_in":300}"#).unwrap();
        assert_eq!((both.token.as_str(), both.lifetime.as_secs()), ("a.b", 300));
        let other = token(br#"{"access_token":"c","expires_in":-1e300}"#).unwrap();
        assert_eq!((other.token.as_str(), other.lifetime.as_secs()), ("c", 60));
        assert!(token(br#"{"token":""}"#).is_err() && token(b"[]").is_err());
        assert!(token(b"{\"token\":\"a\\r\\nHost: b\"}").is_err());
        assert!(!format!("{both:?}").contains("a.b"), "a token is never shown");
    }

    #[test]
    fn ranges_are_counted_from_the_first_byte() {
        assert_eq!(received("0-9"), Some(10));
        assert_eq!(received("bytes=0-9"), Some(10));
        assert_eq!(received("0-0"), Some(0));
        for bad in ["", "9", "1-9", "0-", "0-18446744073709551615", "0--1"] {
            assert_eq!(received(bad), None, "{bad}");
        }
        assert_eq!(part("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(part("bytes 5-9/*"), Some((5, None)));
        for bad in ["bytes 5-10/10", "bytes 9-5/10", "5-9/10", "bytes */10", "bytes 5-9/x"] {
            assert_eq!(part(bad), None, "{bad}");
        }
    }

    #[test]
    fn waiting_is_told_in_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 5);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after(date, now), Some(Duration::from_secs(5)));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn a_list_goes_on_where_its_link_says() {
        assert_eq!(
            next("</v2/a/tags/list?n=2&last=b>; rel=\"next\""),
            Some("/v2/a/tags/list?n=2&last=b")
        );
        assert_eq!(next("<a>; rel=prev, <b>; title=x; rel=next"), Some("b"));
        assert_eq!(next("<a>; rel=prev"), None);
        assert_eq!(next("a; rel=next"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes: Vec<u8>, text in ".{0,80}") {
            fuzz(&bytes);
            fuzz(text.as_bytes());
        }

        #[test]
        fn nothing_that_looks_like_a_challenge_makes_it_panic(text in "(Bearer|Basic|[a-z =,\"\\\\]){0,40}") {
            fuzz(text.as_bytes());
        }
    }
}
