//! Answers to changes and transfers agree with what is so. A change that is answered is committed, as
//! the answer shows it, and those who were to vote then know it. A change that was refused is not begun:
//! a leader adds and takes out only servers that a request named which it did not refuse. After a
//! transfer another server leads the term that the answer names, and after one that failed the server
//! follows nobody else.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_node::driver::{Answer, ConfigurationStatus, Refusal, Standing, Until};
use kontiki_raft::{ChangeRequest, Configuration, Index, Purpose, Role, ServerId};

use super::{Asked, Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct Administration {
    /// Changes that were asked for and not refused, and of which server.
    possible: BTreeMap<u64, (ServerId, ChangeRequest)>,
    /// Configurations that were seen committed, by their entries.
    committed: BTreeMap<Index, Configuration>,
}

impl Invariant for Administration {
    fn name(&self) -> &'static str {
        "administration"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        for (id, asked) in turn.asked {
            if let Asked::Change { change, .. } = asked {
                self.possible.insert(*id, (turn.server, change.clone()));
            }
        }
        self.keep_committed(turn)?;
        for (id, result) in turn.replies() {
            match ledger.open.get(&id).map(|(_, asked, _)| asked) {
                Some(Asked::Change { change, until }) => match result {
                    Ok(Answer::Changed(answer)) => {
                        self.changed(change, *until, answer, turn, ledger)?;
                    }
                    Err(Refusal::OutcomeUnknown | Refusal::ChangeUnfinished(_)) => {}
                    Err(_) => {
                        self.possible.remove(&id);
                    }
                    Ok(_) => {} // judged by `answered once`
                },
                Some(Asked::Transfer { .. }) => transferred(result, turn, ledger)?,
                _ => {}
            }
        }
        self.is_asked_for(turn)
    }
}

impl Administration {
    fn keep_committed(&mut self, turn: &Turn<'_>) -> Result<(), String> {
        let (index, configuration) = turn.driver.raft().committed_configuration();
        if index == Index(0) {
            return Ok(());
        }
        let first = self.committed.entry(index);
        let first = first.or_insert_with(|| configuration.clone());
        if first != configuration {
            let index = index.0;
            return Err(format!(
                "configuration {index} is committed as {first:?} and as {configuration:?}"
            ));
        }
        Ok(())
    }

    fn changed(
        &self,
        change: &ChangeRequest,
        until: Until,
        answer: &ConfigurationStatus,
        turn: &Turn<'_>,
        ledger: &Ledger,
    ) -> Result<(), String> {
        let ConfigurationStatus {
            index,
            committed,
            configuration,
        } = answer;
        if !committed || *index > turn.status.commit {
            let commit = turn.status.commit.0;
            return Err(format!(
                "{change:?} was answered with {answer:?}, commit index {commit}"
            ));
        }
        if self.committed.get(index) != Some(configuration) {
            let known = self.committed.get(index);
            return Err(format!(
                "{change:?} was answered with {answer:?}, and committed is {known:?}"
            ));
        }
        let holds = match until {
            Until::Committed => has_all(change, configuration),
            Until::Effective => {
                let knows = |server: &ServerId| ledger.log(*server).len() as u64 >= index.0;
                let votes = |(server, purpose): &(ServerId, Purpose)| {
                    *purpose == Purpose::Stay
                        || (configuration.voters.contains(server)
                            && ledger.servers.contains_key(server)
                            && knows(server))
                };
                has_all(change, configuration)
                    && !configuration.is_joint()
                    && change.add.iter().all(votes)
            }
        };
        match holds {
            true => Ok(()),
            false => Err(format!(
                "{change:?} was answered as done ({until:?}), in force is {configuration:?}"
            )),
        }
    }

