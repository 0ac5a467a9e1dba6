//! What servers say to each other.
//!
//! A message names a range of the log, never entries: payloads are the driver's, which encodes the
//! range when it sends, and on receipt hands the entries' metadata in beside the message.

use std::time::Duration;

use crate::types::{Index, LogId, Term, Time};

/// One message. Its cluster, sender and addressee are on the envelope, which the driver checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// RequestVote, and its dry run.
    Vote(Vote),
    /// Its answer.
    VoteReply(VoteReply),
    /// AppendEntries.
    Append(Append),
    /// Its answer.
    AppendAck(AppendAck),
    /// A sign of life that carries the commit index and a round of confirmation.
    Heartbeat(Heartbeat),
    /// Its answer.
    HeartbeatAck(HeartbeatAck),
    /// Campaign at once.
    TimeoutNow(TimeoutNow),
    /// InstallSnapshot, a piece of it.
    SnapshotChunk(SnapshotChunk),
    /// Its answer.
    SnapshotAck(SnapshotAck),
    /// Through which index must be applied what a read is answered from?
    ReadIndex(ReadIndex),
    /// Its answer.
    ReadIndexReply(ReadIndexReply),
}

impl Message {
    /// Answers travel back on a connection that who asked has made.
    pub fn is_reply(&self) -> bool {
        matches!(
            self,
            Self::VoteReply(_)
                | Self::AppendAck(_)
                | Self::HeartbeatAck(_)
                | Self::SnapshotAck(_)
                | Self::ReadIndexReply(_)
        )
    }

    /// Whether it belongs on the connection for entries rather than the one for liveness.
    pub fn is_bulk(&self) -> bool {
        matches!(self, Self::Append(_) | Self::AppendAck(_))
    }

    /// Whether it belongs on the connection for snapshots.
    pub fn is_of_snapshot(&self) -> bool {
        matches!(self, Self::SnapshotChunk(_) | Self::SnapshotAck(_))
    }
}

/// RequestVote (paper section 5.2), or with `pre` the question whether it would be granted (thesis
/// section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The candidate's term; with `pre` the one in which it would campaign.
    pub term: Term,
    /// End of the candidate's log.
    pub last: LogId,
    /// A dry run: changes nothing at the voter.
    pub pre: bool,
    /// To be honoured although the voter has a leader: a transfer (thesis section 3.10) or
    /// `trigger_election`.
    pub forced: bool,
    /// The leader of this term told the candidate to campaign: it serves no read under a lease any
    /// more, and needs nobody to keep a promise that was made to it in that term.
    pub released: Option<Term>,
}

/// Answer to [`Vote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteReply {
    /// Granted: the term that was asked for. Refused: the voter's term.
    pub term: Term,
    /// Whether the vote is (or with `pre` would be) given.
    pub granted: bool,
    /// Answers a dry run.
    pub pre: bool,
}

/// AppendEntries (paper section 5.3): the entries after `prev` up to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Append {
    /// The leader's term.
    pub term: Term,
    /// The entry before the first one sent.
    pub prev: LogId,
    /// Index of the last entry sent; `prev.index` if there is none.
    pub last: Index,
    /// The leader's commit index.
    pub commit: Index,
}

/// Answer to [`Append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendAck {
    /// The follower's term.
    pub term: Term,
    /// What became of it.
    pub outcome: AppendOutcome,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The log matches the leader's through this index, persistently.
    Accepted(Index),
    /// `prev` is not in the log.
    Rejected {
        /// `prev.index` of the append that did not fit.
        prev: Index,
        /// The last entry at or below `prev` whose term is not above that of `prev`: the logs can
        /// agree at most up to here.
        hint: LogId,
    },
}

/// A sign of life from the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The leader's term.
    pub term: Term,
    /// The leader's commit index, never above what the addressee has acknowledged.
    pub commit: Index,
    /// Grows with every round that the leader starts in its term; echoed.
    pub round: u64,
    /// With those that are sent to everyone, in time; a round between them that confirms leadership
    /// for reads has none.
    pub beat: Option<Beat>,
}

/// What the regular heartbeats carry beside: what bounded staleness and leases are reckoned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// When it was sent, by the leader's clock; echoed.
    pub sent: Time,
    /// The addressee is asked to promise no vote to anyone else for so long; zero: it is not.
    pub lease: Duration,
    /// How fresh the addressee is, once it has committed what this names.
    pub fresh: Option<Freshness>,
}

/// A server that has applied everything through `index` reflects all that was committed, anywhere,
/// before `as_of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// By the clock of the server that it is about.
    pub as_of: Time,
    /// How far it must have applied.
    pub index: Index,
}

/// Answer to [`Heartbeat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatAck {
    /// The follower's term.
    pub term: Term,
    /// Round of the heartbeat; 0, which is none, if that was of an older term than the follower's.
    pub round: u64,
    /// Answers [`Heartbeat::beat`]; `None` if that was of an older term.
    pub beat: Option<BeatAck>,
}

/// Answer to [`Beat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeatAck {
    /// [`Beat::sent`].
    pub sent: Time,
    /// When it was answered, by the follower's clock.
    pub at: Time,
    /// The follower promises to vote for nobody else for so long from `at`; zero: it promises
    /// nothing.
    pub promise: Duration,
}

/// A server that does not lead asks the leader for a read index (thesis section 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIndex {
    /// Never used again by the incarnation that asks (etcd #20418).
    pub id: u64,
}

/// Answer to [`ReadIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIndexReply {
    /// Of the question.
    pub id: u64,
    /// The leader's commit index at a moment after it was asked at which it led; `None` if it does
    /// not lead, or lost its quorum.
    pub index: Option<Index>,
}

/// The leader asks the addressee to campaign at once (thesis section 3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutNow {
    /// The leader's term.
    pub term: Term,
    /// End of the leader's log: without all of it the addressee does not campaign.
    pub last: LogId,
    /// When it was sent, by the leader's clock. An addressee that has since promised the leader its vote
    /// again ignores it.
    pub sent: Time,
}

/// Names one snapshot among all of a leader's term. Two of the same state may differ byte by byte,
/// so pieces of one never fit the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// Counts the snapshots that the leader began in its term.
    pub number: u64,
    /// The last entry that it covers; committed.
    pub last: LogId,
}

/// InstallSnapshot (paper figure 13): one piece. The driver cuts and assembles; the bytes travel
/// beside the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// The leader's term.
    pub term: Term,
    /// Of which snapshot.
    pub id: SnapshotId,
    /// Where in it these bytes belong.
    pub offset: u64,
    /// They are its last.
    pub is_end: bool,
}

/// Answer to [`SnapshotChunk`]. That a snapshot is installed is said by an [`AppendAck`], as of any
/// entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotAck {
    /// The follower's term.
    pub term: Term,
    /// Of which snapshot.
    pub id: SnapshotId,
    /// What became of it.
    pub outcome: SnapshotOutcome,
}

/// What became of a piece of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// The follower holds the snapshot up to this offset.
    Received(u64),
    /// The snapshot does not fit together, or the machine cannot restore it: the follower keeps
    /// what it had.
    Refused,
}
