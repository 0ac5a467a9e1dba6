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

    /// What the servers replicate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineStatus>,

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
    /// SettingsFit, Paused. The reason of a true Degraded is, in this order, QuorumLost, ServerQuarantined,
    /// UnsupportedMachineVersion (a new server's machine lacks the version in force), WrongMachine
    /// (another than the cluster's), ServersLost or ServersUnknown.
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

/// What the servers replicate.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineStatus {
    /// Name that the machine gives itself.
    pub name: String,
    /// Version of its logic that is in force, once known. It is raised when every voter supports a
    /// newer one, and never lowered: a server that lacks it is not added (`Degraded` with reason
    /// `UnsupportedMachineVersion`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
}

/// Versions of a machine's logic, both ends included.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineVersions {
    /// The oldest.
    pub min: i64,
    /// The newest.
    pub max: i64,
}

/// Voters in numbers.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuorumStatus {
    /// Voters of the configuration in force.
    pub voters: i32,
    /// Those that answer and are not quarantined.
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
    /// Version of Kontiki that its program was built with, if it answers. Which program that is,
    /// `image` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Image that its pod was made from, if it answers: after a change of `spec.image` the old one
    /// until the pod is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Versions that its machine supports, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_versions: Option<MachineVersions>,
    /// Why it is quarantined, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
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
    /// It answers, but has stopped applying, campaigning and serving. It keeps its memory, so that
    /// only a person ends it.
    Quarantined,
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
