//! Starting nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::ports::Ports;
use super::process::Process;
use super::store::{NodeState, doing, write_text};
use super::{LocalWorld, State, WorldError};
use crate::objects::{Advertise, Listen, NodeConfig};

/// A process that ends sooner than this did not work.
const WORKED: Duration = Duration::from_secs(5);
/// Wait before a process is started again that did not work; doubled each time.
const BACKOFF: Duration = Duration::from_millis(200);
/// It waits this long at most.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Size past which a log is put aside, as `NODE.log.1`, before a process appends to it.
const LOG_MAX: u64 = 16 << 20;
/// Characters of a log's last line that are told when a process ends.
const LAST_LINE_MAX: usize = 300;

/// How often and when nodes were started, by this operator.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    started: BTreeMap<String, Instant>,
    failures: BTreeMap<String, u32>,
    not_before: BTreeMap<String, Instant>,
    other_ports: BTreeSet<String>,
}

impl Restarts {
    /// A process of `name` has ended; it decides how soon the next may start.
    pub(super) fn ended(&mut self, name: &str) {
        let lived = self
            .started
            .remove(name)
            .map_or(WORKED, |started| started.elapsed());
        let failures = self.failures.entry(name.to_owned()).or_default();
        *failures = if lived < WORKED { *failures + 1 } else { 0 };
        // The first time it is started again at once: it may have been killed.
        let wait = match *failures {
            0 | 1 => Duration::ZERO,
            n => BACKOFF
                .saturating_mul(1 << (n - 2).min(16))
                .min(BACKOFF_MAX),
        };
        self.not_before
            .insert(name.to_owned(), Instant::now() + wait);
    }

    /// The next process of `name` gets other ports.
    pub(super) fn other_ports(&mut self, name: &str) {
        self.other_ports.insert(name.to_owned());
    }

    fn may_start(&self, name: &str) -> bool {
        self.not_before
            .get(name)
            .is_none_or(|time| Instant::now() >= *time)
    }
}

/// The configuration of one node.
pub(super) fn config(common: &NodeConfig, name: &str, ports: Ports) -> NodeConfig {
    let at = |port| format!("127.0.0.1:{port}");
    NodeConfig {
        node_name: Some(name.to_owned()),
        listen: Some(Listen {
            client: at(ports.client),
            peer: at(ports.peer),
            http: at(ports.http),
        }),
        advertise: Some(Advertise {
            host: "127.0.0.1".to_owned(),
        }),
        ..common.clone()
    }
}

/// How a process ended, with the last that it said if it did not end well.
pub(super) fn ended(status: Option<ExitStatus>, log: &Path) -> String {
    let how = match status {
        None => return "how is not known".to_owned(),
        Some(status) if status.success() => return "exit status 0".to_owned(),
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => return format!("signal {signal}"),
            (None, None) => "how is not known".to_owned(),
        },
    };
    let text = fs::read_to_string(log).unwrap_or_default();
    let last: String = text
        .lines()
        .next_back()
        .unwrap_or("")
        .chars()
        .take(LAST_LINE_MAX)
        .collect();
    format!("{how}: {last}")
}

impl LocalWorld {
    pub(super) fn start_if_missing(&self, state: &mut State, name: &str) -> Result<(), WorldError> {
        let known = state.nodes.nodes.get(name);
        let runs = known.is_some_and(|node| node.process.is_some());
        if runs || !state.restarts.may_start(name) {
            return Ok(());
        }
        let other_ports = state.restarts.other_ports.remove(name);
        let kept = known
            .map(|node| node.ports)
            .filter(|ports| !other_ports && ports.are_free());
        let ports = match kept {
            Some(ports) => ports,
            None => {
                let taken: Vec<Ports> = state.nodes.nodes.values().map(|node| node.ports).collect();
                Ports::pick(&taken).ok_or_else(|| {
                    WorldError::Invalid("no free ports on 127.0.0.1 from 10240 to 32767".to_owned())
                })?
            }
        };
        // On disk before the process is: an operator that dies in between finds it by its file.
        state.nodes.nodes.insert(
            name.to_owned(),
            NodeState {
                ports,
                process: None,
            },
        );
        self.store.write_nodes(&state.nodes)?;
        self.write_config(&state.common, name, ports)?;
        self.start(state, name, ports)
    }

    pub(super) fn write_config(
        &self,
        common: &NodeConfig,
        name: &str,
        ports: Ports,
    ) -> Result<(), WorldError> {
        let path = self.store.config_file(name);
        let text = config(common, name, ports).to_yaml();
        write_text(&path, &text).map_err(doing(format!("write {}", path.display())))
    }

    fn start(&self, state: &mut State, name: &str, ports: Ports) -> Result<(), WorldError> {
        let log = self.store.log_file(name);
        if fs::metadata(&log).is_ok_and(|log| log.len() > LOG_MAX) {
            let aside = log.with_extension("log.1");
            fs::rename(&log, aside).map_err(doing(format!("put {} aside", log.display())))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let output = file.map_err(doing(format!("open {}", log.display())))?;
        let errors = output
            .try_clone()
            .map_err(doing(format!("open {}", log.display())))?;
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(self.store.config_file(name));
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        // A group of its own: Ctrl-C at the terminal is for the operator, which ends its nodes.
        command.process_group(0);
        for (key, _) in std::env::vars_os() {
            // They would win over the file.
            if key.as_encoded_bytes().starts_with(b"KONTIKI_") {
                command.env_remove(key);
            }
        }
        let what = format!("start node {name} as {}", self.binary.display());
        let child = command.spawn().map_err(doing(what))?;
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        // Not reaped yet, so that its pid is its own even if it has ended already.
        let process = Process::find(pid);
        state.children.insert(name.to_owned(), child);
        state
            .restarts
            .started
            .insert(name.to_owned(), Instant::now());
        let process = process.unwrap_or(Process { pid, start_time: 0 });
        state.nodes.nodes.insert(
            name.to_owned(),
            NodeState {
                ports,
                process: Some(process),
            },
        );
        let Ports { client, peer, http } = ports;
        state.news.push(format!(
            "node {name}: started, pid {pid}, client 127.0.0.1:{client}, peer 127.0.0.1:{peer}, \
             http 127.0.0.1:{http}"
        ));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_never_works_is_started_ever_less_often() {
        let mut restarts = Restarts::default();
        assert!(restarts.may_start("demo-0"));
        for failures in 1..=12 {
            restarts.started.insert("demo-0".to_owned(), Instant::now());
            restarts.ended("demo-0");
            assert_eq!(
                restarts.may_start("demo-0"),
                failures == 1,
                "after {failures}"
            );
        }
        let wait = restarts.not_before["demo-0"].duration_since(Instant::now());
        assert!(wait <= BACKOFF_MAX && wait > BACKOFF_MAX / 2, "{wait:?}");
    }
}
