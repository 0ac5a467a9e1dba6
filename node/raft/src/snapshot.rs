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
use crate::progress::{Flow, Progress};
use crate::raft::{Raft, State};
use crate::refill::Refill;
use crate::types::{Index, LogId, ServerId, Time};

impl Raft {
    // --- compaction ---------------------------------------------------------------------------

    /// How far the log should be compacted, given that the state covers it through `applied`; the
    /// entry before [`Raft::first`] if it should not be.
    ///
    /// A tail of `log_tail_bytes` is kept; compaction waits until an eighth more has gathered. For
    /// a server that is heard and lags, or receives a snapshot, more is kept: the larger of
    /// `log_kept_bytes_max` and, until it has caught up, what it has received of its snapshot. So a
    /// snapshot is outrun only if the log grows faster than it is delivered, and once delivered it is
    /// followed by the log, not by another snapshot (hashicorp/raft #212).
    pub fn compactable(&self, now: Time, applied: Index) -> Index {
        self.compactable_for(now, applied, |_| true)
    }

    /// The same while memory is short: no log is kept for a server that only lags. The first transfer to
    /// a server since that last caught up keeps the log that follows it for as long as it moves, or no
    /// server would be refilled while memory is short; further ones keep none, so that a server which
    /// never stores the log costs this once.
    pub fn compactable_under_pressure(&self, now: Time, applied: Index) -> Index {
        self.compactable_for(now, applied, |progress| {
            progress.is_being_refilled(now, &self.config)
        })
    }

    fn compactable_for(
        &self,
        now: Time,
        applied: Index,
        is_kept_for: impl Fn(&Progress) -> bool,
    ) -> Index {
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
        let lagging = leader.progress.values().filter(|it| is_kept_for(it));
        let kept = lagging.filter_map(|progress| {
            let is_heard = progress
                .heard
                .is_some_and(|heard| now.since(heard) < timeout);
            let needed = match progress.snapshot() {
                Some(id) => id.last.index,
                None if is_heard && progress.matched >= base => progress.matched,
                None => return None,
            };
            let bound = self.config.log_kept_bytes_max as u64;
            let is_bounded =
                self.log.bytes(needed, last) as u64 <= bound.max(progress.delivery.bytes);
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
                progress
                    .snapshot()
                    .is_some_and(|id| id.last.index < through)
            };
            leader
                .progress
                .values_mut()
                .filter(outrun)
                .for_each(Progress::on_compacted);
        }
    }

    // --- leader -------------------------------------------------------------------------------

    /// Asks for snapshots for those that need one and are heard, a few at a time, first for those that
    /// have waited longest since their pause. Answers when to look again. One that has all of its
    /// snapshot takes no place any more: however long it restores, the others are served.
    pub(crate) fn start_snapshots(&mut self, now: Time) -> Time {
        let base = self.log.base().index;
        let (max, timeout) = (self.config.snapshots_max, self.config.election_timeout_min);
        let State::Leader(leader) = &mut self.state else {
            return Time::NEVER;
        };
        let mut due = Time::NEVER;
        let mut sending = 0;
        let mut waiting = Vec::new();
        for (server, progress) in &mut leader.progress {
            if !progress.is_refilled() && progress.next.previous() < base {
                progress.on_compacted();
            }
            let until = match progress.flow {
                Flow::Refill(Refill::Waiting(until)) => until,
                Flow::Refill(Refill::Sending(_)) => {
                    sending += 1;
                    continue;
                }
                _ => continue,
            };
            let is_heard = progress
                .heard
                .is_some_and(|heard| now.since(heard) < timeout);
            if now < until {
                due = due.min(until);
            } else if is_heard && progress.reachable {
                waiting.push((until, *server));
            }
        }
        waiting.sort_unstable();
        for (_, to) in waiting.into_iter().take(max.saturating_sub(sending)) {
            self.outputs.push(Output::StartSnapshot { to });
        }
        due
    }

    /// The driver has taken the snapshot that [`Output::StartSnapshot`] asked for: it covers the
    /// log through `last`, which is committed. Answers its name; `None` if it is not wanted any more,
    /// if the log that follows it is compacted already, or if as many as may be are being sent: others
    /// were begun since this one was asked for.
    pub fn snapshot_started(&mut self, now: Time, to: ServerId, last: LogId) -> Option<SnapshotId> {
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
        let is_sent = |peer: &&Progress| matches!(peer.flow, Flow::Refill(Refill::Sending(_)));
        if leader.progress.values().filter(is_sent).count() >= self.config.snapshots_max {
            return None;
        }
        let progress = leader.progress.get_mut(&to)?;
        if !matches!(progress.flow, Flow::Refill(Refill::Waiting(_))) {
            return None;
        }
        leader.snapshots += 1;
        let number = leader.snapshots;
        let id = SnapshotId { number, last };
        progress.on_snapshot_started(now, id);
        Some(id)
    }

    /// Every byte of that snapshot is acknowledged. The server restores it, which may take longer than
    /// the next piece may, and another may be sent one meanwhile.
    pub fn snapshot_delivered(&mut self, now: Time, to: ServerId, id: SnapshotId) {
        if let State::Leader(leader) = &mut self.state
            && let Some(progress) = leader.progress.get_mut(&to)
        {
            progress.on_snapshot_delivered(now, id);
        }
    }

    /// The snapshot that is to be sent to `server` now; its end again and again until it is restored.
    pub fn snapshot_for(&self, server: ServerId) -> Option<SnapshotId> {
        match &self.state {
            State::Leader(leader) => leader.progress.get(&server)?.snapshot(),
            _ => None,
        }
    }

    pub(crate) fn on_snapshot_ack(&mut self, now: Time, from: ServerId, ack: SnapshotAck) {
        let pause = self.config.snapshot_pause;
        let Some(progress) = self.answered(now, from, ack.term) else {
            return;
        };
        if progress.snapshot() != Some(ack.id) {
            return;
        }
        match ack.outcome {
            SnapshotOutcome::Received(offset) => progress.on_snapshot_received(now, offset),
            SnapshotOutcome::Refused => progress.on_snapshot_failed(now, pause),
        }
    }

    /// A server that went silent while it received a snapshot, or takes no more of it, does not hold up
    /// the others.
    pub(crate) fn check_snapshots(&mut self, now: Time) {
        let config = &self.config;
        // Not before it counts as silent when a snapshot is to be begun, either.
        let silence_max = config.snapshot_silence_max.max(config.election_timeout_min);
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        let elected = leader.elected;
        for progress in leader.progress.values_mut() {
            let heard = progress.heard.unwrap_or(elected);
            if progress.snapshot().is_some() && now.since(heard) >= silence_max {
                progress.on_compacted();
            }
            progress.check_refill(now, config);
        }
    }

    /// What was delivered to a server lifts the bound of the log that is kept for it no more once it has
    /// caught up.
    pub(crate) fn follow_refill(&mut self, now: Time, from: ServerId, is_append: bool) {
        if let State::Leader(leader) = &mut self.state
            && let Some(progress) = leader.progress.get_mut(&from)
        {
            let lacks = self.log.bytes(progress.matched, self.log.last().index);
            progress.on_refill_followed(now, is_append, lacks, &self.config);
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
