//! The value of `RUN --mount`: fields such as `type=cache,target=/root/.cache`.

use std::ops::Range;

use crate::{Diagnostic, ExpandError, Span, Word, nearest};

/// What a RUN sees besides the file system of its stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `type`.
    pub kind: MountKind,
    /// `from`: a stage, a context or an image. Empty is the build context for bind mounts,
    /// and an empty directory for caches.
    pub from: String,
    /// `source`, `src`: a path in that; for secrets and ssh, their id.
    pub source: String,
    /// `target`, `dst`, `destination`: where it is seen.
    pub target: String,
    /// Whether it cannot be written to.
    pub read_only: bool,
    /// `size` of a tmpfs in bytes; 0 is no limit.
    pub size: i64,
    /// `id` of a cache, a secret or an ssh agent.
    pub id: String,
    /// `sharing` of a cache.
    pub sharing: Option<Sharing>,
    /// `required`: a missing secret or agent is an error.
    pub required: bool,
    /// `env`: the variable that a secret is put into; empty is the default, its id.
    pub env: Option<String>,
    /// `mode`: permission bits.
    pub mode: Option<u32>,
    /// `uid`: the owner.
    pub uid: Option<u32>,
    /// `gid`: the owner's group.
    pub gid: Option<u32>,
}

/// The `type` of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, of a stage or of an image.
    #[default]
    Bind,
    /// A directory that stays from build to build.
    Cache,
    /// A directory in memory.
    Tmpfs,
    /// A secret of the user.
    Secret,
    /// The socket of an ssh agent.
    Ssh,
}

/// Who may use a cache at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All.
    Shared,
    /// Who comes second gets another one.
    Private,
    /// Who comes second waits.
    Locked,
}

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

type Result<T, E = Box<Diagnostic>> = std::result::Result<T, E>;

impl Mount {
    /// Reads the value of a `--mount`. `expand` puts the values of variables into a field's
    /// value.
    ///
    /// # Errors
    /// What is wrong with it, at the field where the place of that is known.
    pub fn parse(
        word: &Word,
        expand: &mut dyn FnMut(&str) -> Result<String, ExpandError>,
    ) -> Result<Self> {
        let mut mount = Self::default();
        let mut read_only = None;
        for field in Field::all(word)? {
            match &field.value {
                None => mount.switch(&field, &mut read_only)?,
                Some(value) => {
                    let value =
                        expand(value).map_err(|error| Box::new(field.error(error.to_string())))?;
                    mount.set(&field, value, &mut read_only)?;
                }
            }
        }
        let written = matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs);
        mount.read_only = read_only.unwrap_or(!written);
        mount.check(word)?;
        Ok(mount)
    }

    /// The `from` of a mount, in which there are no variables; `None` where it has none.
    pub fn origin(word: &Word) -> Option<String> {
        let fields = Field::all(word).ok()?;
        let from = fields.into_iter().rfind(|field| field.key == "from")?;
        from.value.filter(|value| !value.is_empty())
    }

    /// A key without a value.
    fn switch(&mut self, field: &Field, read_only: &mut Option<bool>) -> Result<()> {
        match field.key.as_str() {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            "required" => {
                self.only(field, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = true;
            }
            key if KEYS.contains(&key) => {
                let error = field.error(format!("{key} needs a value"));
                return Err(Box::new(error.label(format!("expected {key}=…"))));
            }
            _ => return Err(field.unknown()),
        }
        Ok(())
    }

    fn set(&mut self, field: &Field, value: String, read_only: &mut Option<bool>) -> Result<()> {
        match field.key.as_str() {
            "type" => self.kind = field.choice(&value, &KINDS)?,
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "readonly" | "ro" => *read_only = Some(field.boolean(&value)?),
            "readwrite" | "rw" => *read_only = Some(!field.boolean(&value)?),
            "required" => {
                self.only(field, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = field.boolean(&value)?;
            }
            "size" => {
                self.only(field, &[MountKind::Tmpfs])?;
                self.size = size(&value)
                    .ok_or_else(|| field.wrong(&value, "a size, such as 64m or 1GiB"))?;
            }
            "id" => self.id = value,
            "sharing" => self.sharing = Some(field.choice(&value, &SHARINGS)?),
            "mode" => {
                let mode = digits(&value).and_then(|v| u32::from_str_radix(v, 8).ok());
                self.mode =
                    Some(mode.ok_or_else(|| field.wrong(&value, "an octal number, such as 0600"))?);
            }
            "uid" => self.uid = Some(field.number(&value)?),
            "gid" => self.gid = Some(field.number(&value)?),
            "env" => self.env = Some(value),
            _ => return Err(field.unknown()),
        }
        Ok(())
    }

    /// Refuses a field that mounts of this type do not have.
    fn only(&self, field: &Field, kinds: &[MountKind]) -> Result<()> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        let message = format!("a mount of type {} has no {}", self.kind.name(), field.key);
        let kinds: Vec<_> = kinds.iter().map(|kind| format!("type={}", kind.name())).collect();
        let hint = format!("{} has it; the type comes before it", kinds.join(" or "));
        Err(Box::new(field.error(message).hint(hint)))
    }

    /// What does not go together.
    fn check(&self, word: &Word) -> Result<()> {
        let name = self.kind.name();
        let fail = |message: String| Err(Box::new(Diagnostic::error(word.span, message)));
        let owned = matches!(self.kind, MountKind::Secret | MountKind::Ssh | MountKind::Cache);
        let bits = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
        if let Some((key, _)) = bits.iter().find(|(_, value)| value.is_some() && !owned) {
            return fail(format!("a mount of type {name} has no {key}"));
        }
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return fail(format!("a mount of type {name} has no sharing; caches have"));
        }
        if self.kind != MountKind::Secret {
            return Ok(());
        }
        if !self.from.is_empty() {
            return fail("a secret comes from the user, so that it has no from".into());
        }
        match (self.source.is_empty(), self.id.is_empty(), self.target.is_empty()) {
            (true, true, true) => fail("the secret has no name: it needs an id or a target".into()),
            (false, false, _) => fail("the secret has both a source and an id".into()),
            _ => Ok(()),
        }
    }
}

