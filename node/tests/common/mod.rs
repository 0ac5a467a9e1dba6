//! What the tests of this folder share: waiting, and nodes as processes.

#![allow(dead_code)] // each test file uses a part of it

pub mod embedded;
pub mod probe;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kontiki_proto::v1;
use kontiki_proto::v1::admin_client::AdminClient;
use tonic::transport::Channel;

/// Long enough for a busy machine; tests end as soon as their condition holds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A node as a process of its own; killed when dropped.
pub struct NodeProcess {
    pub child: Child,
    pub server_id: String,
    pub client: String,
    pub peer: String,
    pub http: String,
    log: Arc<Mutex<Vec<String>>>,
}

/// The binary under test, with ports that the kernel chooses.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki-node"));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("KONTIKI_")) {
        command.env_remove(key);
    }
    command.args(arguments);
    command
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary runs")
}

impl NodeProcess {
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let any = "127.0.0.1:0";
        let mut child = command(&["--node-name", name, "--log-format", "json"])
            .args(["--listen-client", any, "--listen-peer", any])
            .args(["--listen-http", any])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        let started = loop {
            line.clear();
            assert_ne!(
                log.read_line(&mut line).expect("a log"),
                0,
                "{name} did not start"
            );
            let event: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
            if event["message"] == "started" {
                break event;
            }
        };
        // The pipe must not fill up.
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                kept.lock().expect("unpoisoned").push(line);
            }
        });
        let field = |name: &str| started[name].as_str().expect(name).to_owned();
        Self {
            child,
            server_id: field("server_id"),
            client: field("client"),
            peer: field("peer"),
            http: field("http"),
            log: lines,
        }
    }

    /// Lines of its log since it started, as JSON.
    pub fn logged(&self, message: &str) -> Vec<serde_json::Value> {
        let lines = self.log.lock().expect("unpoisoned");
        let events = lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok());
        events
            .filter(|event: &serde_json::Value| event["message"] == message)
            .collect()
    }

    pub fn server(&self) -> v1::Server {
        v1::Server {
            server_id: self.server_id.clone(),
            node: String::new(),
            peer_address: self.peer.clone(),
            client_address: self.client.clone(),
        }
    }

    pub async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::connect(format!("http://{}", self.peer))
            .await
            .expect("it listens")
    }

    pub async fn status(&self) -> v1::StatusResponse {
        let mut admin = self.admin().await;
        admin
            .status(v1::StatusRequest {})
            .await
            .expect("a status")
            .into_inner()
    }

    /// GET over HTTP/1: status line and body.
    pub fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.http).expect("it listens");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        (
            head.lines().next().expect("a status").to_owned(),
            body.to_owned(),
        )
    }

    /// Value of a metric, named with its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        let line = line.unwrap_or_else(|| panic!("{name} is not in:\n{text}"));
        line.rsplit(' ')
            .next()
            .expect("a value")
            .parse()
            .expect("a number")
    }

    /// Resident set in KiB.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).expect("it runs");
        let line = text
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("VmRSS");
        line.split_whitespace()
            .nth(1)
            .expect("a number")
            .parse()
            .expect("a number")
    }

    /// Stops it in its tracks, as an overloaded machine does.
    pub fn freeze(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it runs");
        let stat = format!("/proc/{}/stat", self.child.id());
        let start = Instant::now();
        while !std::fs::read_to_string(&stat)
            .expect("it runs")
            .contains(") T ")
        {
            assert!(start.elapsed() < PATIENCE, "it does not stop");
            std::thread::yield_now();
        }
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("it is there");
    }

    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends")
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nodes that form a cluster, bootstrapped and activated as an operator does it; the leader's place.
pub async fn cluster(count: usize) -> (Vec<NodeProcess>, usize) {
    cluster_with(count, &[]).await
}

/// The same, with further arguments.
pub async fn cluster_with(count: usize, arguments: &[&str]) -> (Vec<NodeProcess>, usize) {
    cluster_of_id("c1", count, arguments).await
}

/// The same, of a given id.
pub async fn cluster_of_id(
    id: &str,
    count: usize,
    arguments: &[&str],
) -> (Vec<NodeProcess>, usize) {
    let nodes: Vec<_> = (0..count)
        .map(|at| NodeProcess::start(&format!("n{at}"), arguments))
        .collect();
    let request = v1::BootstrapRequest {
        cluster_id: id.into(),
        voters: nodes.iter().map(NodeProcess::server).collect(),
    };
    for node in &nodes {
        node.admin()
            .await
            .bootstrap(request.clone())
            .await
            .expect("bootstrapped");
    }
    // Not to wait for an election timeout.
    let request = v1::TriggerElectionRequest::default();
    let mut first = nodes[0].admin().await;
    first.trigger_election(request).await.expect("triggered");
    let leader = eventually("a leader that serves", async || {
        for (at, node) in nodes.iter().enumerate() {
            let status = node.status().await;
            if status.serving && status.term_committed {
                return Some(at);
            }
        }
        None
    })
    .await;
    let mut admin = nodes[leader].admin().await;
    let request = v1::ActivateRequest {
        cluster_id: id.into(),
    };
    admin.activate(request).await.expect("activated");
    (nodes, leader)
}
