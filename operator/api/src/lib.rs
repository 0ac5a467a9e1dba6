//! The `RaftCluster` resource: spec, status, conditions, names. Neither a client nor a controller.
//!
//! The resource definition in `crds/raftclusters.yaml` is generated from these types; a test fails
//! when it is stale, and writes it anew under `UPDATE=1`. What the schema cannot say is said by CEL
//! rules, which [`RaftCluster::validate_cel`] and [`RaftCluster::validate_cel_update`] evaluate
//! without an API server, so that the local world refuses the same manifests.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod conditions;
pub mod names;
pub mod pod_template;
mod quantity;
pub mod spec;
pub mod status;

pub use names::Names;
pub use pod_template::PodTemplate;
pub use quantity::bytes;
pub use spec::{
    ImagePullPolicy, OnTotalLoss, RaftCluster, RaftClusterSpec, RaftSpec, RecoverySpec,
    ServiceSpec, ServiceType, StateMachineKind, StateMachineSpec, StorageMode, StorageSpec,
};
pub use status::{
    LeaderStatus, MachineStatus, MachineVersions, MemberRole, MemberState, MemberStatus,
    OperationKind, OperationStatus, QuorumStatus, RaftClusterStatus,
};

/// API group, also the domain of labels and annotations.
pub const GROUP: &str = "kontiki.dev";
