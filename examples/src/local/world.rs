//! The local world from outside: a folder with a manifest, the operator that keeps it, and the
//! state that it writes beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kontiki_client::Address;
use rustix::process::Signal;
use serde::Deserialize;
use tempfile::TempDir;

use crate::process::Process;

/// The manifest that is shipped.
const MANIFEST: &str = include_str!("../../raftcluster.yaml");
/// How long the operator may take to end all of its nodes.
const STOP_MAX: Duration = Duration::from_secs(20);
/// How long a process may live after SIGKILL.
const KILL_MAX: Duration = Duration::from_secs(5);
/// Pause between two looks at processes that are to end.
const END_INTERVAL: Duration = Duration::from_millis(20);
/// Lines of each log that are shown after a failure.
const TAIL_LINES_MAX: usize = 25;

/// The programs that a local world runs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `kontiki-operator`.
    pub operator: PathBuf,
    /// `kontiki-node`.
    pub node: PathBuf,
}

/// A node, as the operator's state names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, which stays when its process is replaced.
    pub name: String,
    /// What runs.
    pub process: Process,
    /// Admin.
    pub peer: Address,
    /// Kv.
    pub client: Address,
}

/// An operator at work in a folder of its own.
#[derive(Debug)]
pub struct LocalWorld {
    folder: TempDir,
    /// The folder without links, as it is on the command lines of nodes.
    root: PathBuf,
    operator: Child,
    /// Every process of the operator and of nodes that was ever seen.
    seen: BTreeSet<Process>,
}

/// `FILE.state/nodes.yaml`: the part that is of interest here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodesFile {
    nodes: BTreeMap<String, NodeState>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeState {
    ports: Ports,
    process: Option<Process>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ports {
    client: u16,
    peer: u16,
}

impl LocalWorld {
    /// Writes the manifest that is shipped, with so many replicas, and starts an operator on it.
    ///
    /// # Errors
    /// The folder cannot be made, or the operator not be started.
    pub fn start(programs: &Programs, replicas: u32) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("kontiki-demo-").tempdir()?;
        let root = fs::canonicalize(folder.path())?;
        let manifest = root.join("demo.yaml");
        fs::write(&manifest, with_replicas(replicas)?)?;
        let log = File::create(root.join("operator.log"))?;
        let mut command = Command::new(&programs.operator);
        command
            .arg("local")
            .arg(&manifest)
            .arg("--node-binary")
            .arg(&programs.node);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let operator = command.spawn();
        let operator =
            operator.with_context(|| format!("start {}", programs.operator.display()))?;
        let pid = i32::try_from(operator.id())?;
        let seen = Process::find(pid).into_iter().collect();
        Ok(Self {
            folder,
            root,
            operator,
            seen,
        })
    }

    /// The manifest.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("demo.yaml")
    }

    /// The operator's process id.
    pub fn operator(&self) -> u32 {
        self.operator.id()
    }

    /// Changes `replicas` in the manifest, as an editor would: a new file in the place of the old.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn edit_replicas(&self, replicas: u32) -> anyhow::Result<()> {
        let new = self.root.join("demo.yaml.new");
        fs::write(&new, with_replicas(replicas)?)?;
        Ok(fs::rename(new, self.manifest())?)
    }

    /// The nodes that run now, by name.
    ///
    /// # Errors
    /// The operator has ended, or has written nothing yet.
    pub fn nodes(&mut self) -> anyhow::Result<Vec<Node>> {
        if let Some(status) = self.operator.try_wait()? {
            bail!("the operator has ended: {status}");
        }
        let text = fs::read_to_string(self.state().join("nodes.yaml"));
        let text = text.context("the operator has started no node yet")?;
        let file: NodesFile = serde_yaml::from_str(&text).context("nodes.yaml")?;
        let mut nodes = Vec::new();
        for (name, NodeState { ports, process }) in file.nodes {
            let Some(process) = process.filter(|process| process.is_alive()) else {
                continue;
            };
            self.seen.insert(process);
            let at = |port: u16| format!("127.0.0.1:{port}").parse::<Address>();
            nodes.push(Node {
                name,
                process,
                peer: at(ports.peer)?,
                client: at(ports.client)?,
            });
        }
        Ok(nodes)
    }

    fn state(&self) -> PathBuf {
        self.root.join("demo.yaml.state")
    }

    /// Interrupts the operator, as Ctrl-C does, and waits until it has ended.
    ///
    /// # Errors
    /// It does not end in time, or not well.
    pub async fn interrupt(&mut self) -> anyhow::Result<ExitStatus> {
        let process = Process::find(i32::try_from(self.operator.id())?);
        let process = process.context("the operator had ended before it was told to")?;
        process.signal(Signal::INT)?;
        let started = Instant::now();
        loop {
            if let Some(status) = self.operator.try_wait()? {
                ensure!(status.success(), "the operator ended with {status}");
                return Ok(status);
            }
            ensure!(
                started.elapsed() < STOP_MAX,
                "the operator does not end in {STOP_MAX:?}"
            );
            tokio::time::sleep(END_INTERVAL).await;
        }
    }

    /// The processes of this world, of all that there have been, that still run.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn left_over(&self) -> anyhow::Result<Vec<Process>> {
        let seen = self
            .seen
            .iter()
            .copied()
            .filter(|process| process.is_alive());
        let using = Process::that_use(&self.root)?;
        let all: BTreeSet<Process> = seen.chain(using).collect();
        Ok(all.into_iter().collect())
    }

    /// How many processes there have been.
    pub fn processes_seen(&self) -> usize {
        self.seen.len()
    }

    /// Ends everything, whatever state it is in, and removes the folder.
    ///
    /// # Errors
    /// Something cannot be ended or removed.
    pub async fn end(mut self) -> anyhow::Result<()> {
        if self.operator.try_wait()?.is_none() {
            // One that was stopped goes on, and then ends; one that does not is killed below.
            let operator = Process::find(i32::try_from(self.operator.id())?);
            operator.map_or(Ok(()), |operator| operator.signal(Signal::CONT))?;
            let _ = self.interrupt().await;
        }
        if self.operator.try_wait()?.is_none() {
            self.operator.kill()?;
            self.operator.wait()?;
        }
        let started = Instant::now();
        loop {
            let left = self.left_over()?;
            if left.is_empty() {
                break;
            }
            for process in &left {
                process.signal(Signal::KILL)?;
            }
            ensure!(started.elapsed() < KILL_MAX, "cannot be ended: {left:?}");
            tokio::time::sleep(END_INTERVAL).await;
        }
        self.folder.close().context("remove the folder")
    }

    /// The last lines of every log, for people.
    pub fn tails(&self) -> String {
        let logs = fs::read_dir(self.state().join("logs"))
            .into_iter()
            .flatten()
            .flatten();
        let mut paths: Vec<PathBuf> = logs.map(|entry| entry.path()).collect();
        paths.sort();
        paths.insert(0, self.root.join("operator.log"));
        paths.iter().map(|path| tail(path)).collect()
    }
}

