//! What is still missing after everything healed.

use std::collections::BTreeSet;
use std::time::Duration;

use kontiki_raft::ServerId;

use super::World;
use super::requests::{Asker, Question};
use crate::profile::Profile;

/// Nobody waits longer than this for an answer from a server that lives in a healthy cluster.
const ANSWER_WITHIN: u64 = Duration::from_secs(8).as_nanos() as u64;

impl World {
    /// Why the cluster is not yet what the operator wants, if so.
    pub fn unsettled(&self) -> Option<String> {
        if !self.operator.activated {
            return Some("the cluster is not activated".into());
        }
        let Some((_, leader)) = self.leader() else {
            return Some("nobody leads".into());
        };
        if !leader.status.serving {
            return Some(format!("leader {} does not serve", leader.server));
        }
        let known = &leader.status.configuration;
        let wanted = self.operator.wanted;
        let here: BTreeSet<ServerId> = self
            .processes()
            .map(|(_, process)| process.server)
            .collect();
        let placed = self.processes().all(|(place, _)| place < wanted);
        let settled = known.committed
            && !known.configuration.is_joint()
            && known.configuration.learners.is_empty()
            && known.configuration.voters == here;
        if !settled || !placed || here.len() != wanted {
            let progress = &leader.status.progress;
            return Some(format!(
                "{wanted} servers are wanted, {here:?} live, in force {known:?}, progress \
                 {progress:?}"
            ));
        }
        None
    }

    /// Why the servers do not agree yet, if so.
    pub fn disagreement(&self) -> Option<String> {
        if let Some(why) = self.unsettled() {
            return Some(why);
        }
        if let Some(server) = self.unnoticed_rot() {
            return Some(format!(
                "the memory of {server} changed, and nobody noticed"
            ));
        }
        let (_, leader) = self.leader()?;
        let ends = self.processes().map(|(_, process)| *process.versions.end());
        let (version, common) = (leader.status.version, ends.min()?);
        if version < common {
            return Some(format!(
                "version {version} is in force, and all servers run {common}"
            ));
        }
        let end = leader.status.last;
        for (_, process) in self.processes() {
            let status = &process.status;
            if status.last != end || status.commit != end.index || status.applied != end.index {
                let (server, last) = (process.server, status.last);
                let (commit, applied) = (status.commit.0, status.applied.0);
                return Some(format!(
                    "the leader ends at {end}; {server} at {last}, commit {commit}, applied {applied}"
                ));
            }
        }
        if let Some(why) = self.forgotten_snapshot() {
            return Some(why);
        }
        if let Some(why) = self.untold_role() {
            return Some(why);
        }
        let waiting = self.unanswered_since(self.now.saturating_sub(ANSWER_WITHIN));
        if waiting > 0 {
            let open = self.checker.ledger.open.iter().next();
            return Some(format!(
                "{waiting} requests wait for an answer, such as {open:?}"
            ));
        }
        None
    }

    /// What was received of a snapshot that was given up, if some server still holds it.
    fn forgotten_snapshot(&self) -> Option<String> {
        self.processes().find_map(|(_, process)| {
            let (server, bytes) = (process.server, process.status.receiving?);
            Some(format!(
                "{server} holds {bytes} bytes of a snapshot that nobody sends"
            ))
        })
    }

    /// A machine that was not told the role of its server, if there is one.
    fn untold_role(&self) -> Option<String> {
        self.processes().find_map(|(_, process)| {
            let role = process.status.standing.role;
            let told = process.wires.told.lock().expect("nobody panics with it");
            let told = told.last().copied();
            (told != Some(role)).then(|| {
                let server = process.server;
                format!("{server} is {role:?}, and its machine was told {told:?}")
            })
        })
    }

    /// What the leader holds, and how much it may.
    pub fn held(&self) -> String {
        let leader = self.leader().map(|(_, leader)| &leader.status);
        let held = leader.map(|status| (status.state_bytes.parts(), status.state_bytes_max));
        format!("the leader holds {held:?}")
    }

    /// Clients stop asking.
    pub fn dismiss_clients(&mut self) {
        self.clients_work = false;
    }

    /// They go on.
    pub fn recall_clients(&mut self) {
        self.clients_work = true;
    }

    /// Its mixture of faults.
    pub fn profile(&self) -> &'static Profile {
        self.profile
    }

    /// What the operator does about the survivors of a total loss: it has them stop.
    pub fn quarantine_survivors(&mut self) {
        for server in self.survivors() {
            self.checker.ledger.told_to_stop.insert(server);
            self.ask(Asker::Nobody, server, Question::Quarantine);
        }
    }

    /// A survivor of a total loss that has not stopped.
    pub fn unstopped_survivor(&self) -> Option<ServerId> {
        let stopped = |server: &ServerId| {
            let mut all = self.processes().map(|(_, process)| process);
            all.any(|process| process.server == *server && process.status.quarantine.is_some())
        };
        self.survivors().into_iter().find(|server| !stopped(server))
    }

    fn survivors(&self) -> Vec<ServerId> {
        let all = self.processes().map(|(_, process)| process);
        all.filter(|process| process.status.cluster.is_some())
            .map(|process| process.server)
            .collect()
    }

    /// Whether this run ends in the loss of a quorum.
    pub fn loses_quorum(&self) -> bool {
        self.profile.total_loss
    }
}
