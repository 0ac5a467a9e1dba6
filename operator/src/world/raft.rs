//! Steps that speak to servers: one call each, the same in every world.

use kontiki_plan::{ClusterId, Server, ServerId};
use kontiki_proto::v1;

use crate::admin::{Admin, CallError};
use crate::inventory::view::wire;

/// A change of the configuration: whom to ask, about which cluster, at which configuration. A server
/// that has moved on refuses it.
pub(super) struct Change<'a> {
    pub(super) via: &'a Server,
    pub(super) cluster: ClusterId,
    pub(super) configuration_index: u64,
}

fn texts(ids: &[ServerId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

pub(super) async fn bootstrap(
    admin: &Admin,
    to: &Server,
    cluster: ClusterId,
    voters: &[Server],
) -> Result<(), CallError> {
    let request = v1::BootstrapRequest {
        cluster_id: cluster.to_string(),
        voters: voters.iter().map(wire).collect(),
    };
    admin.bootstrap(&to.peer_address, request).await
}

pub(super) async fn introduce(
    admin: &Admin,
    to: &Server,
    cluster: ClusterId,
    servers: &[Server],
) -> Result<(), CallError> {
    let servers = servers.iter().map(wire).collect();
    admin
        .introduce(&to.peer_address, cluster.to_string(), servers)
        .await
}

/// Answers once the learners are committed: catching up goes on without the operator.
pub(super) async fn add(
    admin: &Admin,
    change: Change<'_>,
    servers: &[Server],
    supersedes: &[ServerId],
) -> Result<(), CallError> {
    let request = v1::AddServerRequest {
        cluster_id: change.cluster.to_string(),
        servers: servers.iter().map(wire).collect(),
        as_learner: false,
        configuration_index: change.configuration_index,
        supersedes: texts(supersedes),
        no_wait: true,
    };
    admin.add_server(&change.via.peer_address, request).await
}

/// As [`add`].
pub(super) async fn replace(
    admin: &Admin,
    change: Change<'_>,
    lost: ServerId,
    new: &Server,
    supersedes: &[ServerId],
) -> Result<(), CallError> {
    let request = v1::ReplaceServerRequest {
        cluster_id: change.cluster.to_string(),
        lost: lost.to_string(),
        server: Some(wire(new)),
        configuration_index: change.configuration_index,
        supersedes: texts(supersedes),
        no_wait: true,
    };
    admin
        .replace_server(&change.via.peer_address, request)
        .await
}

pub(super) async fn remove(
    admin: &Admin,
    change: Change<'_>,
    servers: &[ServerId],
) -> Result<(), CallError> {
    let request = v1::RemoveServerRequest {
        cluster_id: change.cluster.to_string(),
        server_ids: texts(servers),
        configuration_index: change.configuration_index,
    };
    admin.remove_server(&change.via.peer_address, request).await
}
