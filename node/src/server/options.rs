//! How an embedded server is started.

use std::net::TcpListener;

use kontiki_raft::ELECTION_PRIORITY_MAX;

use super::error::{Error, Result};
use crate::config::{Limits, RaftSettings, host_name};

/// How a server is started: ExRaft's options, and what Rust and a network need besides.
///
/// ```
/// use kontiki_node::ServerOptions;
/// use kontiki_node::config::RaftSettings;
///
/// let options = ServerOptions {
///     name: "raft1".into(),
///     dirty_read: false,
///     raft: RaftSettings {
///         heartbeat_milliseconds: 50,
///         election_timeout_milliseconds: 500,           // ExRaft's min_election_timeout
///         election_timeout_max_milliseconds: Some(2000), // and max_election_timeout
///         batch_entries_max: 100,                       // batch_size
///         min_majority: 2,
///         ..RaftSettings::default()
///     },
///     ..ServerOptions::default()
/// };
/// assert_eq!(options.listen_peer, "127.0.0.1:0");
/// ```
#[derive(Debug)]
pub struct ServerOptions {
    /// Name, unique among the servers of a cluster (ExRaft's `name`). Default: the host's name.
    pub name: String,
    /// Where other servers connect. Default 127.0.0.1:0, a port that the kernel chooses.
    pub listen_peer: String,
    /// A listener to use in its place: its port is known before the server is started, so that it
    /// can be listed in `initial_config`.
    pub peer_listener: Option<TcpListener>,
    /// Where clients connect over gRPC; `None`: nowhere. Default 127.0.0.1:0.
    pub listen_client: Option<String>,
    /// Host under which others reach this server. Default: the address listened on.
    pub advertise_host: Option<String>,
    /// Name and peer address of the servers that form the cluster, this one among them (ExRaft's
    /// `initial_config`). Empty: see [`Server::start`](crate::Server::start).
    pub initial_config: Vec<(String, String)>,
    /// Timings, `min_majority` and the size of batches.
    pub raft: RaftSettings,
    /// Whether [`Server::read_dirty`](crate::Server::read_dirty), and stale reads over gRPC, are
    /// answered (ExRaft's `dirty_read`). Default true.
    pub dirty_read: bool,
    /// Describe this server in full, as `tracing` events of level debug, whenever its role, its
    /// leader or what is committed changes (ExRaft's `debug`). The program's subscriber decides what
    /// is shown. Default false.
    pub debug: bool,
    /// Bounds.
    pub limits: Limits,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            name: host_name(),
            listen_peer: "127.0.0.1:0".into(),
            peer_listener: None,
            listen_client: Some("127.0.0.1:0".into()),
            advertise_host: None,
            initial_config: Vec::new(),
            raft: RaftSettings::default(),
            dirty_read: true,
            debug: false,
            limits: Limits::default(),
        }
    }
}

impl ServerOptions {
    pub(super) fn check(&self) -> Result<()> {
        let listed = |(name, _): &(String, String)| *name == self.name;
        if !self.initial_config.is_empty() && !self.initial_config.iter().any(listed) {
            return Err(Error::Options(format!(
                "initial_config must list the server {:?} itself",
                self.name
            )));
        }
        let raft = self.raft;
        let (shortest, longest) = (
            raft.election_timeout_milliseconds,
            raft.election_timeout_max_milliseconds,
        );
        let least = raft.election_timeout_min_milliseconds();
        if shortest < least {
            return Err(Error::Options(format!(
                "the election timeout ({shortest} ms) must be {least} ms at least, twice the heartbeat \
                 ({} ms)",
                raft.heartbeat_milliseconds
            )));
        }
        if let Some(longest) = longest.filter(|longest| *longest < shortest) {
            return Err(Error::Options(format!(
                "the longest election timeout ({longest} ms) must not be below the shortest \
                 ({shortest} ms)"
            )));
        }
        let (priority, most) = (raft.election_priority, ELECTION_PRIORITY_MAX);
        if priority > most {
            return Err(Error::Options(format!(
                "election_priority must be 0 to {most}, not {priority}"
            )));
        }
        if raft.batch_entries_max == 0 {
            return Err(Error::Options("batch_entries_max must be above 0".into()));
        }
        Ok(())
    }
}
