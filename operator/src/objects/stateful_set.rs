//! The StatefulSet: names that stay, pods that only the operator replaces.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use kontiki_api::names::{CLUSTER_ID_ANNOTATION, INITIALIZED_ANNOTATION, TEMPLATE_ANNOTATION};
use kontiki_api::{Names, RaftCluster};

use super::network::selecting;
use super::{Settings, metadata, pods};

/// The copy of the identity that the StatefulSet carries in its annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The cluster, 16 hexadecimal digits.
    pub cluster_id: String,
    /// Whether it says initialized.
    pub initialized: bool,
}

impl Copy {
    /// What a live StatefulSet says.
    pub fn of(live: &StatefulSet) -> Option<Self> {
        let annotations = live.metadata.annotations.as_ref()?;
        let initialized = annotations.get(INITIALIZED_ANNOTATION);
        Some(Self {
            cluster_id: annotations.get(CLUSTER_ID_ANNOTATION)?.clone(),
            initialized: initialized.is_some_and(|value| value == "true"),
        })
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (CLUSTER_ID_ANNOTATION.to_owned(), self.cluster_id.clone()),
            (
                INITIALIZED_ANNOTATION.to_owned(),
                self.initialized.to_string(),
            ),
        ])
    }
}

/// Revision of the pods that `set` makes now.
pub fn revision(set: &StatefulSet) -> Option<String> {
    let metadata = set.spec.template.metadata.as_ref()?;
    let annotations = metadata.annotations.as_ref()?;
    annotations.get(TEMPLATE_ANNOTATION).cloned()
}

/// The StatefulSet with `replicas` pods. `OnDelete`: a changed template restarts nothing by itself.
/// `Parallel`: a pod that does not start does not hold up the others.
pub fn stateful_set(
    cluster: &RaftCluster,
    settings: &Settings,
    replicas: u32,
    copy: Option<&Copy>,
) -> StatefulSet {
    let names = Names::of(cluster);
    let mut set = StatefulSet {
        metadata: metadata(cluster, names.stateful_set()),
        spec: StatefulSetSpec {
            replicas: Some(i32::try_from(replicas).unwrap_or(i32::MAX)),
            service_name: Some(names.peers_service()),
            selector: selecting(names.selector()),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            template: pods::template(cluster, settings),
            ..StatefulSetSpec::default()
        },
        ..StatefulSet::default()
    };
    set.metadata.annotations = copy.map(Copy::annotations);
    set
}
