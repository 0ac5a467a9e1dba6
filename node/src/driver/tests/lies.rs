//! Messages of members that no honest server would send: they are dropped, or cost bounded memory.

use bytes::Bytes;
use kontiki_raft::{
    Append, AppendAck, AppendOutcome, Beat, ClusterId, Config, Configuration, EntryKind, Freshness,
    Heartbeat, HeartbeatAck, Index, LogId, Message, ReadIndex, ReadIndexReply, ServerId,
    SnapshotAck, SnapshotChunk, SnapshotId, SnapshotOutcome, Term, Time, TimeoutNow, Vote,
    VoteReply,
};

use super::world::World;
use crate::config::MachineKind;
use crate::driver::piece::{Header, seal};
use crate::driver::*;
use crate::entry;
use crate::host::{Done, Host, Job};
use crate::machine::{StateMachine, View};

pub(super) const ME: ServerId = ServerId(1);
const CLUSTER: ClusterId = ClusterId(7);

/// A voter of three, whose peers are the test.
pub(super) struct Lone {
    pub(super) driver: Driver<u64>,
    now: Time,
}

impl Lone {
    pub(super) fn of(raft: Config) -> Self {
        Self::with(raft, MachineKind::Counter.build())
    }

    /// The host of a machine on a thread is dropped: its jobs are never done.
    pub(super) fn with(raft: Config, machine: Box<dyn StateMachine>) -> Self {
        let config = DriverConfig {
            raft,
            ..crate::Config::default().driver(true)
        };
        let (driver, _) = Driver::new(ME, config, machine, Time(0));
        let mut lone = Self {
            driver,
            now: Time(0),
        };
        lone.turn(Input::Bootstrap {
            cluster: CLUSTER,
            voters: (1..=3).map(ServerId).collect(),
            reply: 0,
        });
        lone
    }

    pub(super) fn turn(&mut self, input: Input<u64>) -> Vec<Output<u64>> {
        let mut outputs = Vec::new();
        self.driver.turn(self.now, &mut vec![input], &mut outputs);
        outputs
    }

    pub(super) fn hear(&mut self, from: u64, message: Message, batch: Bytes) -> Vec<Output<u64>> {
        self.turn(said(ServerId(from), ME, message, batch))
    }

    fn term(&self) -> Term {
        self.driver.status().standing.term
    }
}

fn said(from: ServerId, to: ServerId, message: Message, batch: Bytes) -> Input<u64> {
    Input::Peer(Envelope {
        cluster: CLUSTER,
        from,
        to,
        message,
        batch,
        host: HostReport::default(),
    })
}

pub(super) fn id(term: u64, index: u64) -> LogId {
    LogId {
        term: Term(term),
        index: Index(index),
    }
}