    /// A leader changed the configuration: somebody must have asked it to, or asked an earlier leader for
    /// what it goes on with.
    fn is_asked_for(&self, turn: &Turn<'_>) -> Result<(), String> {
        let Some(before) = turn.before.status.as_ref().filter(|_| turn.led()) else {
            return Ok(());
        };
        let (before, after) = (&before.configuration, &turn.status.configuration);
        if !turn.leads() || before.index == after.index || before.index == Index(0) {
            return Ok(());
        }
        let (before, after) = (
            before.configuration.servers(),
            after.configuration.servers(),
        );
        let here = || self.possible.values().filter(|(at, _)| *at == turn.server);
        for added in after.difference(&before) {
            let asks = |change: &ChangeRequest| change.add.iter().any(|(it, _)| it == added);
            if !here().any(|(_, change)| asks(change)) {
                return Err(format!(
                    "{added} was added, and every request of {} to do so was refused",
                    turn.server
                ));
            }
        }
        let gone: BTreeSet<ServerId> = before.difference(&after).copied().collect();
        for gone in gone {
            let asks = |change: &ChangeRequest| {
                let mut add = change.add.iter();
                change.remove.contains(&gone)
                    || add.any(|(_, purpose)| *purpose == Purpose::Replace(gone))
            };
            if !self.possible.values().any(|(_, change)| asks(change)) {
                return Err(format!(
                    "{gone} was taken out, and every request to do so was refused"
                ));
            }
        }
        Ok(())
    }
}

/// Whether all that is asked for is begun.
fn has_all(change: &ChangeRequest, configuration: &Configuration) -> bool {
    let has_added = |(server, purpose): &(ServerId, Purpose)| {
        let is_learner = configuration.learners.get(server) == Some(purpose);
        let votes = configuration.voters.contains(server);
        match purpose {
            Purpose::Replace(lost) => is_learner || (votes && !configuration.voters.contains(lost)),
            Purpose::Stay | Purpose::Join => is_learner || votes,
        }
    };
    let has_removed = |server: &ServerId| {
        let is_learner = configuration.learners.contains_key(server);
        !is_learner && !configuration.voters.contains(server)
    };
    change.add.iter().all(has_added) && change.remove.iter().all(has_removed)
}

fn transferred(
    result: &Result<Answer, Refusal>,
    turn: &Turn<'_>,
    ledger: &Ledger,
) -> Result<(), String> {
    match result {
        Ok(Answer::Transferred(Standing { term, leader, .. })) => {
            let leads = ledger.leaders.get(term);
            match leader {
                Some(leader) if leads == Some(leader) => Ok(()),
                // It was to be the leader itself, which has lost its quorum meanwhile.
                None if leads == Some(&turn.server) => Ok(()),
                _ => Err(format!(
                    "a transfer was answered: {leader:?} leads term {}, and {leads:?} does",
                    term.0
                )),
            }
        }
        Err(Refusal::TransferFailed) => {
            let standing = turn.status.standing;
            match standing.leader {
                Some(leader) if leader != turn.server && standing.role != Role::Leader => Err(
                    format!("a transfer is said to have failed, and {leader} leads"),
                ),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ServerId = ServerId(1);
    const B: ServerId = ServerId(2);
    const C: ServerId = ServerId(3);
    const D: ServerId = ServerId(4);

    #[test]
    fn what_a_configuration_must_have_follows_from_the_request_alone() {
        let configuration = Configuration {
            voters: [A, B].into(),
            learners: [(D, Purpose::Replace(B))].into(),
            ..Configuration::default()
        };
        let change = |add: &[(ServerId, Purpose)], remove: &[ServerId]| ChangeRequest {
            add: add.to_vec(),
            remove: remove.to_vec(),
            seen: None,
        };
        for (change, expected) in [
            (change(&[(D, Purpose::Replace(B))], &[]), true),
            (change(&[(D, Purpose::Replace(C))], &[]), false),
            (change(&[(B, Purpose::Replace(C))], &[C]), true),
            (change(&[(B, Purpose::Replace(A))], &[]), false),
            (change(&[(A, Purpose::Join)], &[]), true),
            (change(&[(C, Purpose::Stay)], &[]), false),
            (change(&[], &[D]), false),
            (change(&[], &[C]), true),
        ] {
            assert_eq!(has_all(&change, &configuration), expected, "{change:?}");
        }
    }
}
