//! `koskit builder`: what builds keep for the next time, and how it goes.

use crate::names::{self, created};
use crate::output::{self, Listing};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use koskit_image::Store;
use koskit_solver::namespace;
use koskit_solver::snapshot::{Filter, Kind, Limits, Prune, Snapshots, Usage};
use serde_json::json;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Look at the build cache, and clean it up
///
/// The cache is $XDG_CACHE_HOME/koskit (~/.cache/koskit). A build cleans up by itself, at most
/// every ten minutes: cache mounts that were not used for two days go if they take more than
/// 512 MB; then, what was not used for the longest time, until the cache takes no more than 80 %
/// of the disk or 100 GB and 20 % of the disk are free. 10 % of the disk or 10 GB always stay.
/// Those are BuildKit's limits.
#[derive(Subcommand)]
pub enum Command {
    Prune(PruneArguments),
    Du(DuArguments),
}

/// Remove what builds have kept
///
/// What a running build needs stays. What has gone is made again by the next build that wants it.
#[derive(Args)]
#[command(after_help = PRUNE_EXAMPLES)]
pub struct PruneArguments {
    /// Also what images have as layers, which the next build on them unpacks again
    #[arg(short, long)]
    all: bool,
    /// Only what this holds for; may be given several times. until=AGE (such as 24h) is what was
    /// not used for so long; id=, parent=, type=regular|exec.cachemount, description=,
    /// inuse=BOOL, shared=BOOL, private=BOOL
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Remove no more than it takes to have this little left
    #[arg(long, visible_alias = "keep-storage", value_name = "SIZE", value_parser = size)]
    max_used_space: Option<u64>,
    /// Remove no more than it takes to have this much of the disk free
    #[arg(long, value_name = "SIZE", value_parser = size)]
    min_free_space: Option<u64>,
    /// Keep this much in any case
    #[arg(long, value_name = "SIZE", value_parser = size)]
    reserved_space: Option<u64>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// A table, or a JSON object on each line
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Listing,
}

const PRUNE_EXAMPLES: &str = "\
Examples:
  koskit builder prune                        what no image has as a layer
  koskit builder prune --all --force          everything, without a question
  koskit builder prune --filter until=48h     what was not used for two days
  koskit builder prune --max-used-space 5gb   the oldest, until 5 GB are left";

/// Show what the build cache takes of the disk
#[derive(Args)]
#[command(after_help = DU_EXAMPLES)]
pub struct DuArguments {
    /// As for `koskit builder prune`
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A table, or a JSON object on each line
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Listing,
}

const DU_EXAMPLES: &str = "\
Examples:
  koskit builder du                                  everything, and the sum
  koskit builder du --filter type=exec.cachemount    the contents of cache mounts
  koskit builder du --format json                    for programs";

/// Does it.
///
/// # Errors
/// There are no namespaces, a filter makes no sense, or the cache cannot be read.
pub fn builder(command: &Command) -> Result<()> {
    match command {
        Command::Prune(arguments) => prune(arguments),
        Command::Du(arguments) => du(arguments),
    }
}

fn prune(arguments: &PruneArguments) -> Result<()> {
    let prune = Prune {
        all: arguments.all,
        filter: filter(&arguments.filter)?,
        limits: Limits {
            reserved: arguments.reserved_space.unwrap_or(0),
            max_used: arguments.max_used_space.unwrap_or(0),
            min_free: arguments.min_free_space.unwrap_or(0),
        },
    };
    if !arguments.force && !confirmed(arguments.all)? {
        return Ok(());
    }
    let (store, snapshots) = open()?;
    let removed = snapshots.prune(&store, &prune)?;
    show(&removed, arguments.format, "reclaimed")
}

fn du(arguments: &DuArguments) -> Result<()> {
    let filter = filter(&arguments.filter)?;
    let (store, snapshots) = open()?;
    let mut all = snapshots.usage(&store)?;
    all.retain(|usage| filter.takes(usage));
    show(&all, arguments.format, "total")
}

/// The cache is only to be read by who made it: in the namespaces of a build.
fn open() -> Result<(Store, Snapshots)> {
    let (store, cache) = (names::store()?, names::cache()?);
    namespace::enter()?;
    Ok((store, Snapshots::open(&cache)?))
}

/// Asks; without a terminal there is nobody who could answer.
fn confirmed(all: bool) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("this removes what builds have kept; say --force where nobody can be asked");
    }
    let what = if all { "all build cache" } else { "all build cache that no image has" };
    eprint!("This removes {what}. Go on? [y/N] ");
    io::stderr().flush().ok();
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn show(all: &[Usage], format: Listing, sum: &str) -> Result<()> {
    let text = match format {
        Listing::Json => all.iter().map(|usage| format!("{}\n", json(usage))).collect(),
        Listing::Table => {
            let total = all.iter().map(|usage| usage.size).sum();
            format!("{}{sum}: {}\n", table(all), output::size(total))
        }
    };
    output::print(&text)?;
    Ok(())
}

