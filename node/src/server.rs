//! A server inside a program of one's own: ExRaft's calls over the same node that the daemon runs.

use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{ChangeRequest, LogId, Purpose, ServerId, Term};

use crate::address_book::ServerRef;
use crate::bootstrap::{draw_id, ping};
use crate::config::{Config, Limits, RaftSettings, host_name};
use crate::driver::{Answer, ConfigurationStatus, Input, Refusal, Status, Until};
use crate::handle::{Failure, Handle, Reply};
use crate::introduce::introduce;
use crate::listen::{ListenError, bind};
use crate::machine::StateMachine;
use crate::runner::{Node, NodeParts};

/// How a server is started.
#[derive(Debug)]
pub struct ServerOptions {
    /// Name, unique among the servers of a cluster. Default: the host's name.
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
    /// Name and peer address of the servers that form the cluster, this one among them. Empty: see
    /// [`Server::start`].
    pub initial_config: Vec<(String, String)>,
    /// Timings and `min_majority`.
    pub raft: RaftSettings,
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
            limits: Limits::default(),
        }
    }
}

/// Why a call failed, and with it whether anything was done: see [`Error::is_unknown`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another server leads: ask it (ExRaft's redirect). Nothing was done.
    #[error("this server does not lead; {leader} does")]
    NotLeader {
        /// Which.
        leader: ServerRef,
    },
    /// Refused. Nothing was and will be done.
    #[error("{0}")]
    Refused(Refusal),
    /// The server is stopping. Nothing was done.
    #[error("the server is stopping")]
    Stopped,
    /// The outcome is not known: what was asked may or may not have been done, or may still be.
    #[error("the outcome is not known: {0}")]
    Unknown(Failure),
    /// No leader was known in time.
    #[error("no leader within {0:?}")]
    NoLeader(Duration),
    /// No server goes by that name, id or address.
    #[error("no server is known as {0:?}: give a name that was seen, a server id, or HOST:PORT")]
    NoSuchServer(String),
    /// A server cannot be asked who it is.
    #[error("cannot reach {address}: {problem}")]
    Unreachable {
        /// Of its peer port.
        address: String,
        /// Why.
        problem: String,
    },
    /// The options contradict themselves.
    #[error("{0}")]
    Options(String),
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(ListenError),
    /// The operating system refused something.
    #[error("cannot start a server: {0}")]
    System(std::io::Error),
}

impl Error {
    /// Whether what was asked may have been done all the same.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// A server of a cluster. Dropped, it ends at once, as in a crash.
#[derive(Debug)]
pub struct Server {
    node: Node,
}

/// Result of a call.
pub type Result<T> = std::result::Result<T, Error>;

impl Server {
    /// Starts a server, which answers on its ports when this returns.
    ///
    /// With `initial_config` the servers listed bootstrap themselves, once all of them run; a server
    /// that comes back without its state finds that out and waits to be added. Without, a server is
    /// a cluster of its own; but with a `min_majority` above 1 it can never lead by itself, and so
    /// it may be added to another.
    ///
    /// # Errors
    /// An address cannot be listened on, or `initial_config` does not list this server.
    pub fn start(machine: impl StateMachine + 'static, options: ServerOptions) -> Result<Self> {
        let listed = |(name, _): &(String, String)| *name == options.name;
        if !options.initial_config.is_empty() && !options.initial_config.iter().any(listed) {
            return Err(Error::Options(format!(
                "initial_config must list the server {:?} itself",
                options.name
            )));
        }
        let raft = options.raft;
        if raft.election_timeout_milliseconds <= raft.heartbeat_milliseconds {
            return Err(Error::Options(format!(
                "the election timeout ({} ms) must be above the heartbeat ({} ms)",
                raft.election_timeout_milliseconds, raft.heartbeat_milliseconds
            )));
        }
        let peer = match options.peer_listener {
            Some(listener) => {
                listener.set_nonblocking(true).map_err(Error::System)?;
                listener
            }
            None => bind("listen_peer", &options.listen_peer).map_err(Error::Listen)?,
        };
        let client = match &options.listen_client {
            Some(address) => Some(bind("listen_client", address).map_err(Error::Listen)?),
            None => None,
        };
        let host = options.advertise_host.as_deref();
        let me = ServerRef {
            id: ServerId(draw_id()),
            name: options.name.clone(),
            peer_address: address(&peer, host)?,
            client_address: match &client {
                Some(client) => address(client, host)?,
                None => String::new(),
            },
        };
        let config = Config {
            node_name: options.name,
            raft,
            limits: options.limits,
            ..Config::default()
        };
        let node = Node::start(NodeParts {
            config,
            machine: Box::new(machine),
            me,
            peer,
            client,
            embedded: Some(options.initial_config),
        });
        Ok(Self {
            node: node.map_err(Error::System)?,
        })
    }

