//! A node process of a test: found by its log, gone when dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

/// A process starts within this, also on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(60);

/// A running `kontiki-node`.
#[derive(Debug)]
pub struct Node {
    child: Child,
    /// Its incarnation, 16 hexadecimal digits.
    pub server_id: String,
    /// Name.
    pub name: String,
    /// HOST:PORT of Data and Kv.
    pub client: String,
    /// HOST:PORT of Peer and Admin.
    pub peer: String,
    /// HOST:PORT of metrics and probes.
    pub http: String,
}

/// How one is started.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its configuration file.
    pub config: &'a str,
    /// A program with arguments that turns into the node when the node's command line follows.
    pub within: &'a [&'a str],
    /// Flags of the node, where it listens among them.
    pub flags: &'a [&'a str],
}

/// Ports of the kernel's choice, for this machine alone.
const ON_LOOPBACK: &[&str] = &[
    "--listen-client=127.0.0.1:0",
    "--listen-peer=127.0.0.1:0",
    "--listen-http=127.0.0.1:0",
];

impl Node {
    /// Starts one with this configuration file, on loopback. Its log is shown with the test's output
    /// if it fails.
    pub fn start(name: &str, config: &str) -> Self {
        let prefix = name.to_owned();
        Self::launch(
            Launch {
                name,
                config,
                within: &[],
                flags: ON_LOOPBACK,
            },
            move |line| eprintln!("{prefix} {line}"),
        )
    }

    /// Starts one like this; what it logs goes here, a line at a time.
    pub fn launch(launch: Launch<'_>, log: impl FnMut(&str) + Send + 'static) -> Self {
        let Launch {
            name,
            config,
            within,
            flags,
        } = launch;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("node.yaml");
        std::fs::write(&file, config).expect("the configuration is written");
        let binary = binary();
        let mut words = within.iter().map(AsRef::as_ref).chain([binary.as_os_str()]);
        let mut child = Command::new(words.next().expect("there is the binary"))
            .args(words)
            .arg("--config")
            .arg(&file)
            .args(["--node-name", name, "--log-format", "json"])
            // As in a pod: see operator/src/objects/pods.rs.
            .env("MALLOC_MMAP_THRESHOLD_", "262144")
            .args(flags)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kontiki-node starts");
        let stderr = child.stderr.take().expect("it is piped");
        let started = match started(stderr, log) {
            Some(started) => started,
            None => panic!("node {name} ended: {:?}", child.wait()),
        };
        let field = |key: &str| {
            started[key]
                .as_str()
                .expect("a field of the log")
                .to_owned()
        };
        Self {
            server_id: field("server_id"),
            name: name.to_owned(),
            client: field("client"),
            peer: field("peer"),
            http: field("http"),
            child,
        }
    }

    /// As requests name it.
    pub fn as_server(&self) -> kontiki_proto::v1::Server {
        kontiki_proto::v1::Server {
            server_id: self.server_id.clone(),
            node: self.name.clone(),
            peer_address: self.peer.clone(),
            client_address: self.client.clone(),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is a process of ours");
    }

    /// It may take so many bytes of writable memory of its own; an allocation past that ends it, and
    /// leaves no core.
    pub fn limit_memory(&self, bytes: u64) {
        let pid = Pid::from_child(&self.child);
        for (resource, bytes) in [(Resource::Data, bytes), (Resource::Core, 0)] {
            let limit = Rlimit {
                current: Some(bytes),
                maximum: Some(bytes),
            };
            prlimit(Some(pid), resource, limit).expect("it is a process of ours");
        }
    }

    /// The most memory that it has had resident, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it is a process of ours");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
        1024 * kibibytes
            .and_then(|text| text.parse().ok())
            .unwrap_or(0_u64)
    }

    /// Whether it stands still: a stop signal takes effect a moment after it was sent.
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("it is a process of ours");
        // PID (NAME) STATE ...; NAME may have anything in it.
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('T'))
    }

    /// Waits until it has ended by itself; whether it did so with status 0.
    pub fn ends_well(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is a child of ours") {
                return status.success();
            }
            assert!(Instant::now() < deadline, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The value of a sample in `/metrics`; `None` if there is none of that name and labels.
    pub fn metric(&self, sample: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(&self.http).expect("the HTTP port answers");
        let request = "GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("metrics are text");
        let line = text.lines().find(|line| {
            line.strip_prefix(sample)
                .is_some_and(|rest| rest.starts_with(' '))
        })?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The line of the log that says where it listens.
fn started(
    stderr: impl Read + Send + 'static,
    mut log: impl FnMut(&str) + Send + 'static,
) -> Option<serde_json::Value> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let parsed = serde_json::from_str::<serde_json::Value>(&line).unwrap_or_default();
            if parsed["message"] == "started" {
                drop(sender.send(parsed)); // the test may have given up
            }
            log(&line);
        }
    });
    receiver.recv_timeout(START_WITHIN).ok()
}

/// The program to test: `KONTIKI_NODE_BIN`, or where Cargo puts it.
fn binary() -> PathBuf {
    if let Some(given) = std::env::var_os("KONTIKI_NODE_BIN") {
        return given.into();
    }
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let found = profile.join("kontiki-node");
    assert!(
        found.is_file(),
        "{} is not there: `cargo build -p kontiki-node` builds it, KONTIKI_NODE_BIN names another",
        found.display()
    );
    found
}