fn table(all: &[Usage]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let head = ["ID", "TYPE", "SIZE", "LAST USED", "IN USE", "DESCRIPTION"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|usage| {
        let id = usage.id[..usage.id.len().min(12)].to_owned();
        let in_use = if usage.in_use { "yes" } else { "no" };
        let description: String = usage.description.chars().take(60).collect();
        let (used, size) = (created(usage.last_used as i64), output::size(usage.size));
        vec![id, word(usage.kind).into(), size, used, in_use.into(), description]
    }));
    output::table(&rows)
}

fn json(usage: &Usage) -> serde_json::Value {
    json!({
        "ID": usage.id,
        "Type": word(usage.kind),
        "Description": usage.description,
        "Size": output::size(usage.size),
        "Bytes": usage.size,
        "CreatedAt": created(usage.created as i64),
        "LastUsedAt": created(usage.last_used as i64),
        "InUse": usage.in_use,
        "Shared": usage.shared,
        "Parents": usage.parents,
    })
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Regular => "regular",
        Kind::CacheMount => "exec.cachemount",
        Kind::GitRepository => "source.git.checkout",
    }
}

fn filter(given: &[String]) -> Result<Filter> {
    let mut filter = Filter::default();
    for text in given {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key.trim_end_matches('~'), value.trim_start_matches('=')),
            None => (text.as_str(), "true"),
        };
        let yes = || -> Result<bool> {
            value.parse().with_context(|| format!("the filter {text:?} is neither true nor false"))
        };
        match key {
            "until" | "unused-for" => filter.unused_for = Some(age(value)?),
            "type" => {
                filter.kind = Some(match value {
                    "regular" => Kind::Regular,
                    "exec.cachemount" => Kind::CacheMount,
                    "source.git.checkout" => Kind::GitRepository,
                    _ => bail!(
                        "the filter {text:?} names no type; there are regular, exec.cachemount and \
                         source.git.checkout"
                    ),
                });
            }
            "id" => filter.id = Some(value.to_owned()),
            "parent" => filter.parent = Some(value.to_owned()),
            "description" => filter.description = Some(value.to_owned()),
            "inuse" => filter.in_use = Some(yes()?),
            "shared" => filter.shared = Some(yes()?),
            "private" => filter.shared = Some(!yes()?),
            _ => bail!(
                "there is no filter {key:?}; there are until, type, id, parent, description, inuse, \
                 shared and private"
            ),
        }
    }
    Ok(filter)
}

/// `1h30m`, `24h`, `10s`, as docker writes it; also `2d`.
fn age(text: &str) -> Result<Duration> {
    let why = || format!("{text:?} is no age; write it as 24h, 90m or 10s");
    let (mut total, mut rest) = (0u64, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).with_context(why)?;
        let number: u64 = rest[..end].parse().ok().with_context(why)?;
        let unit = rest[end..].chars().next().with_context(why)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86400,
            _ => bail!(why()),
        };
        total = number.checked_mul(seconds).and_then(|n| total.checked_add(n)).with_context(why)?;
        rest = &rest[end + unit.len_utf8()..];
    }
    if text.is_empty() {
        bail!(why());
    }
    Ok(Duration::from_secs(total))
}

/// `512mb`, `5GB`, `1.5g`, as docker writes it, or bytes.
fn size(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let unit = lower[end..].trim();
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let power = match unit.strip_suffix('i').unwrap_or(unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(format!("{text:?} is no size; write it as 512mb or 5gb")),
    };
    let base: f64 = if unit.ends_with('i') { 1024.0 } else { 1000.0 };
    match lower[..end].parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((number * base.powi(power)) as u64),
        _ => Err(format!("{text:?} is no size; write it as 512mb or 5gb")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_written_as_for_docker() {
        assert_eq!(size("512mb"), Ok(512_000_000));
        assert_eq!(size("1.5GiB"), Ok(1_610_612_736));
        assert_eq!((size("7"), size("0")), (Ok(7), Ok(0)));
        assert!(size("x").is_err() && size("").is_err() && size("5q").is_err());
        assert_eq!(age("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(age("2d").unwrap(), Duration::from_secs(172_800));
        assert!(age("").is_err() && age("5").is_err() && age("99999999999999999999h").is_err());
        assert!(age("5é").is_err() && age("300000000000000000h").is_err());
    }

    #[test]
    fn filters_are_those_of_docker() {
        let given = ["until=24h", "type=exec.cachemount", "description~=RUN", "private=true"];
        let filter = filter(&given.map(str::to_owned)).unwrap();
        let wanted = Filter {
            unused_for: Some(Duration::from_secs(86400)),
            kind: Some(Kind::CacheMount),
            description: Some("RUN".into()),
            shared: Some(false),
            ..Filter::default()
        };
        assert_eq!(filter, wanted);
        assert!(super::filter(&["colour=red".into()]).is_err());
        assert!(super::filter(&["inuse=maybe".into()]).is_err());
    }
}
