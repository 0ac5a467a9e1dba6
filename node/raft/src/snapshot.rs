//! Compaction and snapshots: paper section 7, thesis chapter 5.
//!
//! The log is compacted by size. A server that lacks what is compacted gets a snapshot of the
//! leader's state instead. The engine decides who gets one and when, keeps the log that follows it
//! until the server has caught up, and takes over what a snapshot says of the log; taking,
//! encoding, cutting and assembling it is the driver's.

use crate::configuration::Configuration;
use crate::log::LogChange;
use crate::message::{Message, SnapshotAck, SnapshotChunk, SnapshotId, SnapshotOutcome};
use crate::output::Output;
use crate::progress::{Flow, Progress, Refill};
use crate::raft::{Raft, State};
use crate::types::{Index, LogId, ServerId, Time};
use crate::view::PeerRefill;

impl Raft {
    // --- compaction ---------------------------------------------------------------------------

    /// How far the log should be compacted, given that the state covers it through `applied`; the
    /// entry before [`Raft::first`] if it should not be.
    ///
    /// A tail of `log_tail_bytes` is kept; compaction waits until an eighth more has gathered. For
    /// a server that is heard and lags, or receives a snapshot, more is kept: the larger of
    /// `log_kept_bytes_max` and what it has received of its snapshot. So a snapshot is given up
    /// only if the log grows faster than it is delivered, and once delivered it is followed by the
    /// log, not by another snapshot (hashicorp/raft #212).
    pub fn compactable(&self, now: Time, applied: Index) -> Index {
        let (base, last) = (self.log.base().index, self.log.last().index);
        let tail = self.config.log_tail_bytes;
        if self.log.bytes(base, last) <= tail + tail / 8 {
            return base;
        }
        let wanted = self
            .log
            .before_tail(tail, self.config.log_tail_entries_min)
            .min(applied)
            .min(self.commit)
            .min(self.persisted);
        let State::Leader(leader) = &self.state else {
            return wanted.max(base);
        };
        let timeout = self.config.election_timeout_min;
        let kept = leader.progress.values().filter_map(|progress| {
            let is_heard = progress
                .heard
                .is_some_and(|heard| now.since(heard) < timeout);
            let needed = match progress.sending() {
                Some(id) => id.last.index,
                None if is_heard && progress.matched >= base => progress.matched,
                None => return None,
            };
            let bound = self.config.log_kept_bytes_max as u64;
            let is_bounded = self.log.bytes(needed, last) as u64 <= bound.max(progress.delivered);
            is_bounded.then_some(needed)
        });
        kept.fold(wanted, Index::min).max(base)
    }

    /// Drops the log up to `through`, which the state covers. Servers that receive a snapshot which
    /// is older than that will need a fresh one.
    ///
    /// Panics if `through` is not committed and persistent, or not held.
    pub fn compact(&mut self, through: Index) {
        assert!(
            through <= self.commit && through <= self.persisted,
            "only what is committed is compacted"
        );
        self.log.compact(through);
        if let State::Leader(leader) = &mut self.state {
            let outrun = |progress: &&mut Progress| {
                progress.sending().is_some_and(|id| id.last.index < through)
            };
            leader
                .progress
                .values_mut()
                .filter(outrun)
                .for_each(Progress::on_compacted);
        }
    }

    // --- leader -------------------------------------------------------------------------------

    /// Asks for snapshots for those who need one and are heard, a few at a time. Answers when to
    /// look again.
    pub(crate) fn start_snapshots(&mut self, now: Time) -> Time {
        let base = self.log.base().index;
        let (max, timeout) = (self.config.snapshots_max, self.config.election_timeout_min);
        let State::Leader(leader) = &mut self.state else {
            return Time::NEVER;
        };
        let mut due = Time::NEVER;
        let sending = leader.progress.values().filter_map(Progress::sending);
        let mut room = max.saturating_sub(sending.count());
        for (server, progress) in &mut leader.progress {
            let is_refilled = matches!(progress.flow, Flow::Refill(_));
            if !is_refilled && progress.next.previous() < base {
                progress.on_compacted();
            }
            let Flow::Refill(Refill::Waiting(until)) = progress.flow else {
                continue;
            };
            let is_heard = progress
                .heard
                .is_some_and(|heard| now.since(heard) < timeout);
            if now < until {
                due = due.min(until);
            } else if room > 0 && is_heard && progress.reachable {
                room -= 1;
                self.outputs.push(Output::StartSnapshot { to: *server });
            }
        }
        due
    }

