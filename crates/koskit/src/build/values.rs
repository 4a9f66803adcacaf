//! Values of options, as docker writes them.

use crate::build::fields::{fields, pairs};
use koskit_buildkit::Cache;
use koskit_llb::pb::{NetMode, Ulimit};
use koskit_solver::exec::Limit;
use std::collections::BTreeMap;

/// The network of commands.
pub fn network(text: &str) -> Result<NetMode, String> {
    match text {
        "default" | "" => Ok(NetMode::Unset),
        "none" => Ok(NetMode::None),
        "host" => Ok(NetMode::Host),
        _ => Err(format!("unsupported network mode {text:?}: there are default, none and host")),
    }
}

/// A host's name and its address, in the form that `/etc/hosts` has them the other way round.
pub fn host(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("bad format for add-host: {text:?}, expected NAME:ADDRESS");
    let (name, address) =
        text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(wrong());
    }
    if address == "host-gateway" {
        return Err("host-gateway is for networks of containers; here commands have the \
                    machine's own, so that it is 127.0.0.1"
            .into());
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => Ok((name.to_owned(), address.to_string())),
        Err(_) => Err(format!("invalid IP address in add-host: {address:?}")),
    }
}

/// A cache: `type=TYPE,KEY=VALUE…`, or a name alone, which is in a registry.
pub fn cache(text: &str) -> Result<Cache, String> {
    if let [field] = &fields(text)?[..] {
        if !field.contains('=') {
            let attributes = BTreeMap::from([("ref".to_owned(), field.clone())]);
            return Ok(Cache { kind: "registry".into(), attributes });
        }
    }
    let mut attributes: BTreeMap<String, String> = pairs(text)?.into_iter().collect();
    match attributes.remove("type") {
        Some(kind) if !kind.is_empty() => Ok(Cache { kind, attributes }),
        _ => Err(format!("type required form {text:?}: type=registry, type=local or type=inline")),
    }
}

/// A limit of a command: `NAME=SOFT[:HARD]`, where -1 is none and one number is both.
pub fn ulimit(text: &str) -> Result<Ulimit, String> {
    let wrong = || format!("invalid ulimit: {text:?}, expected NAME=SOFT[:HARD]");
    let (name, numbers) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = numbers.split_once(':').unwrap_or((numbers, numbers));
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    let (soft, hard) = (number(soft)?, number(hard)?);
    Limit::new(name, soft, hard).map_err(|why| format!("invalid ulimit: {why}"))?;
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// A number of bytes with a binary unit, as `64m`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("invalid size: {text:?}, expected a number and b, k, m or g");
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let factor = match lower[number.len()..].trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1u64 << 40,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * factor as f64;
    // More than an exabyte is a mistake.
    if !(0.0..=1e18).contains(&bytes) {
        return Err(wrong());
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_has_a_type_or_is_a_name() {
        let parsed = cache("type=registry,ref=localhost:5000/a,mode=max").unwrap();
        assert_eq!((parsed.kind.as_str(), &*parsed.attributes["mode"]), ("registry", "max"));
        assert_eq!(cache("localhost:5000/a").unwrap().attributes["ref"], "localhost:5000/a");
        assert!(cache("mode=max").is_err() && cache("type=").is_err());
    }

    #[test]
    fn sizes_have_binary_units() {
        let sizes = ["64", "64b", "2k", "1.5m", "1GB", "1 MiB"].map(|text| bytes(text).unwrap());
        assert_eq!(sizes, [64, 64, 2048, 3 << 19, 1 << 30, 1 << 20]);
        assert!(["", "m", "-1", "1x", "1e30g"].iter().all(|text| bytes(text).is_err()));
    }

    #[test]
    fn a_limit_has_a_name_and_one_or_two_numbers() {
        let limit = |text: &str| ulimit(text).map(|limit| (limit.name, limit.soft, limit.hard));
        assert_eq!(limit("nofile=1:2").unwrap(), ("nofile".into(), 1, 2));
        assert_eq!(limit("core=0").unwrap(), ("core".into(), 0, 0));
        assert_eq!(limit("cpu=5:-1").unwrap(), ("cpu".into(), 5, -1));
        for bad in ["nofile", "nofile=", "nofile=2:1", "nofile=-1:1", "x=1", "cpu=-2", "cpu=1:2:3"]
        {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_is_a_name_and_an_address() {
        let pair = |name: &str, address: &str| Ok((name.to_owned(), address.to_owned()));
        assert_eq!(host("a:10.0.0.1"), pair("a", "10.0.0.1"));
        assert_eq!(host("a=[::1]"), pair("a", "::1"));
        assert_eq!(host("a:::1"), pair("a", "::1"));
        for bad in ["a", "a:b", ":1.2.3.4", "a b:1.2.3.4", "a:host-gateway", "a:1.2.3.4\nb"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
