//! Bounds of what clients may ask.

use std::time::Duration;

use kontiki_proto::v1::{Consistency, InSession};
use kontiki_raft::ClusterId;

use super::error::ApiError;
use super::text::cluster_id;
use crate::driver::ReadMode;
use crate::host::{SessionId, Stamp};
use crate::machine::kv::KEY_BYTES_MAX;

/// A command has 1 to `max` bytes.
pub(super) fn command(command: &[u8], max: usize) -> Result<(), ApiError> {
    if command.is_empty() {
        return Err(empty("command", format!("1 to {max} bytes")));
    }
    at_most("command", command.len(), max)
}

/// A key has 1 to 4096 bytes.
pub(super) fn key(key: &[u8]) -> Result<(), ApiError> {
    if key.is_empty() {
        return Err(empty("key", format!("1 to {KEY_BYTES_MAX} bytes")));
    }
    at_most("key", key.len(), KEY_BYTES_MAX)
}

/// A field has at most `max` bytes.
pub(super) fn at_most(field: &'static str, length: usize, max: usize) -> Result<(), ApiError> {
    match length <= max {
        true => Ok(()),
        false => Err(ApiError::TooLarge { field, length, max }),
    }
}

/// How fresh an answer is asked for: the fields that reads have in common.
pub(super) fn read_mode(
    consistency: i32,
    staleness_milliseconds: u32,
) -> Result<ReadMode, ApiError> {
    let known = Consistency::try_from(consistency);
    if known != Ok(Consistency::Bounded) && staleness_milliseconds != 0 {
        return Err(ApiError::Invalid {
            field: "staleness_milliseconds",
            problem: format!("is {staleness_milliseconds}, and the read is not BOUNDED"),
            right: "0 then".into(),
        });
    }
    match known {
        Ok(Consistency::Unspecified | Consistency::Linearizable) => Ok(ReadMode::Linearizable),
        Ok(Consistency::Lease) => Ok(ReadMode::Leased),
        Ok(Consistency::Stale) => Ok(ReadMode::Stale),
        Ok(Consistency::Bounded) if staleness_milliseconds == 0 => Err(ApiError::Invalid {
            field: "staleness_milliseconds",
            problem: "is 0".into(),
            right: "at least 1 for a BOUNDED read".into(),
        }),
        Ok(Consistency::Bounded) => {
            let limit = Duration::from_millis(staleness_milliseconds.into());
            Ok(ReadMode::Bounded(limit))
        }
        Err(_) => Err(ApiError::Invalid {
            field: "consistency",
            problem: format!("is {consistency}"),
            right: "LINEARIZABLE (1), STALE (2), LEASE (3) or BOUNDED (4)".into(),
        }),
    }
}

/// The place of a write in a session, and the cluster that the session is of.
pub(super) type Place = (ClusterId, Stamp);

/// The place of a write in its session, if it is in one.
pub(super) fn place(in_session: Option<&InSession>) -> Result<Option<Place>, ApiError> {
    let Some(&InSession {
        session,
        sequence,
        acknowledged,
        cluster_id: ref text,
    }) = in_session
    else {
        return Ok(None);
    };
    let cluster = cluster_id("in_session.cluster_id", text)?;
    for (field, value) in [
        ("in_session.session", session),
        ("in_session.sequence", sequence),
    ] {
        if value == 0 {
            return Err(ApiError::Invalid {
                field,
                problem: "is 0".into(),
                right: "at least 1".into(),
            });
        }
    }
    if acknowledged >= sequence {
        return Err(ApiError::Invalid {
            field: "in_session.acknowledged",
            problem: format!("is {acknowledged}"),
            right: format!("below the sequence, {sequence}"),
        });
    }
    let stamp = Stamp {
        session: SessionId(session),
        sequence,
        acknowledged,
    };
    Ok(Some((cluster, stamp)))
}

fn empty(field: &'static str, right: String) -> ApiError {
    ApiError::Invalid {
        field,
        problem: "is empty".into(),
        right,
    }
}
