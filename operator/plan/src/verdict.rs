//! What to say: facts and conditions for the status of a `RaftCluster`, the same in both worlds.

use crate::ids::{ClusterId, NodeName, ServerId};
use crate::inventory::{Inventory, Role};
use crate::plan::Plan;
use crate::wanted::Wanted;

/// Everything `report` writes but times and attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The cluster, once recorded.
    pub cluster: Option<ClusterId>,
    /// Number of nodes that exist.
    pub servers: u32,
    /// Number of ready servers.
    pub ready_servers: u32,
    /// Who leads.
    pub leader: Option<LeaderFact>,
    /// The quorum.
    pub quorum: QuorumFact,
    /// Members of the configuration, and fresh servers, by server id.
    pub members: Vec<Member>,
    /// What is being done.
    pub operation: Option<Operation>,
    /// All conditions, in the order of [`ConditionKind`].
    pub conditions: Vec<ConditionFact>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderFact {
    /// Its node.
    pub node: NodeName,
    /// Which.
    pub server: ServerId,
    /// In which term.
    pub term: u64,
}

/// Voters in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuorumFact {
    /// Voters of the configuration in force.
    pub voters: u32,
    /// Those that answer.
    pub healthy_voters: u32,
    /// How many more may be lost; negative without a quorum.
    pub margin: i32,
}

/// A member, or a server that waits to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub server: ServerId,
    /// Its node, if known.
    pub node: Option<NodeName>,
    /// Its role, if it answers.
    pub role: Option<Role>,
    /// Whether it votes.
    pub voter: bool,
    /// How it is.
    pub state: MemberState,
    /// Version of its program, if it answers.
    pub version: Option<String>,
}

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It answers.
    Active,
    /// Its state is gone.
    Lost,
    /// Waits to be a voter.
    Joining,
    /// It does not answer, and may live.
    Unknown,
}

/// What is being done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What.
    pub kind: OperationKind,
    /// Towards what, for people.
    pub target: String,
    /// Why it does not go on, for people.
    pub blocked: Option<String>,
}

/// Kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// The first start.
    Bootstrap,
    /// A lost server is replaced, or a leader is found.
    Repair,
    /// Servers are added.
    ScaleUp,
    /// Servers are removed.
    ScaleDown,
    /// A cluster without data takes the place of one that was lost.
    StartEmpty,
}

/// The conditions of a `RaftCluster`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionKind {
    /// All is as wanted.
    Ready,
    /// A leader serves.
    Available,
    /// The operator is at work.
    Progressing,
    /// Something is lost or does not answer.
    Degraded,
    /// Data may be there.
    Initialized,
    /// All places name one cluster.
    ClusterIdConsistent,
    /// One more loss would stop writes.
    QuorumAtRisk,
    /// `spec.paused`.
    Paused,
}

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionFact {
    /// Which.
    pub kind: ConditionKind,
    /// `True`, `False` or unknown.
    pub status: Option<bool>,
    /// One word, CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Judges what was seen.
pub fn verdict(wanted: &Wanted, inventory: &Inventory, plan: &Plan) -> Verdict {
    let _ = (wanted, plan);
    Verdict {
        cluster: None,
        servers: u32::try_from(inventory.nodes.len()).unwrap_or(u32::MAX),
        ready_servers: 0,
        leader: None,
        quorum: QuorumFact::default(),
        members: Vec::new(),
        operation: None,
        conditions: Vec::new(),
    }
}
