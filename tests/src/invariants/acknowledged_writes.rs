//! No acknowledged write is lost, no refused one is applied, none is applied twice.
//!
//! An acknowledged write is committed at the index that the answer names; that it then stays is what
//! state machine safety and leader completeness say, and what the end of a run confirms.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_node::driver::{Answer, Refusal};
use kontiki_raft::Index;

use super::{Asked, Invariant, Ledger, Turn};
use crate::register::value_of;

/// See the module.
#[derive(Debug, Default)]
pub struct AcknowledgedWrites {
    /// Where each value was applied.
    applied: BTreeMap<u64, Index>,
    acknowledged: BTreeMap<u64, Index>,
    failed: BTreeSet<u64>,
}

impl Invariant for AcknowledgedWrites {
    fn name(&self) -> &'static str {
        "acknowledged writes"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        for applied in turn.applied {
            let (value, index) = (applied.value, applied.id.index);
            let first = *self.applied.entry(value).or_insert(index);
            if first != index {
                let (one, other) = (first.0, index.0);
                return Err(format!("value {value} was applied at {one} and at {other}"));
            }
            if self.failed.contains(&value) {
                let index = index.0;
                return Err(format!("value {value} was refused, and applied at {index}"));
            }
        }
        for (id, result) in turn.replies() {
            let Some((_, Asked::Write { value, stamp, .. }, _)) = ledger.open.get(&id) else {
                continue;
            };
            match result {
                Ok(answer) => self.acknowledge(*value, answer, turn, ledger)?,
                Err(Refusal::OutcomeUnknown) => {}
                // Of this attempt alone: judged by `refused attempts`.
                Err(_) if stamp.is_some() => {}
                Err(refusal) => {
                    self.failed.insert(*value);
                    if let Some(index) = self.applied.get(value) {
                        let index = index.0;
                        return Err(format!(
                            "value {value} was applied at {index}, and refused: {refusal}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, ledger: &Ledger) -> Result<(), String> {
        for (value, index) in &self.acknowledged {
            let applied = ledger.applied.get(index);
            if applied.map(|applied| applied.value) != Some(*value) {
                let index = index.0;
                return Err(format!("value {value}, acknowledged at {index}, is lost"));
            }
        }
        Ok(())
    }
}

impl AcknowledgedWrites {
    fn acknowledge(
        &mut self,
        value: u64,
        answer: &Answer,
        turn: &Turn<'_>,
        ledger: &Ledger,
    ) -> Result<(), String> {
        let Answer::Written { reply, id } = answer else {
            return Ok(()); // judged by `answered once`
        };
        self.acknowledged.insert(value, id.index);
        let is_rotted = ledger.rotted.contains(&turn.server);
        if is_rotted && self.applied.get(&value) == Some(&id.index) {
            return Ok(()); // what it replaced there is not known
        }
        let fresh = turn.applied.iter().find(|applied| applied.id == *id);
        let applied = fresh.or_else(|| ledger.applied.get(&id.index));
        let Some(applied) = applied.filter(|applied| applied.value == value) else {
            return Err(format!(
                "value {value} was acknowledged at {id} and not applied there"
            ));
        };
        if value_of(reply) != Some(applied.previous) && !is_rotted {
            let previous = applied.previous;
            return Err(format!(
                "value {value} replaced {previous}, the reply says {reply:?}"
            ));
        }
        Ok(())
    }
}
