//! While a promise that was given to a leader holds, its server votes for nobody else, in a pre-vote
//! either, and does not campaign itself; except for whom that leader has told to campaign. A promise
//! counts by the clock of the server that gave it. A later leader's takes its place, since a quorum has
//! elected that one meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_node::driver::Output;
use kontiki_raft::{Message, ServerId, Term, Time};

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

    fn check(&mut self, turn: &Turn<'_>, _ledger: &Ledger) -> Result<(), String> {
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
        Ok(())
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
