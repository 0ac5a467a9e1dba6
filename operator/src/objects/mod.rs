//! What the Kubernetes objects of a cluster should look like: pure functions, golden tests.
//!
//! Everything is rendered from the resource and the operator's own settings; nothing is read. Objects
//! are owned by the resource, so that deleting it deletes them, and there is no finalizer.

mod config;
mod identity;
mod matches;
mod network;
mod pods;
mod stateful_set;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kontiki_api::{Names, RaftCluster};
use kube::{Resource, ResourceExt};

pub use self::config::{Advertise, Listen, NodeConfig, config_map};
pub use self::identity::{identity_config_map, parse_identity};
pub use self::matches::matches;
pub use self::network::{
    client_service, disruption_budget, leader_service, network_policy, peers_service,
};
pub use self::pods::{CONTAINER, image};
pub use self::stateful_set::{Copy, revision, stateful_set};

/// What the operator itself decides about pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Image of nodes whose `spec.image` is empty.
    pub node_image: String,
    /// `log.format` of nodes.
    pub node_log_format: String,
    /// `log.level` of nodes.
    pub node_log_level: String,
}

/// Metadata of an object of `cluster`: labels, and the owner that it is deleted with.
fn metadata(cluster: &RaftCluster, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: cluster.namespace(),
        labels: Some(Names::of(cluster).labels()),
        owner_references: owner(cluster).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// The reference to `cluster` as owner; `None` for one that the API server has not seen.
pub fn owner(cluster: &RaftCluster) -> Option<OwnerReference> {
    cluster.controller_owner_ref(&())
}

#[cfg(test)]
mod tests;
