//! What a node is told: flags over environment over a YAML file over defaults.

mod cli;
mod error;
mod load;
mod watch;

use std::time::Duration;

pub use cli::Cli;
pub use error::ConfigError;
pub(crate) use load::is_address;
use serde::{Deserialize, Serialize};
pub use watch::WatchSettings;

use crate::driver::{CheckpointConfig, DriverConfig, SessionBounds, SnapshotSettings};

/// The least that may wait on one connection to a peer, in bytes.
const PEER_QUEUE_BYTES_MIN: usize = 4 << 20;

/// The whole configuration. As YAML in camel case; an unknown key is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Name of this node: a label in status, metrics and logs. Default: the host's name.
    pub node_name: String,
    /// Where to listen.
    pub listen: Listen,
    /// How others reach this node.
    pub advertise: Advertise,
    /// Which of the shipped machines is replicated; default kv. `None` in a program of one's own,
    /// which knows its machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineKind>,
    /// The algorithm's settings.
    pub raft: RaftSettings,
    /// Stale reads are answered (ExRaft's `dirty_read`). Default true; if false they are refused.
    pub dirty_read: bool,
    /// Bounds.
    pub limits: Limits,
    /// Bounds of sessions, which this server applies to the whole cluster while it leads.
    pub sessions: SessionSettings,
    /// Bounds of watches (`Kv.Watch`) on this server.
    pub watch: WatchSettings,
    /// Logs.
    pub log: LogSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: host_name(),
            listen: Listen::default(),
            advertise: Advertise::default(),
            machine: None,
            raft: RaftSettings::default(),
            dirty_read: true,
            limits: Limits::default(),
            sessions: SessionSettings::default(),
            watch: WatchSettings::default(),
            log: LogSettings::default(),
        }
    }
}

/// Addresses to listen on, HOST:PORT; port 0 lets the kernel choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// Data and Kv. Default 0.0.0.0:7400.
    pub client: String,
    /// Peer and Admin. Default 0.0.0.0:7401.
    pub peer: String,
    /// Metrics and probes. Default 0.0.0.0:7402.
    pub http: String,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            client: "0.0.0.0:7400".into(),
            peer: "0.0.0.0:7401".into(),
            http: "0.0.0.0:7402".into(),
        }
    }
}

/// How others reach this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Advertise {
    /// Name or IP address, without a port. Default: the IP address listened on, or the host's name
    /// if that is unspecified (0.0.0.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// The machines that are shipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum MachineKind {
    /// Ordered keys with revisions.
    #[default]
    Kv,
    /// One number.
    Counter,
}

impl MachineKind {
    /// As in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Counter => "counter",
        }
    }

    /// A fresh machine of this kind.
    pub fn build(self) -> Box<dyn crate::machine::StateMachine> {
        match self {
            Self::Kv => Box::<crate::machine::kv::Kv>::default(),
            Self::Counter => Box::<crate::machine::counter::Counter>::default(),
        }
    }
}

/// The algorithm's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RaftSettings {
    /// Interval of the leader's heartbeats. Default 100.
    pub heartbeat_milliseconds: u64,
    /// Shortest election timeout, twice the heartbeat at least. Default 1000.
    pub election_timeout_milliseconds: u64,
    /// Longest election timeout, not below the shortest: each is drawn between the two. Default:
    /// twice the shortest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub election_timeout_max_milliseconds: Option<u64>,
    /// Entries of one append to another server (ExRaft's `batch_size`). Default 8192.
    pub batch_entries_max: usize,
    /// Raises this server's own quorum. Default 1.
    pub min_majority: usize,
    /// How willing this server is to lead, 0 to 10. A lower one waits longer before it campaigns, by a
    /// heartbeat for each step, and hands leadership over to a server of a higher one that has caught
    /// up. With 0 it leads only if it is told to, or for as long as it takes to hand on what only it
    /// holds. Default 10.
    pub election_priority: u8,
    /// While this server leads, reads under a lease are on. They rely on clocks that run fast or slow by
    /// at most 2 %, and voters wait for up to five heartbeats before they elect another leader.
    /// Default false.
    pub lease_reads: bool,
}

impl RaftSettings {
    /// The least election timeout with this heartbeat: with less than two, one heartbeat that is late
    /// makes every follower campaign.
    pub(crate) fn election_timeout_min_milliseconds(&self) -> u64 {
        self.heartbeat_milliseconds.saturating_mul(2)
    }
}

impl Default for RaftSettings {
    fn default() -> Self {
        Self {
            heartbeat_milliseconds: 100,
            election_timeout_milliseconds: 1000,
            election_timeout_max_milliseconds: None,
            batch_entries_max: 8192,
            min_majority: 1,
            election_priority: kontiki_raft::ELECTION_PRIORITY_MAX,
            lease_reads: false,
        }
    }
}

