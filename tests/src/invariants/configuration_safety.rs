//! No two disjoint quorums can both commit: when a leader appends a configuration, the one before it
//! is committed, so is an entry of the leader's own term (Ongaro 2015), and every quorum of the one
//! meets every quorum of the other. The bootstrap configuration has nothing before it. Only a learner
//! that was to vote, and has a log, becomes a voter. Every server goes by the last configuration in its
//! log, also if that came to it in a snapshot (thesis section 4.1).

use std::collections::BTreeMap;

use kontiki_raft::{Configuration, Index, LogId, Purpose};

use super::quorum::always_meet;
use super::{Entry, Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct ConfigurationSafety {
    by_entry: BTreeMap<LogId, Configuration>,
}

impl Invariant for ConfigurationSafety {
    fn name(&self) -> &'static str {
        "configuration safety"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        let after = &turn.status.configuration;
        let log = ledger.log(turn.server);
        self.goes_by_the_last(turn, log)?;
        if after.index == Index(0) {
            return Ok(());
        }
        let Some(entry) = log.get(after.index.0 as usize - 1) else {
            return Err(format!(
                "no entry at {} of its configuration",
                after.index.0
            ));
        };
        let configuration = &after.configuration;
        let known = self.by_entry.entry(entry.id);
        let first = known.or_insert_with(|| configuration.clone());
        if first != configuration {
            let id = entry.id;
            return Err(format!("{id} stands for {first:?} and {configuration:?}"));
        }
        self.changed_by_leader(turn, ledger)
    }
}

impl ConfigurationSafety {
    /// Of those that were seen in force anywhere.
    fn goes_by_the_last(&self, turn: &Turn<'_>, log: &[Entry]) -> Result<(), String> {
        let known = turn.status.configuration.index;
        let holds =
            |id: &LogId| log.get(id.index.0 as usize - 1).map(|entry| entry.id) == Some(*id);
        match self.by_entry.keys().rfind(|id| holds(id)) {
            Some(last) if last.index > known => {
                let known = known.0;
                Err(format!(
                    "goes by the configuration at {known}, and has one at {last}"
                ))
            }
            _ => Ok(()),
        }
    }

    fn changed_by_leader(&self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        let after = &turn.status.configuration;
        let before = turn
            .before
            .status
            .as_ref()
            .map(|status| &status.configuration);
        let Some(before) = before.filter(|before| before.index != Index(0)) else {
            return Ok(());
        };
        // In the turn in which it is elected a leader knows of no change to make.
        if !turn.led() || !turn.leads() || before.index == after.index {
            return Ok(());
        }
        let (from, to) = (before.index.0, after.index.0);
        if turn.status.commit < before.index {
            let commit = turn.status.commit.0;
            return Err(format!(
                "configuration {to} was appended with {from} in force, commit index {commit}"
            ));
        }
        let commit = turn.status.commit.0 as usize;
        let committed = commit
            .checked_sub(1)
            .map(|at| ledger.log(turn.server)[at].id.term);
        if committed != Some(turn.status.standing.term) {
            return Err(format!(
                "configuration {to} was appended before an entry of the leader's term was committed"
            ));
        }
        if !always_meet(&before.configuration, &after.configuration) {
            let (one, other) = (&before.configuration, &after.configuration);
            return Err(format!("quorums of {one:?} and {other:?} may be disjoint"));
        }
        new_voters_were_learners(&before.configuration, &after.configuration, ledger)
    }
}

fn new_voters_were_learners(
    before: &Configuration,
    after: &Configuration,
    ledger: &Ledger,
) -> Result<(), String> {
    for voter in after.voters.difference(&before.voters) {
        match before.learners.get(voter) {
            Some(Purpose::Join | Purpose::Replace(_)) => {}
            was => return Err(format!("{voter} was made a voter, and was {was:?}")),
        }
        let seen = ledger.servers.get(voter);
        if seen.is_none_or(|seen| seen.log.is_empty()) {
            return Err(format!("{voter} was made a voter without a log"));
        }
    }
    Ok(())
}