    fn handle(&self) -> &Handle {
        self.node.handle()
    }

    /// This incarnation and its addresses.
    pub fn me(&self) -> &ServerRef {
        self.handle().book.me()
    }

    /// Who leads, as far as this server knows.
    pub fn leader(&self) -> Option<ServerRef> {
        let leader = self.handle().standing().leader;
        leader.map(|id| self.handle().book.find(id))
    }

    /// Waits until this server knows a leader.
    ///
    /// # Errors
    /// [`Error::NoLeader`] after `timeout`.
    pub async fn await_leader(&self, timeout: Duration) -> Result<ServerRef> {
        let standing = self.handle().await_leader(timeout).await;
        match standing.map(|standing| standing.leader) {
            Ok(Some(leader)) => Ok(self.handle().book.find(leader)),
            Ok(None) | Err(Failure::TimedOut(_)) => Err(Error::NoLeader(timeout)),
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// Describes the server as it is now.
    ///
    /// # Errors
    /// The server has stopped.
    pub async fn status(&self) -> Result<Status> {
        match self.ask(|reply| Input::Status { reply }).await? {
            Answer::Status(status) => Ok(*status),
            other => unreachable!("a status was asked for, not {other:?}"),
        }
    }

    /// Replicates a command; the machine's reply, once it is applied.
    ///
    /// # Errors
    /// [`Error::NotLeader`] on a follower; [`Error::Unknown`] if the leader lost its office before
    /// the outcome was known.
    pub async fn write(&self, command: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        self.write_entry(command).await.map(|(reply, _)| reply)
    }

    /// As [`Self::write`]; says which entry it became.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_entry(&self, command: impl AsRef<[u8]>) -> Result<(Vec<u8>, LogId)> {
        let command = command.as_ref();
        let max = self.handle().limits.command_bytes_max;
        if command.is_empty() || command.len() > max {
            let length = command.len();
            let text = format!("the command has {length} bytes; 1 to {max} are allowed");
            return Err(Error::Refused(Refusal::Invalid(text)));
        }
        let command = Bytes::copy_from_slice(command);
        match self.ask(|reply| Input::Write { command, reply }).await? {
            Answer::Written { reply, id } => Ok((reply, id)),
            other => unreachable!("a write was asked for, not {other:?}"),
        }
    }

    /// Asks the machine a query, linearizably: on the leader.
    ///
    /// # Errors
    /// [`Error::NotLeader`] on a follower.
    pub async fn read(&self, query: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        self.query(query.as_ref(), false).await
    }

    /// Asks the machine of this server, whatever it has applied (ExRaft's dirty read).
    ///
    /// # Errors
    /// The machine refuses the query.
    pub async fn read_dirty(&self, query: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        self.query(query.as_ref(), true).await
    }

    async fn query(&self, query: &[u8], stale: bool) -> Result<Vec<u8>> {
        let query = Bytes::copy_from_slice(query);
        let input = |reply| Input::Read {
            query,
            stale,
            reply,
        };
        match self.ask(input).await? {
            Answer::Read { reply, .. } => Ok(reply),
            other => unreachable!("a read was asked for, not {other:?}"),
        }
    }

    /// Adds the server whose peer port is at an address, and waits until it votes. Leader only.
    ///
    /// # Errors
    /// It cannot be reached, or the change is refused.
    pub async fn add_server(&self, peer_address: &str) -> Result<ConfigurationStatus> {
        let unreachable = |problem: String| Error::Unreachable {
            address: peer_address.into(),
            problem,
        };
        let answer = ping(peer_address).await;
        let answer = answer.map_err(|status| unreachable(status.message().into()))?;
        let found = answer.server.unwrap_or_default();
        let Ok(id) = found.server_id.parse() else {
            return Err(unreachable("it does not say who it is".into()));
        };
        let book = &self.handle().book;
        book.learn(ServerRef {
            id,
            name: found.node,
            peer_address: peer_address.into(),
            client_address: found.client_address,
        });
        // Whoever leads next must be able to reach it, and it them.
        let mut all = self.status().await?.configuration.configuration.servers();
        all.insert(id);
        let all: Vec<_> = all.into_iter().map(|id| book.find(id)).collect();
        introduce(self.handle(), &all).await;
        self.change(ChangeRequest {
            add: vec![(id, Purpose::Join)],
            ..ChangeRequest::default()
        })
        .await
    }

    /// Removes a server, by its name, id or peer address, and waits until that is committed. Leader
    /// only.
    ///
    /// # Errors
    /// No member is known by that name, or the change is refused.
    pub async fn remove_server(&self, server: &str) -> Result<ConfigurationStatus> {
        let remove = vec![self.member(server).await?];
        self.change(ChangeRequest {
            remove,
            ..ChangeRequest::default()
        })
        .await
    }

    async fn change(&self, change: ChangeRequest) -> Result<ConfigurationStatus> {
        let milliseconds = self.handle().limits.admin_timeout_milliseconds;
        let wait = Duration::from_millis(milliseconds);
        let until = Until::Effective;
        let input = |reply| Input::Change {
            change,
            until,
            reply,
        };
        match self.ask_within(wait, input).await? {
            Answer::Changed(status) => Ok(status),
            other => unreachable!("a change was asked for, not {other:?}"),
        }
    }

    /// Campaigns at once; the term afterwards.
    ///
    /// # Errors
    /// This server may not campaign: it is no voter.
    pub async fn trigger_election(&self) -> Result<Term> {
        match self.ask(|reply| Input::TriggerElection { reply }).await? {
            Answer::Triggered(term) => Ok(term),
            other => unreachable!("an election was asked for, not {other:?}"),
        }
    }

    /// Hands leadership to a server, by its name, id or peer address, or to the one that is
    /// furthest. Answers once another leads.
    ///
    /// # Errors
    /// Nobody took over within an election timeout, or the target is no voter.
    pub async fn transfer_leadership(&self, target: Option<&str>) -> Result<ServerRef> {
        let target = match target {
            Some(name) => Some(self.member(name).await?),
            None => None,
        };
        match self.ask(|reply| Input::Transfer { target, reply }).await? {
            Answer::Transferred(standing) => {
                let leader = standing.leader.unwrap_or(self.me().id);
                Ok(self.handle().book.find(leader))
            }
            other => unreachable!("a transfer was asked for, not {other:?}"),
        }
    }

    /// Ends at once (ExRaft's `stop_server`): the machine is told the reason; the others notice, and
    /// elect a leader if this was it.
    pub async fn stop(self, reason: impl Into<String>) {
        self.node.end(reason.into()).await;
    }

    /// Hands leadership over, answers what is pending, and ends.
    pub async fn stop_gracefully(self) {
        self.node.stop().await;
    }

    /// The member that goes by a name, id or address. Incarnations of the past may share a name.
    async fn member(&self, server: &str) -> Result<ServerId> {
        let servers = self.status().await?.configuration.configuration.servers();
        let mut named = self.handle().book.named(server).into_iter();
        let found = named.find(|known| servers.contains(&known.id));
        match (found, server.parse::<ServerId>()) {
            (Some(found), _) => Ok(found.id),
            (None, Ok(id)) if servers.contains(&id) => Ok(id),
            _ => Err(Error::NoSuchServer(server.into())),
        }
    }

    async fn ask(&self, input: impl FnOnce(Reply) -> Input<Reply>) -> Result<Answer> {
        let milliseconds = self.handle().limits.write_timeout_milliseconds;
        self.ask_within(Duration::from_millis(milliseconds), input)
            .await
    }

    async fn ask_within(
        &self,
        wait: Duration,
        input: impl FnOnce(Reply) -> Input<Reply>,
    ) -> Result<Answer> {
        let answer = self.handle().ask(wait, input).await;
        answer.map_err(|failure| self.error(failure))
    }

    fn error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(Refusal::NotLeader(leader)) => Error::NotLeader {
                leader: self.handle().book.find(leader),
            },
            Failure::Refused(Refusal::OutcomeUnknown) | Failure::TimedOut(_) | Failure::Ended => {
                Error::Unknown(failure)
            }
            Failure::Refused(refusal) => Error::Refused(refusal),
            Failure::Stopping => Error::Stopped,
        }
    }
}

fn address(listener: &TcpListener, host: Option<&str>) -> Result<String> {
    let address = listener.local_addr().map_err(Error::System)?;
    Ok(match host {
        Some(host) => format!("{host}:{}", address.port()),
        None => address.to_string(),
    })
}
