//! Reads under a lease: thesis 6.4.1.

use std::time::Duration;

use kontiki_raft::{
    Beat, BeatAck, CLOCK_DRIFT_PPM_MAX, Config, Heartbeat, HeartbeatAck, Index, Message, ReadId,
    Refused, Role, ServerId, Term, Time,
};

use crate::harness::*;

/// A regular heartbeat, sent at this time by the leader's clock, that asks for a promise.
fn beat(term: u64, sent: Time, lease: u64) -> Message {
    Message::Heartbeat(Heartbeat {
        term: Term(term),
        commit: Index(0),
        round: 1,
        beat: Some(Beat {
            sent,
            lease: Duration::from_millis(lease),
            fresh: None,
        }),
    })
}

/// An answer to it.
fn promised(term: u64, sent: Time, promise: u64) -> Message {
    Message::HeartbeatAck(HeartbeatAck {
        term: Term(term),
        round: 0,
        beat: Some(BeatAck {
            sent,
            at: sent,
            promise: Duration::from_millis(promise),
        }),
    })
}

/// Of what was sent, what the regular heartbeats ask to be promised, in milliseconds.
fn leases(sent: &Sent) -> Vec<(u64, u64)> {
    let lease = |(to, message): &(u64, Message)| match message {
        Message::Heartbeat(heartbeat) => Some((*to, heartbeat.beat?.lease.as_millis() as u64)),
        _ => None,
    };
    sent.iter().filter_map(lease).collect()
}

/// The leader of term 2 of three, at 100 ms, which has committed its no-op, and has just sent the
/// heartbeats that ask for promises.
fn leader() -> (Subject, Time) {
    let mut leader = Subject::leading(3);
    leader.turn(|raft, _| raft.set_lease_reads(true));
    leader.hear(2, accepted(2, 2));
    leader.hear(3, accepted(2, 2));
    leader.pass(100);
    let sent = leader.now;
    (leader, sent)
}

/// Reads under a lease; whether that was answered at once.
fn is_leased(leader: &mut Subject, id: u64) -> bool {
    leader.turn(|raft, now| raft.read_leased(now, ReadId(id)).expect("it serves"));
    leader.reads.last() == Some(&(id, Some(2)))
}

/// A follower of 2 in term 2 that has promised it its vote for 500 ms.
fn promiser() -> Subject {
    let mut voter = Subject::of(3);
    voter.turn(|raft, _| raft.set_lease_reads(true));
    voter.append(2, 2, at(1, 1), &[2], 1);
    let sent = Time(77);
    let answer = voter.hear(2, beat(2, sent, 500));
    let [(2, Message::HeartbeatAck(ack))] = answer[..] else {
        panic!("{answer:?}")
    };
    let beat = ack.beat.expect("an answer");
    assert_eq!((beat.sent, beat.promise.as_millis()), (sent, 500));
    voter
}

/// The leader answers without a round once a majority has acknowledged a heartbeat; departure: it
/// counts what they promise explicitly.
#[test]
fn thesis_6_4_1_a_lease_is_a_quorum_of_promises() {
    let (mut leader, sent) = leader();
    leader.hear(2, promised(2, sent, 0));
    leader.hear(9, promised(2, sent, 500)); // a stranger
    leader.hear(3, promised(1, sent, 500)); // of an old term
    assert!(!is_leased(&mut leader, 1));
    leader.hear(3, promised(2, sent, 500));
    assert!(is_leased(&mut leader, 2));
}

/// The lease counts from when the heartbeat was sent, and is shorter than the promise by the bound on
/// the drift of the two clocks.
#[test]
fn thesis_6_4_1_the_lease_counts_from_the_sending_less_the_drift() {
    let (mut leader, sent) = leader();
    leader.pass(300);
    leader.hear(2, promised(2, sent, 500));
    let drift = CLOCK_DRIFT_PPM_MAX as f64 / 1e6;
    let lease = 500.0 * (1.0 - drift) / (1.0 + drift);
    leader.pass(lease as u64 - 300);
    assert!(is_leased(&mut leader, 1));
    leader.pass(1);
    assert!(!is_leased(&mut leader, 2));
    assert_eq!(leader.now.since(sent).as_millis(), lease as u128 + 1);
    // One that claims to answer what is still to be sent.
    let future = leader.now + Duration::from_secs(1);
    leader.hear(2, promised(2, future, 500));
    assert!(!is_leased(&mut leader, 3));
}

/// No lease read before an entry of the term is committed, as in 6.4.
#[test]
fn thesis_6_4_1_a_lease_read_waits_for_a_commit_of_the_term() {
    let mut leader = Subject::leading(3);
    leader.turn(|raft, _| raft.set_lease_reads(true));
    leader.pass(100);
    let sent = leader.now;
    leader.hear(2, promised(2, sent, 500));
    assert!(leader.raft.holds_lease(leader.now));
    assert!(!is_leased(&mut leader, 1));
}