/// The last lines of a log, under its name.
pub fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES_MAX)..];
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(
        "--- {name}, the last {} of {} lines\n{}\n",
        last.len(),
        lines.len(),
        last.join("\n")
    )
}

/// The manifest that is shipped, with another number of replicas.
fn with_replicas(replicas: u32) -> anyhow::Result<String> {
    let mut found = 0;
    let edit = |line: &str| match line.split_once("replicas:") {
        Some((indent, _)) if !indent.is_empty() && indent.trim().is_empty() => {
            found += 1;
            format!("{indent}replicas: {replicas}\n")
        }
        _ => format!("{line}\n"),
    };
    let text = MANIFEST.lines().map(edit).collect();
    ensure!(
        found == 1,
        "the manifest has {found} lines with replicas, not one"
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_changes_one_line() {
        let five = with_replicas(5).unwrap();
        let differing = MANIFEST
            .lines()
            .zip(five.lines())
            .filter(|(old, new)| old != new);
        assert_eq!(
            differing.collect::<Vec<_>>(),
            [("  replicas: 3", "  replicas: 5")]
        );
        assert_eq!(with_replicas(3).unwrap(), MANIFEST);
    }

    #[test]
    fn the_state_of_nodes_is_read_as_the_operator_writes_it() {
        let text = "\
bootId: b
replicas: 3
wantedSince: 7
nodes:
  demo-0:
    ports: {client: 1, peer: 2, http: 3}
    process: {pid: 17, startTime: 99}
  demo-1:
    ports: {client: 4, peer: 5, http: 6}
";
        let file: NodesFile = serde_yaml::from_str(text).unwrap();
        let process = Process {
            pid: 17,
            start_time: 99,
        };
        assert_eq!(file.nodes["demo-0"].process, Some(process));
        assert_eq!(file.nodes["demo-1"].process, None);
        assert_eq!(file.nodes["demo-1"].ports.peer, 5);
    }

    #[test]
    fn a_tail_is_the_end_of_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let lines: Vec<String> = (0..100).map(|line| line.to_string()).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        let tail = tail(&path);
        assert!(
            tail.starts_with("--- x.log, the last 25 of 100 lines\n75\n"),
            "{tail}"
        );
    }
}
