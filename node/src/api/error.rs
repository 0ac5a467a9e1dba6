//! From what went wrong to a gRPC status: the one place that knows the codes.
//!
//! `UNAVAILABLE`, `FAILED_PRECONDITION` and `RESOURCE_EXHAUSTED` from here mean *never applied*; a
//! write whose fate is not known is `UNKNOWN`, never one of those.

use std::collections::HashMap;
use std::time::Duration;

use kontiki_proto::{ERROR_DOMAIN, metadata, reason};
use kontiki_raft::{ClusterId, ServerId};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::address_book::AddressBook;
use crate::driver::Refusal;
use crate::handle::Failure;
use crate::host::SessionRefusal;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// A write has no outcome, or the outcome is a refusal.
    #[error("{0}")]
    Write(Failure),
    /// A read has none; it changes nothing.
    #[error("{0}")]
    Read(Failure),
    /// A call to Admin has none.
    #[error("{0}")]
    Admin(Failure),
    /// A field is out of its bounds.
    #[error("{field}: {problem}; it must be {right}")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// What it is.
        problem: String,
        /// What would be right.
        right: String,
    },
    /// A field is too long.
    #[error("{field} has {length} bytes; at most {max} are allowed")]
    TooLarge {
        /// Name of the field.
        field: &'static str,
        /// Its bytes.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// The request came with a `grpc-timeout` of nothing: begun, its outcome would be open for no use.
    #[error("the caller's deadline had passed when the request came; it was not begun")]
    TooLate,
    /// `Kv` on another machine.
    #[error("this server replicates the machine {0}, not kv: use kontiki.v1.Data")]
    WrongMachine(&'static str),
    /// The request names another cluster.
    #[error("this server belongs to {}, not to cluster {asked}", cluster(.mine))]
    WrongCluster {
        /// This server's.
        mine: Option<ClusterId>,
        /// The request's.
        asked: ClusterId,
    },
    /// A continuation token that is none.
    #[error(
        "continuation: {problem}; pass on the bytes of the page before unchanged, or begin anew \
         with `start`"
    )]
    BadContinuation {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A continuation token of another cluster.
    #[error(
        "continuation: it was given by cluster {theirs}, and this server belongs to cluster {mine}; \
         ask a server of that cluster, or begin anew with `start`"
    )]
    ContinuationOf {
        /// This server's.
        mine: ClusterId,
        /// The token's.
        theirs: ClusterId,
    },
    /// A watch wants what is not kept any more.
    #[error(
        "revision {next} is not kept any more; the oldest that can be watched at this server is \
         {oldest}: ask another server, or read the keys and watch from the revision after that of \
         the answer"
    )]
    Compacted {
        /// What it wants next.
        next: u64,
        /// What it could have.
        oldest: u64,
    },
    /// A watch was complete so far, and is not served here any more.
    #[error(
        "{why}; the watch is complete through revision {complete}: resume it from revision {} at \
         another server", .complete + 1
    )]
    WatchEnded {
        /// Every event through here was sent.
        complete: u64,
        /// Why it ends.
        why: Failure,
    },
    /// The machine's answer is not what the service expects.
    #[error("the machine gave an answer that is none of {0}")]
    BadAnswer(&'static str),
}

fn cluster(id: &Option<ClusterId>) -> String {
    match id {
        Some(id) => format!("cluster {id}"),
        None => "no cluster yet".into(),
    }
}

/// Whether something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// It was not, and will not be.
    Failed,
    /// It may have been, or may still be.
    Unknown,
}

/// A gRPC status in parts, before it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) reason: &'static str,
    pub(super) metadata: HashMap<String, String>,
}

