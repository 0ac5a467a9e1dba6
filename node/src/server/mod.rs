//! A server inside a program of one's own: ExRaft's calls over the same node that the daemon runs.

mod error;
mod members;
mod options;

use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{Index, LogId, Role, ServerId};
use tokio::sync::oneshot;

pub use error::{Error, Result};
pub use options::ServerOptions;

use crate::address_book::ServerRef;
use crate::bootstrap::draw_id;
use crate::config::{Config, LogSettings};
use crate::driver::{Answer, INSPECT_BYTES_MAX, Input, Inspection, ReadMode, Refusal, Status};
use crate::handle::{Failure, Handle, Reply};
use crate::listen::bind;
use crate::machine::StateMachine;
use crate::runner::{Node, NodeParts};

/// A server of a cluster. Dropped, it ends at once, as in a crash.
///
/// It has a thread of its own, with a runtime of Tokio's on it that drives timers and connections;
/// a second thread if its machine asks for one ([`Place::Thread`](crate::machine::Place::Thread), the
/// default), and a third from the first effect on. Its calls may be awaited on any executor, Tokio's
/// or not, from any thread, many at a time; a program without one blocks on them, as here. A call
/// whose future is dropped goes on: what it asked for may still be done.
///
/// ```
/// use std::time::Duration;
///
/// use futures::executor::block_on;
/// use kontiki_node::machine::counter::Counter;
/// use kontiki_node::{Server, ServerOptions};
///
/// # fn main() -> Result<(), kontiki_node::Error> {
/// let server = Server::start(Counter::default(), ServerOptions::default())?;
/// block_on(server.await_leader(Duration::from_secs(10)))?;
/// # while !block_on(server.status())?.activated {}
/// assert_eq!(block_on(server.write("5"))?, b"5");
/// assert_eq!(block_on(server.read(""))?, b"5");
/// block_on(server.stop("done"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    node: Node,
}

/// How a call that changes nothing fails, and one that may.
#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write,
}

impl Server {
    /// Starts a server, which answers on its ports when this returns (ExRaft's `start_server`).
    ///
    /// With `initial_config` the servers listed bootstrap themselves, once all of them run; a server
    /// that comes back without its state finds that out and waits to be added. Without, a server is
    /// a cluster of its own; but with a `min_majority` above 1 it can never lead by itself, and so
    /// it may be added to another.
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use std::time::Duration;
    ///
    /// use futures::executor::block_on;
    /// use kontiki_node::machine::counter::Counter;
    /// use kontiki_node::{Server, ServerOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // Listeners first, so that each server can be told where all of them are.
    /// let names = ["raft1", "raft2", "raft3"];
    /// let mut listeners = Vec::new();
    /// let mut initial_config = Vec::new();
    /// for name in names {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     initial_config.push((name.to_owned(), listener.local_addr()?.to_string()));
    ///     listeners.push(listener);
    /// }
    /// let mut servers = Vec::new();
    /// for (name, listener) in names.into_iter().zip(listeners) {
    ///     let options = ServerOptions {
    ///         name: name.into(),
    ///         peer_listener: Some(listener),
    ///         initial_config: initial_config.clone(),
    ///         ..ServerOptions::default()
    ///     };
    ///     servers.push(Server::start(Counter::default(), options)?);
    /// }
    /// let leader = block_on(servers[0].await_leader(Duration::from_secs(30)))?;
    /// assert!(names.contains(&leader.name.as_str()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Options`] if `initial_config` does not list this server, or timings contradict each
    /// other; [`Error::Listen`], [`Error::System`].
    pub fn start(machine: impl StateMachine + 'static, options: ServerOptions) -> Result<Self> {
        options.check()?;
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
            raft: options.raft,
            dirty_read: options.dirty_read,
            limits: options.limits,
            log: LogSettings {
                debug: options.debug,
                ..LogSettings::default()
            },
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

    // --- who is who -----------------------------------------------------------------------------

    /// This incarnation and its addresses.
    pub fn me(&self) -> &ServerRef {
        self.handle().book.me()
    }

    /// Who leads, as far as this server knows (ExRaft's `leader`).
    pub fn leader(&self) -> Option<ServerRef> {
        let leader = self.handle().standing().leader;
        leader.map(|id| self.handle().book.find(id))
    }

    /// This server's role (ExRaft's `state`).
    pub fn role(&self) -> Role {
        self.handle().standing().role
    }

    /// Waits until this server knows a leader.
    ///
    /// # Errors
    /// [`Error::NoLeader`] after `timeout`; [`Error::Stopped`] if the server stops before.
    pub async fn await_leader(&self, timeout: Duration) -> Result<ServerRef> {
        let handle = self.handle().clone();
        let waiting = async move { handle.await_leader(timeout).await };
        let standing = self.node.run(waiting).await.and_then(|standing| standing);
        match standing.map(|standing| standing.leader) {
            Ok(Some(leader)) => Ok(self.handle().book.find(leader)),
            Ok(None) | Err(Failure::TimedOut(_)) => Err(Error::NoLeader(timeout)),
            Err(failure) => Err(self.error(Kind::Read, failure)),
        }
    }

    /// Answers if the server runs and takes turns (ExRaft's `ping`).
    ///
    /// # Errors
    /// [`Error::Stopped`], or [`Error::TimedOut`] after `timeout`.
    pub async fn ping(&self, timeout: Duration) -> Result<()> {
        let input = |reply| Input::Status { reply };
        self.ask(Kind::Read, timeout, input).await.map(drop)
    }

    /// Describes the server as it is now.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::TimedOut`].
    pub async fn status(&self) -> Result<Status> {
        let input = |reply| Input::Status { reply };
        match self.ask(Kind::Read, self.patience(), input).await? {
            Answer::Status(status) => Ok(*status),
            other => unreachable!("a status was asked for, not {other:?}"),
        }
    }

    /// Describes the server, and shows its log from the entry `first` on (ExRaft's `inspect`), also
    /// if it is quarantined. One call shows a bounded page
    /// ([`INSPECT_ENTRIES_MAX`](crate::driver::INSPECT_ENTRIES_MAX) entries,
    /// [`INSPECT_BYTES_MAX`] bytes); [`Inspection::next`] begins the next.
    ///
    /// ```
    /// # use futures::executor::block_on;
    /// # use kontiki_node::{Index, Server, ServerOptions, machine::counter::Counter};
    /// # fn main() -> Result<(), kontiki_node::Error> {
    /// # let server = Server::start(Counter::default(), ServerOptions::default())?;
    /// let mut first = Some(Index(1));
    /// while let Some(from) = first {
    ///     let page = block_on(server.inspect(from))?;
    ///     println!("term {}, vote {:?}", page.status.standing.term.0, page.vote);
    ///     for entry in &page.entries {
    ///         println!("{} {:?} {:?}", entry.id, entry.kind, entry.payload);
    ///     }
    ///     first = page.next;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::TimedOut`].
    pub async fn inspect(&self, first: Index) -> Result<Inspection> {
        let input = |reply| Input::Inspect {
            first,
            payload_bytes_max: INSPECT_BYTES_MAX,
            reply,
        };
        match self.ask(Kind::Read, self.patience(), input).await? {
            Answer::Inspected(inspection) => Ok(*inspection),
            other => unreachable!("an inspection was asked for, not {other:?}"),
        }
    }

    /// What this server counts, in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        self.handle().metrics.render()
    }

