//! The world of processes on this machine. The only place that knows what a process is.
//!
//! It does for processes what a StatefulSet does for pods: keeps as many as it was told, under names
//! that stay, and starts a fresh one in the place of one that is gone. Its processes outlive it: an
//! operator that is started again finds them by pid and start time, or by their configuration file.

pub mod ports;
pub mod process;
mod spawn;
pub mod store;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kontiki_api::{Names, RaftCluster};
use kontiki_plan::{ClusterId, Discarded, Identity, IdentityRecord, NodeName};
use rustix::process::Signal;

use self::process::Process;
use self::spawn::{Restarts, ended};
use self::store::{Nodes, Store, doing};
use super::{World, WorldError};
use crate::inventory::{Location, Place, Scene, Tenant};
use crate::objects::{NodeConfig, Settings};

/// How long a node may take to hand leadership over and stop.
const GRACE: Duration = Duration::from_secs(10);
/// Time between two looks at processes that are ending.
const ENDING_POLL: Duration = Duration::from_millis(20);
/// Exit status of a node whose port is taken.
const EXIT_PORT_TAKEN: i32 = 69;

/// The processes of one cluster.
pub struct LocalWorld {
    store: Store,
    binary: PathBuf,
    names: Names,
    state: Mutex<State>,
    /// Held as long as this world is.
    _lock: File,
}

struct State {
    /// As on disk.
    nodes: Nodes,
    /// What all nodes have in common.
    common: NodeConfig,
    /// Those processes that are children of this one, until they are reaped.
    children: BTreeMap<String, Child>,
    /// Nodes that were told to end, and when.
    ending: BTreeMap<String, Instant>,
    /// How often and when a node was started.
    restarts: Restarts,
    /// What happened to processes, for people.
    news: Vec<String>,
}

impl LocalWorld {
    /// The processes of `cluster` that run already, and none else.
    ///
    /// # Errors
    /// Another operator runs it, or what is known of it cannot be read.
    pub fn open(
        store: Store,
        binary: PathBuf,
        cluster: &RaftCluster,
        settings: &Settings,
    ) -> Result<Self, WorldError> {
        let lock = store.lock()?;
        let mut nodes = store.nodes()?;
        let mut news = Vec::new();
        let boot_id = process::boot_id();
        let same_boot = nodes.boot_id == boot_id;
        for (name, node) in &mut nodes.nodes {
            let known = node
                .process
                .filter(|process| same_boot && process.is_alive());
            let process = known.or_else(|| Process::with_argument(&store.config_file(name)).pop());
            if let Some(process) = process {
                news.push(format!("node {name}: adopted, pid {}", process.pid));
            }
            node.process = process;
        }
        nodes.boot_id = boot_id;
        store.write_nodes(&nodes)?;
        let state = State {
            nodes,
            common: NodeConfig::common(cluster, settings),
            children: BTreeMap::new(),
            ending: BTreeMap::new(),
            restarts: Restarts::default(),
            news,
        };
        let names = Names::of(cluster);
        Ok(Self {
            store,
            binary,
            names,
            state: Mutex::new(state),
            _lock: lock,
        })
    }

    /// The manifest has changed: nodes that start from now on are configured so.
    pub fn configure(&self, cluster: &RaftCluster, settings: &Settings) {
        self.state().common = NodeConfig::common(cluster, settings);
    }

