//! Digests: what finds out that the replicas of a machine are not the same any more.
//!
//! Two things go into one. A hash that rolls over every applied entry and every reply, kept as they
//! are applied, shows a machine that is not deterministic. A hash of the state itself, as a
//! [`View`] taken at a checkpoint writes it, shows memory that changed; it is computed afterwards,
//! piece by piece.

use std::collections::VecDeque;

use kontiki_raft::{Index, LogId};

use crate::machine::View;

/// Digests of the past that are kept, to be judged.
const DIGESTS_MAX: usize = 8;
/// Verdicts about a digest that is not computed yet.
const VERDICTS_MAX: usize = 8;

/// What a server found at a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The checkpoint.
    pub index: Index,
    /// CRC-32C of entries and replies through it, and in the lower half that of the state at it.
    pub value: u64,
}

/// A hash over applied entries and replies: CRC-32C. The same on every server, so it belongs into
/// snapshots: a server that restores one goes on from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rolling(u32);

impl Rolling {
    /// An entry was applied.
    pub fn entry(&mut self, id: LogId) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&id.term.0.to_le_bytes());
        bytes[8..].copy_from_slice(&id.index.0.to_le_bytes());
        self.0 = crc32c::crc32c_append(self.0, &bytes);
    }

    /// And answered so.
    pub fn reply(&mut self, reply: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, reply);
    }

    /// And answered with what an earlier entry was.
    pub fn repeated(&mut self, reply: &[u8]) {
        self.reply(b"again");
        self.reply(reply);
    }

    /// And refused. Why is a text, which another program may put another way.
    pub fn refused(&mut self) {
        self.reply(b"refused");
    }

    /// Its four bytes, for a snapshot.
    pub fn encode(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }

    /// Reads them back.
    pub fn decode(bytes: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(bytes))
    }
}

/// The digests of one server.
#[derive(Default)]
pub(super) struct Digests {
    pub(super) rolling: Rolling,
    /// The checkpoint that is being hashed.
    hashing: Option<Hashing>,
    /// The last one that came meanwhile. Those between are left out: without a digest of it, a server
    /// is not judged by a checkpoint.
    queued: Option<Hashing>,
    /// Oldest first.
    known: VecDeque<Digest>,
    /// About what is not known yet.
    verdicts: VecDeque<Digest>,
    piece: Vec<u8>,
}

struct Hashing {
    index: Index,
    rolling: Rolling,
    state: u32,
    view: Box<dyn View>,
}

/// This server's digest contradicts a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Differs {
    pub(super) mine: Digest,
    pub(super) theirs: u64,
}

impl Digests {
    /// Of a server that goes on from a snapshot.
    pub(super) fn after(rolling: Rolling) -> Self {
        Self {
            rolling,
            ..Self::default()
        }
    }

