//! Replication: paper section 5.3, commitment (5.4.2), pipelining and natural batching.

use crate::config::Config;
use crate::log::{EntryKind, EntryMeta, Log, LogChange};
use crate::message::{Append, AppendAck, AppendOutcome, Beat, Heartbeat, HeartbeatAck, Message};
use crate::progress::{Flow, Progress};
use crate::raft::{Raft, State};
use crate::types::{Index, LogId, ServerId, Term, Time};

impl Raft {
    // --- follower -----------------------------------------------------------------------------

    pub(crate) fn on_append(
        &mut self,
        now: Time,
        from: ServerId,
        append: Append,
        entries: &[EntryMeta],
    ) {
        if append.last.0 != append.prev.index.0 + entries.len() as u64 {
            return; // not what a server sends
        }
        if !self.follow(now, from, append.term) {
            if append.term < self.term {
                self.refuse_append(from, append.prev.index, LogId::default());
            }
            return;
        }
        if append.prev.index < self.log.base().index {
            // Compacted here, so committed, so the leader's too: it goes on after what is verified.
            return self.acknowledge();
        }
        if !self.log.contains(append.prev) {
            let hint = self.log.agreement_at_most(append.prev);
            return self.refuse_append(from, append.prev.index, hint);
        }
        let Some(through) = self.store(&append, entries) else {
            return;
        };
        self.verified = self.verified.max(through);
        self.follow_commit(append.commit);
        self.acknowledge();
    }

    /// Says at the end of the turn how far the log is verified.
    pub(crate) fn acknowledge(&mut self) {
        if let State::Follower(follower) = &mut self.state {
            follower.ack_due = true;
        }
    }

    fn refuse_append(&mut self, to: ServerId, prev: Index, hint: LogId) {
        let outcome = AppendOutcome::Rejected { prev, hint };
        self.send(
            to,
            Message::AppendAck(AppendAck {
                term: self.term,
                outcome,
            }),
        );
    }

    /// Brings the log to hold `entries`: skips those it has, cuts off what conflicts (paper figure
    /// 2, AppendEntries 3 and 4). Answers through where it does now: before them all if more is not
    /// committed than any leader proposes. `None`, and nothing done, if they cannot be a leader's.
    fn store(&mut self, append: &Append, entries: &[EntryMeta]) -> Option<Index> {
        let mut terms = entries.iter().map(|entry| entry.term);
        let is_ordered = terms.clone().is_sorted()
            && terms.next().is_none_or(|first| first >= append.prev.term)
            && entries.last().is_none_or(|last| last.term <= append.term);
        if !is_ordered {
            return None;
        }
        let index_of = |at: usize| Index(append.prev.index.0 + 1 + at as u64);
        let known = entries
            .iter()
            .enumerate()
            .take_while(|(at, entry)| self.log.term(index_of(*at)) == Some(entry.term))
            .count();
        if known == entries.len() {
            return Some(append.last);
        }
        let from = index_of(known);
        if from <= self.commit {
            return None; // no leader contradicts what is committed
        }
        if from <= self.log.last().index {
            self.truncate(from.previous());
        }
        let committed = self.commit.max(append.commit.min(from.previous()));
        let uncommitted = self.log.bytes(committed, from.previous());
        let own_max = 2 * self.config.uncommitted_bytes_max;
        let inherited_max = self.config.inherited_bytes_max.max(own_max);
        let mut to = from.previous();
        for entry in &entries[known..] {
            // What the leader has inherited is committed only together with an entry of its own term, so
            // all of it is stored, whatever this server's bound would be as the leader.
            let max = match entry.term < append.term {
                true => inherited_max,
                false => own_max,
            };
            if uncommitted > max && !self.is_stored_past_the_bound(committed, entry) {
                break;
            }
            to = self.log.append(entry.clone()).index;
        }
        if to >= from {
            self.log_changes.push(LogChange::Received { from, to });
        }
        Some(to)
    }

    /// Whether an entry comes after a tail that is not committed and passes every leader's bound. One of
    /// that size is one large command, and no leader adds another to it; but what the engine makes: the
    /// first entry of a term, without which nothing of the tail would ever be committed, and a change.
    fn is_stored_past_the_bound(&self, committed: Index, entry: &EntryMeta) -> bool {
        match entry.kind {
            EntryKind::Noop => entry.term > self.log.last().term,
            EntryKind::Configuration(_) => self.log.configuration().0 <= committed,
            EntryKind::Command | EntryKind::Control => false,
        }
    }