/// Bounds of queues, messages and waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of one command. Default 1 MiB.
    pub command_bytes_max: usize,
    /// Requests that wait to enter a turn; past it they are refused. Default 65536.
    pub requests_max: usize,
    /// Bytes of requests, and of messages of other servers, that wait to enter a turn; past it requests
    /// are refused and messages held back. At least four commands of `command_bytes_max`, and 4 MiB.
    /// Default 64 MiB.
    pub requests_bytes_max: usize,
    /// Writes that wait for their outcome; past it they are refused. Default 65536.
    pub pending_writes_max: usize,
    /// Bytes of entries that are committed and that the machine has not applied yet; past it a leader
    /// refuses writes, and a follower stores no more entries. Default 64 MiB.
    pub unapplied_bytes_max: usize,
    /// Commands in flight on one WriteStream; past it the stream is not read. Default 4096.
    pub stream_commands_max: usize,
    /// Requests in flight on one client connection. Default 4096.
    pub connection_requests_max: u32,
    /// How long the server waits for the outcome of a write or read; a shorter `grpc-timeout`
    /// counts. Default 10000.
    pub write_timeout_milliseconds: u64,
    /// The same for calls that change the membership. Default 60000.
    pub admin_timeout_milliseconds: u64,
    /// How long a stopping server waits for another to lead. Default 5000.
    pub stop_timeout_milliseconds: u64,
    /// Servers whose addresses are remembered. Default 1024.
    pub address_book_max: usize,
    /// Messages that wait on one connection to a peer; past it they are dropped. Default 4096.
    pub peer_queue_messages_max: usize,
    /// Bytes of them. Default 32 MiB.
    pub peer_queue_bytes_max: usize,
    /// Commands between two checkpoints, at which the servers compare digests of their states. Default
    /// 1,000,000.
    pub checkpoint_commands_max: u64,
    /// Time between them, while anything changes. Default 60000.
    pub checkpoint_milliseconds_max: u64,
    /// Bytes at the end of the log that compaction leaves. Default 8 MiB.
    pub log_tail_bytes: usize,
    /// Bytes of log kept for servers that lag, or receive a snapshot; past it and past what has been
    /// delivered of the snapshot, they get a fresh one. Default 64 MiB.
    pub log_kept_bytes_max: usize,
    /// Bytes of snapshots sent in a second, to all servers together; 0: as many as go. Default 0.
    pub snapshot_bytes_per_second: u64,
    /// Bytes of a snapshot that is received; past it the snapshot is refused. Default 16 GiB.
    pub snapshot_bytes_max: u64,
    /// Memory that the process may take, in bytes: in a pod the limit of its container. Default: not
    /// known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The state limit, in bytes: what this server may hold of state, log, sessions and snapshots under
    /// way; past it, as the leader, it refuses commands that may make the state larger
    /// (`RESOURCE_EXHAUSTED` / `STATE_LIMIT`), and takes all others. Lowers other bounds: see
    /// [`Limits::within_state_limit`]. Default: 40 % of `memory_bytes`; none if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_bytes_max: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_bytes_max: 1 << 20,
            requests_max: 65536,
            requests_bytes_max: 64 << 20,
            pending_writes_max: 65536,
            unapplied_bytes_max: 64 << 20,
            stream_commands_max: 4096,
            connection_requests_max: 4096,
            write_timeout_milliseconds: 10_000,
            admin_timeout_milliseconds: 60_000,
            stop_timeout_milliseconds: 5_000,
            address_book_max: 1024,
            peer_queue_messages_max: 4096,
            peer_queue_bytes_max: 32 << 20,
            checkpoint_commands_max: 1_000_000,
            checkpoint_milliseconds_max: 60_000,
            log_tail_bytes: 8 << 20,
            log_kept_bytes_max: 64 << 20,
            snapshot_bytes_per_second: 0,
            snapshot_bytes_max: 16 << 30,
            memory_bytes: None,
            state_bytes_max: None,
        }
    }
}

impl Limits {
    /// The state limit in force.
    pub fn state_limit(&self) -> Option<u64> {
        let default = self.memory_bytes.map(|memory| memory / 5 * 2);
        self.state_bytes_max.or(default)
    }

    /// The least `requests_bytes_max`: the largest message of another server fits in twice.
    fn requests_bytes_min(&self) -> usize {
        4 * self.command_bytes_max.max(1 << 20)
    }

    /// These limits, those lowered of which the state limit leaves no room for more: the tail of the
    /// log, what waits to enter a turn (but not below its least), and what is committed and not applied
    /// to an eighth of it; the log kept for servers that lag to a quarter; what waits on one connection
    /// to a peer to a sixteenth, but not below 4 MiB.
    pub fn within_state_limit(self) -> Self {
        let Some(limit) = self.state_limit().map(|limit| limit as usize) else {
            return self;
        };
        let queue_max = (limit / 16).max(PEER_QUEUE_BYTES_MIN);
        let requests_max = (limit / 8).max(self.requests_bytes_min());
        Self {
            log_tail_bytes: self.log_tail_bytes.min(limit / 8),
            unapplied_bytes_max: self.unapplied_bytes_max.min(limit / 8),
            requests_bytes_max: self.requests_bytes_max.min(requests_max),
            log_kept_bytes_max: self.log_kept_bytes_max.min(limit / 4),
            peer_queue_bytes_max: self.peer_queue_bytes_max.min(queue_max),
            ..self
        }
    }
}

