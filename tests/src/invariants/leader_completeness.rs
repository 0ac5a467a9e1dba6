//! What is committed in a term is in the log of the leaders of all later terms (Raft paper, figure
//! 3). By log matching the last such entry stands for all before it.

use kontiki_raft::{Role, Term};

use super::{Entry, Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct LeaderCompleteness;

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        if turn.leads() && !turn.led() {
            new_leader_holds_all(turn, ledger)?;
        }
        let commit = turn.status.commit.0 as usize;
        if commit > ledger.committed.len() {
            let entry = ledger.log(turn.server)[commit - 1];
            later_leaders_hold(entry, turn.status.standing.term, ledger)?;
        }
        Ok(())
    }
}

fn new_leader_holds_all(turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
    let term = turn.status.standing.term;
    let log = ledger.log(turn.server);
    let earlier = ledger.committed.iter().rposition(|entry| entry.by < term);
    let Some(position) = earlier else {
        return Ok(());
    };
    let committed = ledger.committed[position].entry;
    if log.get(position) != Some(&committed) {
        let id = committed.id;
        return Err(format!("leads term {} without the committed {id}", term.0));
    }
    Ok(())
}

/// A leader that was deposed and does not know it must not commit what its successors lack.
fn later_leaders_hold(entry: Entry, by: Term, ledger: &Ledger) -> Result<(), String> {
    for (server, seen) in &ledger.servers {
        let Some(status) = &seen.last.status else {
            continue;
        };
        let leads = status.standing.role == Role::Leader && status.standing.term > by;
        if leads && !seen.holds(entry.id) {
            let (id, term) = (entry.id, status.standing.term.0);
            return Err(format!(
                "committed {id}, which {server}, leader of term {term}, lacks"
            ));
        }
    }
    Ok(())
}