    fn truncate(&mut self, after: Index) {
        self.log.truncate(after);
        self.persisted = self.persisted.min(after);
        self.generation += 1;
        self.verified = self.verified.min(after);
        self.log_changes.push(LogChange::Truncated { after });
    }

    /// Only what is known to match the leader's log is committed by its word.
    fn follow_commit(&mut self, commit: Index) {
        let commit = commit.min(self.verified);
        if commit > self.commit {
            self.set_commit(commit);
        }
    }

    pub(crate) fn send_ack(&mut self) {
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        let (Some(leader), true) = (follower.leader, follower.ack_due) else {
            return;
        };
        follower.ack_due = false;
        let outcome = AppendOutcome::Accepted(self.verified.min(self.persisted));
        self.send(
            leader,
            Message::AppendAck(AppendAck {
                term: self.term,
                outcome,
            }),
        );
    }

    pub(crate) fn on_heartbeat(&mut self, now: Time, from: ServerId, heartbeat: Heartbeat) {
        let Heartbeat {
            term,
            commit,
            round,
            beat,
        } = heartbeat;
        let (round, beat) = if self.follow(now, from, term) {
            self.follow_commit(commit);
            if let Some(fresh) = beat.and_then(|beat| beat.fresh) {
                self.learn_freshness(fresh);
            }
            (round, beat.map(|beat| self.answer_beat(now, from, beat)))
        } else if term >= self.term {
            return;
        } else {
            (0, None)
        };
        // To a deposed leader this tells the term, and no round: it may lead that term by now, and
        // take a number of the old one for a round of the new.
        self.send(
            from,
            Message::HeartbeatAck(HeartbeatAck {
                term: self.term,
                round,
                beat,
            }),
        );
    }

    // --- leader -------------------------------------------------------------------------------

    /// The progress of `from`, after looking at the term of its answer.
    pub(crate) fn answered(
        &mut self,
        now: Time,
        from: ServerId,
        term: Term,
    ) -> Option<&mut Progress> {
        if term > self.term {
            self.become_follower(now, term, None);
            return None;
        }
        let State::Leader(leader) = &mut self.state else {
            return None;
        };
        let progress = leader
            .progress
            .get_mut(&from)
            .filter(|_| term == self.term)?;
        progress.on_sign_of_life(now);
        Some(progress)
    }

    pub(crate) fn on_append_ack(&mut self, now: Time, from: ServerId, ack: AppendAck) {
        let (base, last) = (self.log.base().index, self.log.last().index);
        let agreement = match ack.outcome {
            AppendOutcome::Rejected { hint, .. } => self.log.agreement_at_most(hint).index,
            AppendOutcome::Accepted(_) => Index(0),
        };
        let limits = self.catch_up_limits();
        let Some(progress) = self.answered(now, from, ack.term) else {
            return;
        };
        match ack.outcome {
            AppendOutcome::Accepted(index) if index > last => {} // not what a server sends
            AppendOutcome::Accepted(index) => {
                let (before, is_append) = (progress.matched, !progress.is_refilled());
                progress.on_accepted(index, base);
                let is_followed = progress.delivery.is_open() && progress.matched > before;
                if let Some(catch_up) = &mut progress.catch_up {
                    catch_up.on_matched(now, progress.matched, last, &limits);
                }
                if is_followed {
                    self.follow_refill(now, from, is_append);
                }
                self.advance_commit(now);
                self.promote_learners(now);
                self.leave_office(now);
            }
            AppendOutcome::Rejected { prev, .. } => progress.on_rejected(prev, agreement),
        }
    }

    pub(crate) fn on_heartbeat_ack(&mut self, now: Time, from: ServerId, ack: HeartbeatAck) {
        let Some(progress) = self.answered(now, from, ack.term) else {
            return;
        };
        progress.round = progress.round.max(ack.round);
        if let Some(beat) = ack.beat {
            progress.on_beat(now, beat);
            if !beat.promise.is_zero() {
                self.on_promised(now, from, beat.sent);
            }
        }
    }

