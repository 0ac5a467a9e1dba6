//! What a cluster can lose: the model never takes a quorum away for good, in no configuration that is
//! in force somewhere or may come to be. What Raft cannot survive is no fault of an engine.

use std::collections::BTreeSet;

use kontiki_node::driver::Status;
use kontiki_raft::{ChangeRequest, Configuration, Index, Purpose, ServerId};

use super::World;

/// Configurations that are looked at; past it nothing may be lost.
const POSSIBLE_MAX: usize = 4096;

impl World {
    /// Whether the cluster still has all that it needs after this server dies.
    pub(super) fn can_lose(&self, server: ServerId) -> bool {
        self.is_safe(Some(server), None) && self.is_electable_without(server)
    }

    /// Whether somebody who is left could be elected by those who are left. A quorum that lives is not
    /// enough: a learner may hold more than any voter, as one that was lost told nobody else, and refuse
    /// its vote to whoever believes that it votes. It would never campaign itself.
    fn is_electable_without(&self, lost: ServerId) -> bool {
        let left: Vec<&Status> = self
            .processes()
            .map(|(_, process)| &process.status)
            .filter(|status| status.server != lost && self.is_sound(status.server))
            .collect();
        let gone = self.processes().find(|(_, process)| process.server == lost);
        let told = gone.map(|(_, process)| process.status.last);
        let votes = |status: &Status| {
            let known = &status.configuration.configuration;
            known.is_voter(status.server)
        };
        let wins = |candidate: &Status| {
            let grants = |voter: &Status| {
                voter.last <= candidate.last
                    && (votes(voter) || told.is_none_or(|told| told <= candidate.last))
            };
            let mut halves = candidate.configuration.configuration.halves();
            halves.all(|half| {
                let granting = left
                    .iter()
                    .filter(|voter| half.contains(&voter.server) && grants(voter));
                granting.count() >= (half.len() / 2 + 1).max(self.raft.min_majority)
            })
        };
        left.iter()
            .any(|candidate| votes(candidate) && candidate.quarantine.is_none() && wins(candidate))
    }

    /// Whether the cluster still has all that it needs if somebody asks for this, now or later.
    pub(super) fn can_change(&self, change: &ChangeRequest) -> bool {
        self.is_safe(None, Some(change))
    }

    /// Whether in every configuration that is in force somewhere, or may come to be, those who live
    /// are a quorum.
    fn is_safe(&self, lost: Option<ServerId>, change: Option<&ChangeRequest>) -> bool {
        let mut changes: Vec<&ChangeRequest> =
            self.changes.values().map(|(_, change)| change).collect();
        changes.extend(change);
        let mut possible = Possible::default();
        for configuration in self.in_force() {
            possible.begin(configuration);
        }
        if !possible.explore(&changes) {
            return false;
        }
        possible.voters.iter().all(|voters| {
            let living = voters
                .iter()
                .filter(|voter| Some(**voter) != lost && self.is_sound(**voter));
            let quorum = (voters.len() / 2 + 1).max(self.raft.min_majority);
            living.count() >= quorum
        })
    }

    /// What is in force at some server, and not known to be replaced by something newer.
    pub(super) fn in_force(&self) -> impl Iterator<Item = &Configuration> {
        let newest = self.newest_committed_configuration();
        self.processes()
            .map(|(_, process)| &process.status.configuration)
            .filter(move |known| known.index >= newest)
            .map(|known| &known.configuration)
    }

    fn newest_committed_configuration(&self) -> Index {
        let known = self
            .processes()
            .map(|(_, process)| &process.status.configuration);
        let committed = known.filter(|known| known.committed);
        committed.map(|known| known.index).max().unwrap_or_default()
    }
}

/// Configurations that may come to be.
#[derive(Debug, Default)]
struct Possible {
    /// Sets of voters that must have a quorum. A change from one to another needs both.
    voters: BTreeSet<BTreeSet<ServerId>>,
    /// Stable configurations.
    stable: Vec<Configuration>,
}

impl Possible {
    fn begin(&mut self, configuration: &Configuration) {
        self.voters.extend(
            configuration
                .halves()
                .filter(|half| !half.is_empty())
                .cloned(),
        );
        self.add(Configuration {
            outgoing: None,
            ..configuration.clone()
        });
    }

