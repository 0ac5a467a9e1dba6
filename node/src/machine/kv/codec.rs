//! Commands, queries and replies of the `kv` machine as bytes. All numbers are little-endian.
//!
//! ```text
//! command  put      1  key_length:u16  key  value
//!          delete   2  key
//!          put      3  if_mod_revision:u64  key_length:u16  key  value
//!          delete   4  if_mod_revision:u64  key
//! query    get      1  key
//!          range    2  limit:u32  start_length:u16  start  end
//! reply    put      1  revision:u64
//!          delete   2  deleted:u8  revision:u64
//!          get      3  found:u8  revision:u64  [create:u64  mod:u64  value]
//!          range    4  revision:u64  next_length:u16  next
//!                      { key_length:u16  key  create:u64  mod:u64  value_length:u32  value }*
//!          mismatch 5  found:u8  revision:u64  [create:u64  mod:u64  value]
//!          unknown  255  text: the command does not decode; nothing was changed
//! ```

use bytes::{Buf, BufMut, Bytes};

/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 4096;
/// Bytes that a put adds to its key and value.
pub const PUT_OVERHEAD: usize = 3;
/// Keys of one page of a range.
pub const RANGE_KEYS_MAX: u32 = 10_000;
/// Bytes of keys and values of one page of a range; a single larger record is a page by itself.
pub const RANGE_BYTES_MAX: usize = 1 << 20;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const PUT_IF: u8 = 3;
const DELETE_IF: u8 = 4;
const GET: u8 = 1;
const RANGE: u8 = 2;
const REPLY_PUT: u8 = 1;
const REPLY_DELETE: u8 = 2;
const REPLY_GET: u8 = 3;
const REPLY_RANGE: u8 = 4;
const REPLY_MISMATCH: u8 = 5;
const REPLY_UNKNOWN: u8 = 255;

/// A write, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvCommand<'a> {
    /// Store `value` under `key`.
    Put {
        /// 1 to 4096 bytes.
        key: &'a [u8],
        /// Any bytes.
        value: &'a [u8],
        /// Only if the key was last written at this revision; 0: only if it is not there.
        if_mod_revision: Option<u64>,
    },
    /// Remove `key`.
    Delete {
        /// 1 to 4096 bytes.
        key: &'a [u8],
        /// As for a put.
        if_mod_revision: Option<u64>,
    },
}

/// A read, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvQuery<'a> {
    /// One key.
    Get {
        /// 1 to 4096 bytes.
        key: &'a [u8],
    },
    /// A page of keys in order.
    Range {
        /// First key; empty: from the beginning.
        start: &'a [u8],
        /// First key after it; empty: to the end.
        end: &'a [u8],
        /// At most so many; 0: [`RANGE_KEYS_MAX`].
        limit: u32,
    },
}

/// A key with what is stored under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvRecord {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// Revision of the write that created the key.
    pub create_revision: u64,
    /// Revision of the last write to it.
    pub mod_revision: u64,
}

/// What the machine answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvReply {
    /// To a put.
    Put {
        /// Of the store after it.
        revision: u64,
    },
    /// To a delete.
    Delete {
        /// Whether the key was there.
        deleted: bool,
        /// Of the store after it.
        revision: u64,
    },
    /// To a put or delete that names another revision than the key's: nothing was changed.
    Mismatch {
        /// Of the store.
        revision: u64,
        /// The key's; `None`: no such key. Its own key is left empty, the caller knows it.
        record: Option<KvRecord>,
    },
    /// To a get; the record's key is left empty, the caller knows it.
    Get {
        /// Of the store.
        revision: u64,
        /// `None`: no such key.
        record: Option<KvRecord>,
    },
    /// To a range.
    Range {
        /// Of the store.
        revision: u64,
        /// Where the next page starts; empty: there is none.
        next: Bytes,
        /// In order of their keys.
        records: Vec<KvRecord>,
    },
    /// The command did not decode; nothing was changed.
    Unknown(String),
}

fn bounded(key: &[u8]) -> Option<&[u8]> {
    (1..=KEY_BYTES_MAX).contains(&key.len()).then_some(key)
}

