//! The world of pods. The only place that knows what a StatefulSet is.

mod apply;
mod scene;
mod trouble;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kontiki_api::names::{MANAGER, ROLE_LABEL, ROLE_LEADER};
use kontiki_api::{Names, RaftCluster};
use kontiki_plan::{ClusterId, Discarded, Identity, IdentityRecord, NodeName};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

pub use self::apply::Applied;
use self::apply::{Applier, doing};
use super::{World, WorldError};
use crate::inventory::Scene;
use crate::objects::{self, Copy, Settings};

/// The pods and objects of one cluster.
pub struct KubernetesWorld {
    client: Client,
    cluster: Arc<RaftCluster>,
    names: Names,
    namespace: String,
    settings: Arc<Settings>,
    applied: Arc<Applied>,
}

impl KubernetesWorld {
    /// The world of `cluster`. `applied` remembers what the API server made of our objects, from one
    /// reconcile to the next.
    pub fn new(
        client: Client,
        cluster: Arc<RaftCluster>,
        settings: Arc<Settings>,
        applied: Arc<Applied>,
    ) -> Self {
        let names = Names::of(&cluster);
        let namespace = cluster.namespace().unwrap_or_default();
        Self {
            client,
            cluster,
            names,
            namespace,
            settings,
            applied,
        }
    }

    /// Labels the pod that leads, for the leader's Service, and takes the label from others. A hint:
    /// failing costs clients a redirect.
    pub async fn point_at_leader(&self, leader: Option<&str>) -> Result<(), WorldError> {
        let pods: Api<Pod> = self.api();
        for pod in scene::pods(self).await? {
            let leads = leader == Some(pod.name_any().as_str());
            let labelled = pod.labels().get(ROLE_LABEL).map(String::as_str) == Some(ROLE_LEADER);
            if leads == labelled || pod.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let value = leads.then_some(ROLE_LEADER);
            // The uid is a precondition: another pod of that name is left alone.
            let patch = json!({"metadata": {"uid": pod.uid(), "labels": {ROLE_LABEL: value}}});
            let parameters = PatchParams::default();
            let name = pod.name_any();
            let patched = pods.patch(&name, &parameters, &Patch::Merge(&patch)).await;
            patched.map_err(doing(format!("label Pod {name}")))?;
        }
        Ok(())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn applier(&self) -> Applier<'_> {
        Applier { world: self }
    }

    /// The StatefulSet with the copy of the identity that belongs there. If the identity object is
    /// not there or cannot be read, the copy stays what it is: it may be the last one.
    async fn apply_stateful_set(
        &self,
        live: Option<&StatefulSet>,
        replicas: u32,
    ) -> Result<(), WorldError> {
        let copy = match scene::identity(self).await? {
            Identity::Recorded { record, .. } => Some(copy(&record)),
            Identity::Discarded { .. } => None,
            Identity::Absent | Identity::Unreadable { .. } => live.and_then(Copy::of),
        };
        let set = objects::stateful_set(&self.cluster, &self.settings, replicas, copy.as_ref());
        self.applier().apply(&set, live).await
    }

    async fn live_stateful_set(&self) -> Result<Option<StatefulSet>, WorldError> {
        let name = self.names.stateful_set();
        let got = self.api::<StatefulSet>().get_opt(&name).await;
        let live = got.map_err(doing(format!("get StatefulSet {name}")))?;
        if let Some(live) = &live {
            self.applier().assert_ours(live)?;
        }
        Ok(live)
    }