    /// The driver has taken the snapshot that [`Output::StartSnapshot`] asked for: it covers the
    /// log through `last`, which is committed. Answers its name; `None` if it is not wanted any more,
    /// or the log that follows it is compacted already.
    pub fn snapshot_started(&mut self, to: ServerId, last: LogId) -> Option<SnapshotId> {
        assert!(
            last.index <= self.commit,
            "a snapshot is of what is committed"
        );
        if !self.log.contains(last) {
            return None;
        }
        let State::Leader(leader) = &mut self.state else {
            return None;
        };
        let progress = leader.progress.get_mut(&to)?;
        if !matches!(progress.flow, Flow::Refill(Refill::Waiting(_))) {
            return None;
        }
        leader.snapshots += 1;
        let number = leader.snapshots;
        let id = SnapshotId { number, last };
        progress.on_snapshot_started(id);
        Some(id)
    }

    /// The snapshot that is to be sent to `server` now.
    pub fn snapshot_for(&self, server: ServerId) -> Option<SnapshotId> {
        match &self.state {
            State::Leader(leader) => leader.progress.get(&server)?.sending(),
            _ => None,
        }
    }

    pub(crate) fn on_snapshot_ack(&mut self, now: Time, from: ServerId, ack: SnapshotAck) {
        let pause = self.config.snapshot_pause;
        let Some(progress) = self.answered(now, from, ack.term) else {
            return;
        };
        if progress.sending() != Some(ack.id) {
            return;
        }
        match ack.outcome {
            SnapshotOutcome::Received(offset) => {
                progress.delivered = progress.delivered.max(offset);
            }
            SnapshotOutcome::Refused => progress.on_snapshot_refused(now, pause),
        }
    }

    /// A server that went silent while it received a snapshot does not hold up the others.
    pub(crate) fn check_snapshots(&mut self, now: Time) {
        // Not before it counts as silent when a snapshot is to be begun, either.
        let timeout = self.config.election_timeout_min;
        let max = self.config.snapshot_silence_max.max(timeout);
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        let elected = leader.elected;
        for progress in leader.progress.values_mut() {
            let heard = progress.heard.unwrap_or(elected);
            if progress.sending().is_some() && now.since(heard) >= max {
                progress.on_compacted();
            }
        }
    }

    // --- follower -----------------------------------------------------------------------------

    /// A sign of life. Whether its bytes are wanted is for [`Raft::wants_snapshot`] to say.
    pub(crate) fn on_snapshot_chunk(&mut self, now: Time, from: ServerId, chunk: SnapshotChunk) {
        if !self.follow(now, from, chunk.term) {
            if chunk.term < self.term {
                // To a deposed leader this tells the term.
                self.send(
                    from,
                    Message::SnapshotAck(SnapshotAck {
                        term: self.term,
                        id: chunk.id,
                        outcome: SnapshotOutcome::Received(0),
                    }),
                );
            }
        } else if chunk.id.last.index <= self.commit {
            // It holds all of that: the leader goes on with the log.
            self.acknowledge();
        }
    }

    /// Whether the snapshot of that chunk, just received, says more than this server knows. One
    /// that does not is never assembled (etcd #1763).
    pub fn wants_snapshot(&self, from: ServerId, chunk: &SnapshotChunk) -> bool {
        chunk.term == self.term
            && self.leader() == Some(from)
            && from != self.id
            && chunk.id.last.index > self.commit
            && chunk.id.last.term <= chunk.term
    }

    /// A snapshot through `last` is complete and the state restored from it: takes it over, with
    /// the `configuration` that was in force at `last`, and its entry (paper figure 13). Entries
    /// after `last` are kept if the log holds `last`; else all are dropped. `false`, and nothing
    /// done, if this server knows as much already, or leads and knows better.
    ///
    /// It may come at any time after [`Raft::wants_snapshot`]: what is committed stays so, whoever
    /// leads. A driver with durable storage has persisted the snapshot before it calls this.
    pub fn install_snapshot(
        &mut self,
        now: Time,
        last: LogId,
        configuration: (Index, Configuration),
    ) -> bool {
        if last.index <= self.commit || last.term > self.term {
            return false;
        }
        match self.state {
            // It holds all that is committed: this is not.
            State::Leader(_) if !self.log.contains(last) => return false,
            State::Leader(_) => {}
            // Its votes were for another log.
            State::PreCandidate(_) | State::Candidate(_) => {
                self.become_follower(now, self.term, None);
            }
            State::Follower(_) => {}
        }
        if !self.log.contains(last) {
            self.log.replace(last, configuration);
            self.generation += 1;
            self.persisted = last.index;
            self.verified = last.index;
            self.log_changes.push(LogChange::Replaced { last });
        }
        // What is committed is in every later leader's log.
        self.verified = self.verified.max(last.index);
        self.persisted = self.persisted.max(last.index);
        self.set_commit(last.index);
        self.acknowledge();
        if matches!(self.state, State::Leader(_)) {
            self.finish_changes(now);
        }
        true
    }
}

impl Progress {
    pub(crate) fn refill(&self) -> Option<PeerRefill> {
        matches!(self.flow, Flow::Refill(_)).then(|| PeerRefill {
            sending: self.sending(),
            delivered: self.delivered,
        })
    }
}
