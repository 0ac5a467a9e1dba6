//! What a person asks for.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pod_template::PodTemplate;
use crate::status::RaftClusterStatus;

/// The servers of one Raft group, and what they replicate.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "kontiki.dev",
    version = "v1alpha1",
    kind = "RaftCluster",
    namespaced,
    status = "RaftClusterStatus",
    shortname = "raft",
    derive = "PartialEq",
    doc = "A Raft group of replicated state machines, run as pods.",
    cel,
    validation = Rule::new("size(self.metadata.name) <= 40")
        .message("metadata.name must be at most 40 characters"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS label that begins with a letter: lower-case \
            letters, digits and '-', the last no '-'"),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Voters", type_ = "integer", json_path = ".status.quorum.voters"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader.pod"),
    printcolumn(name = "Margin", type_ = "integer", json_path = ".status.quorum.margin"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.raft.minMajority <= self.replicas")
    .message("raft.minMajority must be at most replicas")
    .field_path(".raft.minMajority"))]
#[x_kube(validation = Rule::new("self.stateMachine.kind != 'Custom' || has(self.image)")
    .message("image must be set if stateMachine.kind is Custom: that of a node built around the \
        machine")
    .field_path(".image"))]
pub struct RaftClusterSpec {
    /// Number of voters, 1 to 9. An even number tolerates no more losses than one less, and is
    /// allowed with a warning.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 9")
        .message("replicas must be between 1 and 9"))]
    pub replicas: i32,

    /// Image of the node; by default the one that the operator was installed with. Required if
    /// `stateMachine.kind` is Custom. A change restarts nothing: a pod gets it when it is deleted
    /// (one at a time, while Ready is True), and `members[].image` says which have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// When the image is pulled; by default Kubernetes' own rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// What is replicated.
    pub state_machine: StateMachineSpec,

    /// Where its state lives.
    pub storage: StorageSpec,

    /// Timing and quorum.
    #[serde(default)]
    pub raft: RaftSpec,

    /// Bytes that a server may hold of state, log, sessions and snapshots under way, at least 8Mi; a
    /// quantity without a fraction, such as 512Mi. Past it the leader refuses writes that may make the
    /// state larger (RESOURCE_EXHAUSTED, STATE_LIMIT); deletes, reads and membership go on, so that no
    /// server is killed for its memory. Default: 40 % of the container's memory limit, since a server
    /// that is refilled holds two states at a time; more than that is at your own risk. A change
    /// restarts nothing: a pod gets it when it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]*(k|M|G|T|Ki|Mi|Gi|Ti)?$')")
        .message("stateLimit must be a quantity of bytes without a fraction, such as 512Mi"))]
    pub state_limit: Option<String>,

    /// What pods carry beside what the operator decides.
    #[serde(default, skip_serializing_if = "PodTemplate::is_empty")]
    pub pod_template: PodTemplate,

    /// The Service that clients use.
    #[serde(default)]
    pub service: ServiceSpec,

    /// What to do when data is lost.
    #[serde(default)]
    pub recovery: RecoverySpec,

    /// Report, but touch nothing.
    #[serde(default)]
    pub paused: bool,
}

/// What is replicated.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateMachineSpec {
    /// Kv: ordered keys and values. Counter: one number. Custom: the machine of the program in
    /// `image`, a node with the flags, the configuration and the ports of the shipped one.
    /// Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("stateMachine.kind is immutable"))]
    pub kind: StateMachineKind,
}

/// The machines of the shipped image, and one's own.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum StateMachineKind {
    /// Ordered keys and values.
    Kv,
    /// One number.
    Counter,
    /// That of the program in `image`.
    Custom,
}

impl StateMachineKind {
    /// The name that servers give the machine, and that a node is configured with. `None`: theirs to
    /// say, and nothing to configure.
    pub fn machine(self) -> Option<&'static str> {
        match self {
            Self::Kv => Some("kv"),
            Self::Counter => Some("counter"),
            Self::Custom => None,
        }
    }
}

/// Where the state lives.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(cel)]
pub struct StorageSpec {
    /// Memory: a server's state is gone with its process; once a quorum of servers is gone at the
    /// same time, as after a power cut, all data is. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("storage.mode is immutable"))]
    pub mode: StorageMode,
}

/// Modes of storage.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum StorageMode {
    /// In the memory of the servers.
    Memory,
}

/// Timing and quorum.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation =
    Rule::new("self.electionTimeoutMilliseconds >= 2 * self.heartbeatMilliseconds")
    .message("raft.electionTimeoutMilliseconds must be at least twice raft.heartbeatMilliseconds; \
        ten times is usual"))]
pub struct RaftSpec {
    /// Interval of the leader's signs of life, 1 to 60000.
    #[serde(default = "default_heartbeat_milliseconds")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 60000")
        .message("raft.heartbeatMilliseconds must be between 1 and 60000"))]
    pub heartbeat_milliseconds: i32,

    /// Shortest time without a leader after which a server asks for votes, twice the heartbeat at least,
    /// up to 600000; the longest is twice this.
    #[serde(default = "default_election_timeout_milliseconds")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 600000")
        .message("raft.electionTimeoutMilliseconds must be between 1 and 600000"))]
    pub election_timeout_milliseconds: i32,

    /// Lower bound of a quorum, 1 to `replicas`: a quorum is a majority or this, whichever is
    /// more.
    #[serde(default = "default_min_majority")]
    #[x_kube(validation = Rule::new("self >= 1").message("raft.minMajority must be at least 1"))]
    pub min_majority: i32,

    /// Reads under a lease: `LEASE` reads are answered by the leader without asking the others. They
    /// are wrong on clocks that run fast or slow by more than 2 %, and another leader is elected up to
    /// five heartbeats later. A restarted server takes it up; while it leads, its setting is the
    /// cluster's.
    #[serde(default)]
    pub lease_reads: bool,

    /// Whether `STALE` reads are answered (ExRaft's `dirty_read`); if false every server refuses them.
    #[serde(default = "default_dirty_read")]
    pub dirty_read: bool,
}

impl Default for RaftSpec {
    fn default() -> Self {
        Self {
            heartbeat_milliseconds: default_heartbeat_milliseconds(),
            election_timeout_milliseconds: default_election_timeout_milliseconds(),
            min_majority: default_min_majority(),
            lease_reads: false,
            dirty_read: default_dirty_read(),
        }
    }
}

fn default_heartbeat_milliseconds() -> i32 {
    100
}

fn default_election_timeout_milliseconds() -> i32 {
    1000
}

fn default_dirty_read() -> bool {
    true
}

fn default_min_majority() -> i32 {
    1
}

/// The Service that clients use.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// Type of the Service.
    #[serde(rename = "type")]
    pub type_: ServiceType,

    /// Annotations of the Service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Types of Service, as in `core/v1`.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ServiceType {
    /// Reached within the Kubernetes cluster.
    #[default]
    ClusterIP,
    /// Reached at a port of every Kubernetes node.
    NodePort,
    /// Reached through a load balancer.
    LoadBalancer,
}

/// When an image is pulled, as in `core/v1`.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ImagePullPolicy {
    /// At every start of a pod.
    Always,
    /// If the Kubernetes node does not have it.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// What to do when data is lost.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecoverySpec {
    /// Halt: report `QuorumLost` and do nothing. StartEmpty: start again as a new cluster without
    /// data.
    pub on_total_loss: OnTotalLoss,
}

/// What to do once a quorum of servers has lost its state.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum OnTotalLoss {
    /// Report it and do nothing.
    #[default]
    Halt,
    /// Start again as a new cluster without data.
    StartEmpty,
}
