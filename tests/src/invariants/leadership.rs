//! Only a voter leads: never a learner, and once a configuration without it is committed, no leader does
//! (thesis section 4.2.2). And nobody leads on that has not had a quorum for an election timeout (thesis
//! section 6.2).

use std::collections::BTreeMap;

use kontiki_raft::ServerId;

use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct Leadership {
    /// Since when a leader has been seen without a quorum.
    alone_since: BTreeMap<ServerId, u64>,
}

impl Invariant for Leadership {
    fn name(&self) -> &'static str {
        "leadership"
    }

    fn check(&mut self, turn: &Turn<'_>, _ledger: &Ledger) -> Result<(), String> {
        if !turn.leads() || turn.status.serving {
            self.alone_since.remove(&turn.server);
        }
        if !turn.leads() {
            return Ok(());
        }
        let term = turn.status.standing.term.0;
        let known = &turn.status.configuration;
        if known.committed && !known.configuration.is_voter(turn.server) {
            let index = known.index.0;
            return Err(format!(
                "leads term {term} and is no voter of the committed configuration {index}"
            ));
        }
        if turn.status.serving {
            return Ok(());
        }
        let since = *self.alone_since.entry(turn.server).or_insert(turn.now);
        // Its clock drifts.
        let timeout = turn.driver.raft().config().election_timeout_min * 11 / 10;
        let alone = turn.now - since;
        if u128::from(alone) > timeout.as_nanos() {
            let seconds = alone as f64 / 1e9;
            return Err(format!(
                "leads term {term} without a quorum for {seconds} s"
            ));
        }
        Ok(())
    }
}
