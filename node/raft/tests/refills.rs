//! What a refill costs the leader once it is over, and what a receiver that takes nothing costs the others.

use std::time::Duration;

use kontiki_raft::*;

/// Bytes of every entry that the tests propose.
const ENTRY: u32 = 10;
const TAIL: usize = 80;
const KEPT_MAX: usize = 400;

/// A leader, server 1, whose peers are played by the test.
struct Leader {
    raft: Raft,
    now: Time,
    outputs: Vec<Output>,
}

impl Leader {
    /// It leads `voters`, of which 2 has stored everything, and has compacted its log.
    fn of(voters: &[u64], snapshots_max: usize) -> Self {
        let config = Config {
            log_tail_bytes: TAIL,
            log_tail_entries_min: 1,
            log_kept_bytes_max: KEPT_MAX,
            snapshots_max,
            ..Config::default()
        };
        let now = Time(1_000_000_000);
        let mut leader = Self {
            raft: Raft::new(ServerId(1), config, now),
            now,
            outputs: Vec::new(),
        };
        let configuration = Configuration::of(voters.iter().copied().map(ServerId));
        leader.raft.bootstrap(now, configuration);
        leader.follow_log();
        leader.raft.trigger_election(now).expect("a voter");
        leader.follow_log();
        let term = leader.raft.term();
        for voter in &voters[1..] {
            let (granted, pre) = (true, false);
            leader.hear(*voter, Message::VoteReply(VoteReply { term, granted, pre }));
        }
        assert_eq!(leader.raft.role(), Role::Leader);
        leader.turn();
        leader.write(100);
        leader.compact();
        leader
    }

    fn follow_log(&mut self) {
        loop {
            let changes = self.raft.take_log_changes();
            let (last, generation) = (self.raft.last(), self.raft.generation());
            self.raft.persisted(self.now, last, generation);
            if changes.is_empty() {
                break;
            }
        }
    }

    fn turn(&mut self) {
        self.raft.tick(self.now);
        self.follow_log();
        self.outputs.clear();
        self.raft.finish(self.now, &mut self.outputs);
    }

    fn hear(&mut self, from: u64, message: Message) {
        self.raft.receive(self.now, ServerId(from), message, &[]);
        self.follow_log();
    }

    /// `from` answers a heartbeat.
    fn beat(&mut self, from: u64) {
        let term = self.raft.term();
        let (round, beat) = (0, None);
        self.hear(
            from,
            Message::HeartbeatAck(HeartbeatAck { term, round, beat }),
        );
    }

    /// `from` stores the log through `index`.
    fn holds(&mut self, from: u64, index: Index) {
        let (term, outcome) = (self.raft.term(), AppendOutcome::Accepted(index));
        self.hear(from, Message::AppendAck(AppendAck { term, outcome }));
    }

    fn receives(&mut self, from: u64, id: SnapshotId, outcome: SnapshotOutcome) {
        let term = self.raft.term();
        self.hear(
            from,
            Message::SnapshotAck(SnapshotAck { term, id, outcome }),
        );
    }

    /// So many entries more, which 2 stores.
    fn write(&mut self, count: usize) {
        for _ in 0..count {
            let entry = [(EntryKind::Command, ENTRY)];
            self.raft.propose(self.now, entry).expect("it leads");
            self.follow_log();
            self.holds(2, self.raft.last().index);
        }
    }

    fn compact(&mut self) {
        let through = self.raft.compactable(self.now, self.raft.commit());
        self.raft.compact(through);
    }

    /// Bytes of log that compaction leaves.
    fn kept(&mut self) -> usize {
        self.compact();
        (self.raft.last().index.0 + 1 - self.raft.first().0) as usize * ENTRY as usize
    }

    /// Begins the snapshots that the last turn asked for; to whom.
    fn start_snapshots(&mut self) -> Vec<(u64, SnapshotId)> {
        let last = self.raft.id_at(self.raft.commit()).expect("held");
        let mut started = Vec::new();
        for output in std::mem::take(&mut self.outputs) {
            if let Output::StartSnapshot { to } = output {
                let id = self.raft.snapshot_started(self.now, to, last);
                let id = id.expect("asked for");
                started.push((to.0, id));
            }
        }
        started
    }

    /// A heartbeat's time passes, and all of `servers` answer one.
    fn pass(&mut self, servers: &[u64]) {
        self.now = self.now + Duration::from_millis(100);
        for server in servers {
            self.beat(*server);
        }
        self.turn();
    }

    /// The snapshot that 3 is sent once it is heard.
    fn refill_3(&mut self) -> SnapshotId {
        self.beat(3);
        self.turn();
        self.turn();
        let started = self.start_snapshots();
        assert_eq!(started.len(), 1, "{started:?}");
        assert_eq!(started[0].0, 3);
        started[0].1
    }
}

