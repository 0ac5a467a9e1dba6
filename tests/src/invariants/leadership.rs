//! Only a voter leads: never a learner, and once a configuration without it is committed, no leader does
//! (thesis section 4.2.2). And nobody leads on that has not had a quorum for an election timeout (thesis
//! section 6.2).

use std::collections::BTreeMap;

use kontiki_raft::ServerId;

use super::quorum::is_quorum;
use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct Leadership {
    leaders: BTreeMap<ServerId, Leader>,
}

/// Whom a leader has heard.
#[derive(Debug)]
struct Leader {
    elected: u64,
    /// Since then, by server: when last.
    heard: BTreeMap<ServerId, u64>,
}

impl Invariant for Leadership {
    fn name(&self) -> &'static str {
        "leadership"
    }

    fn check(&mut self, turn: &Turn<'_>, _ledger: &Ledger) -> Result<(), String> {
        if !turn.leads() {
            self.leaders.remove(&turn.server);
            return Ok(());
        }
        let (server, term) = (turn.server, turn.status.standing.term);
        let known = &turn.status.configuration;
        if known.committed && !known.configuration.is_voter(server) {
            let (term, index) = (term.0, known.index.0);
            return Err(format!(
                "leads term {term} and is no voter of the committed configuration {index}"
            ));
        }
        let Some(before) = turn.before.status.as_ref().filter(|_| turn.led()) else {
            let leader = Leader {
                elected: turn.now,
                heard: BTreeMap::new(),
            };
            self.leaders.insert(server, leader);
            return Ok(());
        };
        let leader = self.leaders.get_mut(&server).expect("it led before");
        for (from, of) in turn.acknowledgements {
            if *of == term {
                leader.heard.insert(*from, turn.now);
            }
        }
        // Its clock drifts.
        let timeout = turn.driver.raft().config().election_timeout_min * 11 / 10;
        let is_heard = |other: ServerId| {
            let last = leader.heard.get(&other).unwrap_or(&leader.elected);
            other == server || u128::from(turn.now - last) <= timeout.as_nanos()
        };
        // The turn began with that configuration, and with a look at who was heard.
        let configuration = &before.configuration.configuration;
        if !is_quorum(configuration, turn.min_majority, is_heard) {
            let (term, elected, heard) = (term.0, leader.elected, &leader.heard);
            return Err(format!(
                "leads term {term} without a quorum: elected at {elected}, now is {}, heard were \
                 {heard:?}",
                turn.now
            ));
        }
        Ok(())
    }
}
