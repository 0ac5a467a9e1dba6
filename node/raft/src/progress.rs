//! What a leader knows of another server, and what may be sent to it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::{Index, Time};

/// How entries are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Where the logs agree is not known: one append at a time, sent at this time.
    Probe(Option<Time>),
    /// They agree up to `next`: appends are pipelined.
    Replicate,
}

/// Progress of one server.
///
/// Invariant: `matched < next`; `inflight` grows and lies in `matched+1..next`.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Highest index known to be there, persistently.
    pub(crate) matched: Index,
    /// The next index to send.
    pub(crate) next: Index,
    pub(crate) flow: Flow,
    /// Appends not yet acknowledged: last index and time sent.
    inflight: VecDeque<(Index, Time)>,
    /// Last acknowledgement of anything in this term.
    pub(crate) heard: Option<Time>,
    /// Highest heartbeat round that it has echoed.
    pub(crate) round: u64,
    /// Its connection is not known to be down.
    pub(crate) reachable: bool,
    /// Of a learner.
    pub(crate) catch_up: Option<CatchUp>,
}

impl Progress {
    pub(crate) fn new(next: Index) -> Self {
        Self {
            matched: Index(0),
            next,
            flow: Flow::Probe(None),
            inflight: VecDeque::new(),
            heard: None,
            round: 0,
            reachable: true,
            catch_up: None,
        }
    }

    /// Anything came from it.
    pub(crate) fn on_sign_of_life(&mut self, now: Time) {
        self.heard = Some(now);
        self.reachable = true;
    }

    pub(crate) fn on_accepted(&mut self, index: Index) {
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched.next());
        while self
            .inflight
            .front()
            .is_some_and(|sent| sent.0 <= self.matched)
        {
            self.inflight.pop_front();
        }
        self.flow = Flow::Replicate;
    }

    /// The append after `prev` did not fit; the logs agree at most up to `agreement`.
    /// A refusal of something older than what is already known changes nothing.
    pub(crate) fn on_rejected(&mut self, prev: Index, agreement: Index) {
        let is_stale = match self.flow {
            Flow::Replicate => prev <= self.matched,
            Flow::Probe(_) => prev != self.next.previous(),
        };
        if !is_stale {
            self.restart(agreement.next().min(prev).max(self.matched.next()));
        }
    }

    /// What was in flight is lost, or will never be acknowledged.
    pub(crate) fn on_lost(&mut self) {
        self.restart(self.matched.next());
    }

    fn restart(&mut self, next: Index) {
        self.next = next;
        self.inflight.clear();
        self.flow = Flow::Probe(None);
    }

    pub(crate) fn on_sent(&mut self, now: Time, last: Index) {
        match self.flow {
            Flow::Probe(_) => self.flow = Flow::Probe(Some(now)),
            Flow::Replicate if last >= self.next => {
                self.inflight.push_back((last, now));
                self.next = last.next();
            }
            Flow::Replicate => {}
        }
    }

    /// Appends in flight.
    pub(crate) fn inflight(&self) -> usize {
        self.inflight.len()
    }

    /// When the newest append in flight was sent.
    pub(crate) fn newest_sent(&self) -> Option<Time> {
        self.inflight.back().map(|sent| sent.1)
    }

    /// When the oldest append in flight was sent.
    pub(crate) fn oldest_sent(&self) -> Option<Time> {
        self.inflight.front().map(|sent| sent.1)
    }
}

/// A learner's way to the end of the log, in rounds (thesis section 4.2.1): each replicates what
/// was in the log when it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CatchUp {
    began: Time,
    target: Index,
    rounds: u32,
    pub(crate) state: CatchUpState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CatchUpState {
    Running,
    /// Its last round took less than an election timeout.
    Ready,
    /// It did not get there in its rounds, or is not heard from; tried again at this time.
    Stalled(Time),
}

impl CatchUp {
    pub(crate) fn new(now: Time, target: Index) -> Self {
        Self {
            began: now,
            target,
            rounds: 0,
            state: CatchUpState::Running,
        }
    }

    pub(crate) fn on_matched(
        &mut self,
        now: Time,
        matched: Index,
        last: Index,
        limits: &CatchUpLimits,
    ) {
        if self.state != CatchUpState::Running || matched < self.target {
            return;
        }
        self.rounds += 1;
        if now.since(self.began) < limits.round_max {
            self.state = CatchUpState::Ready;
        } else if self.rounds >= limits.rounds_max {
            self.state = CatchUpState::Stalled(now + limits.pause);
        } else {
            (self.began, self.target) = (now, last);
        }
    }

    /// Looks at the clock: a pause may be over, or a learner silent for too long. Also ends a round
    /// whose target the learner held when it began: in an idle cluster no entry comes whose
    /// acknowledgement would.
    pub(crate) fn on_time(
        &mut self,
        now: Time,
        heard: Option<Time>,
        matched: Index,
        last: Index,
        limits: &CatchUpLimits,
    ) {
        if let CatchUpState::Stalled(until) = self.state {
            if now >= until {
                *self = Self::new(now, last);
            }
            return;
        }
        if heard.is_some_and(|heard| heard >= self.began) {
            self.on_matched(now, matched, last, limits);
        }
        let quiet_since = heard.map_or(self.began, |heard| heard.max(self.began));
        if now.since(quiet_since) >= limits.pause {
            self.state = CatchUpState::Stalled(now + limits.pause);
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct CatchUpLimits {
    /// A round shorter than this is short enough: an election timeout.
    pub(crate) round_max: Duration,
    pub(crate) rounds_max: u32,
    pub(crate) pause: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_refusal_does_not_move_what_is_known_to_match() {
        let mut progress = Progress::new(Index(10));
        progress.on_accepted(Index(20));
        progress.on_rejected(Index(9), Index(3));
        assert_eq!((progress.matched, progress.next), (Index(20), Index(21)));
        assert_eq!(progress.flow, Flow::Replicate);
    }

    #[test]
    fn a_refusal_in_the_pipeline_probes_again_from_the_match() {
        let mut progress = Progress::new(Index(10));
        progress.on_accepted(Index(9));
        progress.on_sent(Time(1), Index(12));
        progress.on_sent(Time(2), Index(15));
        progress.on_rejected(Index(12), Index(9));
        assert_eq!((progress.next, progress.inflight()), (Index(10), 0));
        assert_eq!(progress.flow, Flow::Probe(None));
    }

    #[test]
    fn a_learner_needs_a_short_round_and_stalls_after_its_rounds() {
        let limits = CatchUpLimits {
            round_max: Duration::from_secs(1),
            rounds_max: 2,
            pause: Duration::from_secs(10),
        };
        let second = |seconds: u64| Time(seconds * 1_000_000_000);
        let mut catch_up = CatchUp::new(second(0), Index(5));
        catch_up.on_matched(second(3), Index(5), Index(9), &limits);
        assert_eq!(catch_up.state, CatchUpState::Running);
        catch_up.on_matched(second(6), Index(9), Index(9), &limits);
        assert_eq!(catch_up.state, CatchUpState::Stalled(second(16)));
        // Tried again in an idle cluster, where only heartbeats are answered.
        catch_up.on_time(second(16), Some(second(15)), Index(9), Index(9), &limits);
        assert_eq!(catch_up.state, CatchUpState::Running);
        catch_up.on_time(second(16), Some(second(16)), Index(9), Index(9), &limits);
        assert_eq!(catch_up.state, CatchUpState::Ready);
        catch_up.on_time(second(27), Some(second(16)), Index(9), Index(9), &limits);
        assert_eq!(catch_up.state, CatchUpState::Stalled(second(37)));
    }
}
