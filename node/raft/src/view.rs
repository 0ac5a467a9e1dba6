//! What others may see of a server.

use crate::config::Config;
use crate::configuration::Configuration;
use crate::message::SnapshotId;
use crate::raft::{Raft, State};
use crate::types::{Index, LogId, ServerId, Term, Time};

/// What a server is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Waits to be bootstrapped or added: no configuration in its log names it.
    Joiner,
    /// Receives the log and does not count.
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads its term.
    Leader,
}

/// What a leader knows of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// Which.
    pub server: ServerId,
    /// Replicated there, persistently, through here.
    pub matched: Index,
    /// When it last acknowledged anything in this term.
    pub heard: Option<Time>,
    /// Its connection is not known to be down.
    pub reachable: bool,
    /// A learner that did not catch up within its rounds, or is not heard from, and is not being sent a
    /// snapshot.
    pub is_stalled: bool,
    /// Bytes of appends in flight to it.
    pub inflight_bytes: usize,
    /// It lacks entries that are compacted.
    pub refill: Option<PeerRefill>,
    /// Bytes of its snapshot that it has acknowledged, until it has caught up: as much log is kept for it.
    pub delivered: u64,
}

/// How far a server that needs a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRefill {
    /// The one that is being sent; `None` while it waits for one.
    pub sending: Option<SnapshotId>,
    /// Bytes of it that have been acknowledged.
    pub delivered: u64,
}

impl Raft {
    /// This server.
    pub fn id(&self) -> ServerId {
        self.id
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whom it voted for in its term.
    pub fn vote(&self) -> Option<ServerId> {
        self.vote
    }

    /// What it is.
    pub fn role(&self) -> Role {
        let (_, configuration) = self.log.configuration();
        match &self.state {
            State::PreCandidate(_) => Role::PreCandidate,
            State::Candidate(_) => Role::Candidate,
            State::Leader(_) => Role::Leader,
            State::Follower(_) if configuration.is_voter(self.id) => Role::Follower,
            State::Follower(_) if configuration.contains(self.id) => Role::Learner,
            State::Follower(_) => Role::Joiner,
        }
    }

    /// The leader of its term, if it knows one; itself if it leads.
    pub fn leader(&self) -> Option<ServerId> {
        match &self.state {
            State::Leader(_) => Some(self.id),
            State::Follower(follower) => follower.leader,
            State::PreCandidate(_) | State::Candidate(_) => None,
        }
    }

    /// The first entry still held.
    pub fn first(&self) -> Index {
        self.log.first()
    }

    /// The last entry.
    pub fn last(&self) -> LogId {
        self.log.last()
    }

    /// Committed through here.
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// The entry at `index`, if it is held.
    pub fn id_at(&self, index: Index) -> Option<LogId> {
        self.log.term(index).map(|term| LogId { term, index })
    }

    /// The configuration in force and its entry; 0 if there is none.
    pub fn configuration(&self) -> (Index, &Configuration) {
        self.log.configuration()
    }

    /// The last committed configuration and its entry.
    pub fn committed_configuration(&self) -> (Index, &Configuration) {
        self.log.configuration_at(self.commit)
    }

    /// The last configuration at or below `index`, which is not compacted, and its entry.
    pub fn configuration_at(&self, index: Index) -> (Index, &Configuration) {
        self.log.configuration_at(index)
    }

    /// Counts truncations of the log: see [`Raft::persisted`].
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether it leads and has committed an entry of its term, so that it knows what is committed.
    pub fn is_term_committed(&self) -> bool {
        matches!(&self.state, State::Leader(leader) if self.commit >= leader.term_start)
    }

    /// Encoded bytes proposed and not committed, if it leads.
    pub fn uncommitted_bytes(&self) -> usize {
        match &self.state {
            State::Leader(_) => self.log.bytes(self.commit, self.log.last().index),
            _ => 0,
        }
    }

    /// Whether it leads and is handing over.
    pub fn is_transferring(&self) -> bool {
        matches!(&self.state, State::Leader(leader) if leader.transfer.is_some())
    }

    /// Whether it leads, hears from a quorum within an election timeout, and has not lost the
    /// connections of one.
    pub fn is_serving(&self, now: Time) -> bool {
        self.check_serving(now).is_ok()
    }

    /// What it knows of the others as the leader; empty otherwise.
    pub fn progress(&self) -> impl Iterator<Item = PeerProgress> + '_ {
        let leader = match &self.state {
            State::Leader(leader) => Some(leader),
            _ => None,
        };
        leader
            .into_iter()
            .flat_map(|leader| &leader.progress)
            .map(|(server, progress)| PeerProgress {
                server: *server,
                matched: progress.matched,
                heard: progress.heard,
                reachable: progress.reachable,
                is_stalled: progress.is_stalled() && progress.snapshot().is_none(),
                inflight_bytes: progress.inflight_bytes(),
                refill: progress.refill(),
                delivered: progress.delivery.bytes,
            })
    }
}