impl<'a> KvCommand<'a> {
    /// Encodes into a fresh allocation, so that nothing aliases the buffer it came from.
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        match *self {
            Self::Put {
                key,
                value,
                if_mod_revision,
            } => {
                let overhead = PUT_OVERHEAD + condition_overhead(if_mod_revision);
                bytes.reserve_exact(overhead + key.len() + value.len());
                put_kind(&mut bytes, (PUT, PUT_IF), if_mod_revision);
                bytes.put_u16_le(key.len() as u16);
                bytes.put_slice(key);
                bytes.put_slice(value);
            }
            Self::Delete {
                key,
                if_mod_revision,
            } => {
                bytes.reserve_exact(1 + condition_overhead(if_mod_revision) + key.len());
                put_kind(&mut bytes, (DELETE, DELETE_IF), if_mod_revision);
                bytes.put_slice(key);
            }
        }
        bytes.into()
    }

    /// Decodes; `None` if the bytes are no command, or the key is out of its bounds.
    pub fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        let kind = bytes.try_get_u8().ok()?;
        let if_mod_revision = match kind {
            PUT_IF | DELETE_IF => Some(bytes.try_get_u64_le().ok()?),
            _ => None,
        };
        match kind {
            PUT | PUT_IF => {
                let length = bytes.try_get_u16_le().ok()?;
                let (key, value) = bytes.split_at_checked(length.into())?;
                Some(Self::Put {
                    key: bounded(key)?,
                    value,
                    if_mod_revision,
                })
            }
            DELETE | DELETE_IF => Some(Self::Delete {
                key: bounded(bytes)?,
                if_mod_revision,
            }),
            _ => None,
        }
    }
}

/// Bytes that a revision adds, if a command names one.
pub fn condition_overhead(if_mod_revision: Option<u64>) -> usize {
    if_mod_revision.map_or(0, |_| size_of::<u64>())
}

/// The kind of a command, of (without, with) a revision, and the revision.
fn put_kind(bytes: &mut Vec<u8>, kinds: (u8, u8), if_mod_revision: Option<u64>) {
    match if_mod_revision {
        None => bytes.put_u8(kinds.0),
        Some(revision) => {
            bytes.put_u8(kinds.1);
            bytes.put_u64_le(revision);
        }
    }
}

impl<'a> KvQuery<'a> {
    /// Encodes into a fresh allocation.
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        match *self {
            Self::Get { key } => {
                bytes.reserve_exact(1 + key.len());
                bytes.put_u8(GET);
                bytes.put_slice(key);
            }
            Self::Range { start, end, limit } => {
                bytes.reserve_exact(7 + start.len() + end.len());
                bytes.put_u8(RANGE);
                bytes.put_u32_le(limit);
                bytes.put_u16_le(start.len() as u16);
                bytes.put_slice(start);
                bytes.put_slice(end);
            }
        }
        bytes.into()
    }

    /// Decodes; `None` if the bytes are no query, or a key is out of its bounds.
    pub fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        match bytes.try_get_u8().ok()? {
            GET => bounded(bytes).map(|key| Self::Get { key }),
            RANGE => {
                let limit = bytes.try_get_u32_le().ok()?;
                let length = bytes.try_get_u16_le().ok()?;
                let (start, end) = bytes.split_at_checked(length.into())?;
                (start.len() <= KEY_BYTES_MAX && end.len() <= KEY_BYTES_MAX)
                    .then_some(Self::Range { start, end, limit })
            }
            _ => None,
        }
    }
}

impl KvReply {
    /// Encodes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Put { revision } => bytes = put_reply(*revision),
            Self::Delete { deleted, revision } => {
                bytes.reserve_exact(10);
                bytes.put_u8(REPLY_DELETE);
                bytes.put_u8(u8::from(*deleted));
                bytes.put_u64_le(*revision);
            }
            Self::Mismatch { revision, record } => {
                bytes = mismatch_reply(*revision, record.as_ref().map(KvRecord::found));
            }
            Self::Get { revision, record } => {
                bytes = get_reply(*revision, record.as_ref().map(KvRecord::found));
            }
            Self::Range {
                revision,
                next,
                records,
            } => {
                bytes.put_u8(REPLY_RANGE);
                bytes.put_u64_le(*revision);
                bytes.put_u16_le(next.len() as u16);
                bytes.put_slice(next);
                for record in records {
                    let revisions = (record.create_revision, record.mod_revision);
                    put_record(&mut bytes, &record.key, revisions, &record.value);
                }
            }
            Self::Unknown(text) => {
                bytes.put_u8(REPLY_UNKNOWN);
                bytes.put_slice(text.as_bytes());
            }
        }
        bytes
    }

    /// Decodes without copying; `None` if the bytes are no reply.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        match bytes.try_get_u8().ok()? {
            REPLY_PUT => Some(Self::Put {
                revision: bytes.try_get_u64_le().ok()?,
            }),
            REPLY_DELETE => Some(Self::Delete {
                deleted: bytes.try_get_u8().ok()? == 1,
                revision: bytes.try_get_u64_le().ok()?,
            }),
            REPLY_MISMATCH => {
                let (revision, record) = decode_found(bytes)?;
                Some(Self::Mismatch { revision, record })
            }
            REPLY_GET => {
                let (revision, record) = decode_found(bytes)?;
                Some(Self::Get { revision, record })
            }
            REPLY_RANGE => decode_range(bytes),
            REPLY_UNKNOWN => Some(Self::Unknown(String::from_utf8_lossy(&bytes).into_owned())),
            _ => None,
        }
    }
}

