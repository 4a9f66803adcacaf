//! What a Dockerfile tells of itself: the targets that it has, and what one of them takes from
//! who builds it. Both are BuildKit's, in its JSON and in its words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use koskit_dockerfile::{Dockerfile, Errors, Place, Source};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::plan::{Base, Origin, Plan};
use crate::{FrontendError, ImageResolver, Options, Understood, understand};

/// What a target takes.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outline {
    /// Its name; empty if it has none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: String,
    /// What the comment above it says.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub description: String,
    /// Its build arguments, in the order of the file.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub args: Vec<Argument>,
    /// The secrets that its steps can have.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub secrets: Vec<Needed>,
    /// The SSH agents that its steps can have.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub ssh: Vec<Needed>,
    /// The Dockerfile.
    #[serde(rename = "sources", serialize_with = "as_sources")]
    pub source: Arc<Source>,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// What the comment above it says.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub description: String,
    /// The value that it has in this build.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub value: String,
    /// The ARG.
    #[serde(rename = "location")]
    pub lines: Lines,
}

/// A secret or an SSH agent.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Needed {
    /// Its id.
    pub name: String,
    /// Whether there is no build without it.
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
    /// The first RUN that has it.
    #[serde(rename = "location")]
    pub lines: Lines,
}

/// The stages of a file.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Targets {
    /// In the order of the file.
    pub targets: Vec<Target>,
    /// The Dockerfile.
    #[serde(rename = "sources", serialize_with = "as_sources")]
    pub source: Arc<Source>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Target {
    /// Its name; empty if it has none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: String,
    /// Whether it is built if no other is asked for.
    #[serde(skip_serializing_if = "is_false")]
    pub default: bool,
    /// What the comment above it says.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub description: String,
    /// What it begins with, as it is written.
    pub base: String,
    /// Its `--platform`, as it is written; empty if it has none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub platform: String,
    /// The FROM.
    #[serde(rename = "location")]
    pub lines: Lines,
}

/// The lines of an instruction, counted from 1, from the first to the last. In JSON each is a
/// range of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lines(pub usize, pub usize);

/// Tells what the target of a Dockerfile takes, without building it.
///
/// # Errors
/// It could not be built: as for [`convert`](crate::convert).
pub fn outline(
    source: Source,
    options: &Options,
    images: &dyn ImageResolver,
) -> Result<Outline, FrontendError> {
    let file = Dockerfile::parse(Arc::new(source))?;
    let Understood { plan, evaluated, .. } = understand(&file, options, images)?;
    let (mut args, mut secrets, mut ssh) = Default::default();
    for index in order(&plan, options) {
        let Some(stage) = &evaluated.stages[index] else { continue };
        let taken = &stage.taken;
        taken.args(&plan, index, &mut args);
        first(&taken.secrets, &mut secrets);
        first(&taken.ssh, &mut ssh);
    }
    let target = plan.stages[plan.target].stage;
    let name = target.name.as_ref().map(|name| name.text.clone()).unwrap_or_default();
    Ok(Outline {
        description: description(&target.place, &name),
        name,
        args: sorted(args, |arg: &Argument| arg.lines.0),
        secrets: sorted(secrets, |secret: &Needed| secret.lines.0),
        ssh: sorted(ssh, |agent: &Needed| agent.lines.0),
        source: Arc::clone(&file.source),
    })
}

/// Tells which targets a Dockerfile has. Only its text is looked at.
///
/// # Errors
/// The text is no Dockerfile.
pub fn targets(source: Source) -> Result<Targets, Errors> {
    let file = Dockerfile::parse(Arc::new(source))?;
    let last = file.stages.len() - 1;
    let target = |(index, stage): (usize, &koskit_dockerfile::Stage)| {
        let text = |word: &Option<koskit_dockerfile::Word>| {
            word.as_ref().map(|word| word.text.clone()).unwrap_or_default()
        };
        let name = text(&stage.name);
        Target {
            description: description(&stage.place, &name),
            name,
            default: index == last,
            base: stage.base.text.clone(),
            platform: text(&stage.platform),
            lines: Lines::of(&stage.place),
        }
    };
    Ok(Targets {
        targets: file.stages.iter().enumerate().map(target).collect(),
        source: Arc::clone(&file.source),
    })
}

/// An ARG, and the variables before the first FROM that its value is made of.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    description: String,
    pub value: String,
    lines: Lines,
    pub takes: BTreeSet<String>,
}

impl Declared {
    pub fn new(name: &str, place: &Place) -> Self {
        Self {
            description: description(place, name),
            value: String::new(),
            lines: Lines::of(place),
            takes: BTreeSet::new(),
        }
    }
}

/// What the instructions of a stage take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    /// ARGs with a value of their own.
    args: BTreeMap<String, Declared>,
    /// ARGs whose value is that before the first FROM.
    pub takes: BTreeSet<String>,
    secrets: BTreeMap<String, Needed>,
    ssh: BTreeMap<String, Needed>,
}

