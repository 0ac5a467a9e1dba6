//! What is replicated: the trait that a machine of one's own implements, and the machines shipped.

pub mod counter;
pub mod history;
pub mod kv;

mod effects;
mod typed;
mod view;

use std::io::Read;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kontiki_raft::{Configuration, LogId, Role};

pub use effects::{Effect, Effects};
pub use history::History;
pub use typed::{Typed, TypedMachine};
pub use view::{BytesView, View};

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

/// A snapshot does not hold the state of this machine; the text says what is wrong with it. The machine
/// is given its own state back.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RestoreError(pub String);

impl From<std::io::Error> for RestoreError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Version of the logic of [`StateMachine::apply`]. The first is 1.
pub type Version = u32;

/// Looks at a command before it is proposed, with the version in force. Shared: it may be called on
/// any thread.
///
/// ```
/// use std::sync::Arc;
///
/// use kontiki_node::machine::{Refused, Validator};
///
/// let validator: Validator = Arc::new(|_version, command| match command.len() {
///     0..=64 => Ok(()),
///     length => Err(Refused(format!("{length} bytes; at most 64 are allowed"))),
/// });
/// assert!(validator(1, &[0; 65]).is_err());
/// ```
pub type Validator = Arc<dyn Fn(Version, &[u8]) -> Result<(), Refused> + Send + Sync>;

/// Says whether a command may make the state larger, with the version in force. Shared, as a
/// [`Validator`] is.
pub type Growth = Arc<dyn Fn(Version, &[u8]) -> bool + Send + Sync>;

/// Where a machine is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the node thread, between two messages. For machines whose every call takes microseconds:
    /// whatever it takes, heartbeats wait for.
    Inline,
    /// On a thread of its own. However long a call takes, the server goes on hearing and being heard;
    /// reads and the answers to writes wait.
    Thread,
}

/// A state that is taken in piece by piece. Nothing of it is used before all of it is there and was
/// verified; if it never is, what was taken in is dropped, and the machine keeps the state that it has.
pub trait Restoring: Send {
    /// Takes the next bytes of what a [`View`] wrote, wherever that was cut. Called where the machine is.
    ///
    /// # Errors
    /// They are not part of a state of this machine.
    fn take(&mut self, bytes: &[u8]) -> Result<(), RestoreError>;

    /// Bytes of memory that it takes so far, roughly. Asked after every piece. The state limit goes by it.
    fn size(&self) -> usize;

    /// All bytes were taken, and verified: the machine in that state, which takes the place of the one
    /// that was there. Whatever else that one has, such as its history, this one must have as well.
    /// Called on any thread.
    ///
    /// # Errors
    /// The bytes are not a whole state; the machine that was there stays.
    fn finish(self: Box<Self>) -> Result<Box<dyn StateMachine>, RestoreError>;
}

/// Why a machine is stopped (ExRaft's `terminate`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The server hands over and ends.
    Graceful,
    /// The server was told to end at once; the text is the caller's.
    Told(String),
}

/// A deterministic machine over bytes.
///
/// Every server applies the same commands in the same order, so what [`apply`](Self::apply) does must
/// depend on nothing but the state, the version and the command: no clock, no randomness, no I/O. A
/// machine over types of one's own is written with less code as a [`TypedMachine`].
///
/// ```
/// use std::io::Read;
///
/// use kontiki_node::LogId;
/// use kontiki_node::machine::{
///     BytesView, Command, Effects, Refused, RestoreError, StateMachine, Version, View,
/// };
///
/// /// Remembers the longest command.
/// #[derive(Default)]
/// struct Longest(Vec<u8>);
///
/// impl StateMachine for Longest {
///     fn name(&self) -> &'static str {
///         "longest"
///     }
///
///     fn apply(&mut self, _: Version, batch: &[Command<'_>], _: &mut Effects) -> Vec<Vec<u8>> {
///         let apply_one = |command: &Command<'_>| {
///             if command.bytes.len() > self.0.len() {
///                 self.0 = command.bytes.to_vec();
///             }
///             self.0.clone()
///         };
///         batch.iter().map(apply_one).collect()
///     }
///
///     fn read(&self, _query: &[u8]) -> Result<Vec<u8>, Refused> {
///         Ok(self.0.clone())
///     }
///
///     fn snapshot(&self) -> Box<dyn View> {
///         Box::new(BytesView::new(self.0.clone()))
///     }
///
///     fn restore(&mut self, _: Version, reader: &mut dyn Read) -> Result<(), RestoreError> {
///         let mut state = Vec::new();
///         reader.read_to_end(&mut state)?;
///         self.0 = state;
///         Ok(())
///     }
///
///     fn size(&self) -> usize {
///         self.0.len()
///     }
/// }
///
/// let mut machine = Longest::default();
/// let commands = [b"long".as_slice(), b"ok"].map(|bytes| Command { id: LogId::default(), bytes });
/// let replies = machine.apply(1, &commands, &mut Effects::default());
/// assert_eq!(replies, [b"long", b"long"]);
/// ```
///
/// # When it misbehaves
///
/// - *Its validator panics*: the command is refused, as if the validator had said so.
/// - *It panics* in any other call: the server is quarantined. The machine is never called again; the
///   server stops applying, campaigning and serving, goes on storing and voting, keeps its memory,
///   and says why in its status. A leader gives way to another server, which applies what was
///   committed; the write whose answer was due is *unknown*. If a command makes every machine panic,
///   all servers stop before it, and nothing is lost: the log can be inspected.
/// - *It is not deterministic*, or its memory changed: its replies or its state differ from those of
///   a majority of voters at a checkpoint (every minute, or 1,000,000 commands; see
///   `Limits`). The server is quarantined, and the others go on. If no majority agrees,
///   writes are refused (`DIVERGED`) until one does.
/// - *It takes long*: with [`Place::Thread`] nothing but its own answers waits; the server keeps its
///   office. A leader refuses writes (`RESOURCE_EXHAUSTED`) while more than
///   `limits.unapplied_bytes_max` bytes are committed and not applied; a follower is not waited for.
///   With [`Place::Inline`] everything waits, and the server is taken for dead.
/// - *It says less than it takes* in [`size`](Self::size): the state limit lets in more than there is
///   room for, and all servers are killed for their memory, at the same entry. One that says more than
///   it takes is refused writes (`RESOURCE_EXHAUSTED`) too early.
/// - *An effect fails or panics*: counted in `kontiki_effects_total` and logged; the write stands.
///
/// # Changing `apply`
///
/// Servers run different programs while one replaces the other, and must still apply the same entry
/// the same way. So the new program contains the old logic as well:
///
/// 1. Say the new version in [`versions`](Self::versions), `1..=2` say, and branch on `version` in
///    [`apply`](Self::apply) wherever the outcome differs.
/// 2. Replace the servers one by one. As long as one of them runs `1..=1`, all apply under 1. Once
///    every server runs 2, the leader raises the version in force, and from that entry on all apply
///    under 2. From then on a server that does not run 2 is not added.
/// 3. A later program may drop the old logic, `2..=2`, once no entry under version 1 is left in the
///    log: until then it is not added either.
///
/// What [`snapshot`](Self::snapshot) writes is compared as well: a new program writes other bytes for
/// the same state only under a new version.
#[expect(unused_variables, reason = "the defaults look at nothing")]
pub trait StateMachine: Send {
    /// Its name in status and manifests, lower case.
    fn name(&self) -> &'static str;

