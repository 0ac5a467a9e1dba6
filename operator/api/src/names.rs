//! Names of the objects of a cluster, its labels and its ports.

use std::collections::BTreeMap;

use kube::ResourceExt;

use crate::spec::RaftCluster;

/// Port of `Data` and `Kv`.
pub const CLIENT_PORT: u16 = 7400;
/// Port of `Admin` and `Peer`.
pub const PEER_PORT: u16 = 7401;
/// Port of metrics and probes.
pub const HTTP_PORT: u16 = 7402;

/// Name of the client port in Services and pods.
pub const CLIENT_PORT_NAME: &str = "client";
/// Name of the peer port in Services and pods.
pub const PEER_PORT_NAME: &str = "peer";
/// Name of the HTTP port in Services and pods.
pub const HTTP_PORT_NAME: &str = "http";

/// Label: the cluster that an object belongs to.
pub const CLUSTER_LABEL: &str = "kontiki.dev/cluster";
/// Label of pods: `leader` on the one that leads, as a hint for the leader's Service.
pub const ROLE_LABEL: &str = "kontiki.dev/role";
/// Value of [`ROLE_LABEL`] on the leader.
pub const ROLE_LEADER: &str = "leader";
/// Annotation of the StatefulSet: the cluster id, a copy of the identity.
pub const CLUSTER_ID_ANNOTATION: &str = "kontiki.dev/cluster-id";
/// Annotation of the StatefulSet: `true` once initialized, a copy of the identity.
pub const INITIALIZED_ANNOTATION: &str = "kontiki.dev/initialized";
/// Annotation of pods: the hash of the template that they were made from.
pub const TEMPLATE_ANNOTATION: &str = "kontiki.dev/template";
/// `app.kubernetes.io/name` of everything that belongs to a cluster.
pub const APPLICATION: &str = "kontiki";
/// `app.kubernetes.io/managed-by` of everything that the operator makes, and its field manager.
pub const MANAGER: &str = "kontiki-operator";

/// Names of the objects of one cluster. The longest suffix has 9 characters, and a cluster's name
/// at most 40, so that the names of pods, which are DNS labels, stay below 63.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    cluster: String,
}

impl Names {
    /// The names for the cluster called `cluster`.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
        }
    }

    /// The names for this resource.
    pub fn of(cluster: &RaftCluster) -> Self {
        Self::new(cluster.name_any())
    }

    /// The cluster itself.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The StatefulSet.
    pub fn stateful_set(&self) -> String {
        self.cluster.clone()
    }

    /// The pod of an ordinal.
    pub fn pod(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.cluster)
    }

    /// The ordinal of a pod of this cluster.
    pub fn ordinal(&self, pod: &str) -> Option<u32> {
        pod.strip_prefix(&self.cluster)?
            .strip_prefix('-')?
            .parse()
            .ok()
    }

    /// The Service of ready pods, for clients.
    pub fn client_service(&self) -> String {
        self.cluster.clone()
    }

    /// The headless Service of all pods.
    pub fn peers_service(&self) -> String {
        format!("{}-peers", self.cluster)
    }

    /// The Service of the leader: a hint.
    pub fn leader_service(&self) -> String {
        format!("{}-leader", self.cluster)
    }

    /// The ConfigMap with the configuration of nodes.
    pub fn config(&self) -> String {
        format!("{}-config", self.cluster)
    }

    /// The ConfigMap with the identity.
    pub fn identity(&self) -> String {
        format!("{}-identity", self.cluster)
    }

    /// The PodDisruptionBudget.
    pub fn disruption_budget(&self) -> String {
        self.cluster.clone()
    }

    /// The NetworkPolicy.
    pub fn network_policy(&self) -> String {
        self.cluster.clone()
    }

    /// Host name of a pod within the Kubernetes cluster.
    pub fn host(&self, pod: &str, namespace: &str) -> String {
        format!("{pod}.{}.{namespace}.svc", self.peers_service())
    }

    /// Labels that select the pods: never changed, because a StatefulSet's selector cannot be.
    pub fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("app.kubernetes.io/name".to_owned(), APPLICATION.to_owned()),
            (CLUSTER_LABEL.to_owned(), self.cluster.clone()),
        ])
    }

    /// Labels of every object.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert(
            "app.kubernetes.io/instance".to_owned(),
            self.cluster.clone(),
        );
        labels.insert(
            "app.kubernetes.io/managed-by".to_owned(),
            MANAGER.to_owned(),
        );
        labels
    }

    /// [`Names::selector`] as a string, for `status.selector`.
    pub fn selector_string(&self) -> String {
        let pairs: Vec<String> = self
            .selector()
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn a_pod_name_gives_its_ordinal() {
        let names = Names::new("demo");
        assert_eq!(names.pod(4), "demo-4");
        assert_eq!(names.ordinal("demo-4"), Some(4));
        assert_eq!(names.ordinal("demo-peers"), None);
        assert_eq!(names.ordinal("demonstration-1"), None);
    }

    #[test]
    fn the_longest_names_are_dns_labels() {
        let names = Names::new("a".repeat(40));
        for name in [names.pod(8), names.peers_service(), names.identity()] {
            assert!(name.len() <= 63, "{name}");
        }
        assert_eq!(
            Names::new("demo").selector_string(),
            "app.kubernetes.io/name=kontiki,kontiki.dev/cluster=demo"
        );
    }
}
