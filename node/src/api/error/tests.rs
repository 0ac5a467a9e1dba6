//! Each refusal has its code, reason and outcome.

use std::time::Duration;

use kontiki_raft::{Index, LogId, MemberRole};

use super::*;
use crate::address_book::ServerRef;
use crate::host::SessionId;

fn book() -> AddressBook {
    let book = AddressBook::new(ServerRef::unknown(ServerId(1)), 16);
    book.learn(ServerRef {
        id: ServerId(2),
        name: "two".into(),
        peer_address: "two:7401".into(),
        client_address: "two:7400".into(),
    });
    book
}

fn seen(error: &ApiError) -> (Code, String, String) {
    let status = status(error, &book());
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has its detail");
    assert_eq!(info.domain, ERROR_DOMAIN);
    let outcome = info.metadata.get(metadata::OUTCOME).expect("an outcome");
    (status.code(), info.reason.clone(), outcome.clone())
}

#[test]
fn every_refusal_of_a_write() {
    use Code::{FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable};
    let (id, index) = (ServerId(2), Index(1));
    let state_limit = Refusal::StateLimit { held: 9, max: 8 };
    let too_large = Refusal::CommandTooLarge {
        bytes: 9,
        server: id,
        max: 8,
    };
    let queue_full = Refusal::QueueFull {
        what: "queue",
        max: 1,
    };
    let (sequence, acknowledged, window_max) = (1, 2, 3);
    let expired = SessionRefusal::Expired(SessionId(1));
    let backwards = SessionRefusal::AlreadyAcknowledged {
        sequence,
        acknowledged,
    };
    let full = SessionRefusal::WindowFull {
        sequence,
        acknowledged,
        window_max,
    };
    let stale = Refusal::StaleConfig {
        in_force: index,
        seen: index,
    };
    let below = Refusal::BelowMinMajority {
        left: 1,
        min_majority: 2,
    };
    let no_quorum = Refusal::NoQuorumAfterwards {
        voters: 2,
        needed: 2,
        missing: vec![id],
    };
    let wrong_role = Refusal::WrongRole {
        server: id,
        role: MemberRole::Learner,
        named_as: "the voter to replace",
    };
    for (refusal, code, reason) in [
        (Refusal::NotLeader(id), FailedPrecondition, "NOT_LEADER"),
        (Refusal::NoLeader, Unavailable, "NO_LEADER"),
        (Refusal::QuorumLost, Unavailable, "QUORUM_LOST"),
        (Refusal::Transferring, Unavailable, "TRANSFERRING"),
        (expired.into(), Code::NotFound, "SESSION_EXPIRED"),
        (
            backwards.into(),
            Code::OutOfRange,
            "SEQUENCE_ALREADY_ACKNOWLEDGED",
        ),
        (full.into(), ResourceExhausted, "SESSION_WINDOW_FULL"),
        (queue_full, ResourceExhausted, "QUEUE_FULL"),
        (state_limit, ResourceExhausted, "STATE_LIMIT"),
        (too_large, InvalidArgument, "TOO_LARGE"),
        (Refusal::NotActivated, FailedPrecondition, "NOT_ACTIVATED"),
        (Refusal::NotAMember, FailedPrecondition, "NOT_A_MEMBER"),
        (
            Refusal::RefusedByMachine("no".into()),
            InvalidArgument,
            "REFUSED_BY_MACHINE",
        ),
        (Refusal::WrongServer(id), FailedPrecondition, "WRONG_SERVER"),
        (
            Refusal::AlreadyBootstrapped(ClusterId(3)),
            FailedPrecondition,
            "ALREADY_BOOTSTRAPPED",
        ),
        (Refusal::Invalid("no".into()), InvalidArgument, "INVALID"),
        (Refusal::NoCommit, Unavailable, "NO_COMMIT"),
        (
            Refusal::UnstableConfig,
            FailedPrecondition,
            "UNSTABLE_CONFIG",
        ),
        (stale, FailedPrecondition, "STALE_CONFIG"),
        (Refusal::LastServer, FailedPrecondition, "LAST_SERVER"),
        (below, FailedPrecondition, "BELOW_MIN_MAJORITY"),
        (no_quorum, Unavailable, "NO_QUORUM_AFTERWARDS"),
        (wrong_role, FailedPrecondition, "WRONG_ROLE"),
        (Refusal::NotAVoter(id), FailedPrecondition, "NOT_A_VOTER"),
        (Refusal::HasLeader(id), FailedPrecondition, "HAS_LEADER"),
        (Refusal::TransferFailed, Unavailable, "TRANSFER_FAILED"),
        (
            Refusal::UnsupportedVersion("no".into()),
            FailedPrecondition,
            "UNSUPPORTED_VERSION",
        ),
        (Refusal::Diverged("no".into()), Unavailable, "DIVERGED"),
        (
            Refusal::Quarantined("no".into()),
            Unavailable,
            "QUARANTINED",
        ),
        (
            Refusal::DirtyReadDisabled,
            FailedPrecondition,
            "DIRTY_READ_DISABLED",
        ),
    ] {
        let expected = (code, reason.into(), "FAILED".into());
        assert_eq!(seen(&ApiError::Write(Failure::Refused(refusal))), expected);
    }
    let unknown = (Code::Unknown, "OUTCOME_UNKNOWN".into(), "UNKNOWN".into());
    let unfinished = Refusal::ChangeUnfinished(Duration::from_secs(60));
    for refusal in [Refusal::OutcomeUnknown, unfinished] {
        let error = ApiError::Write(Failure::Refused(refusal));
        assert_eq!(seen(&error), unknown);
    }
    let forgotten = Failure::Refused(Refusal::ReplyForgotten(LogId::default()));
    let lost = (Code::DataLoss, "REPLY_FORGOTTEN".into(), "UNKNOWN".into());
    assert_eq!(seen(&ApiError::Write(forgotten)), lost);
}