    /// Versions of `apply` that this program can run; asked when the server starts. The leader raises
    /// the version in force, by an entry of the log, to the highest that every server of the cluster can
    /// run; it never falls. What is not in this range, `apply` is never called with.
    fn versions(&self) -> RangeInclusive<Version> {
        1..=1
    }

    /// Where it is called. Asked once.
    fn place(&self) -> Place {
        Place::Thread
    }

    /// What looks at commands before they are proposed (ExRaft's `command?`). Asked once. Advisory:
    /// `apply` must cope with any bytes.
    fn validator(&self) -> Validator {
        Arc::new(|_, _| Ok(()))
    }

    /// Where to put what [`apply`](Self::apply) changes, for those who watch this server. Called once,
    /// before anything else. Nothing that the machine does may depend on it: it is this server's own,
    /// and not replicated. Only `kv` is watched over gRPC (`Kv.Watch`).
    fn observe(&mut self, history: History) {}

    /// What tells commands that may make the state larger from those that do not, by their bytes alone.
    /// Asked once. Past the state limit (`limits.state_bytes_max`) a leader refuses the former, and takes
    /// the latter: with the default, which takes every command to grow the state, a state that has
    /// reached its limit can be read, and no command makes it smaller.
    fn growth(&self) -> Growth {
        Arc::new(|_, _| true)
    }

    /// Applies a batch of committed commands in order, under the version in force at all of them; one
    /// reply for each, in the same order.
    ///
    /// `effects` collects what is to be done once, by the leader that proposed the command (ExRaft's
    /// side effects).
    fn apply(
        &mut self,
        version: Version,
        batch: &[Command<'_>],
        effects: &mut Effects,
    ) -> Vec<Vec<u8>>;

    /// Answers a query from the state as it is.
    ///
    /// # Errors
    /// The machine knows no such query.
    fn read(&self, query: &[u8]) -> Result<Vec<u8>, Refused>;

    /// A configuration was committed (ExRaft's `handle_system_write`). Part of the replicated order:
    /// it may change the state.
    fn on_configuration(
        &mut self,
        id: LogId,
        configuration: &Configuration,
        effects: &mut Effects,
    ) {
    }

    /// This server's role changed (ExRaft's `transition`). It is not replicated: the state that
    /// commands see must not depend on it. Its effects run whatever the role. A machine that is busy
    /// is told the last of the changes it missed, not each.
    fn on_role(&mut self, role: Role, effects: &mut Effects) {}

    /// The state as it is now, to be written out while `apply` goes on: for other servers, and at every
    /// checkpoint for its digest. Must be cheap, ideally O(1):
    /// the machine is not called while it is taken.
    fn snapshot(&self) -> Box<dyn View>;

    /// Takes the state that a [`View`] of the same machine wrote, in place of its own.
    ///
    /// # Errors
    /// `reader` does not hold such a state; the server then gives
    /// the machine its own state back, and asks for it anew after a pause.
    fn restore(&mut self, version: Version, reader: &mut dyn Read) -> Result<(), RestoreError>;

    /// Begins to take in, piece by piece, the state that a [`View`] of the same machine wrote, beside the
    /// state that the machine has. With `None`, the default, the server keeps the bytes until all of them
    /// are there and verified, and then calls [`restore`](Self::restore): a server that is refilled holds
    /// its state and those bytes at once. A machine with a large state should answer [`Restoring`].
    fn restoring(&self, version: Version) -> Option<Box<dyn Restoring>> {
        None
    }

    /// Bytes of memory that the state takes, roughly. Asked after every batch, so it must be cheap: keep
    /// count. The state limit goes by it.
    fn size(&self) -> usize;

    /// The server ends (ExRaft's `terminate`). Not called when the process is killed, or when a server
    /// inside a program is dropped without being stopped.
    fn stop(&mut self, reason: &StopReason) {}
}
