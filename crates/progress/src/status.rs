//! BuildKit's `client.SolveStatus`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use koskit_llb::{Digest, pb};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Time;

/// What happened since the last one. A vertex that is told of again replaces what was told
/// before; logs are appended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Steps that have begun, ended, or become known.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub vertexes: Vec<Vertex>,
    /// Parts of steps, with their progress.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<Task>,
    /// What commands wrote.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<Log>,
    /// What is probably not meant.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vertex {
    /// Which: of a graph's vertices, the digest of the op.
    #[serde(with = "digest")]
    pub digest: Digest,
    /// What it needs.
    #[serde(
        default,
        deserialize_with = "digests",
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "write_digests"
    )]
    pub inputs: Vec<Digest>,
    /// What a person calls it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// When work on it began; not before it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// When it was done, or had failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<Time>,
    /// Its result was known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// Why it failed; empty if it did not. One that ends with `context canceled` tells that it
    /// was stopped because another one failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Several vertices that are shown as one.
    #[serde(default, rename = "progressGroup", skip_serializing_if = "Option::is_none")]
    pub progress_group: Option<ProgressGroup>,
}

/// What several vertices are shown as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressGroup {
    /// Equal for the vertices of one group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// What a person calls it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// It counts only if all vertices have it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub weak: bool,
}

/// A part of a step, such as one layer of a pull: BuildKit's `VertexStatus`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Which of the step's, and what a person calls it.
    pub id: String,
    /// The step.
    #[serde(with = "digest")]
    pub vertex: Digest,
    /// Another name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// How much there is to do, mostly in bytes; 0 if that is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub total: i64,
    /// How much is done.
    #[serde(default)]
    pub current: i64,
    /// When it was so.
    #[serde(default)]
    pub timestamp: Time,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<Time>,
}

/// What a command wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// The step.
    #[serde(with = "digest")]
    pub vertex: Digest,
    /// Where the command wrote it.
    #[serde(default)]
    pub stream: Stream,
    /// Any bytes; in JSON, base64.
    #[serde(with = "bytes")]
    pub data: Vec<u8>,
    /// When.
    #[serde(default)]
    pub timestamp: Time,
}

/// Where a command wrote: the number of its file descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stream {
    /// 1.
    #[default]
    Stdout,
    /// 2.
    Stderr,
}

/// What is probably not meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// The step.
    #[serde(with = "digest")]
    pub vertex: Digest,
    /// How important; 1 is the most.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub level: i64,
    /// One line; in JSON, base64.
    #[serde(default, with = "bytes")]
    pub short: Vec<u8>,
    /// More lines.
    #[serde(default, with = "lines", skip_serializing_if = "Vec::is_empty")]
    pub detail: Vec<Vec<u8>>,
    /// Where to read about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// The file that it is about.
    #[serde(
        default,
        rename = "sourceInfo",
        with = "source",
        skip_serializing_if = "Option::is_none"
    )]
    pub source: Option<pb::SourceInfo>,
    /// The lines in it.
    #[serde(default, with = "ranges", skip_serializing_if = "Vec::is_empty")]
    pub range: Vec<pb::Range>,
}

impl Warning {
    /// One about a step, in one line.
    pub fn new(vertex: Digest, short: &str) -> Self {
        let (level, short) = (1, short.as_bytes().to_vec());
        let (detail, url, source, range) = (Vec::new(), String::new(), None, Vec::new());
        Self { vertex, level, short, detail, url, source, range }
    }
}

impl Status {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.vertexes.is_empty()
            && self.statuses.is_empty()
            && self.logs.is_empty()
            && self.warnings.is_empty()
    }
}

impl From<Vertex> for Status {
    fn from(vertex: Vertex) -> Self {
        Self { vertexes: vec![vertex], ..Self::default() }
    }
}

impl From<Task> for Status {
    fn from(task: Task) -> Self {
        Self { statuses: vec![task], ..Self::default() }
    }
}

impl From<Log> for Status {
    fn from(log: Log) -> Self {
        Self { logs: vec![log], ..Self::default() }
    }
}

/// How the error of a step ends that was stopped because another one failed.
pub(crate) const CANCELED: &str = "context canceled";

impl Vertex {
    /// A step of which nothing is known but that there is one.
    pub fn new(digest: Digest, name: impl Into<String>) -> Self {
        Self {
            digest,
            inputs: Vec::new(),
            name: name.into(),
            started: None,
            completed: None,
            cached: false,
            error: String::new(),
            progress_group: None,
        }
    }

    /// The same, begun now.
    pub fn begin(mut self) -> Self {
        self.started = Some(Time::now());
        self
    }

    /// The same, done now.
    pub fn complete(mut self) -> Self {
        self.completed = Some(Time::now());
        self
    }

    /// The same, with a result that was known.
    pub fn cached(mut self) -> Self {
        self.cached = true;
        self.complete()
    }

    /// The same, failed now.
    pub fn fail(mut self, why: impl Into<String>) -> Self {
        self.error = why.into();
        self.complete()
    }

    /// The same, stopped now because another one failed.
    pub fn cancel(self) -> Self {
        self.fail(CANCELED)
    }

    /// Whether it was stopped because another one failed.
    pub fn is_canceled(&self) -> bool {
        self.error.ends_with(CANCELED)
    }

    /// How long it has taken until it was done, or takes until now.
    pub fn duration(&self, now: Time) -> Duration {
        match self.started {
            Some(started) => self.completed.unwrap_or(now).since(started),
            None => Duration::ZERO,
        }
    }
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Go writes lists without entries as `null`.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

impl Serialize for Stream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        })
    }
}

impl<'de> Deserialize<'de> for Stream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(if i64::deserialize(deserializer)? == 2 { Self::Stderr } else { Self::Stdout })
    }
}