#[test]
fn a_wait_that_ends_leaves_a_write_unknown_and_a_read_failed() {
    for failure in [
        Failure::TimedOut(Duration::from_secs(1)),
        Failure::Ended(Some("told to".into())),
    ] {
        let write = ApiError::Write(failure.clone());
        let unknown = (Code::Unknown, "OUTCOME_UNKNOWN".into(), "UNKNOWN".into());
        assert_eq!(seen(&write), unknown);
        let read = ApiError::Read(failure.clone());
        let failed = (Code::DeadlineExceeded, "TIMED_OUT".into(), "FAILED".into());
        assert_eq!(seen(&read), failed);
        let open = (Code::DeadlineExceeded, "TIMED_OUT".into(), "UNKNOWN".into());
        assert_eq!(seen(&ApiError::Admin(failure)), open);
    }
}

#[test]
fn what_is_refused_at_the_door() {
    let invalid = ApiError::Invalid {
        field: "key",
        problem: "is empty".into(),
        right: "1 to 4096 bytes".into(),
    };
    let too_large = ApiError::TooLarge {
        field: "command",
        length: 2,
        max: 1,
    };
    let foreign = ApiError::WrongCluster {
        mine: None,
        asked: ClusterId(7),
    };
    let bad_token = ApiError::BadContinuation { problem: "no" };
    let foreign_token = ApiError::ContinuationOf {
        mine: ClusterId(6),
        theirs: ClusterId(7),
    };
    for (error, code, reason) in [
        (invalid, Code::InvalidArgument, "INVALID"),
        (bad_token, Code::InvalidArgument, "BAD_CONTINUATION"),
        (foreign_token, Code::InvalidArgument, "WRONG_CLUSTER"),
        (too_large, Code::InvalidArgument, "TOO_LARGE"),
        (foreign, Code::FailedPrecondition, "WRONG_CLUSTER"),
        (ApiError::TooLate, Code::DeadlineExceeded, "TOO_LATE"),
        (
            ApiError::WrongMachine("counter"),
            Code::FailedPrecondition,
            "WRONG_MACHINE",
        ),
        (
            ApiError::Write(Failure::Stopping),
            Code::Unavailable,
            "STOPPING",
        ),
    ] {
        assert_eq!(seen(&error), (code, reason.into(), "FAILED".into()));
    }
}

#[test]
fn a_redirect_names_the_leader_and_its_addresses() {
    let refusal = Failure::Refused(Refusal::NotLeader(ServerId(2)));
    let parts = ApiError::Write(refusal).parts(&book());
    for (key, value) in [
        (metadata::LEADER_ID, "0000000000000002"),
        (metadata::LEADER_ADDRESS, "two:7400"),
        (metadata::LEADER_PEER_ADDRESS, "two:7401"),
    ] {
        assert_eq!(parts.metadata.get(key).map(String::as_str), Some(value));
    }
}
