//! The registers that a snapshot brings are those that applying every entry up to there makes. (What
//! depends on versions, and the rest of what comes with it, is for digests and the other invariants.)

use std::collections::BTreeMap;

use kontiki_raft::{Index, ServerId};

use super::{Invariant, Ledger, Turn};
use crate::register::{SUM, value_of};

/// See the module.
#[derive(Debug, Default)]
pub struct RestoredState {
    /// Snapshots that each server had restored when it was last looked at.
    restored: BTreeMap<ServerId, u64>,
}

impl Invariant for RestoredState {
    fn name(&self) -> &'static str {
        "restored state"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        let counted = turn.driver.counters().snapshots_restored;
        let known = self.restored.entry(turn.server).or_default();
        let Some((applied, machine)) = turn.machine.filter(|_| counted > *known) else {
            return Ok(());
        };
        *known = counted;
        let mut expected = BTreeMap::new();
        let before = ledger.applied.range(..=applied).map(|(_, write)| write);
        // What others have applied before counts once.
        let fresh = turn.applied.iter();
        let fresh = fresh.filter(|write| !ledger.applied.contains_key(&write.id.index));
        for write in before.chain(fresh) {
            write.apply_to(&mut expected);
        }
        for key in 0..SUM {
            let value = machine.read(&[key]).map_err(|refused| refused.0)?;
            let value = value_of(&value).ok_or("a reply is not 8 bytes")?;
            let wanted = expected.get(&key).copied().unwrap_or(0);
            if value != wanted {
                return Err(format!(
                    "key {key} is {value} after a snapshot and what follows it through {}, and \
                     should be {wanted}",
                    applied.0
                ));
            }
        }
        if applied < Index(1) {
            return Err("a snapshot of nothing was restored".into());
        }
        Ok(())
    }
}
