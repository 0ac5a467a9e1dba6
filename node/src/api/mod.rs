//! What comes in from clients and operators: decodes, bounds, hands to the driver, and says what
//! came of it. Knows nothing of the log, of other servers' connections, or of the algorithm.

mod admin;
mod bounds;
mod continuation;
mod data;
mod error;
mod kv;
mod probe;
mod stream;
mod text;
mod watch;

/// What is fuzzed by itself.
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz {
    pub(crate) use super::continuation::Continuation;
    pub(crate) use super::grpc_timeout;
}

pub use admin::AdminService;
pub use data::DataService;
pub use error::{ApiError, status};
pub use kv::KvService;
pub use probe::{Probes, probes};

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// How long to wait: `limit`, or the caller's `grpc-timeout` if that is shorter.
///
/// # Errors
/// [`ApiError::TooLate`]: the caller does not wait at all.
fn patience(metadata: &MetadataMap, limit: Duration) -> Result<Duration, ApiError> {
    let timeout = metadata.get("grpc-timeout");
    let asked = timeout.and_then(|text| grpc_timeout(text.to_str().ok()?));
    match asked {
        Some(Duration::ZERO) => Err(ApiError::TooLate),
        asked => Ok(asked.map_or(limit, |asked| asked.min(limit))),
    }
}

/// Parses at most 8 digits and a unit, as the gRPC specification has it.
pub(crate) fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = (digits.len() <= 8).then(|| digits.parse().ok())??;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_timeout_counts_if_it_is_shorter() {
        let limit = Duration::from_secs(10);
        for (text, expected) in [
            ("250m", Duration::from_millis(250)),
            ("3S", Duration::from_secs(3)),
            ("1H", limit),
            ("123456789m", limit),
            ("m", limit),
            ("", limit),
            ("5x", limit),
        ] {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().expect("ascii"));
            assert_eq!(patience(&metadata, limit), Ok(expected), "{text}");
        }
        assert_eq!(patience(&MetadataMap::new(), limit), Ok(limit));
    }

    #[test]
    fn who_does_not_wait_is_too_late() {
        for text in ["0n", "0S", "00000000H"] {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().expect("ascii"));
            let patience = patience(&metadata, Duration::from_secs(10));
            assert_eq!(patience, Err(ApiError::TooLate), "{text}");
        }
    }
}