    /// Commits what a quorum holds, if that reaches an entry of this term (paper section 5.4.2).
    pub(crate) fn advance_commit(&mut self, now: Time) {
        let State::Leader(leader) = &self.state else {
            return;
        };
        let committed = self.quorum().committed(|server| {
            if server == self.id {
                self.persisted
            } else {
                leader
                    .progress
                    .get(&server)
                    .map_or(Index(0), |progress| progress.matched)
            }
        });
        if committed > self.commit && self.log.term(committed) == Some(self.term) {
            self.set_commit(committed);
            self.finish_changes(now);
        }
    }

    /// The deadlines of a leader.
    pub(crate) fn on_leader_time(&mut self, now: Time) {
        self.check_quorum(now);
        self.check_transfer(now);
        self.hand_over_to_higher_priority(now);
        self.check_snapshots(now);
        self.leave_office(now);
        let last = self.log.last().index;
        let limits = self.catch_up_limits();
        let stall = self.config.election_timeout_min;
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        for progress in leader.progress.values_mut() {
            // What was sent this long ago is lost.
            if progress
                .oldest_sent()
                .is_some_and(|sent| now.since(sent) >= stall)
            {
                progress.on_lost();
            }
            if let Some(catch_up) = &mut progress.catch_up {
                catch_up.on_time(now, progress.heard, progress.matched, last, &limits);
            }
        }
        self.promote_learners(now);
    }

    /// Sends every server what it may be sent now, and answers when to look again. Whatever arrived
    /// while the last append was in flight is the next one; nothing waits to fill a batch.
    pub(crate) fn send_appends(&mut self, now: Time) -> Time {
        let mut due = self.start_snapshots(now);
        let mut appends = Vec::new();
        let State::Leader(leader) = &mut self.state else {
            return due;
        };
        for (server, progress) in &mut leader.progress {
            loop {
                let (first, last) = match next_append(progress, &self.log, &self.config, now) {
                    Next::Send { first, last } => (first, last),
                    Next::Wait { until } => {
                        due = due.min(until);
                        break;
                    }
                };
                let index = first.previous();
                let term = self.log.term(index).unwrap_or_default();
                let prev = LogId { term, index };
                let append = Append {
                    term: self.term,
                    prev,
                    last,
                    commit: self.commit,
                };
                appends.push((*server, append));
                progress.on_sent(now, last, self.log.bytes(index, last));
            }
        }
        for (server, append) in appends {
            self.send(server, Message::Append(append));
        }
        due
    }

    pub(crate) fn send_heartbeat(&mut self, to: ServerId, round: u64, beat: Option<Beat>) {
        let State::Leader(leader) = &self.state else {
            return;
        };
        let Some(progress) = leader.progress.get(&to) else {
            return;
        };
        let commit = self.commit.min(progress.matched);
        let heartbeat = Heartbeat {
            term: self.term,
            commit,
            round,
            beat,
        };
        self.send(to, Message::Heartbeat(heartbeat));
    }
}

/// What a server may be sent next.
enum Next {
    /// These entries; none if `last` is before `first`.
    Send { first: Index, last: Index },
    /// Nothing before then, unless something happens.
    Wait { until: Time },
}

fn next_append(progress: &Progress, log: &Log, config: &Config, now: Time) -> Next {
    let end = log.last().index;
    let first = progress.next;
    let batch = || {
        if first > end {
            return first.previous();
        }
        log.batch_end(first, config.append_entries_max, config.append_bytes_max)
    };
    match progress.flow {
        Flow::Refill(_) => Next::Wait { until: Time::NEVER },
        Flow::Probe(Some(probe)) if now < probe.at + config.heartbeat => Next::Wait {
            until: probe.at + config.heartbeat,
        },
        Flow::Probe(_) => Next::Send {
            first,
            last: batch(),
        },
        Flow::Replicate if first > end || progress.inflight() >= config.inflight_max => {
            Next::Wait { until: Time::NEVER }
        }
        Flow::Replicate => {
            let last = batch();
            let bytes = log.bytes(first.previous(), last);
            if progress.inflight() > 0
                && progress.inflight_bytes() + bytes > config.inflight_bytes_max
            {
                return Next::Wait { until: Time::NEVER };
            }
            // A second append goes out beside the first if it is full, or the first is on a long way.
            let ripe = progress
                .newest_sent()
                .map_or(now, |sent| sent + config.pipeline_after);
            if last == end && now < ripe {
                return Next::Wait { until: ripe };
            }
            Next::Send { first, last }
        }
    }
}