    fn add(&mut self, configuration: Configuration) {
        if configuration.voters.is_empty() || self.stable.contains(&configuration) {
            return;
        }
        self.voters.insert(configuration.voters.clone());
        self.stable.push(configuration);
    }

    /// Adds all that changes and promotions make of them, in any order; `false` if that is too much.
    fn explore(&mut self, changes: &[&ChangeRequest]) -> bool {
        let mut at = 0;
        while let Some(configuration) = self.stable.get(at).cloned() {
            if self.stable.len() > POSSIBLE_MAX {
                return false;
            }
            at += 1;
            for change in changes {
                self.add(changed(&configuration, change));
            }
            self.promote(&configuration);
        }
        true
    }

    /// Learners that join become voters together or, if some of them stall, a part of them; one that
    /// replaces a voter by itself.
    fn promote(&mut self, configuration: &Configuration) {
        let mut joining = Vec::new();
        for (learner, purpose) in &configuration.learners {
            match purpose {
                Purpose::Stay => {}
                Purpose::Join => joining.push(*learner),
                Purpose::Replace(lost) => {
                    let mut target = configuration.clone();
                    target.learners.remove(learner);
                    target.voters.remove(lost);
                    target.voters.insert(*learner);
                    self.add(target);
                }
            }
        }
        for chosen in 1..1u32 << joining.len() {
            let mut target = configuration.clone();
            for (at, learner) in joining.iter().enumerate() {
                if chosen >> at & 1 == 1 {
                    target.learners.remove(learner);
                    target.voters.insert(*learner);
                }
            }
            self.add(target);
        }
    }
}

fn changed(configuration: &Configuration, change: &ChangeRequest) -> Configuration {
    let mut changed = configuration.clone();
    for (server, purpose) in &change.add {
        if !changed.voters.contains(server) {
            changed.learners.insert(*server, *purpose);
        } else if let Purpose::Replace(lost) = purpose {
            changed.voters.remove(lost);
        }
    }
    for server in &change.remove {
        changed.voters.remove(server);
        changed.learners.remove(server);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(ids: &[u64]) -> BTreeSet<ServerId> {
        ids.iter().map(|id| ServerId(*id)).collect()
    }

    fn possible(configuration: &Configuration, changes: &[&ChangeRequest]) -> Possible {
        let mut possible = Possible::default();
        possible.begin(configuration);
        assert!(possible.explore(changes));
        possible
    }

    #[test]
    fn of_learners_that_join_a_part_may_become_voters() {
        let configuration = Configuration {
            voters: servers(&[1, 2, 3]),
            learners: [(ServerId(4), Purpose::Join), (ServerId(5), Purpose::Join)].into(),
            ..Configuration::default()
        };
        let possible = possible(&configuration, &[]);
        for voters in [
            &[1, 2, 3][..],
            &[1, 2, 3, 4],
            &[1, 2, 3, 5],
            &[1, 2, 3, 4, 5],
        ] {
            assert!(possible.voters.contains(&servers(voters)), "{voters:?}");
        }
        assert_eq!(possible.voters.len(), 4);
    }

    #[test]
    fn changes_that_nobody_answered_may_all_come_to_be() {
        let one = ChangeRequest {
            add: vec![(ServerId(4), Purpose::Replace(ServerId(3)))],
            ..ChangeRequest::default()
        };
        let other = ChangeRequest {
            remove: vec![ServerId(1)],
            ..ChangeRequest::default()
        };
        let possible = possible(&Configuration::of([1, 2, 3].map(ServerId)), &[&one, &other]);
        for voters in [&[1, 2, 3][..], &[2, 3], &[1, 2, 4], &[2, 4]] {
            assert!(possible.voters.contains(&servers(voters)), "{voters:?}");
        }
        assert_eq!(possible.voters.len(), 4);
    }

    #[test]
    fn while_joint_both_halves_are_needed() {
        let configuration = Configuration {
            voters: servers(&[1, 4]),
            outgoing: Some(servers(&[1, 2, 3])),
            ..Configuration::default()
        };
        let possible = possible(&configuration, &[]);
        assert!(possible.voters.contains(&servers(&[1, 4])));
        assert!(possible.voters.contains(&servers(&[1, 2, 3])));
    }
}