/// One for each number in each kind of message: that one is `large`, the others are likely.
fn messages_with(large: u64) -> Vec<Message> {
    let pick = |at: usize, number: usize, likely: u64| if at == number { large } else { likely };
    let mut messages = Vec::new();
    for at in 0..7 {
        let n = |number, likely| pick(at, number, likely);
        let term = Term(n(0, 1));
        let last = id(n(1, 1), n(2, 1));
        let snapshot = SnapshotId {
            number: n(3, 1),
            last,
        };
        let accepted = AppendOutcome::Accepted(Index(n(1, 1)));
        let rejected = AppendOutcome::Rejected {
            prev: Index(n(3, 1)),
            hint: last,
        };
        let received = SnapshotOutcome::Received(n(4, 1));
        let fresh = Freshness {
            as_of: Time(1),
            index: Index(n(3, 1)),
        };
        let beat = Beat {
            sent: Time(1),
            lease: std::time::Duration::ZERO,
            fresh: Some(fresh),
        };
        // How many numbers each has.
        let kinds = [
            (
                3,
                Message::Vote(Vote {
                    term,
                    last,
                    pre: true,
                    forced: false,
                    released: None,
                }),
            ),
            (
                1,
                Message::VoteReply(VoteReply {
                    term,
                    granted: false,
                    pre: true,
                }),
            ),
            (
                5,
                Message::Append(Append {
                    term,
                    prev: last,
                    last: Index(n(3, 1)),
                    commit: Index(n(4, 1)),
                }),
            ),
            (
                2,
                Message::AppendAck(AppendAck {
                    term,
                    outcome: accepted,
                }),
            ),
            (
                4,
                Message::AppendAck(AppendAck {
                    term,
                    outcome: rejected,
                }),
            ),
            (
                4,
                Message::Heartbeat(Heartbeat {
                    term,
                    commit: Index(n(1, 1)),
                    round: n(2, 1),
                    beat: Some(beat),
                }),
            ),
            (
                2,
                Message::HeartbeatAck(HeartbeatAck {
                    term,
                    round: n(1, 1),
                    beat: None,
                }),
            ),
            (
                3,
                Message::TimeoutNow(TimeoutNow {
                    term,
                    last,
                    sent: Time(n(0, 1)),
                }),
            ),
            (1, Message::ReadIndex(ReadIndex { id: n(0, 1) })),
            (
                2,
                Message::ReadIndexReply(ReadIndexReply {
                    id: n(0, 1),
                    index: Some(Index(n(1, 1))),
                }),
            ),
            (
                5,
                Message::SnapshotChunk(SnapshotChunk {
                    term,
                    id: snapshot,
                    offset: n(4, 0),
                    is_end: false,
                }),
            ),
            (
                5,
                Message::SnapshotAck(SnapshotAck {
                    term,
                    id: snapshot,
                    outcome: received,
                }),
            ),
        ];
        let with_one = kinds.into_iter().filter(|(numbers, _)| at < *numbers);
        messages.extend(with_one.map(|(_, message)| message));
    }
    messages
}

#[test]
fn numbers_that_no_server_comes_to_are_dropped() {
    for large in [(1 << 62) + 1, u64::MAX] {
        let mut lone = Lone::of(Config::default());
        let messages = messages_with(large);
        assert_eq!(messages.len(), 37, "one for each number");
        for (at, message) in messages.into_iter().enumerate() {
            let shown = format!("{message:?}");
            let batch = match &message {
                Message::SnapshotChunk(_) => seal(b"piece"),
                _ => Bytes::new(),
            };
            let outputs = lone.hear(2, message, batch);
            let dropped = lone.driver.counters().dropped_malformed;
            assert_eq!(dropped, at as u64 + 1, "{shown}");
            let sent = outputs
                .iter()
                .any(|output| matches!(output, Output::Send(_)));
            assert!(!sent, "{shown} is answered");
        }
        assert_eq!(lone.term(), Term(1));
    }
}

#[test]
fn the_largest_number_that_is_taken_is_followed_by_others() {
    let mut lone = Lone::of(Config::default());
    let vote = Vote {
        term: Term(1 << 62),
        last: id(1, 1),
        pre: false,
        forced: true,
        released: None,
    };
    lone.hear(2, Message::Vote(vote), Bytes::new());
    assert_eq!(lone.term(), Term(1 << 62));
    // It campaigns in the next one, and nothing overflows.
    lone.turn(Input::TriggerElection { reply: 1 });
    assert_eq!(lone.term(), Term((1 << 62) + 1));
}

#[test]
fn a_tail_that_nobody_commits_is_stored_up_to_twice_the_bound_of_a_leader() {
    const BOUND: usize = 4 << 10;
    let mut lone = Lone::of(Config {
        uncommitted_bytes_max: BOUND,
        ..Config::default()
    });
    let append = |lone: &mut Lone, commit: Index| {
        let prev = lone.driver.status().last;
        let last = LogId {
            term: Term(2),
            index: prev.index.next(),
        };
        let mut batch = Vec::new();
        entry::encode(last, &EntryKind::Command, &[b'7'; 1 << 10], &mut batch);
        let append = Append {
            term: Term(2),
            prev,
            last: last.index,
            commit,
        };
        lone.hear(2, Message::Append(append), batch.into());
        lone.driver.status().last
    };
    for _ in 0..100 {
        append(&mut lone, Index(1));
    }
    let full = lone.driver.status();
    assert!(full.log_bytes > 2 * BOUND, "{} bytes", full.log_bytes);
    // The append that passed it is whole.
    assert!(
        full.log_bytes <= 2 * BOUND + (2 << 10),
        "{} bytes",
        full.log_bytes
    );
    // Once that is committed there is room again.
    append(&mut lone, full.last.index);
    let room = append(&mut lone, full.last.index);
    assert!(room > full.last, "{room:?} after {:?}", full.last);
}

