//! A server's way to a snapshot, and from there to the end of the log.
//!
//! A transfer is given up by what it achieves, not by signs of life: a receiver whose machine hangs
//! goes on answering heartbeats. What is given up is begun again after a pause that grows.

use std::time::Duration;

use crate::config::Config;
use crate::message::SnapshotId;
use crate::progress::{Flow, Progress};
use crate::types::Time;
use crate::view::PeerRefill;

/// Doublings of the pause between snapshots that a server refuses, or that stand still.
const PAUSE_DOUBLINGS_MAX: u32 = 5;

/// How far a server is on its way to a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refill {
    /// It waits: until this time after a failure, for its turn, or to be heard.
    Waiting(Time),
    /// This one is being sent.
    Sending(SnapshotId),
    /// It has acknowledged every byte of this one, and restores it.
    Restoring(SnapshotId),
}

/// What was delivered of the last snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivery {
    /// Bytes that were acknowledged. The leader keeps as much log for the server, if that is more than
    /// `log_kept_bytes_max`. Invariant: zero once the refill is over, so that it lifts that bound no more.
    pub(crate) bytes: u64,
    /// When these bytes, or what the server stores after the snapshot, last grew.
    moved: Time,
    /// Snapshots in a row that the server refused, or that stood still.
    failures: u32,
    /// Snapshots that were begun since the server last caught up by the log.
    attempts: u32,
}

impl Delivery {
    /// Whether what the server stores is of interest.
    pub(crate) fn is_open(&self) -> bool {
        self.attempts > 0 || self.bytes > 0
    }
}

impl Progress {
    /// What it needs next is compacted.
    pub(crate) fn on_compacted(&mut self) {
        self.restart(self.matched.next());
        self.flow = Flow::Refill(Refill::Waiting(Time(0)));
    }

    pub(crate) fn on_snapshot_started(&mut self, now: Time, id: SnapshotId) {
        self.delivery.bytes = 0;
        self.delivery.moved = now;
        self.delivery.attempts = self.delivery.attempts.saturating_add(1);
        self.flow = Flow::Refill(Refill::Sending(id));
    }

    /// It holds the snapshot up to this offset.
    pub(crate) fn on_snapshot_received(&mut self, now: Time, offset: u64) {
        if offset > self.delivery.bytes {
            self.delivery.bytes = offset;
            self.delivery.moved = now;
        }
    }

    /// It holds all of the snapshot.
    pub(crate) fn on_snapshot_delivered(&mut self, now: Time, id: SnapshotId) {
        if self.flow == Flow::Refill(Refill::Sending(id)) {
            self.delivery.moved = now;
            self.flow = Flow::Refill(Refill::Restoring(id));
        }
    }

    /// It refused the snapshot, or took no more of it: the next one is begun after a pause that grows.
    pub(crate) fn on_snapshot_failed(&mut self, now: Time, pause: Duration) {
        let doublings = self.delivery.failures.min(PAUSE_DOUBLINGS_MAX);
        self.delivery.failures += 1;
        self.flow = Flow::Refill(Refill::Waiting(now + pause * (1 << doublings)));
    }

    /// It needs a snapshot no more.
    pub(crate) fn on_refilled(&mut self) {
        self.delivery.failures = 0;
    }

    /// It holds more of the log than before, by its snapshot or by an append, and lacks so many bytes.
    pub(crate) fn on_refill_followed(
        &mut self,
        now: Time,
        is_append: bool,
        lacks: usize,
        config: &Config,
    ) {
        self.delivery.moved = now;
        if !self.is_refilled() && lacks <= config.log_kept_bytes_max {
            self.delivery.bytes = 0;
        }
        if is_append && lacks <= config.append_bytes_max {
            self.delivery.attempts = 0;
        }
    }

    /// Gives up what stands still: a transfer, and the log that is kept beyond `log_kept_bytes_max` for a
    /// server that has its snapshot and stores nothing after it.
    pub(crate) fn check_refill(&mut self, now: Time, config: &Config) {
        let stall_max = config.snapshot_stall_max.max(config.election_timeout_min);
        let still = now.since(self.delivery.moved);
        match self.flow {
            Flow::Refill(Refill::Sending(_)) if still >= stall_max => {
                self.on_snapshot_failed(now, config.snapshot_pause);
            }
            Flow::Refill(Refill::Restoring(_)) if still >= config.snapshot_restore_max => {
                self.on_snapshot_failed(now, config.snapshot_pause);
            }
            Flow::Refill(_) => {}
            Flow::Probe(_) | Flow::Replicate if still >= stall_max => self.delivery.bytes = 0,
            Flow::Probe(_) | Flow::Replicate => {}
        }
    }

