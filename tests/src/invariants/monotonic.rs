//! Term, commit index and applied index of a server never go back; applied <= commit <= last.

use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct Monotonic;

impl Invariant for Monotonic {
    fn name(&self) -> &'static str {
        "monotonic"
    }

    fn check(&mut self, turn: &Turn<'_>, _ledger: &Ledger) -> Result<(), String> {
        let (before, after) = (&turn.before, turn.status);
        if after.standing.term < before.term {
            let (from, to) = (before.term.0, after.standing.term.0);
            return Err(format!("the term went from {from} to {to}"));
        }
        if after.commit < before.commit {
            let (from, to) = (before.commit.0, after.commit.0);
            return Err(format!("the commit index went from {from} to {to}"));
        }
        if after.applied < before.applied {
            let (from, to) = (before.applied.0, after.applied.0);
            return Err(format!("the applied index went from {from} to {to}"));
        }
        if after.applied > after.commit || after.commit > after.last.index {
            let (applied, commit) = (after.applied.0, after.commit.0);
            let last = after.last;
            return Err(format!(
                "applied {applied}, committed {commit}, last {last}"
            ));
        }
        Ok(())
    }
}
