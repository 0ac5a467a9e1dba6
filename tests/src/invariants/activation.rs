//! No command is applied before an Activate entry, and an answer to the request names that entry: until
//! then the operator may begin the cluster anew, and nothing may be lost by that.

use kontiki_node::driver::Answer;
use kontiki_node::host::Control;
use kontiki_raft::Index;

use super::{Invariant, Ledger, Turn};
use crate::trace::hash_of;

/// See the module.
#[derive(Debug, Default)]
pub struct Activation {
    /// The first Activate entry that is committed.
    activated: Option<Index>,
    /// So many entries were looked at.
    looked_at: usize,
}

impl Invariant for Activation {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        let log = ledger.log(turn.server);
        let commit = (turn.status.commit.0 as usize).min(log.len());
        if self.activated.is_none() && self.looked_at < commit {
            let activate = hash_of(&Control::Activate.encode());
            let found = log[self.looked_at..commit]
                .iter()
                .find(|entry| entry.hash == activate);
            self.activated = found.map(|entry| entry.id.index);
            self.looked_at = commit;
        }
        let is_after = |index: Index| self.activated.is_some_and(|activated| activated < index);
        if let Some(applied) = turn
            .applied
            .iter()
            .find(|applied| !is_after(applied.id.index))
        {
            return Err(format!(
                "{} was applied, and the cluster is activated by {:?}",
                applied.id, self.activated
            ));
        }
        for (_, result) in turn.replies() {
            if let Ok(Answer::Activated(index)) = result
                && self.activated != Some(*index)
            {
                let index = index.0;
                return Err(format!(
                    "was answered that entry {index} activates the cluster, and {:?} does",
                    self.activated
                ));
            }
        }
        let is_activated = self.activated.is_some_and(|at| at <= turn.status.applied);
        if turn.status.activated != is_activated {
            return Err(format!(
                "says activated: {}, has applied {}, and the entry is {:?}",
                turn.status.activated, turn.status.applied.0, self.activated
            ));
        }
        Ok(())
    }
}
