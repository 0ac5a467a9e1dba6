//! What a write with a condition compares.

use kontiki_proto::kv::GetResponse;

/// A revision of a key, and the cluster that it is of. After a total loss another cluster may have the same
/// key at the same revision, so a write with a condition should name the cluster in which the key was read:
/// a `&GetResponse` is such a revision. A bare number stands for whichever cluster is there when the
/// write is begun.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revision {
    /// The `mod_revision` of the key; 0: it is not there.
    pub revision: u64,
    /// As an answer said it; empty: not known.
    pub cluster_id: String,
}

impl From<u64> for Revision {
    fn from(revision: u64) -> Self {
        Self {
            revision,
            cluster_id: String::new(),
        }
    }
}

/// Of the key as it was found, or was not.
impl From<&GetResponse> for Revision {
    fn from(got: &GetResponse) -> Self {
        Self {
            revision: got.kv.as_ref().map_or(0, |kv| kv.mod_revision),
            cluster_id: got.cluster_id.clone(),
        }
    }
}
