//! A transfer of leadership always ends: the leader goes on, or another leads, within an election
//! timeout (thesis section 3.10). Nothing can be written meanwhile.

use std::collections::BTreeMap;

use kontiki_raft::ServerId;

use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct Transfers {
    /// Since when a leader has been seen handing over.
    since: BTreeMap<ServerId, u64>,
}

impl Invariant for Transfers {
    fn name(&self) -> &'static str {
        "transfers end"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        // A clock that breaks its contract says for itself how long that is.
        if !turn.status.transferring || ledger.odd_clocks.contains(&turn.server) {
            self.since.remove(&turn.server);
            return Ok(());
        }
        let since = *self.since.entry(turn.server).or_insert(turn.now);
        // Three times: in the turn in which one ends another may begin that was asked for, and after that
        // the leader's own, to a server of a higher priority.
        let timeout = turn.driver.raft().config().election_timeout_min * 33 / 10;
        let lasted = turn.now - since;
        if u128::from(lasted) > timeout.as_nanos() {
            let seconds = lasted as f64 / 1e9;
            return Err(format!("has been handing over for {seconds} s"));
        }
        Ok(())
    }
}
