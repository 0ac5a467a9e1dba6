//! A server that never campaigns by itself, and stands in because the others cannot win without what it
//! holds.
//!
//! Three kinds of server vote and store and never campaign by themselves: servers that are not voters by
//! their own log (learners, above all), voters of priority 0, and retired ones. If the longest log is with
//! one of them, it refuses its vote to every candidate, and where the candidates need that vote nobody
//! would ever lead, although a quorum lives and nothing is lost.
//!
//! So a server of these kinds that has refused a candidate because its own log is longer, and hears of no
//! leader for [`STAND_IN_TIMEOUTS`] longest election timeouts after that, campaigns itself: with pre-votes,
//! in its own log's configuration, bound by its promises, as every candidate. That is safe, because who
//! may be elected depends on votes and logs alone. A learner counts no vote of its own, since only voters of
//! the configuration are counted.
//!
//! The wait is long enough for candidates that can win without it, and for one more round of them. After
//! one round without success it waits for the next refusal, and as long again: so two servers that stand in,
//! or one and an ordinary candidate, do not keep each other from being elected.
//!
//! A leader that is retired or no voter serves nothing: it refuses proposals, reads, changes and transfers,
//! replicates its log, commits the first entry of its term, and hands over as soon as a voter that may lead
//! holds all of its log. A leader of priority 0 serves, and hands over as every leader does to a higher one.

use std::time::Duration;

use crate::message::Vote;
use crate::output::Refused;
use crate::raft::{Raft, State};
use crate::types::Time;

/// Longest election timeouts without a leader, after a candidate was refused for its shorter log.
const STAND_IN_TIMEOUTS: u32 = 2;

impl Raft {
    /// Whether this server campaigns when it hears of no leader.
    pub(crate) fn campaigns_by_itself(&self) -> bool {
        self.may_campaign() && self.config.election_priority > 0
    }

    /// A candidate was refused. If that is because it lacks what this server holds, this server stands
    /// in after a while, unless somebody is elected.
    pub(crate) fn on_candidate_refused(&mut self, now: Time, vote: &Vote) {
        if vote.last >= self.log.last() || self.campaigns_by_itself() || self.has_leader(now) {
            return;
        }
        if self.stand_in_due.is_none() {
            let wait = self.config.election_timeout_max * STAND_IN_TIMEOUTS;
            let apart = self
                .random
                .between(Duration::ZERO, self.config.election_timeout_min);
            self.stand_in_due = Some(now + wait + apart);
        }
    }

    /// Nobody was elected meanwhile: asks for pre-votes.
    pub(crate) fn stand_in(&mut self, now: Time) {
        if let Some(wait) = self.is_bound(now, self.id, None) {
            self.stand_in_due = Some(now + wait);
            return;
        }
        self.stand_in_due = None;
        if !self.has_leader(now) {
            self.pre_campaign(now);
        }
    }

    /// Refuses if this server leads and serves nothing.
    pub(crate) fn check_may_serve(&self) -> Result<(), Refused> {
        if self.is_retired {
            return Err(Refused::Retired);
        }
        match self.may_campaign() {
            true => Ok(()),
            false => Err(Refused::NotLeader(None)),
        }
    }

    /// A leader that may not stay hands over: one that stands in once a voter that may lead holds all of its
    /// log, the first entry of its term included; one that has been removed at once.
    pub(crate) fn leave_office(&mut self, now: Time) {
        if self.may_campaign() || !self.is_term_committed() {
            return;
        }
        let stands_in = matches!(&self.state, State::Leader(leader) if leader.stands_in);
        let last = self.log.last().index;
        let has_successor = self
            .successors(now)
            .any(|(_, progress)| progress.matched == last);
        if has_successor || !stands_in {
            self.resign(now);
        }
    }
}
