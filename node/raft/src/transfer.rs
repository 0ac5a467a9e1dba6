//! Leadership transfer: thesis section 3.10.

use std::time::Duration;

use crate::config::{Config, ELECTION_PRIORITY_MAX};
use crate::message::{Message, TimeoutNow};
use crate::output::Refused;
use crate::progress::Progress;
use crate::raft::{Raft, State};
use crate::types::{Index, ServerId, Time};

/// Doublings of the pause between attempts to hand over to a higher priority.
const PAUSE_DOUBLINGS_MAX: u32 = 5;

/// What a server says of its fitness to lead. Nothing that is safe depends on its being right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Eligibility {
    /// See [`Config::election_priority`].
    pub priority: u8,
    /// It never leads again (see [`Raft::retire`]).
    pub is_retired: bool,
    /// Its machine has applied everything through here; `None` if the message does not say.
    pub applied: Option<Index>,
}

/// When a leader may next hand over to a higher priority.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handover {
    due: Time,
    pause: Duration,
    attempts: u32,
}

impl Handover {
    /// Of a leader that was just elected.
    pub(crate) fn new(now: Time, config: &Config) -> Self {
        Self {
            due: now + config.election_timeout_max,
            pause: config.election_timeout_max,
            attempts: 0,
        }
    }

    fn on_attempt(&mut self, now: Time) {
        self.attempts = (self.attempts + 1).min(PAUSE_DOUBLINGS_MAX);
        self.due = now + self.pause * (1 << self.attempts);
    }
}

/// A server's priority; one that has said nothing yet is chosen last.
fn priority(progress: &Progress) -> u8 {
    progress.eligibility.map_or(0, |it| it.priority)
}

/// How far a server's machine is, if it has said so.
fn applied(progress: &Progress) -> Option<Index> {
    progress.eligibility.and_then(|it| it.applied)
}

/// A transfer under way. Proposals and changes are refused meanwhile; it always ends, at the latest
/// at its deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    target: ServerId,
    deadline: Time,
    sent: Option<Time>,
}

impl Transfer {
    /// Whether the target has been told to campaign.
    pub(crate) fn has_told(&self) -> bool {
        self.sent.is_some()
    }
}

impl Raft {
    /// Hands leadership to `target`, or to the voter of the highest priority that has caught up,
    /// within an election timeout. A no-op if this server is the target, and without a target if a
    /// transfer is under way. The new leader is seen by [`Raft::leader`]; failure by
    /// [`Raft::is_transferring`] turning false while this server still leads.
    pub fn transfer(&mut self, now: Time, target: Option<ServerId>) -> Result<(), Refused> {
        self.check_serving(now)?;
        if target == Some(self.id) {
            return Ok(());
        }
        if target.is_none() && self.is_transferring() {
            // Whoever is to lead will do: to refuse a leader that is told to stop would have it end
            // without a successor.
            return Ok(());
        }
        let (_, configuration) = self.log.configuration();
        let target = match target {
            Some(target) if configuration.voters.contains(&target) => target,
            Some(target) => return Err(Refused::NotAVoter(target)),
            None => self.best_successor(now).ok_or(Refused::QuorumLost)?,
        };
        let deadline = now + self.config.election_timeout_min;
        let State::Leader(leader) = &mut self.state else {
            unreachable!("checked above")
        };
        match &leader.transfer {
            Some(transfer) if transfer.target != target => Err(Refused::Transferring),
            Some(_) => Ok(()),
            None => {
                leader.transfer = Some(Transfer {
                    target,
                    deadline,
                    sent: None,
                });
                Ok(())
            }
        }
    }

    /// What this server says of itself, for the driver to send beside its messages.
    pub fn eligibility(&self) -> Eligibility {
        Eligibility {
            priority: self.config.election_priority,
            is_retired: self.is_retired,
            applied: None,
        }
    }

    /// What another server says of itself, beside a message; of interest to a leader.
    pub fn learn(&mut self, from: ServerId, eligibility: Eligibility) {
        if let State::Leader(leader) = &mut self.state
            && let Some(progress) = leader.progress.get_mut(&from)
        {
            let known = progress.eligibility.and_then(|it| it.applied);
            let applied = eligibility.applied.or(known);
            progress.eligibility = Some(Eligibility {
                applied,
                ..eligibility
            });
        }
    }

    /// The incoming voter of the highest priority among those that have caught up; if none has, the
    /// one that is furthest. Of those heard within an election timeout, and none that has retired. One
    /// whose machine works goes first.
    fn best_successor(&self, now: Time) -> Option<ServerId> {
        let best = self.successors(now).max_by_key(|(_, progress)| {
            let has_caught_up = self.has_caught_up(progress);
            let priority = if has_caught_up { priority(progress) } else { 0 };
            let works = self.is_known_to_work(progress);
            (has_caught_up, works, priority, progress.matched)
        });
        best.map(|(server, _)| *server)
    }

    /// Whether the machine of a server has applied an entry of this leader's term: one that hangs never
    /// does. A server that says nothing of its machine is believed to have.
    fn is_known_to_work(&self, progress: &Progress) -> bool {
        let State::Leader(leader) = &self.state else {
            return false;
        };
        applied(progress).is_none_or(|applied| applied >= leader.term_start)
    }

    /// Whether the machines of most other voters that are heard have applied `past`.
    ///
    /// For a driver whose own machine has stood still before that for long: if this says so it is this
    /// machine that hangs, and not one entry at which all do.
    pub fn is_outrun(&self, now: Time, past: Index) -> bool {
        let heard = self.successors(now).count();
        let ahead = self
            .successors(now)
            .filter(|(_, it)| applied(it) >= Some(past));
        2 * ahead.count() > heard
    }

