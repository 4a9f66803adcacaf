//! When images are said to be made.

use crate::names::created;
use anyhow::{Context, Result};
use koskit_frontend::ImageConfig;

/// The time of SOURCE_DATE_EPOCH, in seconds since 1970: by default its beginning, so that
/// building twice gives the same image. <https://reproducible-builds.org/specs/source-date-epoch>
///
/// # Errors
/// The variable is something else.
pub fn epoch() -> Result<i64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if !text.is_empty() => {
            // Up to the year 9999, as RFC 3339 can write.
            let seconds =
                text.parse().ok().filter(|seconds| (0..253_402_300_800).contains(seconds));
            seconds.with_context(|| {
                format!("the variable SOURCE_DATE_EPOCH is {text:?}, and not seconds since 1970")
            })
        }
        _ => Ok(0),
    }
}

/// The configuration with that time wherever none stands.
pub fn dated(mut config: ImageConfig, epoch: i64) -> ImageConfig {
    config.created.get_or_insert_with(|| created(epoch));
    for entry in &mut config.history {
        entry.created.get_or_insert_with(|| created(epoch));
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_that_has_a_time_keeps_it() {
        let text = r#"{"architecture": "arm64", "os": "linux", "rootfs": {"type": "layers"},
            "history": [{"created": "2020-01-01T00:00:00Z"}, {"created_by": "RUN"}]}"#;
        let config = dated(serde_json::from_str(text).unwrap(), 1);
        let times: Vec<_> = config.history.iter().map(|entry| entry.created.as_deref()).collect();
        assert_eq!(times, [Some("2020-01-01T00:00:00Z"), Some("1970-01-01T00:00:01Z")]);
        assert_eq!(config.created.as_deref(), Some("1970-01-01T00:00:01Z"));
    }
}
