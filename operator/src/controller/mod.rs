//! The controller: an event says only "look". What is found by looking decides.

mod lookout;
mod pace;
mod reconcile;

use std::collections::HashMap;
use std::error::Error;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kontiki_api::RaftCluster;
use kontiki_api::names::{APPLICATION, CLUSTER_LABEL, MANAGER};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::lookout::Lookout;
use self::pace::Pace;
use crate::admin::Admin;
use crate::inventory::Memory;
use crate::metrics::Metrics;
use crate::objects::Settings;
use crate::world::kubernetes::Applied;

/// Reconciles at once. One waits for a call at most some seconds; the others go on.
const CONCURRENCY: u16 = 16;
/// Events of one object within this time are one look.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Clusters that the lookout has noticed something about and that wait to be looked at. Past it they
/// are noticed again at its next round.
const NOTICED_MAX: usize = 1024;

/// What every reconcile shares.
pub struct Context {
    client: Client,
    admin: Admin,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    lookout: Lookout,
    applied: Arc<Applied>,
    memories: Mutex<HashMap<ObjectRef<RaftCluster>, Arc<tokio::sync::Mutex<Remembered>>>>,
}

/// What is remembered of a cluster between reconciles. Losing it costs time, nothing else.
#[derive(Default)]
struct Remembered {
    inventory: Memory,
    pace: Pace,
    /// The leader that was last pointed at, and the pods there were.
    pointed: Option<(Option<String>, Vec<String>)>,
    /// The last failure that was told as an event.
    told: Option<String>,
}

impl Context {
    /// A context with nothing remembered.
    pub fn new(client: Client, settings: Settings, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: None,
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            admin: Admin::default(),
            settings: Arc::new(settings),
            metrics,
            lookout: Lookout::default(),
            applied: Arc::default(),
            memories: Mutex::default(),
        }
    }

    fn remembered(&self, key: &ObjectRef<RaftCluster>) -> Arc<tokio::sync::Mutex<Remembered>> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.entry(key.clone()).or_default().clone()
    }

    fn forget(&self, key: &ObjectRef<RaftCluster>) {
        self.memories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
        self.lookout.forget(key);
        let namespace = key.namespace.as_deref().unwrap_or_default();
        self.applied.forget(namespace, &key.name);
        self.metrics.forget(namespace, &key.name);
    }
}

/// Runs until `shutdown`. `ready` is set once every RaftCluster has been read.
pub async fn run(
    context: Context,
    namespace: Option<String>,
    ready: Arc<AtomicBool>,
    shutdown: CancellationToken,
) {
    let context = Arc::new(context);
    let client = context.client.clone();
    let ours =
        watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"));
    let pods = watcher::Config::default().labels(&format!("app.kubernetes.io/name={APPLICATION}"));
    let (notice, noticed) = mpsc::channel(NOTICED_MAX);
    let noticed = tokio_stream::wrappers::ReceiverStream::new(noticed);
    let clusters = api::<RaftCluster>(&client, namespace.as_deref());
    let controller = Controller::new(clusters, watcher::Config::default())
        .with_config(
            Config::default()
                .concurrency(CONCURRENCY)
                .debounce(DEBOUNCE),
        )
        .owns(
            api::<StatefulSet>(&client, namespace.as_deref()),
            ours.clone(),
        )
        .owns(
            api::<ConfigMap>(&client, namespace.as_deref()),
            ours.clone(),
        )
        .owns(api::<Service>(&client, namespace.as_deref()), ours.clone())
        .owns(
            api::<PodDisruptionBudget>(&client, namespace.as_deref()),
            ours.clone(),
        )
        .owns(api::<NetworkPolicy>(&client, namespace.as_deref()), ours)
        .watches(api::<Pod>(&client, namespace.as_deref()), pods, |pod| {
            cluster_of(&pod)
        })
        .reconcile_on(noticed)
        .graceful_shutdown_on(shutdown.clone().cancelled_owned());
    let store = controller.store();
    let reconciles = controller
        .run(reconcile_measured, again, context.clone())
        .for_each(
            |result: Result<_, kube::runtime::controller::Error<_, _>>| async move {
                match result {
                    Ok((cluster, _)) => debug!(%cluster, "looked"),
                    // Told where it happened, with its cause.
                    Err(kube::runtime::controller::Error::ReconcilerFailed(..)) => {}
                    Err(error) => debug!("{}", chain(&error)),
                }
            },
        );
    let all_read = async {
        if store.wait_until_ready().await.is_ok() {
            ready.store(true, Ordering::Relaxed);
        }
    };
    let watch = context
        .lookout
        .run(&context.admin, notice, shutdown.clone());
    futures::join!(reconciles, all_read, watch);
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Debug,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn cluster_of(pod: &Pod) -> Option<ObjectRef<RaftCluster>> {
    let name = pod.labels().get(CLUSTER_LABEL)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

async fn reconcile_measured(
    cluster: Arc<RaftCluster>,
    context: Arc<Context>,
) -> Result<Action, reconcile::ReconcileError> {
    let started = Instant::now();
    let result = reconcile::reconcile(&cluster, &context).await;
    context
        .metrics
        .reconciled(started.elapsed(), result.is_err());
    if let Err(error) = &result {
        let namespace = cluster.namespace().unwrap_or_default();
        warn!(namespace, cluster = cluster.name_any(), "{}", chain(error));
    }
    result
}

/// When to look again after a reconcile that could not look or report.
fn again(
    cluster: Arc<RaftCluster>,
    _error: &reconcile::ReconcileError,
    context: Arc<Context>,
) -> Action {
    let memory = context.remembered(&ObjectRef::from_obj(&*cluster));
    // Nothing else holds it: the reconcile has ended.
    let wait = memory
        .try_lock()
        .map_or(pace::REST, |mut memory| memory.pace.after_error());
    Action::requeue(wait)
}

/// An error with all its causes, for a log line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
