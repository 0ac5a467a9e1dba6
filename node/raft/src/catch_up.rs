//! How a learner that is to vote catches up with the log.

use std::time::Duration;

use crate::types::{Index, Time};

/// A learner's way to the end of the log, in rounds (thesis section 4.2.1): each replicates what
/// was in the log when it began. Rounds go on once it is ready, so that it is judged by the last one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CatchUp {
    /// When the round began, and what it replicates.
    began: Time,
    target: Index,
    /// Rounds that took too long, in a row.
    rounds: u32,
    /// When the first round of this attempt began.
    since: Time,
    /// It has stalled since it was last ready: those that join with it do not wait for it any more.
    has_stalled: bool,
    pub(crate) state: CatchUpState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CatchUpState {
    Running,
    /// Its last round took less than an election timeout, and so far the one under way does.
    Ready,
    /// It did not get there in its rounds or in their time, or is not heard from; tried again at this time.
    Stalled(Time),
}

impl CatchUp {
    pub(crate) fn new(now: Time, target: Index) -> Self {
        Self {
            began: now,
            target,
            rounds: 0,
            since: now,
            has_stalled: false,
            state: CatchUpState::Running,
        }
    }

    /// Another attempt of a learner that stalled.
    fn again(now: Time, target: Index) -> Self {
        Self {
            has_stalled: true,
            ..Self::new(now, target)
        }
    }

    /// Whether those that join with it wait for it: until it stalls for the first time. Of two that stall
    /// again and again, one would otherwise always be in an attempt while the other pauses.
    pub(crate) fn is_waited_for(&self) -> bool {
        match self.state {
            CatchUpState::Running => !self.has_stalled,
            CatchUpState::Ready | CatchUpState::Stalled(_) => false,
        }
    }

    pub(crate) fn on_matched(
        &mut self,
        now: Time,
        matched: Index,
        last: Index,
        limits: &CatchUpLimits,
    ) {
        if matched < self.target {
            return;
        }
        if matches!(self.state, CatchUpState::Stalled(_)) {
            // A round that took too long, of a large refill say, is over: there is nothing to pause for,
            // unless it was the last one.
            self.rounds = self.rounds.saturating_add(1);
            if self.rounds < limits.rounds_max {
                let rounds = self.rounds;
                *self = Self::again(now, last);
                self.rounds = rounds;
            }
            return;
        }
        if now.since(self.began) < limits.round_max {
            self.state = CatchUpState::Ready;
            (self.rounds, self.since, self.has_stalled) = (0, now, false);
        } else {
            self.state = CatchUpState::Running;
            self.rounds += 1;
            if self.rounds >= limits.rounds_max {
                self.state = CatchUpState::Stalled(now + limits.pause);
                return;
            }
        }
        (self.began, self.target) = (now, last);
    }

    /// Looks at the clock: a pause may be over, a round may take too long, or a learner be silent for too
    /// long. Also ends a round whose target the learner held when it began: in an idle cluster no entry
    /// comes whose acknowledgement would.
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
                *self = Self::again(now, last);
            }
            return;
        }
        if heard.is_some_and(|heard| heard >= self.began) {
            self.on_matched(now, matched, last, limits);
        }
        if self.state == CatchUpState::Ready && now.since(self.began) >= limits.round_max {
            self.state = CatchUpState::Running;
        }
        // A learner that lives and never gets there, because it refuses its snapshots say, must not hold
        // up those that join with it.
        let attempt_max = limits.round_max * limits.rounds_max;
        let is_too_long =
            self.state == CatchUpState::Running && now.since(self.since) >= attempt_max;
        let quiet_since = heard.map_or(self.began, |heard| heard.max(self.began));
        if is_too_long || now.since(quiet_since) >= limits.pause {
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

    #[test]
    fn h7_a_learner_that_lives_and_never_gets_there_stalls() {
        let limits = CatchUpLimits {
            round_max: Duration::from_secs(1),
            rounds_max: 10,
            pause: Duration::from_secs(10),
        };
        let second = |seconds: u64| Time(seconds * 1_000_000_000);
        let mut catch_up = CatchUp::new(second(0), Index(5));
        for now in 1..10 {
            catch_up.on_time(second(now), Some(second(now)), Index(3), Index(5), &limits);
            assert_eq!(catch_up.state, CatchUpState::Running, "after {now} s");
        }
        catch_up.on_time(second(10), Some(second(10)), Index(3), Index(5), &limits);
        assert_eq!(catch_up.state, CatchUpState::Stalled(second(20)));
        catch_up.on_time(second(20), Some(second(20)), Index(3), Index(5), &limits);
        assert_eq!(catch_up.state, CatchUpState::Running, "it is tried again");
        catch_up.on_time(second(30), Some(second(30)), Index(3), Index(5), &limits);
        assert_eq!(catch_up.state, CatchUpState::Stalled(second(40)));
        catch_up.on_matched(second(31), Index(5), Index(5), &limits);
        assert_eq!(catch_up.state, CatchUpState::Running, "it got there");
        catch_up.on_time(second(31), Some(second(31)), Index(5), Index(5), &limits);
        assert_eq!(catch_up.state, CatchUpState::Ready);
    }

    #[test]
    fn h7_a_learner_is_ready_by_its_last_round() {
        let limits = CatchUpLimits {
            round_max: Duration::from_secs(1),
            rounds_max: 10,
            pause: Duration::from_secs(100),
        };
        let second = |seconds: u64| Time(seconds * 1_000_000_000);
        let mut catch_up = CatchUp::new(second(0), Index(5));
        catch_up.on_matched(second(0), Index(5), Index(9), &limits);
        assert_eq!(catch_up.state, CatchUpState::Ready);
        catch_up.on_matched(second(0), Index(8), Index(20), &limits);
        assert_eq!(catch_up.state, CatchUpState::Ready, "within a round");
        catch_up.on_time(second(1), Some(second(1)), Index(8), Index(20), &limits);
        assert_eq!(catch_up.state, CatchUpState::Running, "it takes too long");
        catch_up.on_matched(second(3), Index(9), Index(30), &limits);
        assert_eq!(catch_up.state, CatchUpState::Running, "it took too long");
        catch_up.on_matched(second(3), Index(30), Index(30), &limits);
        assert_eq!(catch_up.state, CatchUpState::Ready);
    }
}
