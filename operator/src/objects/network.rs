//! How a cluster is reached and protected: Services, NetworkPolicy, PodDisruptionBudget.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kontiki_api::names::{
    CLIENT_PORT, CLIENT_PORT_NAME, HTTP_PORT, HTTP_PORT_NAME, MANAGER, PEER_PORT, PEER_PORT_NAME,
    ROLE_LABEL, ROLE_LEADER,
};
use kontiki_api::{Names, RaftCluster, ServiceType};

use super::metadata;

/// For clients: any ready server; a follower redirects to the leader.
pub fn client_service(cluster: &RaftCluster) -> Service {
    let names = Names::of(cluster);
    let wanted = &cluster.spec.service;
    let mut service = Service {
        metadata: metadata(cluster, names.client_service()),
        spec: Some(ServiceSpec {
            type_: Some(service_type(wanted.type_).to_owned()),
            selector: Some(names.selector()),
            ports: Some(vec![port(CLIENT_PORT_NAME, CLIENT_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    if !wanted.annotations.is_empty() {
        service.metadata.annotations = Some(wanted.annotations.clone());
    }
    service
}

/// Names of all pods, ready or not: servers find each other before they are ready.
pub fn peers_service(cluster: &RaftCluster) -> Service {
    let names = Names::of(cluster);
    Service {
        metadata: metadata(cluster, names.peers_service()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names.selector()),
            ports: Some(vec![
                port(PEER_PORT_NAME, PEER_PORT),
                port(CLIENT_PORT_NAME, CLIENT_PORT),
                port(HTTP_PORT_NAME, HTTP_PORT),
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The pod that led when the operator looked: a hint that saves clients a redirect.
pub fn leader_service(cluster: &RaftCluster) -> Service {
    let names = Names::of(cluster);
    let mut selector = names.selector();
    selector.insert(ROLE_LABEL.to_owned(), ROLE_LEADER.to_owned());
    Service {
        metadata: metadata(cluster, names.leader_service()),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector),
            ports: Some(vec![port(CLIENT_PORT_NAME, CLIENT_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn service_type(wanted: ServiceType) -> &'static str {
    match wanted {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    }
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

/// One eviction at a time, whatever the number of servers: of one server too, because it would block
/// drains for ever otherwise. Unready pods may go only while enough others are ready.
pub fn disruption_budget(cluster: &RaftCluster) -> PodDisruptionBudget {
    let names = Names::of(cluster);
    PodDisruptionBudget {
        metadata: metadata(cluster, names.disruption_budget()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(selecting(names.selector())),
            unhealthy_pod_eviction_policy: Some("IfHealthyBudget".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

/// Peers and operators reach the peer port, anybody the client and HTTP ports.
pub fn network_policy(cluster: &RaftCluster) -> NetworkPolicy {
    let names = Names::of(cluster);
    let operators = BTreeMap::from([("app.kubernetes.io/name".to_owned(), MANAGER.to_owned())]);
    let inside = NetworkPolicyIngressRule {
        from: Some(vec![
            NetworkPolicyPeer {
                pod_selector: Some(selecting(names.selector())),
                ..NetworkPolicyPeer::default()
            },
            NetworkPolicyPeer {
                namespace_selector: Some(LabelSelector::default()),
                pod_selector: Some(selecting(operators)),
                ..NetworkPolicyPeer::default()
            },
        ]),
        ports: Some(vec![policy_port(PEER_PORT)]),
    };
    let outside = NetworkPolicyIngressRule {
        from: None,
        ports: Some(vec![policy_port(CLIENT_PORT), policy_port(HTTP_PORT)]),
    };
    NetworkPolicy {
        metadata: metadata(cluster, names.network_policy()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selecting(names.selector())),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![inside, outside]),
            ..NetworkPolicySpec::default()
        }),
    }
}

fn policy_port(number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    }
}

pub(super) fn selecting(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    }
}