    pub(super) fn is_hashing(&self) -> bool {
        self.hashing.is_some()
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<Digest> {
        self.known.back().copied()
    }

    /// A checkpoint was applied; `view` is the state at it.
    pub(super) fn begin(&mut self, index: Index, view: impl FnOnce() -> Box<dyn View>) {
        let hashing = Some(Hashing {
            index,
            rolling: self.rolling,
            state: 0,
            view: view(),
        });
        match self.hashing.is_none() {
            true => self.hashing = hashing,
            false => self.queued = hashing,
        }
    }

    /// Hashes about `bytes_max` more of the state.
    pub(super) fn go_on(&mut self, bytes_max: usize) -> Result<(), Differs> {
        let Some(hashing) = &mut self.hashing else {
            return Ok(());
        };
        self.piece.clear();
        let has_more = hashing.view.write(&mut self.piece, bytes_max);
        hashing.state = crc32c::crc32c_append(hashing.state, &self.piece);
        if has_more {
            return Ok(());
        }
        let digest = Digest {
            index: hashing.index,
            value: u64::from(hashing.rolling.0) << 32 | u64::from(hashing.state),
        };
        self.hashing = self.queued.take();
        self.piece = Vec::new();
        if self.known.len() == DIGESTS_MAX {
            self.known.pop_front();
        }
        self.known.push_back(digest);
        let verdicts = std::mem::take(&mut self.verdicts);
        // One about what is queued goes back to wait.
        verdicts
            .into_iter()
            .try_for_each(|verdict| self.judge(verdict))
    }

    /// A verdict was applied. A server without a digest of that checkpoint is not concerned.
    pub(super) fn judge(&mut self, verdict: Digest) -> Result<(), Differs> {
        let mut hashing = self.hashing.iter().chain(&self.queued);
        if hashing.any(|hashing| hashing.index == verdict.index) {
            if self.verdicts.len() == VERDICTS_MAX {
                self.verdicts.pop_front();
            }
            self.verdicts.push_back(verdict);
            return Ok(());
        }
        let mut known = self.known.iter().copied();
        match known.find(|digest| digest.index == verdict.index) {
            Some(mine) if mine.value != verdict.value => Err(Differs {
                mine,
                theirs: verdict.value,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::BytesView;

    fn hashed(state: &[u8], index: u64, bytes_max: usize) -> Digests {
        let mut digests = Digests::default();
        let view = BytesView::new(state.to_vec());
        digests.begin(Index(index), || Box::new(view));
        while digests.is_hashing() {
            digests.go_on(bytes_max).expect("no verdict");
        }
        digests
    }

    #[test]
    fn a_digest_depends_on_the_state_and_not_on_its_pieces() {
        let state: Vec<u8> = (0..100).collect();
        let whole = hashed(&state, 5, 1000).last();
        for piece in [1, 7, 99, 100] {
            assert_eq!(hashed(&state, 5, piece).last(), whole);
        }
        for at in 0..state.len() {
            let mut changed = state.clone();
            changed[at] ^= 1;
            assert_ne!(hashed(&changed, 5, 1000).last(), whole, "byte {at}");
        }
    }

    #[test]
    fn a_digest_depends_on_every_reply_and_survives_a_snapshot() {
        let id = |index| LogId {
            term: kontiki_raft::Term(1),
            index: Index(index),
        };
        let rolled = |replies: &[&[u8]]| {
            let mut rolling = Rolling::default();
            for (at, reply) in replies.iter().enumerate() {
                rolling.entry(id(at as u64));
                rolling.reply(reply);
                rolling = Rolling::decode(rolling.encode());
            }
            rolling
        };
        assert_ne!(rolled(&[b"a", b"b"]), rolled(&[b"a", b"c"]));
        assert_ne!(rolled(&[b"a", b"b"]), rolled(&[b"b", b"a"]));
        assert_ne!(rolled(&[b"ab", b""]), rolled(&[b"a", b"b"]));
        assert_eq!(rolled(&[b"a", b"b"]), rolled(&[b"a", b"b"]));
    }

    #[test]
    fn of_checkpoints_that_come_while_one_is_hashed_the_last_is_next() {
        let mut digests = Digests::default();
        for index in 1..=3 {
            let view = BytesView::new(vec![index as u8; 10]);
            digests.begin(Index(index), || Box::new(view));
        }
        let third = hashed(&[3; 10], 3, 1000).last().expect("hashed");
        let wrong = Digest {
            value: third.value ^ 1,
            ..third
        };
        assert_eq!(digests.judge(wrong), Ok(()), "not known yet");
        digests.go_on(1000).expect("the verdict is about another");
        assert_eq!(digests.last().map(|digest| digest.index), Some(Index(1)));
        assert!(digests.go_on(1000).is_err());
        assert_eq!(digests.last(), Some(third));
    }

    #[test]
    fn only_who_has_another_digest_of_that_checkpoint_is_contradicted() {
        let mut digests = hashed(b"state", 5, 1000);
        let mine = digests.last().expect("hashed");
        let verdict = |index, value| Digest {
            index: Index(index),
            value,
        };
        assert_eq!(digests.judge(mine), Ok(()));
        assert_eq!(digests.judge(verdict(4, 1)), Ok(()));
        let differs = Differs { mine, theirs: 1 };
        assert_eq!(digests.judge(verdict(5, 1)), Err(differs));
        // A verdict that comes before the digest waits for it.
        let mut slow = Digests::default();
        let view = BytesView::new(b"state".to_vec());
        slow.begin(Index(5), || Box::new(view));
        assert_eq!(slow.judge(verdict(5, 1)), Ok(()));
        assert_eq!(slow.go_on(1000), Err(differs));
    }
}