mod digest {
    use super::*;

    pub fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(digest.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn write_digests<S: Serializer>(digests: &[Digest], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(digests.iter().map(Digest::as_str))
}

fn digests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Digest>, D::Error> {
    let texts: Vec<String> = nullable(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect()
}

mod bytes {
    use super::*;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        STANDARD.decode(text.unwrap_or_default()).map_err(de::Error::custom)
    }
}

mod lines {
    use super::*;

    pub fn serialize<S: Serializer>(lines: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(lines.iter().map(|line| STANDARD.encode(line)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let texts: Vec<String> = nullable(d)?;
        texts.iter().map(|text| STANDARD.decode(text).map_err(de::Error::custom)).collect()
    }
}

/// As Go's encoding/json writes the protobuf messages: by the names in their struct tags.
mod source {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Source {
        #[serde(default, skip_serializing_if = "String::is_empty")]
        filename: String,
        #[serde(default, with = "bytes", skip_serializing_if = "Vec::is_empty")]
        data: Vec<u8>,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        language: String,
    }

    pub fn serialize<S: Serializer>(
        source: &Option<pb::SourceInfo>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let source = source.as_ref().map(|source| Source {
            filename: source.filename.clone(),
            data: source.data.clone(),
            language: source.language.clone(),
        });
        source.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<pb::SourceInfo>, D::Error> {
        let source: Option<Source> = Option::deserialize(deserializer)?;
        Ok(source.map(|Source { filename, data, language }| pb::SourceInfo {
            filename,
            data,
            language,
            ..pb::SourceInfo::default()
        }))
    }
}

mod ranges {
    use super::*;

    #[derive(Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Position {
        #[serde(skip_serializing_if = "is_none")]
        line: i32,
        #[serde(skip_serializing_if = "is_none")]
        character: i32,
    }

    #[derive(Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Range {
        start: Position,
        end: Position,
    }

    fn is_none(number: &i32) -> bool {
        *number == 0
    }

    pub fn serialize<S: Serializer>(ranges: &[pb::Range], s: S) -> Result<S::Ok, S::Error> {
        let position = |at: Option<pb::Position>| {
            let at = at.unwrap_or_default();
            Position { line: at.line, character: at.character }
        };
        s.collect_seq(
            ranges.iter().map(|r| Range { start: position(r.start), end: position(r.end) }),
        )
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<pb::Range>, D::Error> {
        let ranges: Vec<Range> = nullable(d)?;
        let position = |at: Position| Some(pb::Position { line: at.line, character: at.character });
        let range = |r: Range| pb::Range { start: position(r.start), end: position(r.end) };
        Ok(ranges.into_iter().map(range).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_as_buildkit_writes_it_and_read_again() {
        let vertex = Digest::of(b"x");
        let status = Status {
            vertexes: vec![Vertex {
                inputs: vec![Digest::of(b"")],
                started: Some(Time::new(1, 0)),
                completed: Some(Time::new(2, 0)),
                cached: true,
                error: "no".into(),
                progress_group: Some(ProgressGroup { id: "g".into(), ..Default::default() }),
                ..Vertex::new(vertex.clone(), "[1/1] RUN x")
            }],
            statuses: vec![Task {
                id: "extracting".into(),
                vertex: vertex.clone(),
                name: String::new(),
                total: 2,
                current: 0,
                timestamp: Time::new(1, 0),
                started: Some(Time::new(1, 0)),
                completed: None,
            }],
            logs: vec![Log {
                vertex: vertex.clone(),
                stream: Stream::Stderr,
                data: b"\xff\n".to_vec(),
                timestamp: Time::new(1, 0),
            }],
            warnings: vec![Warning {
                vertex: vertex.clone(),
                level: 1,
                short: b"w".to_vec(),
                detail: vec![b"d".to_vec()],
                url: "u".into(),
                source: Some(pb::SourceInfo { filename: "f".into(), ..Default::default() }),
                range: vec![pb::Range {
                    start: Some(pb::Position { line: 1, character: 0 }),
                    end: None,
                }],
            }],
        };
        let none = Digest::of(b"");
        let expected = format!(
            r#"{{"vertexes":[{{"digest":"{vertex}","inputs":["{none}"],"name":"[1/1] RUN x","started":"1970-01-01T00:00:01Z","completed":"1970-01-01T00:00:02Z","cached":true,"error":"no","progressGroup":{{"id":"g"}}}}],"#,
        ) + &format!(
            r#""statuses":[{{"id":"extracting","vertex":"{vertex}","total":2,"current":0,"timestamp":"1970-01-01T00:00:01Z","started":"1970-01-01T00:00:01Z"}}],"#,
        ) + &format!(
            r#""logs":[{{"vertex":"{vertex}","stream":2,"data":"/wo=","timestamp":"1970-01-01T00:00:01Z"}}],"#,
        ) + &format!(
            r#""warnings":[{{"vertex":"{vertex}","level":1,"short":"dw==","detail":["ZA=="],"url":"u","sourceInfo":{{"filename":"f"}},"range":[{{"start":{{"line":1}},"end":{{}}}}]}}]}}"#,
        );
        assert_eq!(serde_json::to_string(&status).unwrap(), expected);
        let mut read: Status = serde_json::from_str(&expected).unwrap();
        read.warnings[0].range[0].end = None;
        assert_eq!(read, status);
    }

    #[test]
    fn what_go_leaves_out_or_writes_as_null_is_read() {
        let text = r#"{"vertexes":null,"logs":[]}"#;
        assert!(serde_json::from_str::<Status>(text).unwrap().is_empty());
        assert!(serde_json::from_str::<Status>(r#"{"vertexes":[{"digest":"md5:0"}]}"#).is_err());
    }
}
