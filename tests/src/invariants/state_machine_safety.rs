//! No two servers commit or apply different entries at the same index (Raft paper, figure 3), and
//! every machine sees the same values in the same order, under the same versions.

use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct StateMachineSafety;

impl Invariant for StateMachineSafety {
    fn name(&self) -> &'static str {
        "state machine safety"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        let log = ledger.log(turn.server);
        let from = turn.before.commit.0 as usize;
        let commit = (turn.status.commit.0 as usize).min(ledger.committed.len());
        let known = ledger.committed.iter().zip(log).take(commit).skip(from);
        for (committed, entry) in known {
            if committed.entry != *entry {
                let (one, other) = (committed.entry.id, entry.id);
                return Err(format!("{one} and {other} are both committed"));
            }
        }
        let mut last = turn.before.applied;
        for applied in turn.applied {
            let index = applied.id.index;
            if index <= last || index > turn.status.applied {
                return Err(format!("{} was applied out of order", applied.id));
            }
            last = index;
            if log[index.0 as usize - 1].id != applied.id {
                return Err(format!("{} was applied and is not in the log", applied.id));
            }
            match ledger.applied.get(&index) {
                Some(first) if first != applied && !ledger.rotted.contains(&turn.server) => {
                    return Err(format!("applied {applied:?}, and elsewhere {first:?}"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
