//! Leadership transfer: thesis section 3.10.

use crate::message::{Message, TimeoutNow};
use crate::output::Refused;
use crate::raft::{Raft, State};
use crate::types::{ServerId, Time};

/// A transfer under way. Proposals and changes are refused meanwhile; it always ends, at the latest
/// at its deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    target: ServerId,
    deadline: Time,
    sent: Option<Time>,
}

impl Raft {
    /// Hands leadership to `target`, or to the voter that is furthest, within an election timeout.
    /// A no-op if this server is the target, and without a target if a transfer is under way. The new leader is seen by [`Raft::leader`]; failure by
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

    /// The incoming voter that is furthest among those heard within an election timeout.
    fn best_successor(&self, now: Time) -> Option<ServerId> {
        let State::Leader(leader) = &self.state else {
            return None;
        };
        let (_, configuration) = self.log.configuration();
        let timeout = self.config.election_timeout_min;
        leader
            .progress
            .iter()
            .filter(|(server, progress)| {
                configuration.voters.contains(server)
                    && progress.reachable
                    && progress
                        .heard
                        .is_some_and(|heard| now.since(heard) < timeout)
            })
            .max_by_key(|(_, progress)| progress.matched)
            .map(|(server, _)| *server)
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
            self.send(
                target,
                Message::TimeoutNow(TimeoutNow {
                    term: self.term,
                    last,
                }),
            );
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
            && self.log.contains(request.last)
        {
            self.campaign(now, true);
        }
    }

    /// This leader is no voter any more, and that is committed: it names a successor and follows
    /// (thesis section 4.2.2).
    pub(crate) fn resign(&mut self, now: Time) {
        let last = self.log.last();
        if let Some(successor) = self.best_successor(now) {
            self.send(
                successor,
                Message::TimeoutNow(TimeoutNow {
                    term: self.term,
                    last,
                }),
            );
        }
        self.become_follower(now, self.term, None);
    }
}
