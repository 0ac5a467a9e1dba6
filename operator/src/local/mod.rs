//! `kontiki-operator local FILE`: a cluster of processes on this machine, kept as a manifest says.
//!
//! The loop is the controller's: look, plan, act, report. Instead of a watch it wakes when a process
//! ends, and often enough to see an edited file soon.

mod manifest;
mod pass;
mod position;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kontiki_api::{RaftCluster, StateMachineKind};
use kube::ResourceExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::manifest::ManifestError;
use self::pass::{Passes, say};
use crate::cli::EXIT_CONFIG;
use crate::objects::Settings;
use crate::signals;
use crate::world::WorldError;
use crate::world::local::LocalWorld;
use crate::world::local::store::{self, Store};

/// Time between two passes while something goes on.
const FAST: Duration = Duration::from_millis(150);
/// Time between two passes at rest; an edited file waits this long at most.
const REST: Duration = Duration::from_millis(500);

/// Why the local world ends.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The manifest cannot be used, and there is none in force.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The program of a node is not there.
    #[error("the program of a node is not at {0}: say where with --node-binary")]
    Binary(String),
    /// Files or processes cannot be handled.
    #[error(transparent)]
    World(#[from] WorldError),
    /// This process cannot listen to signals.
    #[error("cannot listen to signals")]
    Signals(#[source] io::Error),
}

impl LocalError {
    /// Exit status of the program.
    pub fn exit_status(&self) -> u8 {
        match self {
            LocalError::Manifest(_) | LocalError::Binary(_) => EXIT_CONFIG,
            LocalError::World(_) | LocalError::Signals(_) => 1,
        }
    }
}

/// The status of the cluster of `file`, as its operator last wrote it.
///
/// # Errors
/// No operator has written one.
pub fn status(file: &Path) -> io::Result<String> {
    let path = store::folder(file).join("status.yaml");
    fs::read_to_string(&path).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("no status in {}: {error}", path.display()),
        )
    })
}

/// Keeps the cluster as `file` says until SIGINT or SIGTERM, and then ends all of it.
///
/// # Errors
/// The first manifest cannot be used, the node's program is not there, or files or processes cannot
/// be handled. Processes that run then go on.
pub async fn run(file: &Path, node_binary: Option<&Path>) -> Result<(), LocalError> {
    let shutdown = CancellationToken::new();
    signals::cancel_at_the_end(shutdown.clone()).map_err(LocalError::Signals)?;
    let mut child_ended = signal(SignalKind::child()).map_err(LocalError::Signals)?;
    let settings = Settings {
        node_image: String::new(),
        node_log_format: "text".to_owned(),
        node_log_level: "info".to_owned(),
    };
    let mut desired = Desired::open(file)?;
    if desired.cluster.spec.state_machine.kind == StateMachineKind::Custom && node_binary.is_none()
    {
        let field = "spec.stateMachine.kind";
        let message = "Custom needs a program here, where spec.image does not count: say where it is \
                       with --node-binary";
        return Err(ManifestError::at(file, field, message.to_owned()).into());
    }
    let binary = find_binary(node_binary)?;
    let store = Store::open(file)?;
    let world = LocalWorld::open(store.clone(), binary, &desired.cluster, &settings)?;
    say(
        "cluster",
        &format!("{} of {}", desired.cluster.name_any(), file.display()),
    );
    let mut passes = Passes::new(store);
    while !shutdown.is_cancelled() {
        if desired.look() {
            world.configure(&desired.cluster, &settings);
        }
        let at_rest = passes.pass(&world, &desired.cluster).await;
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = child_ended.recv() => {}
            () = tokio::time::sleep(if at_rest { REST } else { FAST }) => {}
        }
    }
    say(
        "stop",
        "ending every node; what they hold in memory goes with them",
    );
    let ended = world.stop().await?;
    passes.finish(&world);
    say("stop", &format!("{ended} nodes ended"));
    Ok(())
}

/// The manifest in force, and the file it comes from.
struct Desired {
    file: PathBuf,
    cluster: RaftCluster,
    /// Modification time and size of the file when it was last read.
    seen: Option<(SystemTime, u64)>,
}

impl Desired {
    fn open(file: &Path) -> Result<Self, LocalError> {
        let seen = stamp(file);
        let mut cluster = manifest::read(file, None)?;
        cluster.metadata.generation = Some(1);
        Ok(Self {
            file: file.to_owned(),
            cluster,
            seen,
        })
    }

    /// Reads the file if it has changed. One that cannot be used is reported, and what was in force
    /// stays. Says whether there is another manifest in force.
    fn look(&mut self) -> bool {
        let stamp = stamp(&self.file);
        if stamp == self.seen {
            return false;
        }
        self.seen = stamp;
        match manifest::read(&self.file, Some(&self.cluster)) {
            Ok(new) if new.spec == self.cluster.spec => false,
            Ok(mut new) => {
                let generation = self.cluster.metadata.generation.unwrap_or(1) + 1;
                new.metadata.generation = Some(generation);
                let replicas = new.spec.replicas;
                say(
                    "manifest",
                    &format!("generation {generation}, replicas {replicas}"),
                );
                self.cluster = new;
                true
            }
            Err(error) => {
                for line in error.to_string().lines() {
                    say("manifest", line);
                }
                say("manifest", "the last good one stays in force");
                false
            }
        }
    }
}

fn stamp(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The program of a node: as said, or beside this one, or on the PATH.
fn find_binary(said: Option<&Path>) -> Result<PathBuf, LocalError> {
    if let Some(path) = said {
        // Relative to where we are now: a node may be started much later.
        let absolute = fs::canonicalize(path).ok().filter(|path| path.is_file());
        return absolute.ok_or_else(|| LocalError::Binary(path.display().to_string()));
    }
    let own = std::env::current_exe().ok();
    let folder = own.and_then(|path| path.parent().map(Path::to_owned));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = folder.into_iter().chain(std::env::split_paths(&path));
    let mut programs = candidates.map(|folder| folder.join("kontiki-node"));
    let found = programs.find(|program| program.is_file());
    found.ok_or_else(|| LocalError::Binary("kontiki-node beside this program or on PATH".into()))
}
