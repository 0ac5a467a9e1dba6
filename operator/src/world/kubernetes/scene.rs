//! Looking at the objects and pods of one cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::jiff::Timestamp;
use kontiki_api::names::{CLIENT_PORT, PEER_PORT, TEMPLATE_ANNOTATION};
use kontiki_plan::{Identity, IdentityCopy};
use kube::ResourceExt;
use kube::api::ListParams;

use super::apply::doing;
use super::{KubernetesWorld, replicas, trouble};
use crate::inventory::{Location, Place, Scene, Tenant};
use crate::objects::{self, Copy};
use crate::world::WorldError;

/// Label that Kubernetes copies from the machine to its pods.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Everything there is, read from the API server.
pub(super) async fn look(world: &KubernetesWorld) -> Result<Scene, WorldError> {
    let applier = world.applier();
    let (pods, set, (identity, written), mut drift) = futures::try_join!(
        pods(world),
        world.live_stateful_set(),
        identity_and_age(world),
        applier.drift()
    )?;
    let mut revision = None;
    if let Some(set) = &set {
        let copy = match &identity {
            Identity::Recorded { record, .. } => Some(super::copy(record)),
            Identity::Discarded { .. } => None,
            Identity::Absent | Identity::Unreadable { .. } => Copy::of(set),
        };
        let wanted = objects::stateful_set(
            &world.cluster,
            &world.settings,
            replicas(set),
            copy.as_ref(),
        );
        drift.extend(applier.drift_of(&wanted, Some(set)));
        revision = objects::revision(&wanted);
    }
    Ok(Scene {
        identity,
        identity_copies: set.as_ref().and_then(identity_copy).into_iter().collect(),
        servers_desired: set.as_ref().map(replicas),
        drift,
        nodes: places(world, set.as_ref(), pods).await?,
        waited_for_servers: set
            .as_ref()
            .map_or(Duration::ZERO, |set| waited(set, written)),
        revision,
    })
}

/// The pods of the cluster.
pub(super) async fn pods(world: &KubernetesWorld) -> Result<Vec<Pod>, WorldError> {
    let parameters = ListParams::default().labels(&world.names.selector_string());
    let list = world.api::<Pod>().list(&parameters).await;
    let what = format!("list the pods of {}", world.names.cluster());
    Ok(list.map_err(doing(what))?.items)
}

/// What the identity object says.
pub(super) async fn identity(world: &KubernetesWorld) -> Result<Identity, WorldError> {
    Ok(identity_and_age(world).await?.0)
}

/// What the identity object says, and when it was last written. Not being allowed to read it is no
/// answer that it is absent.
async fn identity_and_age(
    world: &KubernetesWorld,
) -> Result<(Identity, Option<Timestamp>), WorldError> {
    let name = world.names.identity();
    let unreadable = |reason: String| Identity::Unreadable {
        place: format!("ConfigMap {name}"),
        reason,
    };
    match world.api::<ConfigMap>().get_opt(&name).await {
        Ok(None) => Ok((Identity::Absent, None)),
        Ok(Some(object)) if world.applier().assert_ours(&object).is_err() => {
            let reason = "it belongs to something else, or to an older cluster of that name";
            Ok((unreadable(reason.to_owned()), None))
        }
        Ok(Some(object)) => {
            let times = object
                .managed_fields()
                .iter()
                .filter_map(|entry| entry.time.as_ref());
            let written = times.map(|time| time.0).max();
            Ok((objects::parse_identity(&object), written))
        }
        Err(kube::Error::Api(status)) => Ok((unreadable(status.message.clone()), None)),
        Err(error) => Err(doing(format!("get ConfigMap {name}"))(error)),
    }
}

fn identity_copy(set: &StatefulSet) -> Option<IdentityCopy> {
    let copy = Copy::of(set)?;
    Some(IdentityCopy {
        place: format!("StatefulSet {}", set.name_any()),
        cluster: copy.cluster_id.parse().ok()?,
        initialized: copy.initialized,
    })
}

/// How long servers have been wanted: since the StatefulSet exists, or since the identity object was
/// last written, which is when an identity was discarded.
fn waited(set: &StatefulSet, written: Option<Timestamp>) -> Duration {
    let created = set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let age = created
        .max(written)
        .map(|since| Timestamp::now().duration_since(since));
    age.and_then(|age| Duration::try_from(age).ok())
        .unwrap_or_default()
}

/// Every ordinal below `replicas`, and any other pod of the set. A pod that nothing controls is the
/// set's too: whoever deletes a StatefulSet may leave its pods, and the next one takes them over.
async fn places(
    world: &KubernetesWorld,
    set: Option<&StatefulSet>,
    mut pods: Vec<Pod>,
) -> Result<Vec<Place>, WorldError> {
    let desired = set.map_or(0, replicas);
    let listed: BTreeSet<String> = pods.iter().map(ResourceExt::name_any).collect();
    for name in (0..desired).map(|ordinal| world.names.pod(ordinal)) {
        if !listed.contains(&name) {
            pods.extend(hidden(world, &name).await?);
        }
    }
    let empty = |ordinal| Place {
        ordinal,
        name: world.names.pod(ordinal),
        tenant: None,
        location: Location::default(),
    };
    let mut places: BTreeMap<u32, Place> = (0..desired)
        .map(|ordinal| (ordinal, empty(ordinal)))
        .collect();
    let set_uid = set.and_then(ResourceExt::uid);
    for pod in &pods {
        let mut owners = pod.owner_references().iter();
        let controller = owners.find(|owner| owner.controller == Some(true));
        let ours = controller.is_none_or(|owner| Some(&owner.uid) == set_uid.as_ref());
        let Some(ordinal) = world.names.ordinal(&pod.name_any()).filter(|_| ours) else {
            continue;
        };
        let place = places.entry(ordinal).or_insert_with(|| empty(ordinal));
        place.tenant = tenant(pod);
        place.location = location(pod);
    }
    Ok(places.into_values().collect())
}

/// A pod that the list does not show, because somebody took its labels away: its server lives.
async fn hidden(world: &KubernetesWorld, name: &str) -> Result<Option<Pod>, WorldError> {
    let got = world.api::<Pod>().get_opt(name).await;
    got.map_err(doing(format!("get Pod {name}")))
}

/// What runs in a pod; nothing in one whose containers have ended for good.
fn tenant(pod: &Pod) -> Option<Tenant> {
    let status = pod.status.clone().unwrap_or_default();
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let trouble = trouble::of(&status);
    let ip = status.pod_ip.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let ready = conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    Some(Tenant {
        uid: pod.uid().unwrap_or_default(),
        going: pod.metadata.deletion_timestamp.is_some(),
        revision: pod
            .annotations()
            .get(TEMPLATE_ANNOTATION)
            .cloned()
            .unwrap_or_default(),
        image: pod.spec.as_ref().and_then(objects::image),
        trouble,
        peer_address: address(&ip, PEER_PORT),
        client_address: address(&ip, CLIENT_PORT),
        ready: Some(ready),
    })
}

fn address(ip: &str, port: u16) -> String {
    match ip {
        "" => String::new(),
        ip if ip.contains(':') => format!("[{ip}]:{port}"),
        ip => format!("{ip}:{port}"),
    }
}

fn location(pod: &Pod) -> Location {
    Location {
        kubernetes_node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        zone: pod.labels().get(ZONE_LABEL).cloned(),
    }
}
