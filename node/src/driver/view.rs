//! What others may see of a driver.

use std::time::Duration;

use kontiki_raft::{EntryKind, Index, LogId, Raft, Role};

use super::counters::Counters;
use super::interface::{ConfigurationStatus, Output, PeerStatus, Standing, Status};
use super::{Driver, Stage};
use crate::host::Control;
use crate::machine::StateMachine;

impl<R> Driver<R> {
    pub(super) fn current_standing(&self) -> Standing {
        let leader = match self.raft.role() {
            Role::Leader if !self.raft.is_serving(self.now) => None,
            _ => self.raft.leader(),
        };
        Standing {
            role: self.raft.role(),
            term: self.raft.term(),
            leader,
        }
    }

    /// Tells of a new role, term or leader.
    pub(super) fn show_standing(&mut self, outputs: &mut Vec<Output<R>>) {
        let standing = self.current_standing();
        if standing == self.standing {
            return;
        }
        let was = std::mem::replace(&mut self.standing, standing);
        if standing.role != was.role
            && let Some(job) = self.applier.tell(standing.role)
        {
            self.give(job, outputs);
        }
        self.counters.elected +=
            u64::from(standing.role == Role::Leader && was.role != Role::Leader);
        self.counters.campaigns +=
            u64::from(self.raft.vote() == Some(self.raft.id()) && standing.term > was.term);
        outputs.push(Output::Standing(standing));
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Who leads, as of the last turn.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// A description, as of the last turn.
    pub fn status(&self) -> Status {
        let (index, configuration) = self.raft.configuration();
        let committed = self.raft.committed_configuration();
        let is_voter = committed.1.is_voter(self.raft.id());
        let host = self.applier.status();
        let quarantine = self.applier.quarantine().cloned();
        Status {
            cluster: self.cluster,
            server: self.raft.id(),
            standing: self.current_standing(),
            first: self.raft.first(),
            last: self.raft.last(),
            commit: self.raft.commit(),
            applied: self.applier.applied(),
            configuration: ConfigurationStatus {
                index,
                committed: index <= self.raft.commit(),
                configuration: configuration.clone(),
            },
            progress: self.peer_statuses(),
            activated: host.activated.is_some(),
            // A server is made a voter only once it has caught up, and an initial one starts with
            // all there is: to be a voter of a committed configuration is to have caught up once.
            ready: is_voter
                && host.activated.is_some()
                && quarantine.is_none()
                && !self.applier.standstill.is_outrun(),
            min_majority: self.raft.config().min_majority,
            election_priority: self.raft.config().election_priority,
            serving: self.raft.is_serving(self.now),
            transferring: self.raft.is_transferring(),
            term_committed: self.raft.is_term_committed(),
            receiving: self.snapshots.receiving.received(),
            snapshot_refusal: self.snapshots.receiving.refusal().map(str::to_owned),
            log_bytes: self.log.total_bytes(),
            state_bytes: self.state_bytes(),
            state_bytes_max: self.state_bytes_max,
            machine: self.applier.name(),
            version: host.version,
            sessions: host.sessions,
            versions: self.applier.versions(),
            quarantine,
            bootstrap_conflict: self.origin.conflict(),
            diverged: self.reports.diverged().cloned(),
            digest: host.digest,
            standstill: self.applier.standstill.describe(self.now),
            settings: self.comparison.mine().clone(),
            warnings: self.comparison.warnings().to_vec(),
            round_trip: self.round_trip(),
        }
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let learners = &self.raft.configuration().1.learners;
        let status = |peer: kontiki_raft::PeerProgress| PeerStatus {
            server: peer.server,
            matched: peer.matched,
            heard: peer.heard,
            reachable: peer.reachable,
            learner: learners.get(&peer.server).copied(),
            stalled: peer.is_stalled,
            refill: peer.refill,
        };
        self.raft.progress().map(status).collect()
    }

    /// Hands over the sampled gaps between the stages of a write since the last call.
    pub fn drain_samples(&mut self, each: impl FnMut(Stage, Duration)) {
        self.samples.drain(each);
    }

    /// The entry at an index with its payload, if it is held.
    pub fn entry(&self, index: Index) -> Option<(LogId, &[u8])> {
        self.log.get(index).map(|entry| (entry.id, entry.payload))
    }

    /// What the control entry at an index says; `None` if there is none that is held.
    pub fn control(&self, index: Index) -> Option<Control<'_>> {
        let entry = self.log.get(index)?;
        match entry.kind {
            EntryKind::Control => Control::decode(entry.payload),
            _ => None,
        }
    }

    /// The engine, to look at.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The machine, to look at, unless it lives on another thread.
    pub fn machine(&self) -> Option<&dyn StateMachine> {
        self.applier.machine()
    }
}
