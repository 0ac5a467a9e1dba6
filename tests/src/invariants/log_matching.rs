//! Two logs that hold an entry of the same index and term agree up to there (Raft paper, figure 3).
//!
//! Checked by induction: every name stands for one payload and one predecessor, in all logs.

use std::collections::BTreeMap;

use kontiki_raft::LogId;

use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct LogMatching {
    /// Hash of the payload, and the entry before.
    entries: BTreeMap<LogId, (u64, LogId)>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        let log = ledger.log(turn.server);
        for position in turn.appended.clone() {
            let entry = log[position];
            let previous = position.checked_sub(1).map(|position| log[position].id);
            let previous = previous.unwrap_or_default();
            if previous.term > entry.id.term {
                return Err(format!("{} follows {previous}", entry.id));
            }
            let found = (entry.hash, previous);
            let first = *self.entries.entry(entry.id).or_insert(found);
            if first.0 != found.0 {
                return Err(format!("{} stands for two payloads", entry.id));
            }
            if first.1 != found.1 {
                let (one, other) = (first.1, found.1);
                return Err(format!("{} follows {one} and {other}", entry.id));
            }
        }
        Ok(())
    }
}