    /// Whether it takes in a snapshot, or the log after one, and moves. Only for the first since it last
    /// caught up: a server that is refilled again and again stores nothing of the log itself.
    pub(crate) fn is_being_refilled(&self, now: Time, config: &Config) -> bool {
        let stall_max = config.snapshot_stall_max.max(config.election_timeout_min);
        (self.snapshot().is_some() || self.delivery.bytes > 0)
            && self.delivery.attempts <= 1
            && now.since(self.delivery.moved) < stall_max
    }

    /// Whether it lacks entries that are compacted.
    pub(crate) fn is_refilled(&self) -> bool {
        matches!(self.flow, Flow::Refill(_))
    }

    /// The snapshot that is being sent to it, or that it restores.
    pub(crate) fn snapshot(&self) -> Option<SnapshotId> {
        match self.flow {
            Flow::Refill(Refill::Sending(id) | Refill::Restoring(id)) => Some(id),
            _ => None,
        }
    }

    pub(crate) fn refill(&self) -> Option<PeerRefill> {
        self.is_refilled().then(|| PeerRefill {
            sending: self.snapshot(),
            delivered: self.delivery.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Index, LogId};

    fn id() -> SnapshotId {
        SnapshotId {
            number: 1,
            last: LogId::default(),
        }
    }

    #[test]
    fn a_refill_ends_with_what_reaches_the_log_and_outlives_a_connection() {
        let mut progress = Progress::new(Index(10));
        progress.on_accepted(Index(4), Index(0));
        progress.on_compacted();
        progress.on_snapshot_started(Time(0), id());
        progress.on_lost();
        progress.on_rejected(Index(5), Index(2));
        progress.on_accepted(Index(5), Index(20));
        assert_eq!(progress.snapshot(), Some(id()));
        progress.on_accepted(Index(20), Index(20));
        assert_eq!((progress.flow, progress.next), (Flow::Replicate, Index(21)));
    }

    #[test]
    fn once_what_comes_next_is_compacted_it_waits_for_a_snapshot() {
        let mut progress = Progress::new(Index(10));
        progress.on_accepted(Index(4), Index(0));
        progress.on_sent(Time(1), Index(12), 100);
        progress.on_compacted();
        assert_eq!(progress.flow, Flow::Refill(Refill::Waiting(Time(0))));
        assert_eq!((progress.next, progress.inflight()), (Index(5), 0));
        assert_eq!(progress.snapshot(), None);
        progress.on_sent(Time(2), Index(20), 100);
        assert_eq!((progress.next, progress.inflight()), (Index(5), 0));
    }

    #[test]
    fn the_pause_after_failures_grows_and_is_bounded() {
        let mut progress = Progress::new(Index(10));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            progress.on_snapshot_failed(Time(0), Duration::from_nanos(10));
            if let Flow::Refill(Refill::Waiting(until)) = progress.flow {
                pauses.push(until.0);
            }
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 320, 320]);
    }

    #[test]
    fn a_transfer_lives_for_as_long_as_bytes_arrive_and_longer_once_all_have() {
        let config = Config::default();
        let second = |seconds: u64| Time(seconds * 1_000_000_000);
        let mut progress = Progress::new(Index(10));
        progress.on_compacted();
        progress.on_snapshot_started(second(0), id());
        for at in 1..=10 {
            progress.on_snapshot_received(second(at * 29), at);
            // The same bytes again say nothing new.
            progress.on_snapshot_received(second(at * 29 + 20), at);
            progress.check_refill(second(at * 29 + 28), &config);
            assert_eq!(progress.snapshot(), Some(id()));
        }
        let mut silent = progress.clone();
        silent.check_refill(second(290 + 30), &config);
        assert_eq!(silent.snapshot(), None);
        progress.on_snapshot_delivered(second(290), id());
        progress.check_refill(second(290 + 599), &config);
        assert_eq!(progress.snapshot(), Some(id()));
        progress.check_refill(second(290 + 600), &config);
        assert_eq!(progress.snapshot(), None);
    }
}
