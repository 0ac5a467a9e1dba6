//! What is replicated: the trait that a machine of one's own implements, and the machines shipped.

pub mod counter;
pub mod kv;

use kontiki_raft::LogId;

/// One command to apply.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// Its entry; indexes only grow.
    pub id: LogId,
    /// What was written.
    pub bytes: &'a [u8],
}

/// A machine refused a command or a query; the text says why and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A deterministic machine over bytes.
///
/// Every server applies the same commands in the same order, so `apply` must depend on nothing but
/// the machine's state and the command: no clock, no randomness, no I/O.
pub trait StateMachine: Send {
    /// Its name in status and manifests, lower case.
    fn name(&self) -> &'static str;

    /// Looks at a command before it is proposed (ExRaft's `command?`). Advisory: `apply` must cope
    /// with any bytes.
    fn validate(&self, command: &[u8]) -> Result<(), Refused>;

    /// Applies a batch of committed commands in order; one reply for each, in the same order.
    fn apply(&mut self, batch: &[Command<'_>]) -> Vec<Vec<u8>>;

    /// Answers a query from the state as it is.
    fn read(&self, query: &[u8]) -> Result<Vec<u8>, Refused>;
}
