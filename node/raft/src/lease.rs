//! Reads under a lease (thesis section 6.4.1): voters promise the leader, each time it asks, to vote
//! for nobody else for a stated time. While a quorum's promises hold, nobody else can be elected, and
//! the leader answers without a round.
//!
//! - A promise counts from the moment at which the leader *sent* the question, which is before the
//!   voter gave it, and less the drift of both clocks: so at the leader it ends first.
//! - It binds whatever the reason for an election: a request that is marked, a leader whose process
//!   seems to be gone, the voter's own wish. It is void only for the leader itself, and for whom that
//!   leader has told to campaign. While that server may still do so the leader serves no read under a
//!   lease. It may not any more once it has promised its vote again, in answer to a question sent after
//!   the order: the promise voids the order, and every earlier one that is still on its way. The votes of
//!   others are bound then as before. So a transfer that fails costs the lease until the next regular
//!   heartbeat is answered, and not for the rest of the term. (A server that comes back with durable state
//!   must ignore orders that are older than its start.)
//! - It counts by the configuration in force, in both halves while that is joint: any two quorums that
//!   elect and that promise overlap, as quorums that elect and that commit do.
//! - In memory mode a promise cannot be forgotten by a restart: who comes back is another server, and
//!   that is no voter before the leader itself has put it into the configuration. With durable state
//!   the same server comes back, and [`Raft::hold_votes`] keeps what it may have promised.

use std::time::Duration;

use crate::message::{Beat, BeatAck};
use crate::output::{Output, ReadId, Refused};
use crate::raft::{Raft, State};
use crate::types::{ServerId, Term, Time};

/// Every clock is assumed to run fast or slow by at most this many millionths: 2 %, a hundred times
/// what quartz does. A clock that is worse makes reads under a lease, and ages, wrong.
pub const CLOCK_DRIFT_PPM_MAX: u64 = 20_000;

/// A promise is for so many heartbeats, so that some may get lost; and for no longer than the shortest
/// election timeout, so that it delays no election but those that wait for no timeout.
const LEASE_HEARTBEATS: u32 = 5;

const MILLION: u64 = 1_000_000;

/// That this server votes for nobody else until then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    /// The leader that it was given to, and its term; `None` if that is not known.
    to: Option<(ServerId, Term)>,
    until: Time,
}

/// What another clock shows at least while this one goes on by `elapsed`.
fn at_least(elapsed: Duration) -> Duration {
    scale(
        elapsed,
        MILLION - CLOCK_DRIFT_PPM_MAX,
        MILLION + CLOCK_DRIFT_PPM_MAX,
    )
}

/// What another clock shows at most while this one goes on by `elapsed`.
pub(crate) fn at_most(elapsed: Duration) -> Duration {
    scale(
        elapsed,
        MILLION + CLOCK_DRIFT_PPM_MAX,
        MILLION - CLOCK_DRIFT_PPM_MAX,
    )
}

/// The time that has passed at most while a clock went on by `elapsed`.
pub(crate) fn passed_at_most(elapsed: Duration) -> Duration {
    scale(elapsed, MILLION, MILLION - CLOCK_DRIFT_PPM_MAX)
}

