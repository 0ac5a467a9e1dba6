//! The `kv` machine: an ordered map of byte strings with revisions.
//!
//! The *revision* of the store is the number of puts and deletes applied to it, a delete of a
//! missing key among them; a command that names another revision than the key's is not applied. Every
//! record remembers the revision that created its key and the one that wrote it last.

mod codec;
mod key;
mod snapshot;

use std::io::Read;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;

pub use codec::{
    KEY_BYTES_MAX, KvCommand, KvQuery, KvRecord, KvReply, PUT_OVERHEAD, RANGE_BYTES_MAX,
    RANGE_KEYS_MAX, condition_overhead,
};
use key::Key;

use super::history::{Change, Recent};
use super::{
    Command, Effects, Growth, History, Place, Refused, RestoreError, Restoring, StateMachine,
    Validator, Version, View,
};
use snapshot::KvRestoring;

/// Bytes of a record before its value: the two revisions.
const HEAD: usize = 16;

/// Bytes that [`Kv::restore`] reads at once.
const RESTORE_BYTES: usize = 64 << 10;

/// Memory that a record takes besides the bytes of a boxed key and of its value: its place in a tree
/// whose leaves are two thirds full, and the counts of its allocation.
const RECORD_OVERHEAD: usize = 80;

/// The map. A short key lies in the tree itself; a value shares one allocation with its revisions,
/// so that a small record costs one allocation in all.
///
/// The tree is persistent: a clone shares all of it, and a write copies only the nodes on its way
/// that are still shared. That is what makes a snapshot O(1), and lets it be written out while
/// writes go on.
#[derive(Clone, Debug, Default)]
pub struct Kv {
    /// create:u64 mod:u64 value.
    records: OrdMap<Key, Arc<[u8]>>,
    revision: u64,
    /// See [`StateMachine::size`].
    size: usize,
    /// Told what changes; no part of the state.
    history: Option<History>,
}

fn revisions(record: &[u8]) -> (u64, u64) {
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&record[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    (number(0), number(8))
}

fn record(create: u64, modified: u64, value: &[u8]) -> Arc<[u8]> {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&create.to_le_bytes());
    head[8..].copy_from_slice(&modified.to_le_bytes());
    // Of exact length, so that it is collected into its one allocation.
    head.iter().chain(value).copied().collect()
}

fn size_of_record(key: &[u8], record: &[u8]) -> usize {
    RECORD_OVERHEAD + Key::boxed_bytes(key) + record.len()
}

impl Kv {
    /// The reply to a command that wants the key at a revision, if it is not: the store, its
    /// revision included, is then left as it is.
    fn mismatch(&self, key: &[u8], if_mod_revision: Option<u64>) -> Option<Vec<u8>> {
        let wanted = if_mod_revision?;
        let record = self.records.get(key);
        let found = record.map(|record| (revisions(record), &record[HEAD..]));
        let modified = found.map_or(0, |((_, modified), _)| modified);
        (modified != wanted).then(|| codec::mismatch_reply(self.revision, found))
    }

    fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        if_mod_revision: Option<u64>,
        recent: Option<&mut Recent>,
    ) -> Vec<u8> {
        if let Some(reply) = self.mismatch(key, if_mod_revision) {
            return reply;
        }
        self.revision += 1;
        let create_revision = match self.records.get_mut(key) {
            Some(old) => {
                let (create, _) = revisions(old);
                match Arc::get_mut(old).filter(|old| old.len() == HEAD + value.len()) {
                    Some(bytes) => {
                        bytes[8..HEAD].copy_from_slice(&self.revision.to_le_bytes());
                        bytes[HEAD..].copy_from_slice(value);
                    }
                    None => {
                        self.size = self.size + HEAD + value.len() - old.len();
                        *old = record(create, self.revision, value);
                    }
                }
                create
            }
            None => {
                let record = record(self.revision, self.revision, value);
                self.size += size_of_record(key, &record);
                self.records.insert(Key::new(key), record);
                self.revision
            }
        };
        if let Some(recent) = recent {
            let change = Change::Put {
                create_revision,
                value,
            };
            recent.push(key, change);
        }
        codec::put_reply(self.revision)
    }

    fn delete(
        &mut self,
        key: &[u8],
        if_mod_revision: Option<u64>,
        recent: Option<&mut Recent>,
    ) -> Vec<u8> {
        if let Some(reply) = self.mismatch(key, if_mod_revision) {
            return reply;
        }
        self.revision += 1;
        let deleted = self.records.remove(key);
        if let Some(record) = &deleted {
            self.size -= size_of_record(key, record);
        }
        match (recent, &deleted) {
            (Some(recent), Some(_)) => recent.push(key, Change::Delete),
            (Some(recent), None) => recent.push_nothing(),
            (None, _) => {}
        }
        KvReply::Delete {
            deleted: deleted.is_some(),
            revision: self.revision,
        }
        .encode()
    }

    fn get(&self, key: &[u8]) -> Vec<u8> {
        let record = self.records.get(key);
        let found = record.map(|record| (revisions(record), &record[HEAD..]));
        codec::get_reply(self.revision, found)
    }

    fn range(&self, start: &[u8], end: &[u8], limit: u32) -> Vec<u8> {
        if !end.is_empty() && end <= start {
            return codec::range_head(self.revision, b"");
        }
        let limit = match limit {
            0 => RANGE_KEYS_MAX,
            limit => limit.min(RANGE_KEYS_MAX),
        };
        let upper = match end {
            [] => Bound::Unbounded,
            end => Bound::Excluded(end),
        };
        let (mut count, mut bytes, mut next) = (0, 0, &b""[..]);
        let mut body = Vec::new();
        for (key, record) in self
            .records
            .range::<_, [u8]>((Bound::Included(start), upper))
        {
            let key = key.as_bytes();
            let size = key.len() + record.len() - HEAD;
            if count == limit || (count > 0 && bytes + size > RANGE_BYTES_MAX) {
                next = key;
                break;
            }
            count += 1;
            bytes += size;
            codec::put_record(&mut body, key, revisions(record), &record[HEAD..]);
        }
        let mut reply = codec::range_head(self.revision, next);
        reply.extend_from_slice(&body);
        reply
    }
}

fn validate(command: &[u8]) -> Result<(), Refused> {
    match KvCommand::decode(command) {
        Some(_) => Ok(()),
        None => Err(Refused(
            "not a command of the kv machine: use kontiki.kv.v1.Kv, or encode a put or delete \
             with a key of 1 to 4096 bytes"
                .into(),
        )),
    }
}

impl StateMachine for Kv {
    fn name(&self) -> &'static str {
        "kv"
    }

    fn place(&self) -> Place {
        Place::Inline
    }

    fn validator(&self) -> Validator {
        Arc::new(|_, command| validate(command))
    }

    fn observe(&mut self, history: History) {
        history.write().begin(self.revision);
        self.history = Some(history);
    }

    /// Every put grows the store, though it may replace a larger value: that is not told from its bytes.
    fn growth(&self) -> Growth {
        Arc::new(|_, command| !matches!(KvCommand::decode(command), Some(KvCommand::Delete { .. })))
    }

    fn apply(&mut self, _: Version, batch: &[Command<'_>], _: &mut Effects) -> Vec<Vec<u8>> {
        let history = self.history.clone();
        let mut recent = history.as_ref().map(History::write);
        let mut replies = Vec::with_capacity(batch.len());
        for command in batch {
            replies.push(match KvCommand::decode(command.bytes) {
                Some(KvCommand::Put {
                    key,
                    value,
                    if_mod_revision,
                }) => self.put(key, value, if_mod_revision, recent.as_deref_mut()),
                Some(KvCommand::Delete {
                    key,
                    if_mod_revision,
                }) => self.delete(key, if_mod_revision, recent.as_deref_mut()),
                None => KvReply::Unknown("not a command of the kv machine".into()).encode(),
            });
        }
        replies
    }

    fn read(&self, query: &[u8]) -> Result<Vec<u8>, Refused> {
        match KvQuery::decode(query) {
            Some(KvQuery::Get { key }) => Ok(self.get(key)),
            Some(KvQuery::Range { start, end, limit }) => Ok(self.range(start, end, limit)),
            None => Err(Refused(
                "not a query of the kv machine: use kontiki.kv.v1.Kv".into(),
            )),
        }
    }

    fn snapshot(&self) -> Box<dyn View> {
        Box::new(snapshot::KvView::new(self.clone()))
    }

    fn restore(&mut self, _: Version, reader: &mut dyn Read) -> Result<(), RestoreError> {
        let mut restoring = KvRestoring::new(self.history.clone());
        let mut piece = vec![0; RESTORE_BYTES];
        loop {
            match reader.read(&mut piece)? {
                0 => break,
                read => restoring.take(&piece[..read])?,
            }
        }
        *self = restoring.into_kv()?;
        Ok(())
    }

    fn restoring(&self, _: Version) -> Option<Box<dyn Restoring>> {
        Some(Box::new(KvRestoring::new(self.history.clone())))
    }

    fn size(&self) -> usize {
        self.size
    }
}

#[cfg(test)]
mod tests;