impl ApiError {
    /// The parts of the status, with the leader's addresses from `book`.
    pub(super) fn parts(&self, book: &AddressBook) -> Parts {
        let (code, reason, done) = self.classify();
        let outcome = match done {
            Done::Failed => "FAILED",
            Done::Unknown => "UNKNOWN",
        };
        let mut details = HashMap::from([(metadata::OUTCOME.into(), outcome.into())]);
        if let Self::Write(failure) | Self::Read(failure) | Self::Admin(failure) = self
            && let Failure::Refused(Refusal::NotLeader(leader)) = failure
        {
            name_leader(&mut details, *leader, book);
        }
        let revisions = match self {
            Self::Compacted { next, oldest } => [Some(next - 1), Some(*oldest)],
            Self::WatchEnded { complete, .. } => [Some(*complete), None],
            _ => [None, None],
        };
        let keys = [metadata::COMPLETE_REVISION, metadata::OLDEST_REVISION];
        for (key, revision) in keys.into_iter().zip(revisions) {
            details.extend(revision.map(|revision| (key.into(), revision.to_string())));
        }
        if let Self::Write(Failure::Refused(Refusal::SessionOf { mine, .. })) = self {
            details.insert(metadata::CLUSTER_ID.into(), mine.to_string());
        }
        if let Self::Write(Failure::Refused(Refusal::StateLimit { held, max })) = self {
            details.insert(metadata::STATE_BYTES.into(), held.to_string());
            details.insert(metadata::STATE_BYTES_MAX.into(), max.to_string());
        }
        if let Self::Read(Failure::Refused(Refusal::TooStale { age, limit })) = self {
            let milliseconds = |time: &Duration| time.as_millis().to_string();
            let limit = milliseconds(limit);
            details.insert(metadata::STALENESS_MILLISECONDS.into(), limit);
            let age = age.as_ref().map(milliseconds);
            details.extend(age.map(|age| (metadata::AGE_MILLISECONDS.into(), age)));
        }
        Parts {
            code,
            message: self.to_string(),
            reason,
            metadata: details,
        }
    }

    fn classify(&self) -> (Code, &'static str, Done) {
        use Done::{Failed, Unknown};
        match self {
            Self::Invalid { .. } => (Code::InvalidArgument, reason::INVALID, Failed),
            Self::TooLarge { .. } => (Code::InvalidArgument, reason::TOO_LARGE, Failed),
            Self::TooLate => (Code::DeadlineExceeded, reason::TOO_LATE, Failed),
            Self::WrongMachine(_) => (Code::FailedPrecondition, reason::WRONG_MACHINE, Failed),
            Self::WrongCluster { .. } => (Code::FailedPrecondition, reason::WRONG_CLUSTER, Failed),
            Self::BadContinuation { .. } => {
                (Code::InvalidArgument, reason::BAD_CONTINUATION, Failed)
            }
            Self::ContinuationOf { .. } => (Code::InvalidArgument, reason::WRONG_CLUSTER, Failed),
            Self::BadAnswer(_) => (Code::Internal, reason::REFUSED_BY_MACHINE, Unknown),
            Self::Compacted { .. } => (Code::OutOfRange, reason::COMPACTED, Failed),
            Self::WatchEnded { why, .. } => Self::Read(why.clone()).classify(),
            Self::Write(failure) | Self::Read(failure) | Self::Admin(failure) => match failure {
                Failure::Refused(refusal) => classify_refusal(refusal),
                Failure::Stopping => (Code::Unavailable, reason::STOPPING, Failed),
                Failure::TimedOut(_) | Failure::Ended(_) => match self {
                    Self::Write(_) => (Code::Unknown, reason::OUTCOME_UNKNOWN, Unknown),
                    // It changes nothing, so it has failed for good.
                    Self::Read(_) => (Code::DeadlineExceeded, reason::TIMED_OUT, Failed),
                    _ => (Code::DeadlineExceeded, reason::TIMED_OUT, Unknown),
                },
            },
        }
    }
}

