//! What goes into a turn and what comes out: the only face that `api`, `peer` and the simulator see.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{ChangeRequest, ClusterId, Index, LogId, MemberRole, Role, ServerId, Term};

use super::inspect::Inspection;
use super::reads::ReadMode;
use crate::host::{Discarded, Done, Host, Job, Quarantine, SessionId, SessionRefusal, Stamp};
use crate::machine::{Effect, Version};

pub use super::envelope::{Envelope, HostReport, Loss};
pub use super::piece::Pieces;
pub use super::status::{ConfigurationStatus, PeerStatus, Status};
pub use kontiki_raft::PeerRefill;

/// Something for the driver. `R` names whoever waits for the answer.
#[derive(Debug)]
pub enum Input<R> {
    /// A message came in.
    Peer(Envelope),
    /// A connection that this server dialled is up.
    Connected(ServerId),
    /// It is down.
    Disconnected(ServerId, Loss),
    /// The connection for snapshots to a server is up again: what was sent by the last is lost.
    SnapshotsConnected(ServerId),
    /// Replicate and apply one command of the machine. Answer: `Written`.
    Write {
        /// The command; bounded by `api`.
        command: Bytes,
        /// Who asks.
        reply: R,
    },
    /// As `Write`, applied once however often it is asked. Answer: `Written`, of the first time.
    WriteInSession {
        /// The command; bounded by `api`.
        command: Bytes,
        /// The cluster that the session is of.
        cluster: ClusterId,
        /// Session and sequence.
        stamp: Stamp,
        /// Who asks.
        reply: R,
    },
    /// Open a session. Answer: `SessionOpened`.
    OpenSession {
        /// Who asks.
        reply: R,
    },
    /// Close one; one that is not open is no error. Answer: `Done`.
    CloseSession {
        /// The cluster that it is of.
        cluster: ClusterId,
        /// Which.
        session: SessionId,
        /// Who asks.
        reply: R,
    },
    /// Ask the machine. Answer: `Read`.
    Read {
        /// The query; bounded by `api`.
        query: Bytes,
        /// How fresh the answer must be.
        mode: ReadMode,
        /// A server that cannot answer by itself is to ask the leader how far it must have applied,
        /// and answer then.
        forward: bool,
        /// Who asks.
        reply: R,
    },
    /// Become an initial voter of a cluster. Answer: `Done`.
    Bootstrap {
        /// The new cluster.
        cluster: ClusterId,
        /// All initial voters, this one among them.
        voters: Vec<ServerId>,
        /// Who asks.
        reply: R,
    },
    /// Accept client writes from here on. Answer: `Activated`.
    Activate {
        /// Who asks.
        reply: R,
    },
    /// Change the membership. Answer: `Changed`, as soon as `until` holds.
    Change {
        /// What to change.
        change: ChangeRequest,
        /// When to answer.
        until: Until,
        /// Who asks.
        reply: R,
    },
    /// A server says that its machine runs these versions. No answer.
    Runs {
        /// Which.
        server: ServerId,
        /// Versions.
        versions: RangeInclusive<Version>,
    },
    /// Hand leadership over. Answer: `Transferred`.
    Transfer {
        /// To whom; if `None`, to the voter of the highest priority that has caught up.
        target: Option<ServerId>,
        /// Who asks.
        reply: R,
    },
    /// Campaign at once. Answer: `Triggered`.
    TriggerElection {
        /// Who asks.
        reply: R,
    },
    /// Stop for good, memory kept, unless a leader is known. Answer: `Done`.
    Quarantine {
        /// Why, for people.
        why: Quarantine,
        /// Who asks.
        reply: R,
    },
    /// The host on its thread has done a job.
    Done(Done<R>),
    /// The host is back from [`Output::Away`].
    Back(Box<Host>, Done<R>),
    /// Show context and log. Answer: `Inspected`.
    Inspect {
        /// The first entry of interest; an earlier one than is held stands for the first held.
        first: Index,
        /// Bytes of a command that are shown; the rest is cut off.
        payload_bytes_max: usize,
        /// Who asks.
        reply: R,
    },
    /// Describe yourself. Answer: `Status`.
    Status {
        /// Who asks.
        reply: R,
    },
}

impl<R> Input<R> {
    /// Bytes of what it carries: a command, a query, or what came with a message.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Peer(envelope) => envelope.batch.len(),
            Self::Write { command, .. } | Self::WriteInSession { command, .. } => command.len(),
            Self::Read { query, .. } => query.len(),
            _ => 0,
        }
    }
}

/// When a membership change is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The entry that begins it is committed.
    Committed,
    /// All that was added votes and knows it, all that was removed is out, and that is committed.
    Effective,
}

