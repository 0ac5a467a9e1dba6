//! What is seen: objects, nodes, and what each server says of itself.
//!
//! A server that did not answer is *unknown*, never absent. A node without an instance was looked
//! for and is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::identity::{Identity, IdentityCopy};
use crate::ids::{ClusterId, NodeName, ServerId};

/// Everything the planner may look at. Ages are relative to the moment of the look.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// What the identity object says.
    pub identity: Identity,
    /// What other places say.
    pub identity_copies: Vec<IdentityCopy>,
    /// `replicas` of the StatefulSet as it stands; `None` if there is no StatefulSet.
    pub servers_desired: Option<u32>,
    /// Objects that are missing or not as they should be, for people ("Service demo-peers:
    /// missing"). The StatefulSet's `replicas` is never among them.
    pub drift: Vec<String>,
    /// Every ordinal below `servers_desired`, and any other node that exists; by ordinal.
    pub nodes: Vec<Node>,
    /// A random id for the case that one is to be drawn.
    pub drawn_cluster: ClusterId,
    /// How long servers have been wanted without an identity: since the StatefulSet was created, or
    /// the last identity was discarded.
    pub waited_for_servers: Duration,
    /// How long no server has been seen to lead; zero if one does. A quarantined one does not.
    pub leaderless_for: Duration,
    /// Revision that an instance has if it is made now; `None`: this world has none.
    pub revision: Option<String>,
}

/// One ordinal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 0 to 8, more while a surge is on.
    pub ordinal: u32,
    /// Its name.
    pub name: NodeName,
    /// What runs there; `None`: looked for, nothing is there.
    pub instance: Option<Instance>,
}

/// A pod, or a process of the local world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Names this pod for ever: every delete carries it.
    pub uid: String,
    /// It has a deletion timestamp, or its Kubernetes node is going.
    pub going: bool,
    /// Revision of the template it was made from.
    pub revision: String,
    /// HOST:PORT of Peer and Admin, as others are to know it: `Introduce` pushes it to every server
    /// whose [`ServerView::servers`] has another.
    pub peer_address: String,
    /// HOST:PORT of Data.
    pub client_address: String,
    /// Why it does not start, if the world knows: an image that cannot be pulled, no room.
    pub trouble: Option<String>,
    /// Whether Kubernetes calls the pod ready.
    pub ready: bool,
    /// What its server said.
    pub observation: Observation,
}

/// What asking a server for its status brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// No answer. It may live.
    Unknown {
        /// Why, for people.
        reason: String,
        /// For how long it has not answered.
        lasting: Duration,
    },
    /// It answered.
    Seen(Box<ServerView>),
}

/// What a server said of itself (`kontiki.v1.Admin/Status`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// Which incarnation answered.
    pub server: ServerId,
    /// Its cluster; `None`: fresh, waiting to be bootstrapped or added.
    pub cluster: Option<ClusterId>,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// The leader it knows.
    pub leader: Option<ServerId>,
    /// The last entry of its log.
    pub last: LogId,
    /// Its commit index.
    pub commit: u64,
    /// Its applied index.
    pub applied: u64,
    /// The configuration in force there.
    pub configuration: Configuration,
    /// Client writes are accepted.
    pub activated: bool,
    /// An activated voter that has caught up once since it started.
    pub ready: bool,
    /// Leader only: a quorum was heard from within an election timeout.
    pub serving: bool,
    /// Leader only: an entry of its term is committed, so that changes are possible.
    pub term_committed: bool,
    /// Leader only: a transfer of leadership is under way.
    pub transferring: bool,
    /// Leader only: what it knows of the others.
    pub progress: BTreeMap<ServerId, Progress>,
    /// Where the servers of the configuration are, as far as this one knows.
    pub servers: Vec<Server>,
    /// Version of Kontiki that its program was built with.
    pub version: String,
    /// Name of its state machine; empty: it does not say.
    pub machine: String,
    /// Version of the machine that is in force there; `None`: it knows of none.
    pub machine_version: Option<u32>,
    /// Versions that its machine supports; `None`: it does not say.
    pub machine_versions: Option<Versions>,
    /// Why it has stopped applying, campaigning and serving, if it has: it keeps its memory and
    /// answers.
    pub quarantine: Option<String>,
    /// What does not fit: of the settings of all members if it leads, otherwise of its own.
    pub settings_warnings: Vec<SettingsWarning>,
}

/// Settings that do not fit together, or do not fit the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsWarning {
    /// Which kind, as the server says it.
    pub reason: String,
    /// Which servers and settings, and what would be right.
    pub message: String,
}

/// Versions of a state machine's logic, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub min: u32,
    /// The newest.
    pub max: u32,
}

impl Versions {
    /// Whether `version` is among them.
    pub fn contains(self, version: u32) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

/// Role of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not yet bootstrapped or added.
    Joiner,
    /// Receives the log, does not count.
    Learner,
    /// Follows.
    Follower,
    /// Asks whether it could win.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Names an entry; ordered as votes compare logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogId {
    /// Term of the leader that created it.
    pub term: u64,
    /// Its position.
    pub index: u64,
}

/// The configuration in force at a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Index of its entry; 0: none.
    pub index: u64,
    /// Whether that entry is committed, as far as the server knows.
    pub committed: bool,
    /// The voters; while joint the incoming ones.
    pub voters: BTreeSet<ServerId>,
    /// The old voters while a joint change is in flight.
    pub outgoing: Option<BTreeSet<ServerId>>,
    /// Who receives the log without counting, and why.
    pub learners: BTreeMap<ServerId, Purpose>,
}

/// Why a learner is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It stays a learner.
    Stay,
    /// It becomes a voter once it has caught up.
    Join,
    /// It takes the place of this voter once it has caught up.
    Replace(ServerId),
}

/// What a leader knows of another server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Highest index known to be replicated there.
    pub matched: u64,
    /// How long since it last acknowledged anything; `None`: never.
    pub heard_ago: Option<Duration>,
    /// Whether its connection is up.
    pub reachable: bool,
    /// A learner that did not catch up in its rounds, and is tried again after a pause.
    pub stalled: bool,
}

/// A server and where it can be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// Which incarnation.
    pub id: ServerId,
    /// Its node.
    pub node: NodeName,
    /// HOST:PORT of Peer and Admin.
    pub peer_address: String,
    /// HOST:PORT of Data.
    pub client_address: String,
}
