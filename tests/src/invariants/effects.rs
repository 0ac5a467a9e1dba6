//! The effect of a command is run at most once, by the leader that proposed the command, after it was
//! applied.

use std::collections::BTreeSet;

use kontiki_raft::LogId;

use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct EffectsOnce {
    ran: BTreeSet<LogId>,
}

impl Invariant for EffectsOnce {
    fn name(&self) -> &'static str {
        "effects are run once"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        for id in turn.ran {
            if !self.ran.insert(*id) {
                return Err(format!("the effect of {id} was run twice"));
            }
            let leader = ledger.leaders.get(&id.term);
            if leader != Some(&turn.server) {
                return Err(format!(
                    "ran the effect of {id}, whose leader was {leader:?}"
                ));
            }
            let applied = ledger.applied.get(&id.index);
            let is_rotted = ledger.rotted.contains(&turn.server);
            if applied.is_none_or(|applied| applied.id != *id) && !is_rotted {
                return Err(format!(
                    "ran the effect of {id}; applied there is {applied:?}"
                ));
            }
        }
        Ok(())
    }
}