fn classify_refusal(refusal: &Refusal) -> (Code, &'static str, Done) {
    use Code::{FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable};
    let (code, reason) = match refusal {
        Refusal::OutcomeUnknown | Refusal::ChangeUnfinished(_) => {
            return (Code::Unknown, reason::OUTCOME_UNKNOWN, Done::Unknown);
        }
        // Applied, and yet no answer: who asked cannot be told what it came to.
        Refusal::ReplyForgotten(_) => {
            return (Code::DataLoss, reason::REPLY_FORGOTTEN, Done::Unknown);
        }
        Refusal::Session(why) => match why {
            SessionRefusal::Expired(_) => (Code::NotFound, reason::SESSION_EXPIRED),
            SessionRefusal::AlreadyAcknowledged { .. } => {
                (Code::OutOfRange, reason::SEQUENCE_ALREADY_ACKNOWLEDGED)
            }
            SessionRefusal::WindowFull { .. } => (ResourceExhausted, reason::SESSION_WINDOW_FULL),
        },
        Refusal::SessionOf { .. } => (FailedPrecondition, reason::WRONG_CLUSTER),
        Refusal::NotLeader(_) => (FailedPrecondition, reason::NOT_LEADER),
        Refusal::NoLeader => (Unavailable, reason::NO_LEADER),
        Refusal::QuorumLost => (Unavailable, reason::QUORUM_LOST),
        Refusal::Transferring => (Unavailable, reason::TRANSFERRING),
        Refusal::DirtyReadDisabled => (FailedPrecondition, reason::DIRTY_READ_DISABLED),
        Refusal::TooStale { .. } => (Unavailable, reason::TOO_STALE),
        Refusal::Promised(_) => (FailedPrecondition, reason::PROMISED),
        Refusal::QueueFull { .. } => (ResourceExhausted, reason::QUEUE_FULL),
        Refusal::StateLimit { .. } => (ResourceExhausted, reason::STATE_LIMIT),
        Refusal::CommandTooLarge { .. } => (InvalidArgument, reason::TOO_LARGE),
        Refusal::NotActivated => (FailedPrecondition, reason::NOT_ACTIVATED),
        Refusal::NotAMember => (FailedPrecondition, reason::NOT_A_MEMBER),
        Refusal::RefusedByMachine(_) => (InvalidArgument, reason::REFUSED_BY_MACHINE),
        Refusal::WrongServer(_) => (FailedPrecondition, reason::WRONG_SERVER),
        Refusal::AlreadyBootstrapped(_) => (FailedPrecondition, reason::ALREADY_BOOTSTRAPPED),
        Refusal::Invalid(_) => (InvalidArgument, reason::INVALID),
        Refusal::NoCommit => (Unavailable, reason::NO_COMMIT),
        Refusal::UnstableConfig => (FailedPrecondition, reason::UNSTABLE_CONFIG),
        Refusal::StaleConfig { .. } => (FailedPrecondition, reason::STALE_CONFIG),
        Refusal::LastServer => (FailedPrecondition, reason::LAST_SERVER),
        Refusal::BelowMinMajority { .. } => (FailedPrecondition, reason::BELOW_MIN_MAJORITY),
        Refusal::NoQuorumAfterwards { .. } => (Unavailable, reason::NO_QUORUM_AFTERWARDS),
        Refusal::WrongRole { .. } => (FailedPrecondition, reason::WRONG_ROLE),
        Refusal::NotAVoter(_) => (FailedPrecondition, reason::NOT_A_VOTER),
        Refusal::HasLeader(_) => (FailedPrecondition, reason::HAS_LEADER),
        Refusal::TransferFailed => (Unavailable, reason::TRANSFER_FAILED),
        Refusal::UnsupportedVersion(_) => (FailedPrecondition, reason::UNSUPPORTED_VERSION),
        Refusal::Diverged(_) => (Unavailable, reason::DIVERGED),
        Refusal::Quarantined(_) => (Unavailable, reason::QUARANTINED),
    };
    (code, reason, Done::Failed)
}

fn name_leader(details: &mut HashMap<String, String>, leader: ServerId, book: &AddressBook) {
    let server = book.find(leader);
    details.insert(metadata::LEADER_ID.into(), leader.to_string());
    for (key, address) in [
        (metadata::LEADER_ADDRESS, server.client_address),
        (metadata::LEADER_PEER_ADDRESS, server.peer_address),
    ] {
        if !address.is_empty() {
            details.insert(key.into(), address);
        }
    }
}

/// The status of an error: code, message, and a `google.rpc.ErrorInfo`.
pub fn status(error: &ApiError, book: &AddressBook) -> Status {
    let parts = error.parts(book);
    let details = ErrorDetails::with_error_info(parts.reason, ERROR_DOMAIN, parts.metadata);
    Status::with_error_details(parts.code, parts.message, details)
}

#[cfg(test)]
mod tests;
