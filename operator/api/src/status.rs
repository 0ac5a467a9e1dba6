//! What is seen. Losing it loses nothing: it is computed from what the servers say.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is seen of a cluster.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RaftClusterStatus {
    /// Generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The Raft group: 16 hexadecimal digits, once recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,

    /// Number of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// Number of pods that are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,

    /// Selects the pods, as a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// Who leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<LeaderStatus>,

    /// Voters in numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum: Option<QuorumStatus>,

    /// The servers of the configuration in force, and those that wait to join.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["serverId"]
    ))]
    pub members: Vec<MemberStatus>,

    /// What the operator is doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationStatus>,

    /// Ready, Available, Progressing, Degraded, Initialized, ClusterIdConsistent, QuorumAtRisk,
    /// Paused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
}

/// Who leads.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaderStatus {
    /// Its pod.
    pub pod: String,
    /// Which incarnation.
    pub server_id: String,
    /// In which term.
    pub term: i64,
}

/// Voters in numbers.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuorumStatus {
    /// Voters of the configuration in force.
    pub voters: i32,
    /// Those that answer.
    pub healthy_voters: i32,
    /// How many more may be lost; negative without a quorum.
    pub margin: i32,
}

/// A server.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Which incarnation: 16 hexadecimal digits.
    pub server_id: String,
    /// Its pod, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The Kubernetes node of that pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_node: Option<String>,
    /// The zone of that Kubernetes node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its role, if it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<MemberRole>,
    /// Whether it votes.
    pub voter: bool,
    /// How it is.
    pub state: MemberState,
    /// Version of its program, if it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Role of a server.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum MemberRole {
    /// Not yet bootstrapped or added.
    Joiner,
    /// Receives the log, does not count.
    Learner,
    /// Follows.
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// How a server is.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum MemberState {
    /// It answers.
    Active,
    /// Its state is gone.
    Lost,
    /// It waits to vote.
    Joining,
    /// It does not answer, and may live.
    Unknown,
}

/// What the operator is doing.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus {
    /// What.
    pub kind: OperationKind,
    /// Towards what.
    pub target: String,
    /// Since when.
    pub start_time: Time,
    /// How often a step of it failed.
    pub attempts: i32,
    /// Why it does not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// Kinds of operation.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
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