/// Everything that the leader appended while the snapshot travelled is kept until 3 has caught up with it;
/// what 3 does not store afterwards is kept up to `log_kept_bytes_max` and no further.
#[test]
fn h4_a_refill_that_is_over_lifts_the_bound_of_the_log_no_more() {
    let mut leader = Leader::of(&[1, 2, 3], 1);
    let id = leader.refill_3();
    leader.receives(3, id, SnapshotOutcome::Received(50_000));
    leader.write(2000);
    assert!(leader.kept() >= 20_000, "it follows the snapshot");
    leader.holds(3, id.last.index);
    assert!(leader.kept() >= 20_000, "it has not caught up");
    leader.holds(3, leader.raft.last().index);
    assert!(leader.kept() <= TAIL + TAIL / 8, "it has caught up");
    // From here on 3 answers heartbeats and stores nothing.
    let mut most = 0;
    for _ in 0..500 {
        leader.write(10);
        leader.beat(3);
        most = most.max(leader.kept());
    }
    let bound = KEPT_MAX + TAIL + TAIL / 8;
    assert!(
        most > TAIL + TAIL / 8,
        "the log is kept for a server that lags"
    );
    assert!(
        most <= bound,
        "{most} bytes of log are kept, of at most {bound}"
    );
}

/// A server that took its snapshot and then stores too little lifts the bound for as long as it stores
/// something in the time in which a transfer must move.
#[test]
fn h4_a_server_that_stores_nothing_after_its_snapshot_is_given_up() {
    let mut leader = Leader::of(&[1, 2, 3], 1);
    let id = leader.refill_3();
    leader.receives(3, id, SnapshotOutcome::Received(50_000));
    leader.write(2000);
    leader.holds(3, id.last.index);
    let mut stored = id.last.index;
    for _ in 0..10 {
        for _ in 0..290 {
            leader.pass(&[2, 3]);
        }
        stored = stored.next();
        leader.holds(3, stored);
        assert!(leader.kept() >= 19_000, "it moves, however slowly");
    }
    for _ in 0..300 {
        leader.pass(&[2, 3]);
    }
    assert!(leader.kept() <= TAIL + TAIL / 8, "it stands still");
}

impl Leader {
    /// Learners that lack what is compacted, all heard.
    fn add(&mut self, learners: &[u64]) {
        let add = learners.iter().map(|id| (ServerId(*id), Purpose::Stay));
        let change = ChangeRequest {
            add: add.collect(),
            ..ChangeRequest::default()
        };
        self.raft.change(self.now, &change).expect("it leads");
        self.follow_log();
        self.holds(2, self.raft.last().index);
        self.write(100);
        self.compact();
    }

    /// So many heartbeats pass, which `servers` answer; how often each was sent a snapshot.
    fn count_snapshots(&mut self, heartbeats: u64, servers: &[u64]) -> Vec<u64> {
        let mut counts = vec![0; servers.len()];
        for _ in 0..heartbeats {
            self.pass(servers);
            for (to, _) in self.start_snapshots() {
                let at = servers.iter().position(|server| *server == to);
                counts[at.expect("one of these")] += 1;
            }
        }
        counts
    }
}

/// A receiver whose machine hangs answers every heartbeat and takes no piece.
#[test]
fn h6_a_receiver_that_takes_nothing_gives_its_place_up() {
    let mut leader = Leader::of(&[1, 2, 3], 1);
    leader.add(&[4]);
    let hour = leader.count_snapshots(36_000, &[2, 3, 4]);
    assert_eq!(hour[0], 0);
    // One place: each has it for 30 s, and both in turn.
    for count in &hour[1..] {
        assert!((50..=60).contains(count), "{hour:?}");
    }
    let mut alone = Leader::of(&[1, 2, 3], 1);
    let hour = alone.count_snapshots(36_000, &[2, 3]);
    // 30 s and a pause of 32 s in the end.
    assert!((56..=62).contains(&hour[1]), "{hour:?}");
}

/// Two hang while they restore, and both places are free for others.
#[test]
fn h6_receivers_that_hang_while_they_restore_starve_nobody() {
    let mut leader = Leader::of(&[1, 2, 3], 2);
    leader.add(&[4, 5]);
    leader.beat(3);
    leader.beat(4);
    leader.turn();
    leader.turn();
    let begun = leader.start_snapshots();
    assert_eq!(begun.len(), 2, "{begun:?}");
    for (to, id) in &begun {
        leader.receives(*to, *id, SnapshotOutcome::Received(1000));
        leader
            .raft
            .snapshot_delivered(leader.now, ServerId(*to), *id);
    }
    let minute = leader.count_snapshots(600, &[2, 3, 4, 5]);
    assert!(minute[3] > 0, "{minute:?}");
    assert_eq!(minute[1..3], [0, 0], "they still have time to restore");
    let hour = leader.count_snapshots(36_000, &[2, 3, 4, 5]);
    assert!(hour[1..].iter().all(|count| *count > 1), "{hour:?}");
}
