//! Nobody is quarantined but a server whose memory was changed, whose machine panicked, or that was told
//! to (a survivor of a total loss): no command reaches a machine that does
//! not run its version, and a verdict is the majority's. That each of those is found out is what the
//! end of a run confirms.

use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct OnlyTheGuilty;

impl Invariant for OnlyTheGuilty {
    fn name(&self) -> &'static str {
        "only the guilty are quarantined"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        if let Some(why) = &turn.status.quarantine
            && !ledger.rotted.contains(&turn.server)
            && !ledger.panicked.contains(&turn.server)
            && !ledger.told_to_stop.contains(&turn.server)
        {
            return Err(format!("is quarantined: {why}"));
        }
        if let Some(why) = &turn.status.diverged
            && ledger.rotted.is_empty()
        {
            return Err(format!("sees what is not there: {why}"));
        }
        Ok(())
    }
}
