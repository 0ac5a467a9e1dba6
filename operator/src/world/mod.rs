//! Acting: steps of the plan, performed in a world.
//!
//! Steps that speak to servers are the same everywhere (`raft`). Steps that make or end nodes are
//! the seam: [`World`] is Kubernetes or the processes of one machine.

pub mod kubernetes;
pub mod local;
mod raft;

use std::fmt;
use std::future::Future;

use kontiki_plan::{ClusterId, Discarded, IdentityRecord, NodeName, Plan, ServerId, Step};

use self::raft::Change;
use crate::admin::{Admin, CallError};
use crate::inventory::Scene;

/// Where nodes live. Every method is idempotent: it is called again after a death of the operator
/// before or after its effect.
pub trait World: Send + Sync {
    /// What is there now, read from the source and not from a cache.
    fn scene(&self) -> impl Future<Output = Result<Scene, WorldError>> + Send;
    /// Makes the objects beside the number of nodes what they should be.
    fn ensure_objects(&self) -> impl Future<Output = Result<(), WorldError>> + Send;
    /// Has at least `count` nodes.
    fn ensure_servers(&self, count: u32) -> impl Future<Output = Result<(), WorldError>> + Send;
    /// Has at most `count` nodes: those above have left the committed configuration.
    fn shrink_servers(&self, count: u32) -> impl Future<Output = Result<(), WorldError>> + Send;
    /// Writes the identity over exactly the version `expects`; `None`: where there is none.
    fn record_identity(
        &self,
        record: &IdentityRecord,
        expects: Option<&str>,
    ) -> impl Future<Output = Result<(), WorldError>> + Send;
    /// Sets `initialized` in the identity of `cluster`, at exactly the version `expects`.
    fn record_initialized(
        &self,
        cluster: ClusterId,
        expects: &str,
    ) -> impl Future<Output = Result<(), WorldError>> + Send;
    /// Gives the identity up, at exactly the version `expects`.
    fn discard_identity(
        &self,
        discarded: &Discarded,
        expects: &str,
    ) -> impl Future<Output = Result<(), WorldError>> + Send;
    /// Ends what runs as `node`, if it still is `uid`, so that a fresh server takes its place.
    fn restart(
        &self,
        node: &NodeName,
        uid: &str,
    ) -> impl Future<Output = Result<(), WorldError>> + Send;
}

/// Why something could not be seen or done.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A server refused, or did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The API server refused, or did not answer.
    #[error("{doing}")]
    Kubernetes {
        /// What was being done to which object.
        doing: String,
        /// Why it did not work.
        #[source]
        source: Box<kube::Error>,
    },
    /// A file or process could not be handled.
    #[error("{doing}")]
    Local {
        /// What was being done.
        doing: String,
        /// Why it did not work.
        #[source]
        source: std::io::Error,
    },
    /// The world has moved on since it was looked at; the next look decides.
    #[error("{what} is {found}, not {expected}")]
    Moved {
        /// Which thing.
        what: String,
        /// What was expected.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An object is not what it must be, and no retry helps.
    #[error("{0}")]
    Invalid(String),
}

/// How a step ended.
#[derive(Debug)]
pub enum Outcome {
    /// It was done, or had been.
    Done,
    /// It was not, or may not have been.
    Failed(WorldError),
    /// It was not tried: a step it needs did not succeed.
    Skipped,
}

/// Performs a plan in order. A failed step stops only those that depend on it.
pub async fn execute(world: &impl World, admin: &Admin, plan: &Plan) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(plan.steps.len());
    for planned in &plan.steps {
        let done = |&before: &usize| matches!(outcomes.get(before), Some(Outcome::Done));
        let outcome = if planned.after.iter().all(done) {
            match perform(world, admin, &planned.step).await {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Failed(error),
            }
        } else {
            Outcome::Skipped
        };
        outcomes.push(outcome);
    }
    outcomes
}

async fn perform(world: &impl World, admin: &Admin, step: &Step) -> Result<(), WorldError> {
    match step {
        Step::EnsureObjects { .. } => world.ensure_objects().await,
        Step::EnsureServers { count } => world.ensure_servers(*count).await,
        Step::ShrinkServers { count } => world.shrink_servers(*count).await,
        Step::RecordIdentity { record, expects } => {
            world.record_identity(record, expects.as_deref()).await
        }
        Step::RecordInitialized { cluster, expects } => {
            world.record_initialized(*cluster, expects).await
        }
        Step::DrawIdentityAnew { discarded, expects } => {
            world.discard_identity(discarded, expects).await
        }
        Step::Restart { node, uid, server } => restart(world, admin, node, uid, *server).await,
        Step::Bootstrap {
            to,
            cluster,
            voters,
        } => Ok(raft::bootstrap(admin, to, *cluster, voters).await?),
        Step::Activate { via, cluster } => Ok(admin
            .activate(&via.peer_address, cluster.to_string())
            .await?),
        Step::Introduce {
            to,
            cluster,
            servers,
        } => Ok(raft::introduce(admin, to, *cluster, servers).await?),
        Step::Transfer {
            via,
            cluster,
            target,
        } => {
            let target = target.id.to_string();
            Ok(admin
                .transfer(&via.peer_address, cluster.to_string(), target)
                .await?)
        }
        Step::Quarantine { on, cluster, why } => {
            let (cluster, server) = (cluster.to_string(), on.id.to_string());
            let address = &on.peer_address;
            Ok(admin
                .quarantine(address, cluster, server, why.clone())
                .await?)
        }
        Step::TriggerElection { on, cluster } => {
            let server = on.id.to_string();
            Ok(admin
                .trigger_election(&on.peer_address, cluster.to_string(), server)
                .await?)
        }
        Step::Add {
            via,
            cluster,
            servers,
            supersedes,
            configuration_index,
        } => {
            let change = Change {
                via,
                cluster: *cluster,
                configuration_index: *configuration_index,
            };
            Ok(raft::add(admin, change, servers, supersedes).await?)
        }
        Step::Replace {
            via,
            cluster,
            lost,
            new,
            supersedes,
            configuration_index,
        } => {
            let change = Change {
                via,
                cluster: *cluster,
                configuration_index: *configuration_index,
            };
            Ok(raft::replace(admin, change, *lost, new, supersedes).await?)
        }
        Step::Remove {
            via,
            cluster,
            servers,
            configuration_index,
        } => {
            let change = Change {
                via,
                cluster: *cluster,
                configuration_index: *configuration_index,
            };
            Ok(raft::remove(admin, change, servers).await?)
        }
    }
}

/// Ends a node only if the server that the plan judged still answers there: between look and deed
/// another incarnation, worth keeping, may have taken its place.
async fn restart(
    world: &impl World,
    admin: &Admin,
    node: &NodeName,
    uid: &str,
    server: ServerId,
) -> Result<(), WorldError> {
    let scene = world.scene().await?;
    let place = scene.nodes.iter().find(|place| &place.name == node);
    let Some(tenant) = place.and_then(|place| place.tenant.as_ref()) else {
        return Ok(());
    };
    let moved =
        |what: &str, expected: &dyn fmt::Display, found: &dyn fmt::Display| WorldError::Moved {
            what: format!("{what} of {node}"),
            expected: expected.to_string(),
            found: found.to_string(),
        };
    if tenant.uid != uid {
        return Err(moved("uid", &uid, &tenant.uid));
    }
    let status = admin.status(&tenant.peer_address).await?;
    let found = status
        .server
        .map(|server| server.server_id)
        .unwrap_or_default();
    if found != server.to_string() {
        return Err(moved("server", &server, &found));
    }
    world.restart(node, uid).await
}
