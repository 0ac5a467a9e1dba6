//! Why a rule does nothing, in numbers.

use std::time::Duration;

use thiserror::Error;

use crate::ids::{ClusterId, NodeName, ServerId};

/// A rule that would act but must not, or waits. It yields to the next rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Which rule.
    pub rule: Rule,
    /// Why.
    pub refusal: Refusal,
}

/// The rules, in order of precedence (design, "Life of a reconcile").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// 1: report, touch nothing.
    Paused,
    /// Before 2: all places name one cluster, or nothing is touched.
    Identity,
    /// 2: act only on an explicit decision.
    QuorumLost,
    /// 3: a change in the Raft log goes first.
    Finish,
    /// 4: servers, addresses, a leader, lost state.
    Repair,
    /// 5: once.
    Bootstrap,
    /// 6: everything beside the servers.
    Objects,
    /// 7: learners on their way.
    Operation,
    /// 8: up and down.
    Scale,
}

/// Why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// `spec.paused`.
    #[error("paused")]
    Paused,
    /// The identity object cannot be read.
    #[error("{place} cannot be read: {reason}")]
    IdentityUnreadable {
        /// Which place.
        place: String,
        /// What went wrong.
        reason: String,
    },
    /// Two places name different clusters.
    #[error("{place} is of cluster {found}, but the identity says {recorded}")]
    IdentityDisagrees {
        /// What the record says (or the first place, if there is no record).
        recorded: ClusterId,
        /// Which place differs.
        place: String,
        /// What it says.
        found: ClusterId,
    },
    /// Too few fresh servers yet.
    #[error("{fresh} of {needed} servers are there")]
    WaitingForServers {
        /// How many fresh servers answered.
        fresh: u32,
        /// How many are waited for.
        needed: u32,
        /// From when fewer will do; `None`: no more.
        fewer_in: Option<Duration>,
    },
    /// More voters are lost for good than a quorum allows.
    #[error("quorum lost: {live} of {voters} voters live, {quorum} are needed")]
    QuorumLost {
        /// Voters that are not lost.
        live: u32,
        /// Voters.
        voters: u32,
        /// How many are needed.
        quorum: u32,
    },
    /// Too few voters answer, though they may live.
    #[error("{answering} of {voters} voters answer, {quorum} are needed")]
    NoQuorumAnswers {
        /// Voters that answered.
        answering: u32,
        /// Voters.
        voters: u32,
        /// How many are needed.
        quorum: u32,
    },
    /// A quorum answers, but nobody in it may lead: all are quarantined.
    #[error("{quarantined} voters answer, and all are quarantined")]
    NobodyMayLead {
        /// Voters that answered.
        quarantined: u32,
    },
    /// Nobody leads.
    #[error("nobody leads")]
    NoLeader {
        /// For how long. Not in the message, which is part of a status: it would be another at every
        /// look, and be written at every look.
        lasting: Duration,
    },
    /// The leader has not committed in its term, does not serve, or hands leadership over.
    #[error("leader {leader} of term {term} cannot change the configuration yet")]
    LeaderNotReady {
        /// Which.
        leader: ServerId,
        /// Its term.
        term: u64,
    },
    /// A joint change, or an uncommitted configuration.
    #[error("configuration {index} is in flight")]
    ChangeInFlight {
        /// Index of its entry.
        index: u64,
    },
    /// Learners have not caught up.
    #[error("{servers:?} catch up")]
    CatchingUp {
        /// Who.
        servers: Vec<ServerId>,
    },
    /// Learners that could not catch up and are tried again.
    #[error("{servers:?} do not catch up")]
    Stalled {
        /// Who.
        servers: Vec<ServerId>,
    },
    /// A voter is lost, and no fresh server is there to take its place.
    #[error("no fresh server for {lost} of {node}")]
    NoFreshServer {
        /// The lost voter.
        lost: ServerId,
        /// Its node, if known.
        node: NodeName,
    },
    /// Fewer voters than `minMajority` would be left.
    #[error("{replicas} servers are fewer than minMajority {min_majority}")]
    BelowMinMajority {
        /// Wanted.
        replicas: u32,
        /// The bound.
        min_majority: u32,
    },
    /// Those that stay would have no quorum.
    #[error("of {voters} voters that would stay {healthy} are healthy, {quorum} are needed")]
    NoQuorumAfterwards {
        /// Voters that would stay, answer and are not quarantined.
        healthy: u32,
        /// Voters that would stay.
        voters: u32,
        /// How many are needed.
        quorum: u32,
    },
    /// A server without a home that is known may be above the ordinals wanted.
    #[error("where {server} is is not known")]
    UnknownHome {
        /// Which.
        server: ServerId,
    },
    /// A fresh server does not know how to apply what is written now.
    #[error(
        "{node} ({server}) supports machine versions {min} to {max}, but {in_force} is in force"
    )]
    UnsupportedMachineVersion {
        /// Which.
        server: ServerId,
        /// Its node.
        node: NodeName,
        /// The oldest version that it supports.
        min: u32,
        /// The newest.
        max: u32,
        /// The version in force.
        in_force: u32,
    },
    /// No version of the machine is known to all servers that would begin the cluster.
    #[error("{older} supports machine versions up to {max}, {newer} from {min} on")]
    NoCommonMachineVersion {
        /// The node whose newest version is the oldest.
        older: NodeName,
        /// That version.
        max: u32,
        /// The node whose oldest version is the newest.
        newer: NodeName,
        /// That version.
        min: u32,
    },
    /// A fresh server runs another machine than the cluster.
    #[error("{node} ({server}) runs machine {found:?}, but this cluster's is {expected:?}")]
    WrongMachine {
        /// Which.
        server: ServerId,
        /// Its node.
        node: NodeName,
        /// What it runs.
        found: String,
        /// What it should run.
        expected: String,
    },
    /// A server that would be needed has stopped. Its memory may be wanted, so that only a person
    /// ends it.
    #[error("{node} ({server}) is quarantined: {reason}")]
    ServerQuarantined {
        /// Which.
        server: ServerId,
        /// Its node.
        node: NodeName,
        /// Why, in its own words.
        reason: String,
    },
    /// No voter could take leadership.
    #[error("no voter can take over from {leader}")]
    NoTransferTarget {
        /// The leader.
        leader: ServerId,
    },
}