    /// Writes the identity object over exactly the version `expects`, then its copies.
    async fn write_identity(
        &self,
        identity: Result<&IdentityRecord, &Discarded>,
        expects: Option<&str>,
    ) -> Result<(), WorldError> {
        let object = objects::identity_config_map(&self.cluster, identity);
        let mut object = object.map_err(|error| WorldError::Invalid(error.to_string()))?;
        let maps: Api<ConfigMap> = self.api();
        let parameters = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..Default::default()
        };
        let name = self.names.identity();
        let written = match expects {
            None => maps.create(&parameters, &object).await,
            Some(version) => {
                object.metadata.resource_version = Some(version.to_owned());
                maps.replace(&name, &parameters, &object).await
            }
        };
        written.map_err(doing(format!("write ConfigMap {name}")))?;
        if let Some(live) = self.live_stateful_set().await? {
            self.apply_stateful_set(Some(&live), replicas(&live))
                .await?;
        }
        Ok(())
    }
}

impl World for KubernetesWorld {
    async fn scene(&self) -> Result<Scene, WorldError> {
        scene::look(self).await
    }

    async fn ensure_objects(&self) -> Result<(), WorldError> {
        self.applier().apply_all().await?;
        if let Some(live) = self.live_stateful_set().await? {
            self.apply_stateful_set(Some(&live), replicas(&live))
                .await?;
        }
        Ok(())
    }

    async fn ensure_servers(&self, count: u32) -> Result<(), WorldError> {
        let live = self.live_stateful_set().await?;
        if live.is_none() {
            // A pod that starts before its configuration is there waits for long.
            self.applier().apply_all().await?;
        }
        let replicas = live.as_ref().map_or(0, replicas).max(count);
        self.apply_stateful_set(live.as_ref(), replicas).await
    }

    async fn shrink_servers(&self, count: u32) -> Result<(), WorldError> {
        let Some(live) = self.live_stateful_set().await? else {
            return Ok(());
        };
        if replicas(&live) <= count {
            return Ok(());
        }
        self.apply_stateful_set(Some(&live), count).await
    }

    async fn record_identity(
        &self,
        record: &IdentityRecord,
        expects: Option<&str>,
    ) -> Result<(), WorldError> {
        self.write_identity(Ok(record), expects).await
    }

    async fn record_initialized(
        &self,
        cluster: ClusterId,
        expects: &str,
    ) -> Result<(), WorldError> {
        match scene::identity(self).await? {
            Identity::Recorded { record, .. }
                if record.cluster == cluster && record.initialized =>
            {
                Ok(())
            }
            Identity::Recorded {
                mut record,
                version,
            } if record.cluster == cluster && version == expects => {
                record.initialized = true;
                self.write_identity(Ok(&record), Some(&version)).await
            }
            other => Err(WorldError::Moved {
                what: format!("ConfigMap {}", self.names.identity()),
                expected: format!("version {expects} of cluster {cluster}"),
                found: format!("{other:?}"),
            }),
        }
    }

    async fn discard_identity(
        &self,
        discarded: &Discarded,
        expects: &str,
    ) -> Result<(), WorldError> {
        self.write_identity(Err(discarded), Some(expects)).await
    }

    async fn restart(&self, node: &NodeName, uid: &str) -> Result<(), WorldError> {
        let pods: Api<Pod> = self.api();
        let got = pods
            .get_opt(node)
            .await
            .map_err(doing(format!("get Pod {node}")))?;
        let Some(pod) = got.filter(|pod| pod.uid().as_deref() == Some(uid)) else {
            return Ok(());
        };
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: pod.resource_version(),
            }),
            ..DeleteParams::default()
        };
        let deleted = pods.delete(node, &parameters).await;
        deleted.map_err(doing(format!("delete Pod {node}")))?;
        Ok(())
    }
}

fn copy(record: &IdentityRecord) -> Copy {
    Copy {
        cluster_id: record.cluster.to_string(),
        initialized: record.initialized,
    }
}

/// `spec.replicas` of a live StatefulSet; 1 is what the API server makes of nothing.
fn replicas(live: &StatefulSet) -> u32 {
    let replicas = live.spec.replicas.unwrap_or(1);
    u32::try_from(replicas).unwrap_or(0)
}

#[cfg(test)]
mod tests;