/// What the driver wants done, in order.
pub enum Output<R> {
    /// Send this; it may get lost.
    Send(Envelope),
    /// Answer a request. Each is answered exactly once.
    Reply(R, Result<Answer, Refusal>),
    /// Role, term or leader changed.
    Standing(Standing),
    /// For the host on its thread, in order.
    Job(Job<R>),
    /// This job takes long, and the host lives on the node thread: have it done elsewhere, and give
    /// both back by [`Input::Back`].
    Away(Box<Host>, Job<R>),
    /// Drop this, off the node thread if it is to serve meanwhile: it may be as large as a state.
    Discard(Discarded),
    /// Something that the machine wants done, at most once.
    Effect(Effect),
}

impl<R: std::fmt::Debug> std::fmt::Debug for Output<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Send(envelope) => f.debug_tuple("Send").field(envelope).finish(),
            Self::Reply(reply, result) => {
                f.debug_tuple("Reply").field(reply).field(result).finish()
            }
            Self::Standing(standing) => f.debug_tuple("Standing").field(standing).finish(),
            Self::Job(job) => f.debug_tuple("Job").field(job).finish(),
            Self::Discard(rest) => f.debug_tuple("Discard").field(rest).finish(),
            Self::Away(host, job) => f.debug_tuple("Away").field(host).field(job).finish(),
            Self::Effect(_) => f.write_str("Effect"),
        }
    }
}

/// Who leads, as far as this server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// This server's role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader of that term, if known; itself if it leads and serves.
    pub leader: Option<ServerId>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The command is committed and applied.
    Written {
        /// The machine's reply.
        reply: Vec<u8>,
        /// The entry.
        id: LogId,
    },
    /// The machine answered a query.
    Read {
        /// Its answer.
        reply: Vec<u8>,
        /// What was applied when it answered.
        applied: Index,
    },
    /// Nothing more to say.
    Done,
    /// A session is open.
    SessionOpened {
        /// In which cluster.
        cluster: ClusterId,
        /// Which.
        session: SessionId,
    },
    /// Client writes are accepted.
    Activated(Index),
    /// The membership holds.
    Changed(ConfigurationStatus),
    /// Another server leads.
    Transferred(Standing),
    /// The election was begun (or was under way); the term afterwards.
    Triggered(Term),
    /// A description.
    Status(Box<Status>),
    /// Context and log.
    Inspected(Box<Inspection>),
}