    // --- the replicated state -------------------------------------------------------------------

    /// Replicates a command; the machine's reply, once it is applied.
    ///
    /// ```
    /// use kontiki_node::driver::Refusal;
    /// use kontiki_node::{Error, Server};
    ///
    /// async fn add(server: &Server, amount: &str) -> String {
    ///     match server.write(amount).await {
    ///         Ok(sum) => format!("the sum is {}", String::from_utf8_lossy(&sum)),
    ///         Err(Error::NotLeader { leader }) => format!("ask {leader}"),
    ///         Err(Error::Refused(Refusal::NoLeader)) => "try again later".into(),
    ///         Err(error) if error.is_unknown() => "it may have been added".into(),
    ///         Err(error) => format!("it was not added: {error}"),
    ///     }
    /// }
    /// # let mut options = kontiki_node::ServerOptions::default();
    /// # options.raft.min_majority = 2;
    /// # let counter = kontiki_node::machine::counter::Counter::default();
    /// # let server = Server::start(counter, options)?;
    /// # let said = futures::executor::block_on(add(&server, "5"));
    /// # assert!(said.starts_with("it was not added"), "{said}");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotLeader`] on a follower, or [`Refusal::NoLeader`]; [`Refusal::RefusedByMachine`] if
    /// the machine's validator says so; [`Refusal::QueueFull`] if too much waits. All of these mean
    /// *failed*. [`Error::Unknown`] if the leader lost its office, was stopped, or took longer than
    /// `limits.write_timeout_milliseconds`, before the outcome was known.
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
        let input = |reply| Input::Write { command, reply };
        match self.ask(Kind::Write, self.patience(), input).await? {
            Answer::Written { reply, id } => Ok((reply, id)),
            other => unreachable!("a write was asked for, not {other:?}"),
        }
    }

    /// Asks the machine a query, linearizably: on the leader.
    ///
    /// # Errors
    /// [`Error::NotLeader`] on a follower, or [`Refusal::NoLeader`]; [`Refusal::RefusedByMachine`];
    /// [`Error::TimedOut`] after `limits.write_timeout_milliseconds`. A read changes nothing, so it is
    /// never unknown.
    pub async fn read(&self, query: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        self.read_as(query, ReadMode::Linearizable, false).await
    }

    /// Asks the machine of this server, whatever it has applied (ExRaft's `read_dirty`).
    ///
    /// # Errors
    /// [`Refusal::DirtyReadDisabled`] if [`ServerOptions::dirty_read`] is false;
    /// [`Refusal::RefusedByMachine`]; [`Refusal::NotAMember`] on a server that was never added.
    pub async fn read_dirty(&self, query: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        self.read_as(query, ReadMode::Stale, false).await
    }

    /// Asks the machine a query, as fresh as `mode` says. With `forward` a follower asks the leader how
    /// far it must have applied, and answers by itself, instead of refusing: always for the
    /// linearizable modes, and for a bounded one if it is too old.
    ///
    /// # Errors
    /// Those of [`Self::read`] and [`Self::read_dirty`], and [`Refusal::TooStale`].
    pub async fn read_as(
        &self,
        query: impl AsRef<[u8]>,
        mode: ReadMode,
        forward: bool,
    ) -> Result<Vec<u8>> {
        let query = Bytes::copy_from_slice(query.as_ref());
        let input = |reply| Input::Read {
            query,
            mode,
            forward,
            reply,
        };
        match self.ask(Kind::Read, self.patience(), input).await? {
            Answer::Read { reply, .. } => Ok(reply),
            other => unreachable!("a read was asked for, not {other:?}"),
        }
    }

    // --- the end --------------------------------------------------------------------------------

    /// Ends at once (ExRaft's `stop_server`): calls that wait end with the reason, the machine is
    /// told it, and the others elect a leader if this was it. Idempotent; the first reason counts.
    ///
    /// A machine on its own thread is told when it has done what it was given before; one that is
    /// busy for longer than `limits.stop_timeout_milliseconds` is told after this returns.
    ///
    /// ```
    /// # use futures::executor::block_on;
    /// # use kontiki_node::{Error, Server, ServerOptions, machine::counter::Counter};
    /// # fn main() -> Result<(), Error> {
    /// # let server = Server::start(Counter::default(), ServerOptions::default())?;
    /// block_on(server.stop("maintenance"));
    /// match block_on(server.write("5")) {
    ///     Err(Error::Stopped { reason }) => assert_eq!(reason.as_deref(), Some("maintenance")),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn stop(&self, reason: impl Into<String>) {
        self.node.end(reason.into()).await;
    }

    /// Waits until the server has ended, whoever ended it (`Admin.StopServer` may have), and answers
    /// the reason if there was one.
    pub async fn ended(&self) -> Option<String> {
        self.node.ended().await;
        self.handle().ending.reason().map(str::to_owned)
    }

    /// Hands leadership over, answers what is pending, and ends. Idempotent.
    pub async fn stop_gracefully(&self) {
        self.node.stop().await;
    }

    // --- inside ---------------------------------------------------------------------------------

    fn patience(&self) -> Duration {
        Duration::from_millis(self.handle().limits.write_timeout_milliseconds)
    }

    async fn ask(
        &self,
        kind: Kind,
        wait: Duration,
        input: impl FnOnce(Reply) -> Input<Reply>,
    ) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        let handle = self.handle().clone();
        let submitted = handle.submit(input(Reply::One(reply)));
        let answered = match submitted {
            // Timers are the node's: the caller may be on any executor.
            Ok(()) => self
                .node
                .run(async move { handle.answered(wait, answer).await }),
            Err(failure) => return Err(self.error(kind, failure)),
        };
        let answer = answered.await.and_then(|answer| answer);
        answer.map_err(|failure| self.error(kind, failure))
    }

    fn error(&self, kind: Kind, failure: Failure) -> Error {
        let reason = || self.handle().ending.reason().map(str::to_owned);
        match (kind, failure) {
            (_, Failure::Refused(Refusal::NotLeader(leader))) => Error::NotLeader {
                leader: self.handle().book.find(leader),
            },
            (_, Failure::Stopping) => Error::Stopped { reason: reason() },
            (Kind::Read, Failure::TimedOut(wait)) => Error::TimedOut(wait),
            (Kind::Read, Failure::Ended(reason)) => Error::Stopped { reason },
            (Kind::Read, Failure::Refused(Refusal::OutcomeUnknown)) => {
                Error::Refused(Refusal::NoLeader)
            }
            (
                Kind::Write,
                failure @ (Failure::Refused(Refusal::OutcomeUnknown | Refusal::ChangeUnfinished(_))
                | Failure::TimedOut(_)
                | Failure::Ended(_)),
            ) => Error::Unknown(failure),
            (_, Failure::Refused(refusal)) => Error::Refused(refusal),
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