    /// What happened to processes since this was last asked.
    pub fn news(&self) -> Vec<String> {
        std::mem::take(&mut self.state().news)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps as many processes as there should be: notices those that have ended, starts those that
    /// are missing, ends those that are too many.
    ///
    /// # Errors
    /// A process cannot be started or signalled.
    pub fn supervise(&self) -> Result<(), WorldError> {
        let state = &mut *self.state();
        let before = state.nodes.clone();
        self.notice_ended(state);
        let wanted = state.nodes.replicas.unwrap_or(0);
        let result = (0..wanted)
            .map(|ordinal| self.names.pod(ordinal))
            .try_for_each(|name| self.start_if_missing(state, &name))
            .and_then(|()| self.end_surplus(state, wanted))
            .and_then(|()| kill_overdue(state));
        if state.nodes != before {
            self.store.write_nodes(&state.nodes)?;
        }
        result
    }

    fn notice_ended(&self, state: &mut State) {
        for (name, node) in &mut state.nodes.nodes {
            let status = state
                .children
                .get_mut(name)
                .and_then(|child| child.try_wait().ok()?);
            let Some(process) = node.process else {
                continue;
            };
            if status.is_none() && process.is_alive() {
                continue;
            }
            state.children.remove(name);
            state.ending.remove(name);
            node.process = None;
            let how = ended(status, &self.store.log_file(name));
            state
                .news
                .push(format!("node {name}: pid {} ended, {how}", process.pid));
            state.restarts.ended(name);
            if status.and_then(|status| status.code()) == Some(EXIT_PORT_TAKEN) {
                state.restarts.other_ports(name);
            }
        }
    }

    fn end_surplus(&self, state: &mut State, wanted: u32) -> Result<(), WorldError> {
        let surplus: Vec<String> = state
            .nodes
            .nodes
            .iter()
            .filter(|(name, node)| {
                let ordinal = self.names.ordinal(name).unwrap_or(u32::MAX);
                ordinal >= wanted && node.process.is_some()
            })
            .map(|(name, _)| name.clone())
            .collect();
        surplus.iter().try_for_each(|name| end(state, name))
    }

    /// Ends every process of the cluster, and with them, in memory mode, its data: the identity goes
    /// too, so that the next start is that of a new cluster. Says how many were ended.
    ///
    /// # Errors
    /// A process cannot be signalled, or the identity not removed.
    pub async fn stop(&self) -> Result<usize, WorldError> {
        let running = self.running();
        for (name, process) in &running {
            signal(name, *process, Signal::TERM)?;
        }
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && running.iter().any(|(_, process)| process.is_alive()) {
            tokio::time::sleep(ENDING_POLL).await;
            self.notice_ended(&mut self.state());
        }
        for (name, process) in &running {
            signal(name, *process, Signal::KILL)?;
        }
        while running.iter().any(|(_, process)| process.is_alive()) {
            tokio::time::sleep(ENDING_POLL).await;
        }
        let state = &mut *self.state();
        self.notice_ended(state);
        for child in state.children.values_mut() {
            // Dead by now: this only takes its remains away.
            let _ = child.wait();
        }
        state.nodes.replicas = None;
        self.store.write_nodes(&state.nodes)?;
        self.store.forget_identity()?;
        Ok(running.len())
    }

    fn running(&self) -> Vec<(String, Process)> {
        let state = self.state();
        let nodes = state.nodes.nodes.iter();
        nodes
            .filter_map(|(name, node)| Some((name.clone(), node.process?)))
            .collect()
    }

    /// Nodes whose configuration file is not as it should be.
    fn drift(&self, state: &State) -> Vec<String> {
        let files = state.nodes.nodes.iter().filter_map(|(name, node)| {
            let path = self.store.config_file(name);
            let wanted = spawn::config(&state.common, name, node.ports).to_yaml();
            let found = std::fs::read_to_string(&path).ok();
            (found.as_deref() != Some(&wanted)).then(|| format!("{}: differs", path.display()))
        });
        files.collect()
    }
}

/// Tells a node to end, once.
fn end(state: &mut State, name: &str) -> Result<(), WorldError> {
    if state.ending.contains_key(name) {
        return Ok(());
    }
    if let Some(process) = state.nodes.nodes.get(name).and_then(|node| node.process) {
        signal(name, process, Signal::TERM)?;
        state.ending.insert(name.to_owned(), Instant::now());
        state
            .news
            .push(format!("node {name}: pid {} told to end", process.pid));
    }
    Ok(())
}

fn kill_overdue(state: &State) -> Result<(), WorldError> {
    let overdue = state
        .ending
        .iter()
        .filter(|(_, since)| since.elapsed() > GRACE);
    for (name, _) in overdue {
        if let Some(process) = state.nodes.nodes.get(name).and_then(|node| node.process) {
            signal(name, process, Signal::KILL)?;
        }
    }
    Ok(())
}

fn signal(name: &str, process: Process, signal: Signal) -> Result<(), WorldError> {
    process
        .signal(signal)
        .map_err(doing(format!("signal node {name}, pid {}", process.pid)))
}

fn seconds_since_1970() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

impl World for LocalWorld {
    async fn scene(&self) -> Result<Scene, WorldError> {
        let state = self.state();
        let desired = state.nodes.replicas.unwrap_or(0);
        let mut places: BTreeMap<u32, Place> = BTreeMap::new();
        for ordinal in 0..desired {
            let name = self.names.pod(ordinal);
            let place = Place {
                ordinal,
                name,
                tenant: None,
                location: Location::default(),
            };
            places.insert(ordinal, place);
        }
        for (name, node) in &state.nodes.nodes {
            let (Some(ordinal), Some(process)) = (self.names.ordinal(name), node.process) else {
                continue;
            };
            let tenant = Some(Tenant {
                uid: format!("{}-{}", process.pid, process.start_time),
                going: state.ending.contains_key(name),
                revision: String::new(),
                image: None,
                trouble: None,
                peer_address: format!("127.0.0.1:{}", node.ports.peer),
                client_address: format!("127.0.0.1:{}", node.ports.client),
                ready: None,
            });
            let name = name.clone();
            places.insert(
                ordinal,
                Place {
                    ordinal,
                    name,
                    tenant,
                    location: Location::default(),
                },
            );
        }
        let waited = seconds_since_1970().saturating_sub(state.nodes.wanted_since);
        Ok(Scene {
            identity: self.store.identity(),
            identity_copies: Vec::new(),
            servers_desired: state.nodes.replicas,
            drift: self.drift(&state),
            nodes: places.into_values().collect(),
            waited_for_servers: Duration::from_secs(waited),
            revision: None,
        })
    }

