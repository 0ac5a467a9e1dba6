//! Brings a request to the server that answers it: remembers the leader, follows redirects, and
//! sends again what was never proposed, until the caller's deadline.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kontiki_proto::reason;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::backoff::Backoff;
use crate::connections::{Connection, ConnectionOptions, Connections};
use crate::error::{Leader, Verdict, is_retryable, judge, local_reason};
use crate::{Address, Error};

/// Redirects that are followed in a row before the next attempt has to pause, so that two servers
/// that name each other cost pauses and not a loop.
const REDIRECTS_MAX: u32 = 4;

/// Bounds of every call of a client.
#[derive(Debug, Clone)]
pub struct Options {
    /// A call ends by then, its retries included.
    pub timeout: Duration,
    /// One attempt of a read, or of a write in a session, is given up after this long, and it goes
    /// elsewhere. An attempt of any other write has the whole of `timeout`, because giving it up
    /// would leave it unknown.
    pub attempt_timeout: Duration,
    /// Writes are made in a session: one whose outcome is not known is sent again until `timeout`,
    /// and applied once all the same. The first costs a write more, which opens the session; it
    /// expires by itself once it is not used any more. Default true.
    pub sessions: bool,
    /// How connections are made and watched.
    pub connection: ConnectionOptions,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(2),
            sessions: true,
            connection: ConnectionOptions::default(),
        }
    }
}

/// Whether a request whose outcome is not known may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Changes something: never again once it may have been proposed.
    Write,
    /// Changes nothing: again, as often as it takes.
    Read,
    /// Changes something once, however often it is sent: again, as often as it takes; but once it
    /// may have been applied, only an answer settles it.
    InSession,
}

/// Which of the leader's two addresses this router's requests go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    Client,
    Peer,
}

/// Where the next attempt goes, and why.
#[derive(Debug)]
pub(crate) struct Router {
    endpoints: Vec<Address>,
    port: Port,
    options: Options,
    connections: Connections,
    leader: Mutex<Option<Address>>,
    /// Counts attempts that had no leader to go to; modulo the endpoints, the next one to try.
    turn: AtomicUsize,
}

/// How an attempt ended that did not succeed.
enum Ended {
    Again {
        error: Error,
        redirect: Option<Address>,
    },
    Final(Error),
}

impl Router {
    pub fn new(endpoints: Vec<Address>, port: Port, options: Options) -> Self {
        Router {
            endpoints,
            port,
            connections: Connections::new(options.connection.clone()),
            options,
            leader: Mutex::new(None),
            turn: AtomicUsize::new(0),
        }
    }

    pub fn endpoints(&self) -> &[Address] {
        &self.endpoints
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The server that is believed to lead.
    pub fn leader(&self) -> Option<Address> {
        self.leader.lock().expect("no holder panics").clone()
    }

    pub fn remember_leader(&self, address: &Address) {
        *self.leader.lock().expect("no holder panics") = Some(address.clone());
    }

    /// Forgets the leader if it is this one, so that a late failure does not cost a newer leader.
    pub fn forget_leader(&self, address: &Address) {
        let mut leader = self.leader.lock().expect("no holder panics");
        if leader.as_ref() == Some(address) {
            *leader = None;
        }
    }

    /// Where the next attempt goes: to the leader, or to the endpoints in turn.
    pub fn target(&self) -> Address {
        self.leader().unwrap_or_else(|| self.next_endpoint())
    }

    /// The endpoints in turn.
    pub fn next_endpoint(&self) -> Address {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.endpoints[turn % self.endpoints.len()].clone()
    }

    /// A connection to a server, for a stream; drop it with [`Router::disconnect`] when it breaks.
    pub async fn connect(&self, address: &Address) -> Result<Connection, Error> {
        self.connections
            .get(address)
            .await
            .map_err(|message| Error::Failed {
                reason: local_reason::UNREACHABLE.to_owned(),
                message: message.to_string(),
                endpoint: address.to_string(),
                attempts: 1,
            })
    }

    pub fn disconnect(&self, address: &Address, connection: &Connection) {
        self.connections.forget(address, connection);
    }

    /// The address in an error's metadata that this router's requests go to, if it is one.
    pub fn redirect(&self, leader: &Leader) -> Option<Address> {
        let text = match self.port {
            Port::Client => &leader.client_address,
            Port::Peer => &leader.peer_address,
        };
        text.parse().ok()
    }

    /// Sends a request to the leader, wherever that leads.
    pub async fn call<T, F, Fut>(&self, kind: Kind, send: F) -> Result<T, Error>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.options.timeout;
        self.call_by(deadline, kind, send).await
    }