    /// Hands over to a voter that has caught up and whose machine has applied `past`, because this
    /// leader's stands still before it. Each such handover goes to a machine that is further than the
    /// last one was, so two servers whose machines hang do not hand over to each other; after a failure
    /// it is tried less and less often.
    pub fn hand_over_to_moving(&mut self, now: Time, past: Index) {
        let State::Leader(leader) = &self.state else {
            return;
        };
        if leader.transfer.is_some() || now < leader.handover.due {
            return;
        }
        let moving = self
            .successors(now)
            .filter(|(_, it)| applied(it) >= Some(past) && self.has_caught_up(it))
            .max_by_key(|(_, it)| (priority(it), it.matched))
            .map(|(server, _)| *server);
        if let Some(target) = moving
            && self.transfer(now, Some(target)).is_ok()
            && let State::Leader(leader) = &mut self.state
        {
            leader.handover.on_attempt(now);
        }
    }

    /// Incoming voters that could take over.
    pub(crate) fn successors(&self, now: Time) -> impl Iterator<Item = (&ServerId, &Progress)> {
        let leader = match &self.state {
            State::Leader(leader) => Some(leader),
            _ => None,
        };
        let (_, configuration) = self.log.configuration();
        let timeout = self.config.election_timeout_min;
        let all = leader.into_iter().flat_map(|leader| &leader.progress);
        all.filter(move |(server, progress)| {
            configuration.voters.contains(server)
                && progress.reachable
                && !progress.eligibility.is_some_and(|it| it.is_retired)
                && progress
                    .heard
                    .is_some_and(|heard| now.since(heard) < timeout)
        })
    }

    /// Whether a server lacks no more than one append, which it can be given within a transfer.
    fn has_caught_up(&self, progress: &Progress) -> bool {
        let last = self.log.last().index;
        let lacks = last.0.saturating_sub(progress.matched.0);
        lacks <= self.config.append_entries_max as u64
            && self.log.bytes(progress.matched, last) <= self.config.append_bytes_max
    }

    /// Hands over to a voter of a higher priority that has caught up. Not at once after an election,
    /// so that one does not follow on the other, and after an attempt less and less often.
    pub(crate) fn hand_over_to_higher_priority(&mut self, now: Time) {
        let mine = self.config.election_priority;
        let State::Leader(leader) = &self.state else {
            return;
        };
        if mine == ELECTION_PRIORITY_MAX || now < leader.handover.due {
            return;
        }
        let (at, configuration) = self.log.configuration();
        let is_settled = leader.transfer.is_none()
            && self.is_term_committed()
            && at <= self.commit
            && !configuration.is_joint();
        if !is_settled {
            return;
        }
        let higher = self
            .successors(now)
            .filter(|(_, progress)| priority(progress) > mine && self.has_caught_up(progress))
            .filter(|(_, progress)| self.is_known_to_work(progress))
            .max_by_key(|(_, progress)| (priority(progress), progress.matched))
            .map(|(server, _)| *server);
        let Some(target) = higher else {
            return;
        };
        if self.transfer(now, Some(target)).is_ok()
            && let State::Leader(leader) = &mut self.state
        {
            leader.handover.on_attempt(now);
        }
    }

    /// Once the target holds all of the log, tells it to campaign.
    pub(crate) fn drive_transfer(&mut self, now: Time) {
        let last = self.log.last();
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        let Some(transfer) = &mut leader.transfer else {
            return;
        };
        let is_complete = leader
            .progress
            .get(&transfer.target)
            .is_some_and(|progress| progress.matched == last.index);
        let is_due = transfer
            .sent
            .is_none_or(|sent| now >= sent + self.config.heartbeat);
        if is_complete && is_due {
            transfer.sent = Some(now);
            let target = transfer.target;
            leader.released.insert(target, now);
            self.send(
                target,
                Message::TimeoutNow(TimeoutNow {
                    term: self.term,
                    last,
                    sent: now,
                }),
            );
        }
    }

    /// A server promised its vote in answer to a heartbeat that was sent then.
    pub(crate) fn on_promised(&mut self, now: Time, from: ServerId, sent: Time) {
        if let State::Leader(leader) = &mut self.state
            && sent <= now
            && leader.released.get(&from).is_some_and(|told| *told < sent)
        {
            leader.released.remove(&from);
        }
    }

    pub(crate) fn check_transfer(&mut self, now: Time) {
        let (_, configuration) = self.log.configuration();
        if let State::Leader(leader) = &mut self.state
            && let Some(transfer) = &leader.transfer
            && (now >= transfer.deadline || !configuration.voters.contains(&transfer.target))
        {
            leader.transfer = None;
        }
    }

    pub(crate) fn on_timeout_now(&mut self, now: Time, from: ServerId, request: TimeoutNow) {
        if self.follow(now, from, request.term)
            && self.may_campaign()
            && !self.is_dismissed(request.sent)
            && self.log.contains(request.last)
            && self.is_bound(now, self.id, Some(request.term)).is_none()
        {
            self.on_nominated(now, request.sent);
        }
    }

    /// This leader is no voter any more, and that is committed, or it may not serve: it names a
    /// successor and follows (thesis section 4.2.2).
    pub(crate) fn resign(&mut self, now: Time) {
        let last = self.log.last();
        if let Some(successor) = self.best_successor(now) {
            self.send(
                successor,
                Message::TimeoutNow(TimeoutNow {
                    term: self.term,
                    last,
                    sent: now,
                }),
            );
        }
        self.become_follower(now, self.term, None);
    }
}
