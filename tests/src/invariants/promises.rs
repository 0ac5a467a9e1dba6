//! While a promise that was given to a leader holds, its server votes for nobody else, in a pre-vote
//! either, and does not campaign itself; except for whom that leader has told to campaign. A promise
//! counts by the clock of the server that gave it. A later leader's takes its place, since a quorum has
//! elected that one meanwhile. And a leader that takes itself to have a lease has live promises of a quorum,
//! whatever its own clock says.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_node::driver::Output;
use kontiki_raft::{Message, ServerId, Term, Time};

use super::quorum::is_quorum;
use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct Promises {
    /// The last that each server gave.
    given: BTreeMap<ServerId, Promise>,
    /// Whom a leader has told to campaign in its term.
    released: BTreeSet<(Term, ServerId)>,
}

#[derive(Clone, Copy, Debug)]
struct Promise {
    to: ServerId,
    term: Term,
    until: Time,
}

impl Promises {
    /// `server` gives its vote, or a promise of it, to `candidate`.
    fn votes(&self, server: ServerId, candidate: ServerId, local: Time) -> Result<(), String> {
        let Some(promise) = self.given.get(&server) else {
            return Ok(());
        };
        let is_released = self.released.contains(&(promise.term, candidate));
        if local >= promise.until || promise.to == candidate || is_released {
            return Ok(());
        }
        let more = promise.until.since(local);
        Err(format!(
            "votes for {candidate}, and has promised its vote to {} in term {} for {more:?} more",
            promise.to, promise.term.0
        ))
    }

    /// Whether `server` is still bound to the leader of that term; `local` is what its clock shows, or
    /// nothing if it is lost: then it votes for nobody any more.
    fn is_bound(&self, server: ServerId, to: ServerId, term: Term, local: Option<Time>) -> bool {
        self.given.get(&server).is_some_and(|promise| {
            (promise.to, promise.term) == (to, term)
                && local.is_none_or(|local| local < promise.until)
        })
    }

    fn lease(&self, turn: &Turn<'_>) -> Result<(), String> {
        let leader = turn.server;
        if !turn.driver.raft().holds_lease(turn.local) {
            return Ok(());
        }
        let term = turn.status.standing.term;
        let binds = |server: ServerId| {
            server == leader || self.is_bound(server, leader, term, (turn.clocks)(server))
        };
        let configuration = &turn.status.configuration.configuration;
        match is_quorum(configuration, turn.min_majority, binds) {
            true => Ok(()),
            false => Err(format!(
                "takes itself to have a lease in term {}, and promised is only {:?}",
                term.0, self.given
            )),
        }
    }

    fn gives(&mut self, server: ServerId, new: Promise) {
        let before = self.given.get(&server);
        let same = before.filter(|before| (before.to, before.term) == (new.to, new.term));
        let until = same.map_or(new.until, |before| before.until.max(new.until));
        self.given.insert(server, Promise { until, ..new });
    }
}

impl Invariant for Promises {
    fn name(&self) -> &'static str {
        "promises"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        let server = turn.server;
        for output in turn.outputs {
            let Output::Send(envelope) = output else {
                continue;
            };
            let to = envelope.to;
            match &envelope.message {
                Message::VoteReply(reply) if reply.granted => {
                    self.votes(server, to, turn.local)?;
                }
                Message::Vote(_) => self.votes(server, server, turn.local)?,
                Message::TimeoutNow(request) => {
                    self.released.insert((request.term, to));
                }
                Message::HeartbeatAck(ack) => {
                    let beat = ack.beat.filter(|beat| !beat.promise.is_zero());
                    if let Some(beat) = beat {
                        let until = beat.at + beat.promise;
                        let term = ack.term;
                        self.gives(server, Promise { to, term, until });
                    }
                }
                _ => {}
            }
        }
        // A promise binds by a clock that keeps its contract.
        match ledger.odd_clocks.is_empty() {
            true => self.lease(turn),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOTER: ServerId = ServerId(1);
    const LEADER: ServerId = ServerId(2);
    const OTHER: ServerId = ServerId(3);

    fn promise(to: ServerId, term: u64, until: u64) -> Promise {
        Promise {
            to,
            term: Term(term),
            until: Time(until),
        }
    }

    #[test]
    fn a_promise_holds_until_its_end_and_for_its_leader_it_never_does() {
        let mut promises = Promises::default();
        promises.gives(VOTER, promise(LEADER, 4, 100));
        promises.gives(VOTER, promise(LEADER, 4, 90));
        assert!(promises.votes(VOTER, OTHER, Time(99)).is_err());
        assert!(promises.votes(VOTER, VOTER, Time(99)).is_err());
        assert_eq!(promises.votes(VOTER, OTHER, Time(100)), Ok(()));
        assert_eq!(promises.votes(VOTER, LEADER, Time(50)), Ok(()));
        assert_eq!(promises.votes(OTHER, VOTER, Time(50)), Ok(()));
    }

    #[test]
    fn a_promise_binds_by_the_clock_of_who_gave_it_and_for_ever_once_that_is_lost() {
        let mut promises = Promises::default();
        promises.gives(VOTER, promise(LEADER, 4, 100));
        let is_bound = |to, term, local| promises.is_bound(VOTER, to, Term(term), local);
        assert!(is_bound(LEADER, 4, Some(Time(99))));
        assert!(!is_bound(LEADER, 4, Some(Time(100))));
        assert!(!is_bound(LEADER, 5, Some(Time(99))));
        assert!(!is_bound(OTHER, 4, Some(Time(99))));
        assert!(is_bound(LEADER, 4, None));
    }

    #[test]
    fn whom_the_leader_told_to_campaign_is_voted_for_and_a_later_leader_counts_alone() {
        let mut promises = Promises::default();
        promises.gives(VOTER, promise(LEADER, 4, 100));
        promises.released.insert((Term(4), OTHER));
        assert_eq!(promises.votes(VOTER, OTHER, Time(50)), Ok(()));
        promises.gives(VOTER, promise(OTHER, 5, 80));
        assert!(promises.votes(VOTER, LEADER, Time(79)).is_err());
        assert_eq!(promises.votes(VOTER, LEADER, Time(80)), Ok(()));
    }
}