    /// As [`Router::call`], until a moment.
    pub async fn call_by<T, F, Fut>(
        &self,
        deadline: Instant,
        kind: Kind,
        send: F,
    ) -> Result<T, Error>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut redirects = 0;
        self.repeat(
            deadline,
            || self.target(),
            kind,
            send,
            |address, ended| match ended {
                None => {
                    self.remember_leader(address);
                    true
                }
                Some((_, Some(redirect))) => {
                    self.remember_leader(redirect);
                    redirects += 1;
                    let follow = redirects <= REDIRECTS_MAX && redirect != address;
                    if !follow {
                        redirects = 0;
                    }
                    follow
                }
                Some((error, None)) => {
                    // A full queue is the leader's own; everything else says to look elsewhere.
                    if !matches!(
                        error.reason(),
                        Some(reason::QUEUE_FULL | reason::NOT_ACTIVATED)
                    ) {
                        self.forget_leader(address);
                    }
                    redirects = 0;
                    false
                }
            },
        )
        .await
    }

    /// Sends a request that any server answers: to the endpoints in turn.
    pub async fn call_any<T, F, Fut>(
        &self,
        timeout: Duration,
        kind: Kind,
        send: F,
    ) -> Result<T, Error>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + timeout;
        let next = || self.next_endpoint();
        self.repeat(deadline, next, kind, send, |_, _| false).await
    }

    /// Sends a request to one server, and to no other.
    pub async fn call_at<T, F, Fut>(&self, at: &Address, kind: Kind, send: F) -> Result<T, Error>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.options.timeout;
        self.repeat(deadline, || at.clone(), kind, send, |_, _| false)
            .await
    }

    /// Sends a request to one server, once.
    pub async fn call_once<T, F, Fut>(&self, at: &Address, kind: Kind, send: F) -> Result<T, Error>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.options.timeout;
        self.attempt(at, kind, deadline, 1, &send)
            .await
            .map_err(|ended| match ended {
                Ended::Again { error, .. } | Ended::Final(error) => error,
            })
    }

    /// Attempts until one succeeds, one is final, or the deadline passes. `learn` hears how each
    /// ended, and says whether the next may follow at once.
    async fn repeat<T, F, Fut>(
        &self,
        deadline: Instant,
        next: impl Fn() -> Address,
        kind: Kind,
        send: F,
        mut learn: impl FnMut(&Address, Option<(&Error, Option<&Address>)>) -> bool,
    ) -> Result<T, Error>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut backoff = Backoff::new();
        // Of an attempt that may have been applied: no later failure makes it one that was not.
        let mut unknown = None;
        for attempts in 1.. {
            let address = next();
            let (error, redirect) = match self
                .attempt(&address, kind, deadline, attempts, &send)
                .await
            {
                Ok(answer) => {
                    learn(&address, None);
                    return Ok(answer);
                }
                Err(Ended::Final(error)) => {
                    if error.is_unknown() {
                        learn(&address, Some((&error, None)));
                        return Err(error);
                    }
                    return Err(settle(unknown, error));
                }
                Err(Ended::Again { error, redirect }) => (error, redirect),
            };
            if error.is_unknown() {
                unknown = Some(error.clone());
            }
            let at_once = learn(&address, Some((&error, redirect.as_ref())));
            let pause = if at_once {
                Duration::ZERO
            } else {
                backoff.pause()
            };
            if Instant::now() + pause >= deadline {
                return Err(settle(unknown, error));
            }
            tokio::time::sleep(pause).await;
        }
        unreachable!("attempts are bounded by the deadline")
    }

    async fn attempt<T, F, Fut>(
        &self,
        address: &Address,
        kind: Kind,
        deadline: Instant,
        attempts: u32,
        send: &F,
    ) -> Result<T, Ended>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let failed = |reason: &str, message: String| Error::Failed {
            reason: reason.to_owned(),
            message,
            endpoint: address.to_string(),
            attempts,
        };
        let again = |error| Ended::Again {
            error,
            redirect: None,
        };
        let dialled = tokio::time::timeout_at(deadline, self.connections.get(address)).await;
        let connection = match dialled {
            Ok(Ok(connection)) => connection,
            Ok(Err(message)) => {
                return Err(again(failed(
                    local_reason::UNREACHABLE,
                    message.to_string(),
                )));
            }
            Err(_) => {
                let message = format!("cannot connect to {address} before the deadline");
                return Err(again(failed(local_reason::UNREACHABLE, message)));
            }
        };
        let until = match kind {
            Kind::Write => deadline,
            Kind::Read | Kind::InSession => {
                deadline.min(Instant::now() + self.options.attempt_timeout)
            }
        };
        let sending = send(connection.channel.clone());
        let verdict = match tokio::time::timeout_at(until, sending).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => judge(&status),
            Err(_) => Verdict::Unknown {
                code: Code::DeadlineExceeded,
                message: "no answer before the deadline".to_owned(),
            },
        };
        if verdict.casts_doubt_on_connection() {
            self.connections.forget(address, &connection);
        }
        Err(self.decide(address, kind, attempts, verdict))
    }

    fn decide(&self, address: &Address, kind: Kind, attempts: u32, verdict: Verdict) -> Ended {
        let endpoint = address.to_string();
        match verdict {
            Verdict::Failed {
                reason,
                message,
                leader,
            } => {
                let redirect = (reason == reason::NOT_LEADER)
                    .then(|| self.redirect(&leader))
                    .flatten();
                // A read that a server gave up waiting for changes nothing, wherever it goes next.
                let retryable =
                    is_retryable(&reason) || (kind == Kind::Read && reason == reason::TIMED_OUT);
                let error = Error::Failed {
                    reason,
                    message,
                    endpoint,
                    attempts,
                };
                if retryable {
                    Ended::Again { error, redirect }
                } else {
                    Ended::Final(error)
                }
            }
            Verdict::Unknown { message, .. } if kind == Kind::Write => {
                Ended::Final(Error::Unknown { message, endpoint })
            }
            // Applied, and its reply is gone: asking again brings it no nearer.
            Verdict::Unknown { code, message }
                if kind == Kind::InSession && (code == Code::DataLoss || is_final(code)) =>
            {
                Ended::Final(Error::Unknown { message, endpoint })
            }
            Verdict::Unknown { message, .. } if kind == Kind::InSession => Ended::Again {
                error: Error::Unknown { message, endpoint },
                redirect: None,
            },
            Verdict::Unknown { code, message } => {
                let reason = local_reason::NO_ANSWER.to_owned();
                let error = Error::Failed {
                    reason,
                    message,
                    endpoint,
                    attempts,
                };
                if is_final(code) {
                    Ended::Final(error)
                } else {
                    Ended::Again {
                        error,
                        redirect: None,
                    }
                }
            }
        }
    }
}

/// How a call ended whose last attempt ended with `last`. If an earlier one is unknown, so is the call,
/// and its message says as well what was said last.
fn settle(earlier: Option<Error>, last: Error) -> Error {
    match (earlier, last) {
        (
            Some(Error::Unknown { message, endpoint }),
            Error::Failed {
                reason,
                message: last,
                ..
            },
        ) => Error::Unknown {
            message: format!("{message}; the last attempt was refused ({reason}): {last}"),
            endpoint,
        },
        (earlier, last) => earlier.unwrap_or(last),
    }
}

/// Codes that the same request will meet again, whoever gives them.
pub(crate) fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::Unimplemented
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
    )
}