/// The reply to a put, by itself: the hot path.
pub(super) fn put_reply(revision: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9);
    bytes.put_u8(REPLY_PUT);
    bytes.put_u64_le(revision);
    bytes
}

/// What was found under a key, borrowed: ((create, mod), value).
pub(super) type Found<'a> = Option<((u64, u64), &'a [u8])>;

impl KvRecord {
    fn found(&self) -> ((u64, u64), &[u8]) {
        ((self.create_revision, self.mod_revision), &self.value)
    }
}

/// The reply to a get, from borrowed parts.
pub(super) fn get_reply(revision: u64, found: Found<'_>) -> Vec<u8> {
    found_reply(REPLY_GET, revision, found)
}

/// The reply to a command that names another revision than the key's, from borrowed parts.
pub(super) fn mismatch_reply(revision: u64, found: Found<'_>) -> Vec<u8> {
    found_reply(REPLY_MISMATCH, revision, found)
}

fn found_reply(kind: u8, revision: u64, found: Found<'_>) -> Vec<u8> {
    let value_length = found.map_or(0, |(_, value)| 16 + value.len());
    let mut bytes = Vec::with_capacity(10 + value_length);
    bytes.put_u8(kind);
    bytes.put_u8(u8::from(found.is_some()));
    bytes.put_u64_le(revision);
    if let Some(((create, modified), value)) = found {
        bytes.put_u64_le(create);
        bytes.put_u64_le(modified);
        bytes.put_slice(value);
    }
    bytes
}

fn decode_found(mut bytes: Bytes) -> Option<(u64, Option<KvRecord>)> {
    let found = bytes.try_get_u8().ok()? == 1;
    let revision = bytes.try_get_u64_le().ok()?;
    let record = match found {
        false => None,
        true => Some(KvRecord {
            key: Bytes::new(),
            create_revision: bytes.try_get_u64_le().ok()?,
            mod_revision: bytes.try_get_u64_le().ok()?,
            value: bytes,
        }),
    };
    Some((revision, record))
}

/// The head of the reply to a range, from borrowed parts.
pub(super) fn range_head(revision: u64, next: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(11 + next.len());
    bytes.put_u8(REPLY_RANGE);
    bytes.put_u64_le(revision);
    bytes.put_u16_le(next.len() as u16);
    bytes.put_slice(next);
    bytes
}

/// One record of the reply to a range.
pub(super) fn put_record(bytes: &mut Vec<u8>, key: &[u8], revisions: (u64, u64), value: &[u8]) {
    bytes.put_u16_le(key.len() as u16);
    bytes.put_slice(key);
    bytes.put_u64_le(revisions.0);
    bytes.put_u64_le(revisions.1);
    bytes.put_u32_le(value.len() as u32);
    bytes.put_slice(value);
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (bytes.len() >= length).then(|| bytes.split_to(length))
}

fn decode_range(mut bytes: Bytes) -> Option<KvReply> {
    let revision = bytes.try_get_u64_le().ok()?;
    let length = bytes.try_get_u16_le().ok()?;
    let next = take(&mut bytes, length.into())?;
    let mut records = Vec::new();
    while bytes.has_remaining() {
        let length = bytes.try_get_u16_le().ok()?;
        let key = take(&mut bytes, length.into())?;
        let create_revision = bytes.try_get_u64_le().ok()?;
        let mod_revision = bytes.try_get_u64_le().ok()?;
        let length = bytes.try_get_u32_le().ok()?;
        let value = take(&mut bytes, length as usize)?;
        records.push(KvRecord {
            key,
            value,
            create_revision,
            mod_revision,
        });
    }
    Some(KvReply::Range {
        revision,
        next,
        records,
    })
}

#[cfg(test)]
mod tests;
