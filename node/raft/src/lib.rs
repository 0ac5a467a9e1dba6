//! The Raft algorithm: no sockets, no clock, no threads, no randomness of its own.

mod config;
mod configuration;
mod message;
mod types;

pub use config::Config;
pub use configuration::{Configuration, Purpose};
pub use message::{
    Append, AppendAck, AppendOutcome, Heartbeat, HeartbeatAck, Message, TimeoutNow, Vote, VoteReply,
};
pub use types::{ClusterId, Index, LogId, ServerId, Term, Time};

/// What a server is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Waits to be bootstrapped or added: its log names no configuration yet.
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

/// A wish for another membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeRequest {
    /// Servers to add as learners, each with what is to become of it.
    pub add: Vec<(ServerId, Purpose)>,
    /// Voters and learners to take out.
    pub remove: Vec<ServerId>,
    /// The configuration that the caller saw in force, if it cares.
    pub seen: Option<Index>,
}
