//! The configuration of nodes: the same file for all of them, and in the local world one for each.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kontiki_api::{Names, RaftCluster};
use serde::Serialize;

use super::{Settings, metadata};

/// Key of the file in the ConfigMap, and its name in the pod.
pub(super) const FILE: &str = "node.yaml";

/// What a node reads at its start. What is left out comes from its environment or its defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfig {
    /// Its name; in a pod the environment says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Where it listens; by default on all addresses at the usual ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Listen>,
    /// How others reach it; in a pod the environment says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<Advertise>,
    /// Its state machine, if it is one of those that are shipped. A program of one's own knows its
    /// machine, and no other's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<&'static str>,
    /// Timing and quorum.
    pub raft: RaftTiming,
    /// Bounds that the resource names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// As `raft.dirtyRead` in the resource, if it differs from the default of nodes.
    #[serde(skip_serializing_if = "is_true")]
    pub dirty_read: bool,
    /// Its logs.
    pub log: Log,
}

/// Addresses, HOST:PORT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listen {
    /// Data and Kv.
    pub client: String,
    /// Peer and Admin.
    pub peer: String,
    /// Metrics and probes.
    pub http: String,
}

/// How others reach a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advertise {
    /// Host name or address.
    pub host: String,
}

/// Timing and quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RaftTiming {
    /// As in the resource.
    pub heartbeat_milliseconds: i32,
    /// As in the resource.
    pub election_timeout_milliseconds: i32,
    /// As in the resource.
    pub min_majority: i32,
    /// As in the resource, if it differs from the default of nodes.
    #[serde(skip_serializing_if = "is_false")]
    pub lease_reads: bool,
}

fn is_true(set: &bool) -> bool {
    *set
}

fn is_false(set: &bool) -> bool {
    !*set
}

/// Bounds of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Bytes of the resource's `stateLimit`; without it a node derives it from its memory.
    pub state_bytes_max: u64,
}

/// Logs of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// text or json.
    pub format: String,
    /// Least severe level.
    pub level: String,
}

impl NodeConfig {
    /// What all nodes of `cluster` have in common.
    pub fn common(cluster: &RaftCluster, settings: &Settings) -> Self {
        let raft = &cluster.spec.raft;
        let state_limit = cluster.spec.state_limit.as_deref();
        let state_limit = state_limit.and_then(kontiki_api::bytes);
        Self {
            node_name: None,
            listen: None,
            advertise: None,
            machine: cluster.spec.state_machine.kind.machine(),
            raft: RaftTiming {
                heartbeat_milliseconds: raft.heartbeat_milliseconds,
                election_timeout_milliseconds: raft.election_timeout_milliseconds,
                min_majority: raft.min_majority,
                lease_reads: raft.lease_reads,
            },
            limits: state_limit.map(|state_bytes_max| Limits { state_bytes_max }),
            dirty_read: raft.dirty_read,
            log: Log {
                format: settings.node_log_format.clone(),
                level: settings.node_log_level.clone(),
            },
        }
    }

    /// The file.
    pub fn to_yaml(&self) -> String {
        // Only maps with text keys, numbers and texts: there is nothing that YAML cannot say.
        serde_yaml::to_string(self).unwrap_or_default()
    }
}

/// The ConfigMap with the configuration of nodes.
pub fn config_map(cluster: &RaftCluster, settings: &Settings) -> ConfigMap {
    let text = NodeConfig::common(cluster, settings).to_yaml();
    ConfigMap {
        metadata: metadata(cluster, Names::of(cluster).config()),
        data: Some(BTreeMap::from([(FILE.to_owned(), text)])),
        ..ConfigMap::default()
    }
}