impl MountKind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            MountKind::Bind => "bind",
            MountKind::Cache => "cache",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Secret => "secret",
            MountKind::Ssh => "ssh",
        }
    }
}

/// What can be said of a mount before the variables are known.
pub(crate) fn check(word: &Word) -> Result<()> {
    for field in Field::all(word)? {
        let Some(value) = &field.value else { continue };
        let variable = value.find('$').is_some_and(|at| at + 1 < value.len());
        if field.key == "from" && variable {
            let error = field.error("from cannot have variables");
            return Err(Box::new(
                error.hint("FROM … AS name, with the variable in the FROM, gives it a name"),
            ));
        }
    }
    Ok(())
}

/// `key=value` or `key`.
struct Field {
    /// In lower case.
    key: String,
    value: Option<String>,
    span: Span,
}

impl Field {
    /// The fields of a mount: a record of comma-separated values, where `"` quotes a field
    /// and `""` in it is one of them.
    fn all(word: &Word) -> Result<Vec<Self>> {
        let exact = word.text.len() == word.span.end - word.span.start;
        let place = |at: Range<usize>| match exact {
            true => Span::new(word.span.start + at.start, word.span.start + at.end),
            false => word.span,
        };
        let text = word.text.as_str();
        let mut fields = Vec::new();
        let mut start = 0;
        loop {
            let rest = &text[start..];
            let (field, length) = match rest.strip_prefix('"') {
                None => {
                    let length = rest.find(',').unwrap_or(rest.len());
                    (rest[..length].to_owned(), length)
                }
                Some(quoted) => {
                    let Some((field, length)) = unquote(quoted) else {
                        let error = "a quoted field of the mount does not end with its quote";
                        let at = place(start..text.len());
                        return Err(Box::new(Diagnostic::error(at, error)));
                    };
                    (field, length + 1)
                }
            };
            let span = place(start..start + length);
            if field.contains('"') && !rest.starts_with('"') {
                let error =
                    Diagnostic::error(span, "a quote stands inside of a field of the mount")
                        .hint("quote the whole field, and double the quotes that are part of it");
                return Err(Box::new(error));
            }
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (field.as_str(), None),
            };
            fields.push(Self { key: key.to_lowercase(), value, span });
            start += length + 1;
            if start > text.len() {
                return Ok(fields);
            }
        }
    }

    fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.span, message)
    }

    fn wrong(&self, value: &str, expected: &str) -> Box<Diagnostic> {
        let error = self.error(format!("{} cannot be {value:?}", self.key));
        Box::new(error.label(format!("expected {expected}")))
    }

    fn unknown(&self) -> Box<Diagnostic> {
        let error = self.error(format!("a mount has no {:?}", self.key));
        Box::new(match nearest(&self.key, KEYS) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => error.label("expected key=value"),
        })
    }

    fn choice<T: Copy>(&self, value: &str, known: &[(&str, T)]) -> Result<T> {
        let lower = value.to_lowercase();
        if let Some((_, found)) = known.iter().find(|(name, _)| *name == lower) {
            return Ok(*found);
        }
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        let error = self.wrong(value, &names.join(", "));
        Err(Box::new(match nearest(value, names) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => *error,
        }))
    }

    fn boolean(&self, value: &str) -> Result<bool> {
        match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(self.wrong(value, "true or false")),
        }
    }

    fn number(&self, value: &str) -> Result<u32> {
        let number = digits(value).and_then(|v| v.parse().ok());
        number.ok_or_else(|| self.wrong(value, "a number"))
    }
}

