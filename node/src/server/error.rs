//! Why a call to an embedded server failed, and with it whether anything was done.

use std::time::Duration;

use crate::address_book::ServerRef;
use crate::driver::Refusal;
use crate::handle::Failure;
use crate::listen::ListenError;

/// Why a call failed, and with it whether anything was done: see [`Error::is_unknown`].
///
/// ```
/// use kontiki_node::Error;
///
/// /// What to do with a write that was not answered.
/// fn advice(error: &Error) -> String {
///     match error {
///         Error::NotLeader { leader } => format!("ask {} at {}", leader.name, leader.client_address),
///         error if error.is_unknown() => "it may have been applied: read, then decide".into(),
///         _ => "it was not and will not be applied: try again, or give up".into(),
///     }
/// }
///
/// let stopped = Error::Stopped { reason: Some("maintenance".into()) };
/// assert_eq!(stopped.to_string(), "the server has stopped: maintenance");
/// assert!(!stopped.is_unknown());
/// # assert!(advice(&stopped).starts_with("it was not"));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another server leads: ask it (ExRaft's `{:redirect, leader}`). Nothing was done.
    #[error("this server does not lead; {leader} does")]
    NotLeader {
        /// Which.
        leader: ServerRef,
    },
    /// Refused: see [`Refusal`], for example [`Refusal::NoLeader`], [`Refusal::UnstableConfig`].
    /// Nothing was and will be done.
    #[error("{0}")]
    Refused(Refusal),
    /// The server is stopping or has stopped. Nothing was done.
    #[error("the server has stopped{}", because(.reason.as_deref()))]
    Stopped {
        /// What [`Server::stop`](crate::Server::stop) was told, if it was that.
        reason: Option<String>,
    },
    /// The outcome is not known: what was asked may or may not have been done, or may still be.
    /// [`Failure::Ended`] has the reason with which the server was stopped meanwhile.
    #[error("the outcome is not known: {0}")]
    Unknown(Failure),
    /// No answer in time to something that changes nothing.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// No leader was known in time.
    #[error("no leader within {0:?}")]
    NoLeader(Duration),
    /// No server goes by that name, id or address.
    #[error("no server is known as {0:?}: give a name that was seen, a server id, or HOST:PORT")]
    NoSuchServer(String),
    /// A server cannot be asked who it is. Nothing was done.
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

fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}

impl Error {
    /// Whether what was asked may have been done all the same.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// Result of a call.
pub type Result<T> = std::result::Result<T, Error>;
