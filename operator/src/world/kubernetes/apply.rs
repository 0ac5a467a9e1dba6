//! Server-side apply of what is not yet as it should be, and of nothing else.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::NamespaceResourceScope;
use kontiki_api::names::MANAGER;
use kube::api::{Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::KubernetesWorld;
use crate::objects;
use crate::world::WorldError;

/// What the API server made of objects that it writes otherwise than we do (`1000m` becomes `1`), by
/// kind, namespace and name: our rendering, and the version it led to. As long as both stay the
/// same there is nothing to apply. One entry for each object of such a cluster.
#[derive(Debug, Default)]
pub struct Applied {
    objects: Mutex<HashMap<String, (Value, Option<String>)>>,
}

impl Applied {
    /// Forgets the objects of a cluster that is gone.
    pub fn forget(&self, namespace: &str, cluster: &str) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let (exact, longer) = (
            format!("/{namespace}/{cluster}"),
            format!("/{namespace}/{cluster}-"),
        );
        objects.retain(|key, _| !key.ends_with(&exact) && !key.contains(&longer));
    }
}

/// What a live object is, beside what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    AsWanted,
    Missing,
    Differs,
    /// It has our name and another owner.
    Foreign,
}

/// Names an error after what was being done.
pub(super) fn doing(what: impl Into<String>) -> impl FnOnce(kube::Error) -> WorldError {
    let doing = what.into();
    move |source| WorldError::Kubernetes {
        doing,
        source: Box::new(source),
    }
}

/// Compares and applies the objects of one cluster.
pub(super) struct Applier<'a> {
    pub(super) world: &'a KubernetesWorld,
}

/// What applying needs of a kind.
pub(super) trait Applicable:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
{
}

impl<K> Applicable for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
{
}

impl Applier<'_> {
    /// Applies every object but the StatefulSet and the identity.
    pub(super) async fn apply_all(&self) -> Result<(), WorldError> {
        let (cluster, settings) = (&self.world.cluster, &self.world.settings);
        self.ensure(&objects::config_map(cluster, settings)).await?;
        self.ensure(&objects::peers_service(cluster)).await?;
        self.ensure(&objects::client_service(cluster)).await?;
        self.ensure(&objects::leader_service(cluster)).await?;
        self.ensure(&objects::disruption_budget(cluster)).await?;
        self.ensure(&objects::network_policy(cluster)).await
    }

    /// What differs among the same objects, for people.
    pub(super) async fn drift(&self) -> Result<Vec<String>, WorldError> {
        let (cluster, settings) = (&self.world.cluster, &self.world.settings);
        let (config, peers, client) = (
            objects::config_map(cluster, settings),
            objects::peers_service(cluster),
            objects::client_service(cluster),
        );
        let (leader, budget, policy) = (
            objects::leader_service(cluster),
            objects::disruption_budget(cluster),
            objects::network_policy(cluster),
        );
        let states = futures::try_join!(
            self.describe(&config),
            self.describe(&peers),
            self.describe(&client),
            self.describe(&leader),
            self.describe(&budget),
            self.describe(&policy),
        )?;
        let (config, peers, client, leader, budget, policy) = states;
        Ok([config, peers, client, leader, budget, policy]
            .into_iter()
            .flatten()
            .collect())
    }

    async fn describe<K: Applicable>(&self, wanted: &K) -> Result<Option<String>, WorldError> {
        let live = self.live(wanted).await?;
        Ok(self.drift_of(wanted, live.as_ref()))
    }

    /// What is different about `live`, for people.
    pub(super) fn drift_of<K: Applicable>(&self, wanted: &K, live: Option<&K>) -> Option<String> {
        let what = match self.compare(wanted, live) {
            State::AsWanted => return None,
            State::Missing => "missing",
            State::Differs => "differs",
            State::Foreign => "belongs to something else",
        };
        Some(format!("{} {}: {what}", K::kind(&()), wanted.name_any()))
    }

    async fn ensure<K: Applicable>(&self, wanted: &K) -> Result<(), WorldError> {
        let live = self.live(wanted).await?;
        self.apply(wanted, live.as_ref()).await
    }

    async fn live<K: Applicable>(&self, wanted: &K) -> Result<Option<K>, WorldError> {
        let name = wanted.name_any();
        let got = self.world.api::<K>().get_opt(&name).await;
        got.map_err(doing(format!("get {} {name}", K::kind(&()))))
    }

    /// Applies `wanted` unless `live` is that already.
    pub(super) async fn apply<K: Applicable>(
        &self,
        wanted: &K,
        live: Option<&K>,
    ) -> Result<(), WorldError> {
        match self.compare(wanted, live) {
            State::AsWanted => return Ok(()),
            State::Foreign => return Err(foreign(wanted)),
            State::Missing | State::Differs => {}
        }
        let name = wanted.name_any();
        let mut wanted = wanted.clone();
        // With a version the API server refuses what was computed from an older one.
        wanted.meta_mut().resource_version = live.and_then(ResourceExt::resource_version);
        let parameters = PatchParams::apply(MANAGER).force();
        let patched = self
            .world
            .api::<K>()
            .patch(&name, &parameters, &Patch::Apply(&wanted))
            .await;
        let new = patched.map_err(doing(format!("apply {} {name}", K::kind(&()))))?;
        wanted.meta_mut().resource_version = None;
        let mut objects = self
            .world
            .applied
            .objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        objects.insert(self.key(&wanted), (value(&wanted), new.resource_version()));
        Ok(())
    }

    fn compare<K: Applicable>(&self, wanted: &K, live: Option<&K>) -> State {
        let Some(live) = live else {
            return State::Missing;
        };
        if self.assert_ours(live).is_err() {
            return State::Foreign;
        }
        let rendered = value(wanted);
        if objects::matches(&rendered, &value(live)) {
            return State::AsWanted;
        }
        let known = self
            .world
            .applied
            .objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match known.get(&self.key(wanted)) {
            Some((before, version))
                if *before == rendered && *version == live.resource_version() =>
            {
                State::AsWanted
            }
            _ => State::Differs,
        }
    }

    /// An object that is not owned by exactly this resource is left alone: it is somebody else's, or
    /// that of an older cluster of the same name that is being deleted.
    pub(super) fn assert_ours<K: Applicable>(&self, live: &K) -> Result<(), WorldError> {
        let uid = self.world.cluster.uid().unwrap_or_default();
        let ours = live.owner_references().iter().any(|owner| owner.uid == uid);
        if ours { Ok(()) } else { Err(foreign(live)) }
    }

    fn key<K: Applicable>(&self, object: &K) -> String {
        format!(
            "{}/{}/{}",
            K::kind(&()),
            self.world.namespace,
            object.name_any()
        )
    }
}

fn foreign<K: Applicable>(object: &K) -> WorldError {
    let name = object.name_any();
    WorldError::Invalid(format!(
        "{} {name} is there already and belongs to something else: delete it, or give the \
         RaftCluster another name",
        K::kind(&())
    ))
}

fn value<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).unwrap_or(Value::Null)
}
