//! The ports of EXPOSE.

/// Reads `8080`, `53/udp`, `8000-8002/tcp`: a port and a protocol for each.
///
/// An address and a port of the host before it, `127.0.0.1:80:8080`, are allowed as BuildKit
/// allows them, and mean nothing.
///
/// # Errors
/// What is wrong, in a few words.
pub(crate) fn parse(text: &str) -> Result<Vec<String>, String> {
    let inner = text.rsplit_once(':').map_or(text, |(_, inner)| inner);
    let (range, protocol) = inner.split_once('/').unwrap_or((inner, "tcp"));
    let protocol = match protocol.to_ascii_lowercase() {
        protocol if protocol.is_empty() => "tcp".into(),
        protocol => protocol,
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("{protocol:?} is not a protocol; expected tcp, udp or sctp"));
    }
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>()
            .ok()
            .filter(|_| digits)
            .ok_or_else(|| format!("{text:?} is not a port; expected a number from 0 to 65535"))
    };
    let (first, last) = match range.split_once('-') {
        None => (port(range)?, port(range)?),
        Some((first, last)) => (port(first)?, port(last)?),
    };
    if last < first {
        return Err(format!("the range {range} ends before it begins"));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_port_has_a_protocol_and_may_be_a_range() {
        assert_eq!(parse("80").unwrap(), ["80/tcp"]);
        assert_eq!(parse("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(parse("8000-8002/tcp").unwrap(), ["8000/tcp", "8001/tcp", "8002/tcp"]);
        assert_eq!(parse("127.0.0.1:80:8080").unwrap(), ["8080/tcp"]);
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for bad in ["", "http", "80/icmp", "65536", "+80", "9-8", "-", "80-"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