fn scale(duration: Duration, by: u64, of: u64) -> Duration {
    let nanos = duration.as_nanos() * u128::from(by) / u128::from(of);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Until when a leader counts a promise that was asked for at `sent`, by its own clock.
pub(crate) fn lease_end(sent: Time, promise: Duration) -> Time {
    sent + at_least(promise)
}

impl Raft {
    /// Whether reads under a lease are on, as the log says it: only then does this server ask for
    /// promises, or give any.
    pub fn set_lease_reads(&mut self, are_on: bool) {
        self.lease_reads = are_on;
    }

    /// This server was started with state of its own from before, and may have promised its vote away
    /// just before it ended: it votes for nobody, itself included, for the longest election timeout
    /// (tikv #15035).
    pub fn hold_votes(&mut self, now: Time) {
        let until = now + self.config.election_timeout_max;
        self.promise = Some(Promise { to: None, until });
    }

    /// Asks for a read that a lease answers at once, if there is one; otherwise, or if leases are off,
    /// for a linearizable one (see [`Raft::read`]).
    pub fn read_leased(&mut self, now: Time, id: ReadId) -> Result<(), Refused> {
        self.check_serving(now)?;
        if !self.is_term_committed() || !self.holds_lease(now) {
            return self.read(now, id);
        }
        let index = self.commit;
        self.outputs.push(Output::ReadReady { id, index });
        Ok(())
    }

    /// Whether this server leads, and a quorum has promised to elect nobody else before a moment that
    /// is yet to come.
    pub fn holds_lease(&self, now: Time) -> bool {
        let State::Leader(leader) = &self.state else {
            return false;
        };
        self.lease_reads
            && leader.released.is_empty()
            && self.quorum().reached(|server| {
                server == self.id
                    || leader
                        .progress
                        .get(&server)
                        .is_some_and(|peer| peer.leased_until > now)
            })
    }

    /// What voters are asked to promise.
    pub(crate) fn lease_asked(&self) -> Duration {
        let State::Leader(leader) = &self.state else {
            return Duration::ZERO;
        };
        // While a transfer is under way a promise would end it.
        let has_told = leader.transfer.is_some_and(|transfer| transfer.has_told());
        match self.lease_reads && !has_told && self.may_campaign() {
            true => self
                .config
                .election_timeout_min
                .min(self.config.heartbeat * LEASE_HEARTBEATS),
            false => Duration::ZERO,
        }
    }

    /// Answers a regular heartbeat of the leader that this server follows.
    pub(crate) fn answer_beat(&mut self, now: Time, from: ServerId, beat: Beat) -> BeatAck {
        let promise = match self.lease_reads {
            true => beat.lease.min(self.config.election_timeout_min),
            false => Duration::ZERO,
        };
        if promise > Duration::ZERO {
            let to = Some((from, self.term));
            let before = self.promise.filter(|promise| promise.to == to);
            let until = (now + promise).max(before.map_or(now, |promise| promise.until));
            // One that was given to an earlier leader is void: a quorum has elected this one since,
            // and of any quorum that promised that one at least was free to.
            self.promise = Some(Promise { to, until });
            self.dismiss(beat.sent);
        }
        BeatAck {
            sent: beat.sent,
            at: now,
            promise,
        }
    }

    /// How long a promise still forbids to vote for this candidate; `released` is the term whose leader
    /// has told it to campaign.
    pub(crate) fn is_bound(
        &self,
        now: Time,
        candidate: ServerId,
        released: Option<Term>,
    ) -> Option<Duration> {
        let promise = self.promise.filter(|promise| now < promise.until)?;
        if let Some((leader, term)) = promise.to
            && (leader == candidate || released == Some(term))
        {
            return None;
        }
        Some(promise.until.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two clocks, each wrong by the bound in the worse direction.
    #[test]
    fn a_lease_ends_before_the_promise_whatever_the_clocks_do_within_the_bound() {
        for milliseconds in [1, 7, 500, 1000, 60_000] {
            let promise = Duration::from_millis(milliseconds);
            let sent = Time(1 << 40);
            let lease = lease_end(sent, promise).since(sent).as_nanos();
            // The leader's clock is slow, so its lease lasts longer; the voter's is fast.
            let lasts = lease * u128::from(MILLION) / u128::from(MILLION - CLOCK_DRIFT_PPM_MAX);
            let kept = promise.as_nanos() * u128::from(MILLION)
                / u128::from(MILLION + CLOCK_DRIFT_PPM_MAX);
            assert!(lasts <= kept, "{lasts} {kept}");
            assert!(
                lease * 100 > promise.as_nanos() * 95,
                "hardly anything is left"
            );
        }
    }

    #[test]
    fn what_has_passed_is_never_taken_for_less() {
        for milliseconds in [1, 100, 3000] {
            let real = Duration::from_millis(milliseconds);
            let slow = scale(real, MILLION - CLOCK_DRIFT_PPM_MAX, MILLION);
            assert!(passed_at_most(slow) + Duration::from_nanos(1) >= real);
            assert!(passed_at_most(real) < real * 103 / 100);
            let fast = scale(real, MILLION + CLOCK_DRIFT_PPM_MAX, MILLION);
            assert!(at_most(slow) + Duration::from_nanos(2) >= fast);
        }
    }
}