/// Why a request was not done. All but [`Refusal::OutcomeUnknown`], [`Refusal::ChangeUnfinished`] and
/// [`Refusal::ReplyForgotten`] mean *failed*: nothing of it was and will be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another server leads.
    #[error("this server does not lead; {0} does")]
    NotLeader(ServerId),
    /// Nobody is known to lead.
    #[error("no leader is known")]
    NoLeader,
    /// The leader lost its quorum for now.
    #[error("the leader has lost its quorum")]
    QuorumLost,
    /// Leadership is being handed over.
    #[error("leadership is being handed over")]
    Transferring,
    /// Stale reads are disabled on this server (ExRaft's `dirty_read: false`).
    #[error("stale reads are disabled on this server; read linearizably, from the leader")]
    DirtyReadDisabled,
    /// What is known here is too old for a read of bounded staleness.
    #[error("this server's state is {}, and the read allows {limit:?}", shown_age(.age))]
    TooStale {
        /// How old at most; `None` if no leader has said anything to reckon it from.
        age: Option<Duration>,
        /// What the read allows.
        limit: Duration,
    },
    /// The server has promised the leader not to vote for so long, for reads under a lease.
    #[error(
        "this server has promised its vote to the leader for {0:?} more, for reads under a lease; \
         ask the leader to hand over, or to campaign anew"
    )]
    Promised(Duration),
    /// A bounded queue is full.
    #[error("the {what} is full ({max})")]
    QueueFull {
        /// Which.
        what: &'static str,
        /// Its bound.
        max: usize,
    },
    /// The command may make the state larger, and there is no room.
    #[error(
        "the state limit is reached: {held} bytes are held, of {max}; delete something, or raise the \
         limit (spec.stateLimit, limits.stateBytesMax)"
    )]
    StateLimit {
        /// Bytes that the leader holds.
        held: u64,
        /// The limit.
        max: u64,
    },
    /// A member does not take a message with so large a command: it would never have the entry.
    #[error(
        "the command has {bytes} bytes, and server {server} takes at most {max} \
         (limits.commandBytesMax)"
    )]
    CommandTooLarge {
        /// Bytes of the command.
        bytes: usize,
        /// The member with the smallest bound.
        server: ServerId,
        /// What it takes.
        max: u64,
    },
    /// No Activate entry has been applied.
    #[error("the cluster is not activated yet")]
    NotActivated,
    /// Not bootstrapped, and not added to a cluster.
    #[error("this server is not a member of a cluster yet")]
    NotAMember,
    /// Proposed, and then leadership was lost: it may or may not be applied.
    #[error("leadership was lost before the outcome was known")]
    OutcomeUnknown,
    /// A membership change has begun, and this is as long as a request waits for it. It goes on.
    #[error(
        "the change has begun and is not finished after {0:?}: it goes on, and its outcome is not known \
         yet; look at the configuration in the status, or ask for the same change again to wait for it"
    )]
    ChangeUnfinished(Duration),
    /// A session of another cluster: this one may have given the same id to another client.
    #[error(
        "session {} is of cluster {theirs}, and this server belongs to cluster {mine}: nothing was \
         applied; open another session",
        session.0
    )]
    SessionOf {
        /// Which.
        session: SessionId,
        /// The cluster that it is of.
        theirs: ClusterId,
        /// This server's.
        mine: ClusterId,
    },
    /// A command of a session that was not applied this time.
    #[error("{0}")]
    Session(#[from] SessionRefusal),
    /// A command of a session that was applied before, once, and whose reply is gone.
    #[error("the command was applied once, as entry {0}; its reply is not kept any more")]
    ReplyForgotten(LogId),
    /// The machine refused it, before it was proposed.
    #[error("{0}")]
    RefusedByMachine(String),
    /// Addressed to another server than this.
    #[error("this is server {0}, which the request does not name")]
    WrongServer(ServerId),
    /// Bootstrapped before, otherwise.
    #[error(
        "this server already belongs to cluster {0}, which began with one list of initial voters"
    )]
    AlreadyBootstrapped(ClusterId),
    /// A list of servers is empty or too long.
    #[error("{0}")]
    Invalid(String),
    /// No entry of the leader's term is committed yet.
    #[error("the leader has not committed an entry of its term yet")]
    NoCommit,
    /// Another change is in flight.
    #[error("another change of the configuration is in flight")]
    UnstableConfig,
    /// The caller saw another configuration than the one in force.
    #[error("the configuration in force is at index {}, not {}", in_force.0, seen.0)]
    StaleConfig {
        /// In force.
        in_force: Index,
        /// What the caller said.
        seen: Index,
    },
    /// The last voter cannot be removed.
    #[error("the last voter cannot be removed")]
    LastServer,
    /// Fewer voters than `min_majority` would be left.
    #[error("{left} voters would be left, fewer than min_majority {min_majority}")]
    BelowMinMajority {
        /// How many.
        left: usize,
        /// The bound.
        min_majority: usize,
    },
    /// The change could not be committed by the servers that are heard.
    #[error(
        "of the {voters} voters that would be left {needed} are needed, and these are not heard, or \
         do not store entries yet: {}; nothing was changed; bring them back, or replace or remove them \
         first",
        listed(missing)
    )]
    NoQuorumAfterwards {
        /// How many voters there would be.
        voters: usize,
        /// How many of them are needed.
        needed: usize,
        /// Those that could not store the change.
        missing: Vec<ServerId>,
    },
    /// A server that a change names is not what the change takes it for.
    #[error("server {server} is {role}, and was named as {named_as}: nothing was changed")]
    WrongRole {
        /// Which server.
        server: ServerId,
        /// What it is.
        role: MemberRole,
        /// What the change takes it for.
        named_as: &'static str,
    },
    /// Not a voter of the configuration in force.
    #[error("{0} is not a voter")]
    NotAVoter(ServerId),
    /// This server has stopped applying and serving; the text says why. Others may serve.
    #[error("this server is quarantined: {0}")]
    Quarantined(String),
    /// Not to be quarantined: it knows this leader, so the quorum is not lost.
    #[error("this server knows a leader, {0}: its cluster has not lost its quorum")]
    HasLeader(ServerId),
    /// A server does not run a version of the machine that is needed; the text says which.
    #[error("{0}")]
    UnsupportedVersion(String),
    /// The servers' states differ, and no majority agrees; the text says where.
    #[error("{0}")]
    Diverged(String),
    /// Nobody took over within an election timeout.
    #[error("nobody took over within an election timeout")]
    TransferFailed,
}

fn listed(servers: &[ServerId]) -> String {
    let names: Vec<String> = servers.iter().map(ServerId::to_string).collect();
    names.join(", ")
}

fn shown_age(age: &Option<Duration>) -> String {
    match age {
        Some(age) => format!("up to {age:?} old"),
        None => "of unknown age".into(),
    }
}
