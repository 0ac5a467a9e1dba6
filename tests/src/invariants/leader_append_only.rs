//! A leader never overwrites or deletes entries of its log (Raft paper, figure 3), and nobody ever
//! truncates what it counts as committed.

use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct LeaderAppendOnly;

impl Invariant for LeaderAppendOnly {
    fn name(&self) -> &'static str {
        "leader append-only"
    }

    fn check(&mut self, turn: &Turn<'_>, _ledger: &Ledger) -> Result<(), String> {
        let kept = turn.appended.start;
        if turn.leads() && turn.led() && turn.truncated > 0 {
            return Err(format!("the leader truncated its log to {kept} entries"));
        }
        if (kept as u64) < turn.before.commit.0 {
            let commit = turn.before.commit.0;
            return Err(format!(
                "the log was truncated to {kept}, below commit {commit}"
            ));
        }
        Ok(())
    }
}