/// The text up to the closing quote, and how many bytes that takes with the quote. Behind it
/// comes the next field.
fn unquote(text: &str) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut rest = text;
    loop {
        let quote = rest.find('"')?;
        out.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.chars().next() {
            None | Some(',') => return Some((out, text.len() - rest.len())),
            Some('"') => {
                out.push('"');
                rest = &rest[1..];
            }
            Some(_) => return None,
        }
    }
}

/// A number without a sign.
fn digits(text: &str) -> Option<&str> {
    text.bytes().all(|b| b.is_ascii_digit()).then_some(text)
}

/// A number of bytes with a unit of 1024s: `64m`, `1.5 GiB`, `100`.
fn size(text: &str) -> Option<i64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' '))?;
    let (number, unit) = text.split_at(last + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let plain = |c: char| c.is_ascii_digit() || c == '.';
    let number: f64 = number.chars().all(plain).then(|| number.parse().ok())??;
    let unit = unit.to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if matches!(unit.as_str(), "" | "b") => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    if power > 0 && !matches!(&unit[1..], "" | "b" | "ib") {
        return None;
    }
    let bytes = number * 1024f64.powi(power);
    (bytes < i64::MAX as f64).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Mount> {
        let word = Word { text: text.into(), span: Span::new(0, text.len()) };
        Mount::parse(&word, &mut |value| Ok(value.replace("$V", "v")))
    }

    #[test]
    fn fields_are_read_whatever_their_order_and_case() {
        let mount = parse("Type=CACHE,target=/c,sharing=locked,id=$V,uid=7,mode=0700").unwrap();
        let expected = Mount {
            kind: MountKind::Cache,
            target: "/c".into(),
            sharing: Some(Sharing::Locked),
            id: "v".into(),
            uid: Some(7),
            mode: Some(0o700),
            ..Mount::default()
        };
        assert_eq!(mount, expected);
    }

    #[test]
    fn what_is_not_written_to_is_read_only_by_default() {
        for (text, read_only) in [
            ("target=/a", true),
            ("target=/a,rw", false),
            ("target=/a,ro=false", false),
            ("type=cache,target=/a", false),
            ("type=cache,target=/a,readonly", true),
            ("type=tmpfs,target=/a", false),
            ("type=secret,id=a", true),
        ] {
            assert_eq!(parse(text).unwrap().read_only, read_only, "{text}");
        }
    }

    #[test]
    fn a_quoted_field_may_hold_commas_and_quotes() {
        let mount = parse(r#"type=secret,"id=a,""b""",required"#).unwrap();
        assert_eq!((mount.id.as_str(), mount.required), ("a,\"b\"", true));
        for bad in [r#"id="a""#, r#""id=a"#, r#""id=a"b"#] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units_of_1024() {
        let cases = [
            ("100", Some(100)),
            ("1k", Some(1024)),
            ("1.5 KiB", Some(1536)),
            ("2GB", Some(2 << 30)),
            ("7b", Some(7)),
            ("1x", None),
            ("1kb b", None),
            ("1ki", None),
            ("-1", None),
            ("", None),
            ("k", None),
            ("99999999999p", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), bytes, "{text}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_the_reason() {
        let cases = [
            ("required,type=secret,id=a", "has no required"),
            ("target=/a,uid=1", "has no uid"),
            ("target=/a,sharing=locked", "has no sharing"),
            ("type=secret,from=x,id=a", "no from"),
            ("type=secret", "needs an id"),
            ("type=secret,id=a,source=b", "both"),
            ("size=1k,type=tmpfs,target=/a", "has no size"),
            ("type=secert,id=a", "cannot be"),
            ("taget=/a", "a mount has no"),
            ("target", "needs a value"),
            ("type=cache,target=/a,mode=9", "cannot be"),
            ("type=cache,target=/a,uid=+1", "cannot be"),
        ];
        for (text, part) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains(part), "{text}: {}", error.message);
            assert!(error.span.end <= text.len());
        }
        assert_eq!(parse("type=secert,id=a").unwrap_err().hint.unwrap(), "did you mean secret?");
    }
}