impl Taken {
    pub fn declare(&mut self, name: &str, place: &Place, value: Option<&str>) {
        let value = value.unwrap_or_default().to_owned();
        self.args.insert(name.to_owned(), Declared { value, ..Declared::new(name, place) });
    }

    pub fn secret(&mut self, id: &str, required: bool, lines: (usize, usize)) {
        need(&mut self.secrets, id, required, lines);
    }

    pub fn ssh(&mut self, id: &str, required: bool, lines: (usize, usize)) {
        need(&mut self.ssh, if id.is_empty() { "default" } else { id }, required, lines);
    }

    /// Adds the arguments of a stage to those that stages before it in the order have.
    fn args(&self, plan: &Plan<'_>, index: usize, all: &mut BTreeMap<String, Argument>) {
        let mut todo: Vec<&String> = self.args.keys().chain(&self.takes).collect();
        // A stage that another one begins with has named its image by these.
        let mut next = Some(index);
        while let Some(index) = next {
            let planned = &plan.stages[index];
            todo.extend(&planned.variables);
            next = match planned.base {
                Base::Stage(base) => Some(base),
                _ => None,
            };
        }
        let mut seen = BTreeSet::new();
        while let Some(name) = todo.pop() {
            if !seen.insert(name) {
                continue;
            }
            let Some(declared) = self.args.get(name).or_else(|| plan.args.get(name)) else {
                continue;
            };
            todo.extend(&declared.takes);
            all.entry(name.clone()).or_insert_with(|| Argument {
                name: name.clone(),
                description: declared.description.clone(),
                value: declared.value.clone(),
                lines: declared.lines,
            });
        }
    }
}

fn need(
    all: &mut BTreeMap<String, Needed>,
    id: &str,
    required: bool,
    (start, end): (usize, usize),
) {
    let needed = Needed { name: id.to_owned(), required, lines: Lines(start, end) };
    all.entry(id.to_owned()).or_insert(needed);
}

/// The stages that the target needs: itself, what it begins with, what it copies from. Of what
/// several of them have, the first one tells.
fn order(plan: &Plan<'_>, options: &Options) -> Vec<usize> {
    let (mut order, mut todo) = (Vec::new(), vec![plan.target]);
    while let Some(index) = todo.pop() {
        if order.contains(&index) {
            continue;
        }
        order.push(index);
        let planned = &plan.stages[index];
        if planned.replaced {
            continue;
        }
        let mut next = Vec::new();
        next.extend(match planned.base {
            Base::Stage(base) => Some(base),
            _ => None,
        });
        for instruction in planned.triggers.iter().chain(&planned.stage.instructions) {
            let origins = plan.origins(&instruction.command, index, options);
            next.extend(origins.into_iter().filter_map(|origin| match origin {
                Ok(Origin::Stage(from)) => Some(from),
                _ => None,
            }));
        }
        todo.extend(next.into_iter().rev());
    }
    order
}

fn first(of: &BTreeMap<String, Needed>, all: &mut BTreeMap<String, Needed>) {
    for (name, needed) in of {
        all.entry(name.clone()).or_insert_with(|| needed.clone());
    }
}

fn sorted<T>(all: BTreeMap<String, T>, line: impl Fn(&T) -> usize) -> Vec<T> {
    let mut all: Vec<_> = all.into_values().collect();
    all.sort_by_key(|one| line(one));
    all
}

/// What the comments right above an instruction say of a name: those that begin with it.
fn description(place: &Place, name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    let behind = |comment: &String| Some(comment.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
    place.comments.iter().find_map(behind).unwrap_or_default()
}

impl Lines {
    fn of(place: &Place) -> Self {
        Self(place.lines.0, place.lines.1)
    }
}

impl Serialize for Lines {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Position {
            line: usize,
        }
        #[derive(serde::Serialize)]
        struct Range {
            start: Position,
            end: Position,
        }
        let range = |line| Range { start: Position { line }, end: Position { line } };
        let mut location = serializer.serialize_struct("Location", 1)?;
        location.serialize_field("ranges", &(self.0..=self.1).map(range).collect::<Vec<_>>())?;
        location.end()
    }
}

fn as_sources<S: Serializer>(source: &Arc<Source>, serializer: S) -> Result<S::Ok, S::Error> {
    [STANDARD.encode(source.text())].serialize(serializer)
}

fn is_false(value: &bool) -> bool {
    !value
}

