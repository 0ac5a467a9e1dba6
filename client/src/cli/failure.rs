//! Why the command did not succeed, what to do about it, and its exit status.

use std::fmt;

use kontiki_client::proto::reason;
use kontiki_client::{Error, local_reason};

/// The end of a command that did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The client says so.
    Client(Error),
    /// The key is not there.
    NotFound { key: String },
    /// The key is not at the revision that was named.
    Mismatch {
        key: String,
        /// 0: it was to be absent.
        wanted: u64,
        /// Where it is; `None`: it is not there.
        current: Option<u64>,
    },
    /// A watch ended; it was complete through this revision.
    Watch { error: Error, complete: Option<u64> },
    /// Something here, before or after the cluster was asked.
    Local { message: String },
    /// An argument that only made sense of itself.
    Usage { message: String },
}

impl Failure {
    /// The exit status, as `--help` documents it.
    pub fn status(&self) -> u8 {
        match self {
            Failure::Watch {
                error: Error::Invalid { .. },
                ..
            }
            | Failure::Client(Error::Invalid { .. })
            | Failure::Usage { .. } => 2,
            Failure::Client(Error::Failed { .. })
            | Failure::Watch { .. }
            | Failure::Local { .. } => 1,
            Failure::NotFound { .. } => 3,
            Failure::Client(Error::Unknown { .. }) => 4,
            Failure::Mismatch { .. } => 5,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Client(error) => {
                write!(f, "{error}")?;
                match advice(error) {
                    Some(advice) => write!(f, "\n  {advice}"),
                    None => Ok(()),
                }
            }
            Failure::Watch { error, complete } => {
                write!(f, "{error}")?;
                match (error.reason(), complete) {
                    (Some(reason::COMPACTED), _) => f.write_str(
                        "\n  list the keys with `kontiki range --output json`, and watch --from its \
                         revision + 1",
                    ),
                    (_, Some(complete)) => write!(
                        f,
                        "\n  it is complete through revision {complete}; go on with --from {}",
                        complete + 1
                    ),
                    (_, None) => Ok(()),
                }
            }
            Failure::NotFound { key } => write!(f, "not found: there is no key `{key}`"),
            Failure::Mismatch {
                key,
                wanted,
                current,
            } => {
                match (current, wanted) {
                    (None, _) => write!(f, "mismatch: there is no key `{key}`")?,
                    (Some(at), 0) => write!(f, "mismatch: `{key}` is there, at revision {at}")?,
                    (Some(at), _) => {
                        write!(f, "mismatch: `{key}` is at revision {at}, not {wanted}")?;
                    }
                }
                f.write_str("; nothing was changed\n  read it again, and decide anew")
            }
            Failure::Local { message } | Failure::Usage { message } => f.write_str(message),
        }
    }
}

/// What a person can do about it.
fn advice(error: &Error) -> Option<&'static str> {
    let reason = match error {
        Error::Unknown { .. } => {
            return Some(
                "it may have been applied, or may be yet: read what it would have changed before \
                 sending it again",
            );
        }
        Error::Invalid { .. } => return None,
        Error::Failed { reason, .. } => reason,
    };
    Some(match reason.as_str() {
        local_reason::UNREACHABLE => {
            "check that a server listens there, or name others: --endpoints (client ports, 7400) \
             and --admin-endpoints (peer ports, 7401)"
        }
        local_reason::NO_ANSWER => {
            "check that these are the right ports: --endpoints takes client ports (7400), \
             --admin-endpoints peer ports (7401)"
        }
        reason::NOT_LEADER | reason::NO_LEADER | reason::QUORUM_LOST => {
            "see who is there with `kontiki status`; wait for a leader with `kontiki await-leader`"
        }
        reason::NOT_ACTIVATED => {
            "the cluster accepts writes once its operator has activated it; see `kontiki status`"
        }
        reason::NOT_A_MEMBER => {
            "this server waits to be bootstrapped or added; see `kontiki status`"
        }
        reason::QUEUE_FULL => "the leader has more to do than it can hold; try again later",
        reason::STATE_LIMIT => "delete something first, or raise the limit (spec.stateLimit)",
        reason::STOPPING | reason::TRANSFERRING | reason::NO_COMMIT => "try again",
        reason::WRONG_MACHINE => {
            "this cluster runs another state machine; use `kontiki write` and `kontiki read`"
        }
        reason::BAD_CONTINUATION => "give --continue the token as it was printed, all of it",
        reason::WRONG_CLUSTER => "check that --endpoints are servers of the cluster that is meant",
        reason::UNSTABLE_CONFIG => {
            "another change is in flight; see `kontiki members`, and ask again when it is done"
        }
        reason::DIRTY_READ_DISABLED => "read without --stale",
        reason::TOO_STALE => "allow more with --max-staleness, or add --any-server",
        reason::PROMISED => {
            "its leader holds a lease: use `kontiki transfer-leadership`, or try again once it is gone"
        }
        reason::WRONG_ROLE => "see what each server is with `kontiki members`",
        reason::NOT_A_VOTER => "see who votes with `kontiki members`",
        reason::NO_QUORUM_AFTERWARDS => {
            "see in `kontiki members` which voters are not heard; bring them back, or remove or replace \
             them first"
        }
        reason::LAST_SERVER => "add another server first",
        reason::BELOW_MIN_MAJORITY => {
            "add a server first; see min_majority in `kontiki status --output json`"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_tell_failed_from_unknown() {
        let failed = Error::Failed {
            reason: reason::NO_LEADER.to_owned(),
            message: "no leader is known".to_owned(),
            endpoint: "h:1".to_owned(),
            attempts: 3,
        };
        let unknown = Error::Unknown {
            message: "the connection broke".to_owned(),
            endpoint: "h:1".to_owned(),
        };
        let invalid = Error::Invalid {
            message: "the key is empty".to_owned(),
        };
        assert_eq!(Failure::Client(failed).status(), 1);
        assert_eq!(Failure::Client(invalid).status(), 2);
        assert_eq!(
            Failure::NotFound {
                key: "k".to_owned()
            }
            .status(),
            3
        );
        let unknown = Failure::Client(unknown);
        assert_eq!(unknown.status(), 4);
        let text = unknown.to_string();
        assert!(
            text.contains("outcome unknown at h:1: the connection broke"),
            "{text}"
        );
        assert!(text.contains("read what it would have changed"), "{text}");
    }
}