/// Bounds of sessions (exactly-once writes). The leader's count, and it writes them into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SessionSettings {
    /// A session that was not used for so long expires, up to a quarter later. Default 600000: ten
    /// minutes.
    pub ttl_milliseconds: u64,
    /// Open sessions; one more makes the one expire that was idle longest. Default 10000.
    pub sessions_max: u32,
    /// How far above its acknowledged sequence a session's sequences may go. Default 1024.
    pub window_max: u32,
    /// Bytes of replies that one session keeps; past it the oldest are forgotten. Default 64 KiB.
    pub reply_bytes_max: u32,
    /// Bytes of all sessions; past it those idle longest expire. Default 64 MiB.
    pub bytes_max: u64,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            ttl_milliseconds: 600_000,
            sessions_max: 10_000,
            window_max: 1024,
            reply_bytes_max: 64 << 10,
            bytes_max: 64 << 20,
        }
    }
}

impl SessionSettings {
    /// The driver's part.
    pub fn bounds(&self) -> SessionBounds {
        SessionBounds {
            ttl: Duration::from_millis(self.ttl_milliseconds),
            sessions_max: self.sessions_max,
            window_max: self.window_max,
            reply_bytes_max: self.reply_bytes_max,
            bytes_max: self.bytes_max,
        }
    }
}

/// Logs, on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LogSettings {
    /// Default text.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,kontiki_node=debug`.
    /// Default info.
    pub level: String,
    /// Describe the server in full, at level `debug`, whenever its role, its leader or what is
    /// committed changes (ExRaft's `debug`). Default false.
    pub debug: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            level: "info".into(),
            debug: false,
        }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// The driver's part.
    pub fn driver(&self, activate: bool) -> DriverConfig {
        let shortest = self.raft.election_timeout_milliseconds;
        let longest = self.raft.election_timeout_max_milliseconds;
        let limits = self.limits.within_state_limit();
        let state_bytes_max = limits.state_limit();
        // What is not committed, and sessions, to an eighth of the state limit as well; what is in
        // flight to one server to a sixteenth.
        let share = |parts: u64| state_bytes_max.map_or(u64::MAX, |max| max / parts);
        let defaults = kontiki_raft::Config::default();
        let lowered = |bytes: usize, parts| share(parts).min(bytes as u64) as usize;
        let sessions = self.sessions.bounds();
        let snapshots = SnapshotSettings {
            bytes_per_second: limits.snapshot_bytes_per_second,
            bytes_max: limits.snapshot_bytes_max,
            ..SnapshotSettings::default()
        };
        // At a low rate the next piece of each transfer is due later than after the default.
        let piece_max = snapshots.piece_pause() * defaults.snapshots_max as u32;
        let raft = kontiki_raft::Config {
            heartbeat: Duration::from_millis(self.raft.heartbeat_milliseconds),
            election_timeout_min: Duration::from_millis(shortest),
            election_timeout_max: Duration::from_millis(longest.unwrap_or(shortest * 2)),
            append_entries_max: self.raft.batch_entries_max,
            min_majority: self.raft.min_majority,
            election_priority: self.raft.election_priority,
            // The engine mixes the server's id in, which is as random as a seed can be.
            seed: 0,
            log_tail_bytes: limits.log_tail_bytes,
            log_kept_bytes_max: limits.log_kept_bytes_max,
            uncommitted_bytes_max: lowered(defaults.uncommitted_bytes_max, 8),
            inflight_bytes_max: lowered(defaults.inflight_bytes_max, 16),
            snapshot_stall_max: defaults.snapshot_stall_max.max(2 * piece_max),
            ..defaults
        };
        DriverConfig {
            raft,
            activate,
            pending_writes_max: limits.pending_writes_max,
            change_wait_max: Duration::from_millis(limits.admin_timeout_milliseconds),
            unapplied_bytes_max: limits.unapplied_bytes_max,
            state_bytes_max,
            command_bytes_max: limits.command_bytes_max,
            dirty_read: self.dirty_read,
            lease_reads: self.raft.lease_reads,
            checkpoint: CheckpointConfig {
                entries_max: limits.checkpoint_commands_max,
                interval: Duration::from_millis(limits.checkpoint_milliseconds_max),
            },
            snapshots,
            sessions: SessionBounds {
                bytes_max: sessions.bytes_max.min(share(8)),
                ..sessions
            },
        }
    }

    /// The configuration as YAML, every key spelled out.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("plain fields serialize")
    }
}

/// Name of this host, as `uname` says it.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests;
