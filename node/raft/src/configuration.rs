//! Who belongs to the cluster: an entry of the log, in force from the moment it is appended (paper
//! section 6), joint while voters change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::types::ServerId;

/// Why a learner is one. Carried in the entry, so that a new leader knows it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It stays a learner.
    Stay,
    /// It becomes a voter once it has caught up.
    Join,
    /// Once it has caught up it takes the place of this voter, in one joint change.
    Replace(ServerId),
}

/// What a configuration says of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberRole {
    /// It counts towards a quorum.
    Voter,
    /// It receives the log and does not count.
    Learner,
    /// The configuration does not name it.
    Stranger,
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Voter => "a voter",
            Self::Learner => "a learner",
            Self::Stranger => "not a member",
        })
    }
}

/// The servers of a cluster and what each is.
///
/// Invariant: no server is voter and learner at once; `outgoing` is `Some` only while joint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The voters; while joint the incoming ones.
    pub voters: BTreeSet<ServerId>,
    /// The outgoing voters while joint (C-old of the paper).
    pub outgoing: Option<BTreeSet<ServerId>>,
    /// Servers that receive the log but do not count.
    pub learners: BTreeMap<ServerId, Purpose>,
}

impl Configuration {
    /// A stable configuration of these voters.
    pub fn of(voters: impl IntoIterator<Item = ServerId>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether a change of voters is in flight.
    pub fn is_joint(&self) -> bool {
        self.outgoing.is_some()
    }

    /// Whether `server` counts towards a quorum, in either half.
    pub fn is_voter(&self, server: ServerId) -> bool {
        self.voters.contains(&server)
            || self
                .outgoing
                .as_ref()
                .is_some_and(|outgoing| outgoing.contains(&server))
    }

    /// Whether `server` receives the log.
    pub fn contains(&self, server: ServerId) -> bool {
        self.is_voter(server) || self.learners.contains_key(&server)
    }

    /// What `server` is.
    pub fn role_of(&self, server: ServerId) -> MemberRole {
        match (self.is_voter(server), self.learners.contains_key(&server)) {
            (true, _) => MemberRole::Voter,
            (false, true) => MemberRole::Learner,
            (false, false) => MemberRole::Stranger,
        }
    }

    /// Everyone who receives the log, each once, in order.
    pub fn servers(&self) -> BTreeSet<ServerId> {
        let mut all = self.voters.clone();
        all.extend(self.outgoing.iter().flatten().copied());
        all.extend(self.learners.keys().copied());
        all
    }

    /// Makes a voter of a learner.
    pub(crate) fn promote(&mut self, server: ServerId) {
        self.learners.remove(&server);
        self.voters.insert(server);
    }

    /// The voters of each half: one half, or two while joint.
    pub fn halves(&self) -> impl Iterator<Item = &BTreeSet<ServerId>> {
        std::iter::once(&self.voters).chain(self.outgoing.as_ref())
    }
}
