//! How old what a server has committed is at most: what reads of bounded staleness go by.
//!
//! A leader that a quorum has answered since a moment knew then of everything that anyone had
//! committed. It tells each server with its regular heartbeats, in that server's own time, so that no
//! clocks are compared and a heartbeat that is held up makes nobody younger: the server said when it
//! answered a heartbeat, and that answer came before the leader's moment, or so much after it.

use std::time::Duration;

use crate::lease::{at_most, passed_at_most};
use crate::message::Freshness;
use crate::raft::{Raft, State};
use crate::types::{Index, ServerId, Time};

/// What a server knows of its own freshness.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    reached: Option<Freshness>,
    /// The oldest that it was told and has not committed yet. It is kept until it is, not replaced by
    /// the next one: else a server that is always a little behind would never reach any.
    coming: Option<Freshness>,
}

impl Known {
    fn learn(&mut self, fresh: Freshness, commit: Index) {
        self.settle(commit);
        if fresh.index <= commit {
            self.reach(fresh);
        } else {
            self.coming.get_or_insert(fresh);
        }
    }

    fn settle(&mut self, commit: Index) {
        if let Some(coming) = self.coming.take_if(|coming| coming.index <= commit) {
            self.reach(coming);
        }
    }

    fn reach(&mut self, fresh: Freshness) {
        if self
            .reached
            .is_none_or(|reached| reached.as_of < fresh.as_of)
        {
            self.reached = Some(fresh);
        }
    }
}

impl Raft {
    /// How old the state as of the index is at most: once that is applied here it reflects everything
    /// that was committed, anywhere, so long ago. `None` if no leader has told yet. By this server's
    /// clock, plus what that may be slow ([`crate::CLOCK_DRIFT_PPM_MAX`]).
    pub fn age(&self, now: Time) -> Option<(Duration, Index)> {
        let mut known = self.freshness;
        known.settle(self.commit);
        if let Some(as_of) = self.confirmed(now) {
            let index = self.commit;
            known.reach(Freshness { as_of, index });
        }
        let Freshness { as_of, index } = known.reached?;
        Some((passed_at_most(now.since(as_of)), index))
    }

    /// The last moment since which a quorum is known to have followed this leader; only once it has
    /// committed an entry of its term.
    fn confirmed(&self, now: Time) -> Option<Time> {
        let State::Leader(leader) = &self.state else {
            return None;
        };
        if !self.is_term_committed() {
            return None;
        }
        let confirmed = self.quorum().agreed(|server| match server == self.id {
            true => now,
            false => leader
                .progress
                .get(&server)
                .map_or(Time(0), |peer| peer.echoed),
        });
        (confirmed > Time(0)).then_some(confirmed)
    }

    /// What a server is told with a regular heartbeat.
    pub(crate) fn freshness_of(&self, now: Time, server: ServerId) -> Option<Freshness> {
        let confirmed = self.confirmed(now)?;
        let State::Leader(leader) = &self.state else {
            return None;
        };
        let (at, heard) = leader.progress.get(&server)?.clock?;
        // It answered at `at`, before `heard`; if that was after the moment, so much earlier.
        let after = at_most(heard.since(confirmed));
        let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        let as_of = Time(at.0.saturating_sub(after));
        let index = self.commit;
        Some(Freshness { as_of, index })
    }

    pub(crate) fn learn_freshness(&mut self, fresh: Freshness) {
        self.freshness.learn(fresh, self.commit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(as_of: u64, index: u64) -> Freshness {
        let (as_of, index) = (Time(as_of), Index(index));
        Freshness { as_of, index }
    }

    #[test]
    fn what_is_not_committed_yet_counts_once_it_is_and_is_waited_for() {
        let mut known = Known::default();
        known.learn(fresh(10, 5), Index(3));
        assert_eq!(known.reached, None);
        known.learn(fresh(20, 9), Index(3));
        known.learn(fresh(30, 12), Index(6));
        assert_eq!(known.reached, Some(fresh(10, 5)));
        assert_eq!(known.coming, Some(fresh(30, 12)));
        known.learn(fresh(5, 1), Index(6));
        assert_eq!(
            known.reached,
            Some(fresh(10, 5)),
            "a late one changes nothing"
        );
        known.settle(Index(12));
        assert_eq!((known.reached, known.coming), (Some(fresh(30, 12)), None));
    }
}