#[test]
fn nobody_acknowledges_more_of_a_snapshot_than_it_was_sent() {
    let raft = Config {
        log_tail_bytes: 4 << 10,
        log_kept_bytes_max: 8 << 10,
        ..Config::default()
    };
    let mut world = World::with(raft, &[1..=1, 1..=1, 1..=1]);
    world.activate().expect("activated");
    let leader = world.lead();
    let lagging = if leader == ServerId(3) { 2 } else { 3 };
    world.cut = vec![ServerId(lagging)];
    for _ in 0..100 {
        world.write_bytes(1 << 10).expect("written without it");
    }
    world.cut.clear();
    let sending = |world: &World| {
        let raft = world.servers[&leader].driver.raft();
        raft.snapshot_for(ServerId(lagging))
    };
    world.until("a snapshot for it", |world| sending(world).is_some());
    let id = sending(&world).expect("just seen");
    let dropped = |world: &World| world.servers[&leader].driver.counters().dropped_malformed;
    assert_eq!(dropped(&world), 0);
    // As much of the log as it is said to have received would be kept for it.
    let ack = SnapshotAck {
        term: world.status(leader.0).standing.term,
        id,
        outcome: SnapshotOutcome::Received(1 << 40),
    };
    world.ask(leader, |_| {
        said(
            ServerId(lagging),
            leader,
            Message::SnapshotAck(ack),
            Bytes::new(),
        )
    });
    world.run(1);
    assert_eq!(dropped(&world), 1);
    for _ in 0..100 {
        world.write_bytes(1 << 10).expect("written");
    }
    let bytes = world.status(leader.0).log_bytes;
    assert!(bytes <= 24 << 10, "{bytes} bytes are kept");
}

/// All of a snapshot through `last`, in one piece.
fn snapshot(last: LogId) -> Bytes {
    let mut host = Host::new(MachineKind::Counter.build());
    let Done::Snapshot { mut view, .. } = host.run::<u64>(Job::Snapshot { to: ME }) else {
        unreachable!("a view is what was asked for");
    };
    let header = Header {
        last,
        configuration: (Index(1), Configuration::of((1..=3).map(ServerId))),
    };
    let mut whole = header.encode();
    while view.write(&mut whole, 4096) {}
    let checksum = crc32c::crc32c(&whole);
    whole.extend(checksum.to_le_bytes());
    seal(&whole)
}

#[test]
fn who_restored_what_its_own_log_contradicts_is_quarantined() {
    let mut lone = Lone::of(Config::default());
    let last = id(2, 50);
    let chunk = SnapshotChunk {
        term: Term(2),
        id: SnapshotId { number: 1, last },
        offset: 0,
        is_end: true,
    };
    let outputs = lone.hear(2, Message::SnapshotChunk(chunk), snapshot(last));
    let away = outputs.into_iter().find_map(|output| match output {
        Output::Away(host, job) => Some((host, job)),
        _ => None,
    });
    let (mut host, job) = away.expect("the whole is restored elsewhere");
    // Meanwhile those that committed it, as they said, elect this server, which lacks it.
    lone.turn(Input::TriggerElection { reply: 1 });
    let reply = VoteReply {
        term: lone.term(),
        granted: true,
        pre: false,
    };
    lone.hear(3, Message::VoteReply(reply), Bytes::new());
    assert!(lone.driver.status().serving, "it leads");
    let done = host.run(job);
    lone.turn(Input::Back(host, done));
    let why = lone.driver.status().quarantine.expect("in quarantine");
    assert!(why.to_string().contains("contradicts"), "{why}");
}
