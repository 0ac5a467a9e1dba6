//! What a call ends with when it does not succeed: *failed* and *unknown* are never confused.

use std::collections::HashMap;
use std::error::Error as _;

use kontiki_proto::{ERROR_DOMAIN, metadata, reason};
use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt;

/// Reasons that this client gives itself, in [`Error::Failed`], beside those of
/// [`kontiki_proto::reason`].
pub mod local_reason {
    /// No connection could be made, so nothing was sent.
    pub const UNREACHABLE: &str = "UNREACHABLE";
    /// A read got no usable answer. A read changes nothing, so this is a failure, never unknown.
    pub const NO_ANSWER: &str = "NO_ANSWER";
}

/// Why a call did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The request was not applied and never will be. Safe to make again.
    #[error("failed ({reason}) at {endpoint} after {attempts} attempt(s): {message}")]
    Failed {
        /// One of [`kontiki_proto::reason`] or [`local_reason`].
        reason: String,
        /// For people.
        message: String,
        /// HOST:PORT of the last server that was asked.
        endpoint: String,
        /// How often a server was asked, this time included; 0 if none was.
        attempts: u32,
    },
    /// The request was sent and may or may not be applied, now or later.
    #[error("outcome unknown at {endpoint}: {message}")]
    Unknown {
        /// For people.
        message: String,
        /// HOST:PORT of the server that it was sent to.
        endpoint: String,
    },
    /// The input was refused here; nothing was sent.
    #[error("invalid input: {message}")]
    Invalid {
        /// Names the input and what would be right.
        message: String,
    },
}

impl Error {
    /// The reason of a failure.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Error::Failed { reason, .. } => Some(reason),
            Error::Unknown { .. } | Error::Invalid { .. } => None,
        }
    }

    /// Whether the request may have been applied.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Error::Unknown { .. })
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid {
            message: message.into(),
        }
    }
}

/// How one attempt ended, before the caller's kind of request is taken into account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not applied, by the server's word or because nothing was sent.
    Failed {
        reason: String,
        message: String,
        leader: Leader,
    },
    /// Not known.
    Unknown { code: Code, message: String },
}

impl Verdict {
    /// Whether the next call had better dial: nothing says that the server answered this one.
    pub fn casts_doubt_on_connection(&self) -> bool {
        match self {
            Verdict::Failed { reason, .. } => reason == local_reason::UNREACHABLE,
            Verdict::Unknown { .. } => true,
        }
    }
}

/// Addresses of the leader in an error; empty where it names none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leader {
    pub client_address: String,
    pub peer_address: String,
}

impl Leader {
    pub fn from_metadata(metadata: &HashMap<String, String>) -> Self {
        let get = |key| metadata.get(key).cloned().unwrap_or_default();
        Leader {
            client_address: get(metadata::LEADER_ADDRESS),
            peer_address: get(metadata::LEADER_PEER_ADDRESS),
        }
    }
}

/// Reasons after which the same request may be sent again: it was never proposed, and another
/// server or another moment may take it.
pub(crate) fn is_retryable(reason: &str) -> bool {
    matches!(
        reason,
        reason::NOT_LEADER
            | reason::NO_LEADER
            | reason::QUORUM_LOST
            | reason::TRANSFERRING
            | reason::STOPPING
            | reason::QUEUE_FULL
            | reason::NOT_ACTIVATED
            | reason::NOT_A_MEMBER
            | reason::NO_COMMIT
            | reason::NO_QUORUM_AFTERWARDS
            | reason::TOO_STALE
            | local_reason::UNREACHABLE
            | local_reason::NO_ANSWER
    )
}

/// Judges a status: only our own detail, or a connection that was never made, says *failed*.
pub(crate) fn judge(status: &Status) -> Verdict {
    if let Some(info) = status.get_details_error_info()
        && info.domain == ERROR_DOMAIN
        && info
            .metadata
            .get(metadata::OUTCOME)
            .is_some_and(|outcome| outcome == "FAILED")
    {
        return Verdict::Failed {
            reason: info.reason.clone(),
            message: status.message().to_owned(),
            leader: Leader::from_metadata(&info.metadata),
        };
    }
    if let Some(connect) = connect_error(status) {
        return Verdict::Failed {
            reason: local_reason::UNREACHABLE.to_owned(),
            message: connect,
            leader: Leader::default(),
        };
    }
    Verdict::Unknown {
        code: status.code(),
        message: describe(status),
    }
}

/// The text of the `ConnectError` that says that the request met no connection, if there is one.
fn connect_error(status: &Status) -> Option<String> {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(connect) = error.downcast_ref::<ConnectError>() {
            return Some(connect.to_string());
        }
        source = error.source();
    }
    None
}

/// The status for people, with the innermost cause, which names the operating system's error.
fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut innermost = status.source();
    while let Some(next) = innermost.and_then(|error| error.source()) {
        innermost = Some(next);
    }
    if let Some(cause) = innermost.map(ToString::to_string)
        && !text.contains(&cause)
    {
        text.push_str(": ");
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, StatusExt};

    fn detailed(code: Code, domain: &str, reason: &str, outcome: Option<&str>) -> Status {
        let mut metadata = HashMap::new();
        if let Some(outcome) = outcome {
            metadata.insert(metadata::OUTCOME.to_owned(), outcome.to_owned());
        }
        let details = ErrorDetails::with_error_info(reason, domain, metadata);
        Status::with_error_details(code, "said so", details)
    }

    #[test]
    fn only_our_detail_with_outcome_failed_says_failed() {
        let table = [
            (
                detailed(
                    Code::Unavailable,
                    ERROR_DOMAIN,
                    reason::NO_LEADER,
                    Some("FAILED"),
                ),
                true,
            ),
            (
                detailed(
                    Code::Unavailable,
                    ERROR_DOMAIN,
                    reason::NO_LEADER,
                    Some("UNKNOWN"),
                ),
                false,
            ),
            (
                detailed(Code::Unavailable, ERROR_DOMAIN, reason::NO_LEADER, None),
                false,
            ),
            (
                detailed(
                    Code::Unavailable,
                    "proxy.example",
                    reason::NO_LEADER,
                    Some("FAILED"),
                ),
                false,
            ),
            (Status::resource_exhausted("a proxy is full"), false),
            (Status::unavailable("a proxy is down"), false),
        ];
        for (status, failed) in table {
            let verdict = judge(&status);
            assert_eq!(
                matches!(verdict, Verdict::Failed { .. }),
                failed,
                "{status:?}"
            );
        }
    }

    #[test]
    fn what_the_machine_refused_is_not_sent_again() {
        for reason in [
            reason::REFUSED_BY_MACHINE,
            reason::INVALID,
            reason::TOO_LARGE,
        ] {
            assert!(!is_retryable(reason), "{reason}");
        }
    }
}
