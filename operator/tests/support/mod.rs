//! A cluster of real processes in a folder of its own, ended with the test whatever happens.

pub mod data;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use kontiki_api::RaftClusterStatus;
use kontiki_operator::world::local::process::Process;
use kontiki_operator::world::local::store::{Nodes, folder};
use rustix::process::Signal;

/// Longest wait for anything; reached only when it fails.
const DEADLINE: Duration = Duration::from_secs(90);
/// Time between two looks at a condition.
const POLL: Duration = Duration::from_millis(25);

const MANIFEST: &str = "\
apiVersion: kontiki.dev/v1alpha1
kind: RaftCluster
metadata:
  name: demo
spec:
  replicas: REPLICAS
  stateMachine:
    kind: Kv
  storage:
    mode: Memory
";

/// A manifest, and the processes that belong to it.
pub struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    /// A manifest that asks for `replicas` servers.
    pub fn new(replicas: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Self { folder };
        let text = MANIFEST.replace("REPLICAS", &replicas.to_string());
        fs::write(cluster.manifest(), text).unwrap();
        cluster
    }

    /// The manifest.
    pub fn manifest(&self) -> PathBuf {
        self.folder.path().join("demo.yaml")
    }

    fn state(&self) -> PathBuf {
        folder(&self.manifest())
    }

    /// Replaces text in the manifest, in one step, as an editor does.
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.manifest()).unwrap();
        assert!(text.contains(from), "{from:?} is not in the manifest");
        let new = self.folder.path().join("new");
        fs::write(&new, text.replace(from, to)).unwrap();
        fs::rename(&new, self.manifest()).unwrap();
    }

    /// The status that the operator last wrote.
    pub fn status(&self) -> RaftClusterStatus {
        let text = fs::read_to_string(self.state().join("status.yaml")).unwrap_or_default();
        serde_yaml::from_str(&text).unwrap_or_default()
    }

    /// Waits until the cluster is ready with `voters` voters.
    pub fn wait_ready(&self, voters: i32) -> RaftClusterStatus {
        self.wait_for(&format!("ready with {voters} voters"), || {
            let status = self.status();
            let ready = status
                .conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.status == "True");
            ready
                && status
                    .quorum
                    .is_some_and(|q| q.voters == voters && q.healthy_voters == voters)
        });
        self.status()
    }

    /// Waits until `condition` holds.
    #[track_caller]
    pub fn wait_for(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "{what}: not after {DEADLINE:?}, {:#?}",
                self.status()
            );
            std::thread::sleep(POLL);
        }
    }

    fn nodes(&self) -> Nodes {
        let text = fs::read_to_string(self.state().join("nodes.yaml")).unwrap_or_default();
        serde_yaml::from_str(&text).unwrap_or_default()
    }

    /// Every living process that was started for this cluster, also one that nobody remembers.
    pub fn processes(&self) -> Vec<Process> {
        let Ok(state) = fs::canonicalize(self.state()) else {
            return Vec::new();
        };
        let configs = (0..9).map(|node| state.join("nodes").join(format!("demo-{node}.yaml")));
        configs
            .flat_map(|config| Process::with_argument(&config))
            .collect()
    }

    /// The process of the server with this id.
    pub fn process_of(&self, server_id: &str) -> Process {
        let status = self.status();
        let member = status
            .members
            .iter()
            .find(|m| m.server_id == server_id)
            .unwrap();
        self.nodes().nodes[member.pod.as_ref().unwrap()]
            .process
            .unwrap()
    }

    /// Peer port of a node.
    pub fn peer_port(&self, node: &str) -> u16 {
        self.nodes().nodes[node].ports.peer
    }

    /// Client address of the node that leads.
    pub fn leader_address(&self) -> Option<String> {
        let leader = self.status().leader?;
        let port = self.nodes().nodes.get(&leader.pod)?.ports.client;
        Some(format!("http://127.0.0.1:{port}"))
    }

    /// Takes a port, as soon as it is free.
    pub fn listen(&self, port: u16, within: Duration) -> TcpListener {
        let deadline = Instant::now() + within;
        loop {
            match TcpListener::bind(("127.0.0.1", port)) {
                Ok(listener) => return listener,
                Err(error) => assert!(Instant::now() < deadline, "port {port}: {error}"),
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.processes() {
            let _ = process.signal(Signal::KILL);
        }
    }
}

/// A running `kontiki-operator local`.
pub struct Operator {
    child: Child,
    output: PathBuf,
}

impl Operator {
    /// Starts one for `cluster`.
    pub fn start(cluster: &Cluster) -> Self {
        Self::with(cluster, &[])
    }

    /// Starts one with further arguments.
    pub fn with(cluster: &Cluster, arguments: &[&str]) -> Self {
        let program = node_binary().to_str().unwrap();
        Self::bare(cluster, &[&["--node-binary", program], arguments].concat())
    }

    /// Starts one with no other arguments: it finds the program of a node by itself.
    pub fn bare(cluster: &Cluster, arguments: &[&str]) -> Self {
        let folder = cluster.folder.path();
        let number = fs::read_dir(folder).unwrap().count();
        let output = folder.join(format!("operator-{number}.out"));
        let file = fs::File::create(&output).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_kontiki-operator"))
            .arg("local")
            .arg(cluster.manifest())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, output }
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        Process::find(pid).unwrap().signal(Signal::INT).unwrap();
    }

    /// SIGKILL, waited for.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end:\n{}",
                self.output()
            );
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.output());
        }
    }
}

/// The program of a node, built beside the operator's: Cargo builds only the programs of the crate
/// under test by itself.
fn node_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let operator = Path::new(env!("CARGO_BIN_EXE_kontiki-operator"));
        let folder = operator.parent().unwrap();
        let profile = match folder.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--package",
                "kontiki-node",
                "--profile",
                profile,
            ])
            .arg("--target-dir")
            .arg(folder.parent().unwrap())
            .status()
            .unwrap();
        assert!(built.success());
        folder.join("kontiki-node")
    })
}