/// A follower starts no election, and grants no vote, while its promise holds; whatever the request says
/// (of a transfer that its leader did not begin, or `trigger_election`), and although the leader's
/// process seems to be gone.
#[test]
fn thesis_6_4_1_a_promise_is_kept_against_every_request() {
    let mut voter = promiser();
    voter.turn(|raft, now| raft.disconnected(now, ServerId(2), true));
    let far = at(9, 2);
    assert_eq!(voter.hear(3, pre_vote(3, far)), [(3, pre_refused(2))]);
    assert_eq!(voter.hear(3, vote(3, far)), [(3, refused(2))]);
    assert_eq!(voter.hear(3, forced(vote(3, far))), [(3, refused(2))]);
    let old = released(forced(vote(3, far)), 1);
    assert_eq!(voter.hear(3, old), [(3, refused(2))]);
    voter.turn(|raft, now| {
        let refused = raft.trigger_election(now);
        assert!(matches!(refused, Err(Refused::Promised(_))), "{refused:?}");
    });
    voter.pass(499);
    assert_eq!(voter.is(), (Role::Follower, 2), "suspicious, and bound");
    assert_eq!(voter.hear(3, forced(vote(3, far))), [(3, refused(2))]);
    voter.pass(1);
    assert_eq!(voter.hear(3, forced(vote(3, far))), [(3, granted(3))]);
}

/// Transfers need care: the leader itself may release its voters, by telling one of them to campaign.
/// After that it must not answer under its lease.
#[test]
fn thesis_6_4_1_a_leader_that_hands_over_gives_its_lease_up() {
    let mut voter = promiser();
    let asked = released(forced(vote(3, at(9, 2))), 2);
    assert_eq!(voter.hear(3, asked), [(3, granted(3))]);
    let mut target = promiser();
    target.hear(2, timeout_now(2, at(2, 2)));
    target.hear(3, pre_granted(3));
    assert_eq!(target.is(), (Role::Candidate, 3));

    let (mut leader, sent) = leader();
    leader.hear(2, promised(2, sent, 500));
    assert!(is_leased(&mut leader, 1));
    leader.turn(|raft, now| raft.transfer(now, Some(ServerId(2))).expect("begun"));
    assert!(!is_leased(&mut leader, 2));
    let sent = leader.pass(100);
    assert_eq!(leases(&sent), [(2, 0), (3, 0)], "nor asks for another");
}

/// The leader that was promised a vote may have it.
#[test]
fn thesis_6_4_1_a_promise_does_not_bind_against_the_leader_itself() {
    let mut voter = promiser();
    assert_eq!(voter.hear(2, forced(vote(3, at(2, 2)))), [(2, granted(3))]);
}

/// A voter promises no longer than its own election timeout, and nothing while the log says that leases
/// are off.
#[test]
fn thesis_6_4_1_a_promise_is_bounded_by_the_voters_own_timeout() {
    let promise = |voter: &mut Subject| {
        let sent = voter.hear(2, beat(2, Time(7), 60_000));
        let [(_, Message::HeartbeatAck(ack))] = sent[..] else {
            panic!("{sent:?}")
        };
        ack.beat.expect("an answer").promise
    };
    let mut voter = Subject::of(3);
    voter.append(2, 2, at(1, 1), &[2], 1);
    assert!(promise(&mut voter).is_zero());
    voter.turn(|raft, _| raft.set_lease_reads(true));
    let min = Config::default().election_timeout_min;
    assert_eq!(promise(&mut voter), min);
    let answer = voter.hear(2, beat(1, Time(7), 60_000));
    assert_eq!(answer, [(2, heard(2, 0))], "of an old term");
}

/// Caveat of the thesis: a restart. Here a server that comes back with its vote, and so with what it may
/// have promised, holds it for the longest election timeout.
#[test]
fn thesis_6_4_1_a_server_that_came_back_with_its_vote_holds_it() {
    let mut voter = Subject::of(3);
    voter.turn(|raft, now| raft.hold_votes(now));
    voter.turn(|raft, now| assert!(raft.trigger_election(now).is_err()));
    assert_eq!(voter.hear(3, forced(vote(9, at(9, 2)))), [(3, refused(1))]);
    voter.pass(Config::default().election_timeout_max.as_millis() as u64 - 1);
    assert_eq!(voter.is(), (Role::Follower, 1));
    assert_eq!(voter.hear(3, forced(vote(9, at(9, 2)))), [(3, refused(1))]);
    voter.pass(1);
    assert_eq!(voter.hear(3, forced(vote(9, at(9, 2)))), [(3, granted(9))]);
}