    async fn ensure_objects(&self) -> Result<(), WorldError> {
        let state = self.state();
        for (name, node) in &state.nodes.nodes {
            self.write_config(&state.common, name, node.ports)?;
        }
        Ok(())
    }

    async fn ensure_servers(&self, count: u32) -> Result<(), WorldError> {
        {
            let mut state = self.state();
            if state.nodes.replicas.is_none() {
                state.nodes.wanted_since = seconds_since_1970();
            }
            state.nodes.replicas = Some(state.nodes.replicas.unwrap_or(0).max(count));
            self.store.write_nodes(&state.nodes)?;
        }
        self.supervise()
    }

    async fn shrink_servers(&self, count: u32) -> Result<(), WorldError> {
        {
            let mut state = self.state();
            state.nodes.replicas = state.nodes.replicas.map(|replicas| replicas.min(count));
            self.store.write_nodes(&state.nodes)?;
        }
        self.supervise()
    }

    async fn record_identity(
        &self,
        record: &IdentityRecord,
        expects: Option<&str>,
    ) -> Result<(), WorldError> {
        self.store.write_identity(Ok(record), expects)
    }

    async fn record_initialized(
        &self,
        cluster: ClusterId,
        expects: &str,
    ) -> Result<(), WorldError> {
        match self.store.identity() {
            Identity::Recorded { record, .. }
                if record.cluster == cluster && record.initialized =>
            {
                Ok(())
            }
            Identity::Recorded { mut record, .. } if record.cluster == cluster => {
                record.initialized = true;
                self.store.write_identity(Ok(&record), Some(expects))
            }
            other => Err(WorldError::Moved {
                what: "the identity".to_owned(),
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
        self.store.write_identity(Err(discarded), Some(expects))?;
        let mut state = self.state();
        state.nodes.wanted_since = seconds_since_1970();
        self.store.write_nodes(&state.nodes)
    }

    async fn restart(&self, node: &NodeName, uid: &str) -> Result<(), WorldError> {
        let mut state = self.state();
        let process = state.nodes.nodes.get(node).and_then(|node| node.process);
        match process {
            Some(process) if format!("{}-{}", process.pid, process.start_time) == uid => {
                end(&mut state, node)
            }
            _ => Ok(()),
        }
    }
}
