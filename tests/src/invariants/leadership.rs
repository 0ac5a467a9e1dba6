//! Only a voter leads and serves, and once a configuration without it is committed, no leader leads on (thesis
//! section 4.2.2). A server that is no voter leads only if it stands in: it has known no leader for an
//! election timeout, and serves nothing. And nobody leads on that has not had a quorum for an election timeout (thesis
//! section 6.2).

use std::collections::BTreeMap;

use kontiki_raft::ServerId;

use super::quorum::is_quorum;
use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct Leadership {
    leaders: BTreeMap<ServerId, Leader>,
    /// When each server knew of another leader last.
    followed: BTreeMap<ServerId, u64>,
}

/// Whom a leader has heard.
#[derive(Debug)]
struct Leader {
    elected: u64,
    /// It was no voter when it was elected.
    stands_in: bool,
    /// Since then, by server: when last.
    heard: BTreeMap<ServerId, u64>,
}

impl Invariant for Leadership {
    fn name(&self) -> &'static str {
        "leadership"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        if !turn.leads() {
            self.leaders.remove(&turn.server);
            if turn.status.standing.leader.is_some() {
                self.followed.insert(turn.server, turn.now);
            }
            return Ok(());
        }
        let (server, term) = (turn.server, turn.status.standing.term);
        let known = &turn.status.configuration;
        let is_stranger = known.committed && !known.configuration.is_voter(server);
        let stands_in = match self.leaders.get(&server).filter(|_| turn.led()) {
            Some(leader) => leader.stands_in,
            None => is_stranger && !self.has_followed(turn),
        };
        if is_stranger && (!stands_in || turn.status.serving) {
            let (term, index) = (term.0, known.index.0);
            return Err(format!(
                "leads term {term} and is no voter of the committed configuration {index}"
            ));
        }
        if ledger.odd_clocks.contains(&server) {
            self.leaders.remove(&server);
            return Ok(());
        }
        let known_since = self.leaders.contains_key(&server);
        let before = turn.before.status.as_ref();
        let Some(before) = before.filter(|_| turn.led() && known_since) else {
            let leader = Leader {
                elected: turn.now,
                stands_in,
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

impl Leadership {
    /// Whether the server knew of another leader within an election timeout. Its clock drifts.
    fn has_followed(&self, turn: &Turn<'_>) -> bool {
        let timeout = turn.driver.raft().config().election_timeout_min * 9 / 10;
        let last = self.followed.get(&turn.server);
        last.is_some_and(|last| u128::from(turn.now - last) < timeout.as_nanos())
    }
}
