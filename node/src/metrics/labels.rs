//! What metrics tell apart: a bounded set of labels for each.

use kontiki_raft::Role;
use tonic::Code;

use crate::driver::Stage;

macro_rules! methods {
    ($($method:ident $name:literal)*) => {
        /// A method of the services, for counting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // the names are those of the proto files
        pub enum Method { $($method),* }

        impl Method {
            pub(super) const ALL: &[Self] = &[$(Self::$method),*];

            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$method => $name),* }
            }
        }
    };
}

methods! {
    Write "kontiki.v1.Data/Write"
    WriteStream "kontiki.v1.Data/WriteStream"
    Read "kontiki.v1.Data/Read"
    OpenSession "kontiki.v1.Data/OpenSession"
    CloseSession "kontiki.v1.Data/CloseSession"
    Put "kontiki.kv.v1.Kv/Put"
    Get "kontiki.kv.v1.Kv/Get"
    Delete "kontiki.kv.v1.Kv/Delete"
    Range "kontiki.kv.v1.Kv/Range"
    Watch "kontiki.kv.v1.Kv/Watch"
    Bootstrap "kontiki.v1.Admin/Bootstrap"
    Activate "kontiki.v1.Admin/Activate"
    AddServer "kontiki.v1.Admin/AddServer"
    RemoveServer "kontiki.v1.Admin/RemoveServer"
    ReplaceServer "kontiki.v1.Admin/ReplaceServer"
    TransferLeadership "kontiki.v1.Admin/TransferLeadership"
    TriggerElection "kontiki.v1.Admin/TriggerElection"
    Quarantine "kontiki.v1.Admin/Quarantine"
    AwaitLeader "kontiki.v1.Admin/AwaitLeader"
    Status "kontiki.v1.Admin/Status"
    Introduce "kontiki.v1.Admin/Introduce"
    Ping "kontiki.v1.Admin/Ping"
    Inspect "kontiki.v1.Admin/Inspect"
    StopServer "kontiki.v1.Admin/StopServer"
}

impl Method {
    pub(super) fn is_write(self) -> bool {
        use Method::{Delete, Put, Write, WriteStream};
        matches!(self, Write | WriteStream | Put | Delete)
    }
}

/// Why a message to or from a peer was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// From another cluster.
    WrongCluster,
    /// From a server of the cluster that began it with other initial voters.
    WrongOrigin,
    /// For another incarnation.
    WrongServer,
    /// Does not decode.
    Malformed,
    /// Its sender is not who said hello.
    WrongSender,
    /// An answer, and the stream that its request came by has ended.
    NoStream,
    /// The queue to the peer is full.
    OutboxFull,
    /// Entries for a quarantined server that holds as many as it may.
    Quarantined,
    /// Entries for a server whose machine is as far behind as it may be.
    Backlog,
}

pub(super) const DROPPED: [(Dropped, &str); 9] = [
    (Dropped::WrongCluster, "wrong_cluster"),
    (Dropped::WrongOrigin, "wrong_origin"),
    (Dropped::WrongServer, "wrong_server"),
    (Dropped::Malformed, "malformed"),
    (Dropped::WrongSender, "wrong_sender"),
    (Dropped::NoStream, "no_stream"),
    (Dropped::OutboxFull, "outbox_full"),
    (Dropped::Quarantined, "quarantined"),
    (Dropped::Backlog, "backlog"),
];

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident $label:literal)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$each])* $variant),* }

        impl $name {
            pub(super) const ALL: &[Self] = &[$(Self::$variant),*];

            /// As a label.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $label),* }
            }
        }
    };
}

labels! {
    /// Who something was refused by.
    Face {
        /// Data, Kv, and what else shares their port.
        Client "client"
        /// Admin, and what else shares its port.
        Admin "admin"
        /// The streams between servers.
        Peer "peer"
        /// Metrics and probes.
        Http "http"
    }
}

labels! {
    /// Why something was refused at the door.
    Reason {
        /// Neither HTTP/2 nor near it.
        NotHttp2 "not_http2"
        /// Connected, and did not begin to speak; dialled, and did not say hello; asked with no time
        /// left.
        Late "late"
        /// No more connections, streams or requests are taken.
        TooMany "too_many"
        /// A message, or a field.
        TooLarge "too_large"
        /// Bytes that are no message, and messages that make no sense.
        Malformed "malformed"
        /// A field out of its bounds.
        Invalid "invalid"
        /// There is no such method.
        UnknownMethod "unknown_method"
        /// `Kv`, of another machine.
        WrongMachine "wrong_machine"
        /// For another cluster.
        WrongCluster "wrong_cluster"
        /// For another incarnation.
        WrongServer "wrong_server"
        /// In another's name.
        WrongSender "wrong_sender"
        /// A command of a session that is over, or that was acknowledged.
        Repeated "repeated"
    }
}

pub(super) const ROLES: [(Role, &str); 6] = [
    (Role::Joiner, "joiner"),
    (Role::Learner, "learner"),
    (Role::Follower, "follower"),
    (Role::PreCandidate, "pre_candidate"),
    (Role::Candidate, "candidate"),
    (Role::Leader, "leader"),
];

/// Stages of a write, by the name of the gap that ends with them.
pub(super) const STAGES: [(Stage, &str); 6] = [
    (Stage::Proposed, "proposed"),
    (Stage::Appended, "appended"),
    (Stage::Persisted, "persisted"),
    (Stage::Committed, "committed"),
    (Stage::Applied, "applied"),
    (Stage::Replied, "replied"),
];

/// What became of an effect of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effected {
    /// It was run.
    Done,
    /// It was run, and answered an error.
    Failed,
    /// Too many waited.
    Dropped,
}

pub(super) const EFFECTED: [(Effected, &str); 3] = [
    (Effected::Done, "done"),
    (Effected::Failed, "failed"),
    (Effected::Dropped, "dropped"),
];

pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
