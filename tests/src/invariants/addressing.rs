//! A server drops, and counts, every message that is meant for another incarnation or comes from
//! another cluster.

use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct Addressing;

impl Invariant for Addressing {
    fn name(&self) -> &'static str {
        "addressing"
    }

    fn check(&mut self, turn: &Turn<'_>, _ledger: &Ledger) -> Result<(), String> {
        let counters = turn.driver.counters();
        let dropped = counters.dropped_wrong_cluster + counters.dropped_wrong_server;
        let dropped = dropped - turn.before.dropped;
        if dropped != turn.misaddressed {
            let misaddressed = turn.misaddressed;
            return Err(format!(
                "{misaddressed} messages were not meant for it, and it dropped {dropped}"
            ));
        }
        Ok(())
    }
}
