//! What can be done: domain verbs with exact ids. Every one is idempotent.

use crate::identity::{Discarded, IdentityRecord};
use crate::ids::{ClusterId, NodeName, ServerId};
use crate::inventory::Server;

/// One thing to do. `via` and `to` name the server that the call is for: another incarnation at
/// that address refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the objects beside the StatefulSet's `replicas` what they should be.
    EnsureObjects {
        /// What was found different, for people.
        drift: Vec<String>,
    },
    /// Have at least this many nodes: create the StatefulSet, or raise its `replicas`. Never lowers.
    EnsureServers {
        /// How many.
        count: u32,
    },
    /// Have exactly this many nodes: lower the StatefulSet's `replicas`. The servers above are out
    /// of the committed configuration.
    ShrinkServers {
        /// How many.
        count: u32,
    },
    /// Write the identity, in the object first and then in the copies.
    RecordIdentity {
        /// What to write.
        record: IdentityRecord,
        /// Version of the object that it replaces; `None`: there must be none.
        expects: Option<String>,
    },
    /// Set `initialized` in the identity.
    RecordInitialized {
        /// Of which cluster.
        cluster: ClusterId,
        /// Version of the object that is changed.
        expects: String,
    },
    /// Give the identity up; the next one is drawn once every server is fresh.
    DrawIdentityAnew {
        /// What to write in its place.
        discarded: Discarded,
        /// Version of the object that is changed.
        expects: String,
    },
    /// Give a fresh server its cluster and initial configuration.
    Bootstrap {
        /// The fresh server.
        to: Server,
        /// The cluster.
        cluster: ClusterId,
        /// All initial voters, by id.
        voters: Vec<Server>,
    },
    /// Open the cluster for client writes.
    Activate {
        /// The leader.
        via: Server,
        /// The cluster.
        cluster: ClusterId,
    },
    /// Tell a server where others are.
    Introduce {
        /// Whom to tell.
        to: Server,
        /// The cluster.
        cluster: ClusterId,
        /// Where they are.
        servers: Vec<Server>,
    },
    /// Add learners that the leader promotes together (`no_wait`).
    Add {
        /// The leader.
        via: Server,
        /// The cluster.
        cluster: ClusterId,
        /// The fresh servers.
        servers: Vec<Server>,
        /// Dead learners that the same change takes out.
        supersedes: Vec<ServerId>,
        /// The configuration that was seen.
        configuration_index: u64,
    },
    /// Add a learner that takes the place of a lost voter (`no_wait`).
    Replace {
        /// The leader.
        via: Server,
        /// The cluster.
        cluster: ClusterId,
        /// The lost voter.
        lost: ServerId,
        /// The fresh server.
        new: Server,
        /// Dead learners that the same change takes out.
        supersedes: Vec<ServerId>,
        /// The configuration that was seen.
        configuration_index: u64,
    },
    /// Take voters or learners out.
    Remove {
        /// The leader.
        via: Server,
        /// The cluster.
        cluster: ClusterId,
        /// Who leaves.
        servers: Vec<ServerId>,
        /// The configuration that was seen.
        configuration_index: u64,
    },
    /// Hand leadership over.
    Transfer {
        /// The leader.
        via: Server,
        /// The cluster.
        cluster: ClusterId,
        /// Who takes over.
        target: Server,
    },
    /// Have a server campaign at once.
    TriggerElection {
        /// Which.
        on: Server,
        /// The cluster.
        cluster: ClusterId,
    },
    /// Have a server stop for good, its memory kept: its cluster has lost its quorum. One that knows a
    /// leader refuses.
    Quarantine {
        /// Which.
        on: Server,
        /// The cluster.
        cluster: ClusterId,
        /// Why, for people.
        why: String,
    },
    /// Delete this pod (end this process) so that a fresh server takes its place. What its server
    /// holds is of no use: it is out of the committed configuration, or of a discarded identity.
    Restart {
        /// The node.
        node: NodeName,
        /// Only the pod with this uid.
        uid: String,
        /// Only while this server answers there.
        server: ServerId,
    },
}
