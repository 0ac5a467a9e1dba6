//! One look at one cluster: observe, plan, act, report.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kontiki_api::{Names, RaftCluster, RaftClusterStatus, conditions};
use kontiki_plan::{ConditionKind, Inventory, Plan, Verdict, plan, verdict};
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tracing::{info, warn};

use super::pace::Look;
use super::{Context, Remembered, chain};
use crate::inventory::wanted::{Invalid, wanted};
use crate::inventory::{self, Scene};
use crate::report::{self, Facts, steps};
use crate::world::kubernetes::KubernetesWorld;
use crate::world::{self, Outcome, World, WorldError};

/// Field manager of the status: another than that of the objects.
const STATUS_MANAGER: &str = "kontiki-operator-status";
/// Bytes of an event's note; the API server refuses more than 1024.
const NOTE_MAX: usize = 1000;

/// Why a look came to nothing. Failed steps are no error: they are reported, and planned again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The resource could not be read.
    #[error("cannot read the RaftCluster")]
    Read(#[source] kube::Error),
    /// The spec makes no sense.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The world could not be seen.
    #[error("cannot look at the cluster")]
    Look(#[source] WorldError),
    /// The status could not be written.
    #[error("cannot write the status")]
    Report(#[source] kube::Error),
}

/// Looks at the cluster that `cached` names. The cache may be old: the resource is read again, so
/// that no decision rests on a spec that is not in force any more.
pub(super) async fn reconcile(
    cached: &RaftCluster,
    context: &Context,
) -> Result<Action, ReconcileError> {
    let key = ObjectRef::from_obj(cached);
    let api = Api::<RaftCluster>::namespaced(
        context.client.clone(),
        &cached.namespace().unwrap_or_default(),
    );
    let live = api
        .get_opt(&cached.name_any())
        .await
        .map_err(ReconcileError::Read)?;
    let Some(cluster) = live.filter(|live| live.metadata.deletion_timestamp.is_none()) else {
        context.forget(&key);
        return Ok(Action::await_change());
    };
    let memory = context.remembered(&key);
    let mut memory = memory.lock().await;
    context.lookout.forget(&key);
    let pass = Pass {
        api,
        context,
        cluster: Arc::new(cluster),
    };
    let (look, inventory) = match pass.run(&mut memory).await {
        Ok(seen) => seen,
        Err(error) => {
            pass.tell_error(&error, &mut memory).await;
            return Err(error);
        }
    };
    if look == Look::AtRest {
        context.lookout.watch(key, &inventory);
    }
    Ok(Action::requeue(memory.pace.after(look, Instant::now())))
}

/// One pass over one cluster.
struct Pass<'a> {
    api: Api<RaftCluster>,
    context: &'a Context,
    cluster: Arc<RaftCluster>,
}

impl Pass<'_> {
    async fn run(&self, memory: &mut Remembered) -> Result<(Look, Inventory), ReconcileError> {
        let context = self.context;
        let wanted = wanted(&self.cluster.spec)?;
        let (settings, applied) = (context.settings.clone(), context.applied.clone());
        let world = KubernetesWorld::new(
            context.client.clone(),
            self.cluster.clone(),
            settings,
            applied,
        );
        let scene = world.scene().await.map_err(ReconcileError::Look)?;
        let inventory = inventory::complete(&context.admin, &mut memory.inventory, &scene).await;
        let plan = plan(&wanted, &inventory);
        let judged = verdict(&wanted, &inventory, &plan);
        let outcomes = world::execute(&world, &context.admin, &plan).await;
        if !wanted.paused {
            self.point_at_leader(&world, &scene, &judged, memory).await;
        }
        self.tell_steps(&plan, &outcomes, memory).await;
        let failed = outcomes
            .iter()
            .filter(|o| matches!(o, Outcome::Failed(_)))
            .count();
        let changed = self.report(&judged, &scene, failed).await?;
        Ok((look(&plan, &judged, failed, changed), inventory))
    }

    /// Labels the leader's pod if another leads than last time, or other pods are there.
    async fn point_at_leader(
        &self,
        world: &KubernetesWorld,
        scene: &Scene,
        judged: &Verdict,
        memory: &mut Remembered,
    ) {
        let leader = judged.leader.as_ref().map(|leader| leader.node.clone());
        let tenants = scene.nodes.iter().filter_map(|place| place.tenant.as_ref());
        let now = (leader, tenants.map(|tenant| tenant.uid.clone()).collect());
        if memory.pointed.as_ref() == Some(&now) {
            return;
        }
        match world.point_at_leader(now.0.as_deref()).await {
            Ok(()) => memory.pointed = Some(now),
            Err(error) => warn!(cluster = self.cluster.name_any(), "{}", chain(&error)),
        }
    }

    /// Writes the status if it changed; says whether it did.
    async fn report(
        &self,
        judged: &Verdict,
        scene: &Scene,
        failed: usize,
    ) -> Result<bool, ReconcileError> {
        let cluster = &self.cluster;
        let names = Names::of(cluster);
        let generation = cluster.metadata.generation;
        let facts = Facts {
            names: &names,
            generation,
            scene,
            failed,
            now: Timestamp::now(),
        };
        let before = cluster.status.as_ref();
        let status = report::status(judged, facts, before);
        let namespace = cluster.namespace().unwrap_or_default();
        self.context
            .metrics
            .saw(&namespace, &cluster.name_any(), &status);
        if before == Some(&status) {
            return Ok(false);
        }
        self.write(&status).await?;
        self.tell_conditions(before, &status).await;
        Ok(true)
    }

    async fn write(&self, status: &RaftClusterStatus) -> Result<(), ReconcileError> {
        let name = self.cluster.name_any();
        // The uid is a precondition: a newer cluster of that name is not told about this one.
        let patch = json!({
            "apiVersion": RaftCluster::api_version(&()),
            "kind": RaftCluster::kind(&()),
            "metadata": {"name": name, "uid": self.cluster.uid()},
            "status": status,
        });
        let parameters = PatchParams::apply(STATUS_MANAGER).force();
        let patched = self
            .api
            .patch_status(&name, &parameters, &Patch::Apply(&patch))
            .await;
        match patched {
            Ok(_) => self.context.metrics.status_written(),
            // Deleted, or deleted and made anew, since it was read.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(error) => return Err(ReconcileError::Report(error)),
        }
        Ok(())
    }

    /// Every change is logged; those of the two conditions that people watch are events.
    async fn tell_conditions(&self, before: Option<&RaftClusterStatus>, after: &RaftClusterStatus) {
        let namespace = self.cluster.namespace().unwrap_or_default();
        for condition in report::changed_conditions(before, after) {
            let (cluster, reason) = (self.cluster.name_any(), condition.reason.as_str());
            let (type_, status) = (condition.type_.as_str(), condition.status.as_str());
            let message = &condition.message;
            info!(
                namespace,
                cluster,
                condition = type_,
                status,
                reason,
                "{message}"
            );
            let event = match (type_, status) {
                (conditions::READY, "True") => EventType::Normal,
                (conditions::DEGRADED, "True") => EventType::Warning,
                _ => continue,
            };
            self.event(event, reason, type_, message.clone()).await;
        }
    }

    async fn tell_steps(&self, plan: &Plan, outcomes: &[Outcome], memory: &mut Remembered) {
        let (namespace, cluster) = (
            self.cluster.namespace().unwrap_or_default(),
            self.cluster.name_any(),
        );
        for (planned, outcome) in plan.steps.iter().zip(outcomes) {
            let (name, text) = (steps::name(&planned.step), steps::text(&planned.step));
            match outcome {
                Outcome::Done => {
                    info!(namespace, cluster, step = name, "{text}");
                    self.context.metrics.stepped(name, "done");
                    memory.told = None;
                    if steps::is_news(&planned.step) {
                        self.event(EventType::Normal, name, name, text).await;
                    }
                }
                Outcome::Failed(error) => {
                    let error = chain(error);
                    self.context.metrics.stepped(name, "failed");
                    // Told once until something succeeds or fails otherwise.
                    if memory.told.as_ref() != Some(&error) {
                        warn!(namespace, cluster, step = name, "{text}: {error}");
                        let note = format!("{text}: {error}");
                        self.event(EventType::Warning, "StepFailed", name, note)
                            .await;
                        memory.told = Some(error);
                    }
                }
                Outcome::Skipped => self.context.metrics.stepped(name, "skipped"),
            }
        }
    }

    /// A look that came to nothing has no status to be told in: it is told once as an event.
    async fn tell_error(&self, error: &ReconcileError, memory: &mut Remembered) {
        let error = chain(error);
        if memory.told.as_ref() != Some(&error) {
            self.event(EventType::Warning, "LookFailed", "Look", error.clone())
                .await;
            memory.told = Some(error);
        }
    }

    /// An event that cannot be told is logged, and no reason to stop.
    async fn event(&self, type_: EventType, reason: &str, action: &str, note: String) {
        let mut note = note;
        note.truncate(note.floor_char_boundary(NOTE_MAX));
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        let reference: ObjectReference = self.cluster.object_ref(&());
        if let Err(error) = self.context.recorder.publish(&event, &reference).await {
            warn!(
                cluster = self.cluster.name_any(),
                "cannot tell an event: {}",
                chain(&error)
            );
        }
    }
}

/// At rest is what needs no step, is not blocked, and is ready or paused.
fn look(plan: &Plan, judged: &Verdict, failed: usize, changed: bool) -> Look {
    let holds = |kind| {
        judged
            .conditions
            .iter()
            .any(|c| c.kind == kind && c.status == Some(true))
    };
    let at_rest = plan.steps.is_empty()
        && (holds(ConditionKind::Ready) || holds(ConditionKind::Paused))
        && !holds(ConditionKind::Progressing);
    match (failed, changed) {
        (1.., _) => Look::Failing,
        _ if at_rest => Look::AtRest,
        (_, true) => Look::Moving,
        (_, false) if plan.steps.is_empty() => Look::Waiting,
        (_, false) => Look::Moving,
    }
}
