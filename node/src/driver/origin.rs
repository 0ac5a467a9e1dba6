//! Which initial voters this server's cluster began with.
//!
//! The first entry of a log, the configuration of the initial voters, is made by each of them from the
//! list that it was told. Log matching goes by index and term, so it never notices that two of them were
//! told different lists. Therefore every message says a hash of the list, and servers that know different
//! ones take nothing from each other.

use kontiki_raft::ServerId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// Hash of the initial voters: told to this server, or learnt from the first that spoke to it. 0: not
    /// known. Invariant: never changes once it is known.
    hash: u64,
    /// The last server of the same cluster that said another one.
    conflict: Option<ServerId>,
}

impl Origin {
    /// What messages say.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last server that began otherwise.
    pub(super) fn conflict(&self) -> Option<ServerId> {
        self.conflict
    }

    /// This server is told that its cluster began with these voters, in order. `false`: it knows otherwise.
    pub(super) fn is_told(&mut self, voters: &[ServerId]) -> bool {
        let hash = hash_of(voters);
        if self.hash == 0 {
            self.hash = hash;
        }
        self.hash == hash
    }

    /// Another server says with which voters its cluster began. `false`: it began otherwise.
    pub(super) fn agrees(&mut self, from: ServerId, said: u64) -> bool {
        let agrees = said == 0 || self.hash == 0 || self.hash == said;
        if !agrees {
            self.conflict = Some(from);
        }
        agrees
    }

    /// A message was taken: whoever did not know how the cluster began knows it now.
    pub(super) fn learn(&mut self, said: u64) {
        if self.hash == 0 {
            self.hash = said;
        }
    }
}

/// FNV-1a; never 0. It tells mistakes apart, and is no protection against forgery.
fn hash_of(voters: &[ServerId]) -> u64 {
    let bytes = voters.iter().flat_map(|voter| voter.0.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(1)
}
