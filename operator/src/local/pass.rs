//! One pass of the local world, and what is said about it.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use kontiki_api::{Names, RaftCluster, RaftClusterStatus};
use kontiki_plan::{ConditionKind, Plan, Verdict, plan, verdict};

use crate::admin::Admin;
use crate::controller::chain;
use crate::inventory::wanted::wanted;
use crate::inventory::{self, Memory, Scene};
use crate::report::{self, Facts, steps};
use crate::world::local::LocalWorld;
use crate::world::local::store::{self, Store};
use crate::world::{self, Outcome, World, WorldError};

/// Prints a line: time, what it is about, and text.
pub fn say(about: &str, text: &str) {
    println!(
        "{} {about:<9} {text}",
        Timestamp::now().strftime("%H:%M:%S%.3f")
    );
}

/// What passes remember.
pub struct Passes {
    store: Store,
    admin: Admin,
    memory: Memory,
    status: Option<RaftClusterStatus>,
    /// Failures that were told and have lasted since.
    told: BTreeSet<String>,
}

impl Passes {
    /// Passes over the cluster of `store`.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            admin: Admin::default(),
            memory: Memory::default(),
            status: None,
            told: BTreeSet::new(),
        }
    }

    /// Looks, plans, acts and reports once. Says whether there is nothing more to do for now.
    pub async fn pass(&mut self, world: &LocalWorld, cluster: &RaftCluster) -> bool {
        let mut failures = BTreeSet::new();
        let at_rest = match self.try_pass(world, cluster, &mut failures).await {
            Ok(at_rest) => at_rest,
            Err(error) => {
                failures.insert(chain(&error));
                false
            }
        };
        for failure in failures.difference(&self.told) {
            say("failure", failure);
        }
        self.told = failures;
        at_rest
    }

    async fn try_pass(
        &mut self,
        world: &LocalWorld,
        cluster: &RaftCluster,
        failures: &mut BTreeSet<String>,
    ) -> Result<bool, WorldError> {
        let wanted =
            wanted(&cluster.spec).map_err(|error| WorldError::Invalid(error.to_string()))?;
        if !wanted.paused {
            let supervised = world.supervise();
            self.tell_news(world);
            supervised?;
        }
        let scene = world.scene().await?;
        let inventory = inventory::complete(&self.admin, &mut self.memory, &scene).await;
        let plan = plan(&wanted, &inventory);
        let judged = verdict(&wanted, &inventory, &plan);
        let outcomes = world::execute(world, &self.admin, &plan).await;
        self.tell_news(world);
        let failed = tell_steps(&plan, &outcomes, failures);
        self.report(cluster, &judged, &scene, failed)?;
        Ok(failed == 0 && plan.steps.is_empty() && is_ready(&judged))
    }

    fn tell_news(&self, world: &LocalWorld) {
        for news in world.news() {
            say("process", &news);
        }
    }

    fn report(
        &mut self,
        cluster: &RaftCluster,
        judged: &Verdict,
        scene: &Scene,
        failed: usize,
    ) -> Result<(), WorldError> {
        let names = Names::of(cluster);
        let generation = cluster.metadata.generation;
        let facts = Facts {
            names: &names,
            generation,
            scene,
            failed,
            now: Timestamp::now(),
        };
        let before = self.status.as_ref();
        let status = report::status(judged, facts, before);
        if before == Some(&status) {
            return Ok(());
        }
        for condition in report::changed_conditions(before, &status) {
            let (type_, value) = (&condition.type_, &condition.status);
            let text = format!(
                "{type_}={value} {}: {}",
                condition.reason, condition.message
            );
            say("condition", &text);
        }
        store::write_yaml(&self.store.status_file(), &status)?;
        self.status = Some(status);
        Ok(())
    }

    /// The cluster is gone: there is no status of it any more.
    pub fn finish(&self, world: &LocalWorld) {
        self.tell_news(world);
        let _ = std::fs::remove_file(self.store.status_file());
    }
}

/// Prints each step that was done, and collects those that failed; says how many those were.
fn tell_steps(plan: &Plan, outcomes: &[Outcome], failures: &mut BTreeSet<String>) -> usize {
    let before = failures.len();
    for (planned, outcome) in plan.steps.iter().zip(outcomes) {
        let line = format!(
            "{}: {}",
            steps::name(&planned.step),
            steps::text(&planned.step)
        );
        match outcome {
            Outcome::Done => say("step", &line),
            Outcome::Failed(error) => {
                failures.insert(format!("{line}: {}", chain(error)));
            }
            Outcome::Skipped => {}
        }
    }
    failures.len() - before
}

fn is_ready(judged: &Verdict) -> bool {
    let holds = |fact: &kontiki_plan::ConditionFact| {
        let rest = matches!(fact.kind, ConditionKind::Ready | ConditionKind::Paused);
        rest && fact.status == Some(true)
    };
    judged.conditions.iter().any(holds)
}
