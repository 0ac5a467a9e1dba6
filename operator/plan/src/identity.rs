//! The identity of a cluster: what is recorded, where, and whether all places agree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, NodeName, ServerId};

/// What the identity object says (`ConfigMap` NAME-identity, or the local world's file).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Read, and there is none.
    Absent,
    /// It could not be read or parsed: nothing may be drawn.
    Unreadable {
        /// Which object or file.
        place: String,
        /// What went wrong.
        reason: String,
    },
    /// Read.
    Recorded {
        /// What it says.
        record: IdentityRecord,
        /// Names this version of the object (`resourceVersion`): a write carries it.
        version: String,
    },
    /// An identity was given up; the next one is not drawn yet.
    Discarded {
        /// What was given up.
        discarded: Discarded,
        /// Names this version of the object.
        version: String,
    },
}

/// The identity: written before the first `Bootstrap` is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRecord {
    /// The cluster.
    pub cluster: ClusterId,
    /// The initial voters by node name. History once `initialized`.
    pub voters: BTreeMap<NodeName, ServerId>,
    /// Set before `Activate` is sent: from then on data may be there to be lost.
    pub initialized: bool,
    /// The identity that was discarded before this one. A server or copy that still holds it is
    /// stale, and no disagreement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ClusterId>,
    /// An initialized cluster that `StartEmpty` gave up before this one: a lasting condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<ClusterId>,
}

/// An identity that is not in force any more. Servers that still hold it are restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// The cluster given up.
    pub previous: ClusterId,
    /// As [`IdentityRecord::lost`]: the last cluster given up that held data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<ClusterId>,
}

/// The identity as another place holds it (an annotation of the StatefulSet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityCopy {
    /// Which place, for people.
    pub place: String,
    /// The cluster it names.
    pub cluster: ClusterId,
    /// Whether it says initialized.
    pub initialized: bool,
}