/// As buildx prints it.
impl Display for Outline {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let mut part = |rows: Vec<Vec<&str>>, gap| match rows.len() {
            0 => Ok(()),
            _ => writeln!(out, "{}", Table { rows, gap }),
        };
        let mut rows = Vec::new();
        if !self.name.is_empty() {
            rows.push(vec!["TARGET:", &self.name]);
            if !self.description.is_empty() {
                rows.push(vec!["DESCRIPTION:", &self.description]);
            }
        }
        part(rows, 1)?;
        let args = self.args.iter().map(|arg| vec![&*arg.name, &arg.value, &arg.description]);
        part(headed(vec!["BUILD ARG", "VALUE", "DESCRIPTION"], args), 3)?;
        for (kind, all) in [("SECRET", &self.secrets), ("SSH", &self.ssh)] {
            let row = |one: &'_ Needed| if one.required { "true" } else { "" };
            let rows = all.iter().map(|one| vec![&*one.name, row(one)]);
            part(headed(vec![kind, "REQUIRED"], rows), 3)?;
        }
        Ok(())
    }
}

/// As buildx prints it.
impl Display for Targets {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let name = |target: &Target| match (target.name.as_str(), target.default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        let names: Vec<_> = self.targets.iter().map(name).collect();
        let rows = self.targets.iter().zip(&names);
        let rows = rows.map(|(target, name)| vec![name.as_str(), &target.description]);
        let rows = std::iter::once(vec!["TARGET", "DESCRIPTION"]).chain(rows).collect();
        write!(out, "{}", Table { rows, gap: 1 })
    }
}

/// Rows below a head, if there are any.
fn headed<'a>(head: Vec<&'a str>, rows: impl Iterator<Item = Vec<&'a str>>) -> Vec<Vec<&'a str>> {
    let mut rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        rows.insert(0, head);
    }
    rows
}

/// Cells below each other; the last of a row ends where it ends.
struct Table<'a> {
    rows: Vec<Vec<&'a str>>,
    gap: usize,
}

impl Display for Table<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let length = |text: &str| text.chars().count();
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column| self.rows.iter().map(|row| length(row[column])).max().unwrap_or(0);
        let widths: Vec<_> = (0..columns).map(|column| width(column) + self.gap).collect();
        for row in &self.rows {
            let (last, cells) = row.split_last().expect("a row has cells");
            for (cell, width) in cells.iter().zip(&widths) {
                write!(out, "{cell:width$}")?;
            }
            writeln!(out, "{last}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BaseImage, ResolveError};
    use koskit_llb::{Platform, Reference};

    struct NoImages;

    impl ImageResolver for NoImages {
        fn resolve(&self, name: &Reference, _: &Platform) -> Result<BaseImage, ResolveError> {
            Err(format!("there is no image {}", name.familiar()).into())
        }
    }

    const TEXT: &str = "\
# VERSION is what is built
ARG VERSION=1
ARG OTHER=2
# base has
# base what all need
FROM scratch AS base
ARG VERSION
# MODE how
ARG MODE=fast \\
  LATE=$VERSION
FROM scratch
RUN --mount=type=secret,id=key,required=true \\
    --mount=type=ssh true
COPY --from=base / /
";

    fn of(text: &str, target: Option<&str>) -> Outline {
        let options = Options { target: target.map(str::to_owned), ..Options::default() };
        outline(Source::new("Dockerfile", text), &options, &NoImages).unwrap()
    }

    #[test]
    fn an_outline_tells_what_a_target_and_what_it_needs_take() {
        let shown = of(TEXT, None).to_string();
        let expected = "\
BUILD ARG   VALUE   DESCRIPTION
VERSION     1       is what is built
LATE        1       
MODE        fast    how

SECRET   REQUIRED
key      true

SSH       REQUIRED
default   

";
        assert_eq!(shown, expected);
        let base = of(TEXT, Some("base")).to_string();
        assert!(base.starts_with("TARGET:      base\nDESCRIPTION: has\n\nBUILD ARG"), "{base}");
        assert!(!base.contains("SECRET"), "{base}");
    }

    #[test]
    fn targets_are_listed_with_their_comments_and_the_default() {
        let all = targets(Source::new("Dockerfile", TEXT)).unwrap();
        let expected = "TARGET    DESCRIPTION\nbase      has\n(default) \n";
        assert_eq!(all.to_string(), expected);
    }

    #[test]
    fn each_line_of_an_instruction_is_a_range_of_its_own() {
        let json = serde_json::to_value(Lines(8, 9)).unwrap();
        let range = |line| serde_json::json!({"start": {"line": line}, "end": {"line": line}});
        assert_eq!(json, serde_json::json!({ "ranges": [range(8), range(9)] }));
    }

    #[test]
    fn stages_that_need_each_other_often_are_looked_at_once() {
        let mut text = "FROM scratch AS s0\nARG DEEP=1\n".to_owned();
        for at in 1..60 {
            let before = at - 1;
            text += &format!("FROM s{before} AS s{at}\nCOPY --from=s{before} / /\n");
        }
        let outline = of(&text, None);
        assert_eq!(outline.args.len(), 1);
        assert_eq!(outline.args[0].lines, Lines(2, 2));
    }
}
