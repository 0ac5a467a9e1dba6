//! Commands, queries and replies of the `kv` machine as bytes. All numbers are little-endian.
//!
//! ```text
//! command  put      1  key_length:u16  key  value
//!          delete   2  key
//! query    get      1  key
//!          range    2  limit:u32  start_length:u16  start  end
//! reply    put      1  revision:u64
//!          delete   2  deleted:u8  revision:u64
//!          get      3  found:u8  revision:u64  [create:u64  mod:u64  value]
//!          range    4  revision:u64  next_length:u16  next
//!                      { key_length:u16  key  create:u64  mod:u64  value_length:u32  value }*
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
const GET: u8 = 1;
const RANGE: u8 = 2;
const REPLY_PUT: u8 = 1;
const REPLY_DELETE: u8 = 2;
const REPLY_GET: u8 = 3;
const REPLY_RANGE: u8 = 4;
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
    },
    /// Remove `key`.
    Delete {
        /// 1 to 4096 bytes.
        key: &'a [u8],
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
        match *self {
            Self::Put { key, value } => {
                let mut bytes = Vec::with_capacity(PUT_OVERHEAD + key.len() + value.len());
                bytes.put_u8(PUT);
                bytes.put_u16_le(key.len() as u16);
                bytes.put_slice(key);
                bytes.put_slice(value);
                bytes.into()
            }
            Self::Delete { key } => {
                let mut bytes = Vec::with_capacity(1 + key.len());
                bytes.put_u8(DELETE);
                bytes.put_slice(key);
                bytes.into()
            }
        }
    }

    /// Decodes; `None` if the bytes are no command, or the key is out of its bounds.
    pub fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        match bytes.try_get_u8().ok()? {
            PUT => {
                let length = bytes.try_get_u16_le().ok()?;
                let (key, value) = bytes.split_at_checked(length.into())?;
                let key = bounded(key)?;
                Some(Self::Put { key, value })
            }
            DELETE => bounded(bytes).map(|key| Self::Delete { key }),
            _ => None,
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
            Self::Get { revision, record } => {
                let found = record.as_ref().map(|record| {
                    let revisions = (record.create_revision, record.mod_revision);
                    (revisions, &record.value[..])
                });
                bytes = get_reply(*revision, found);
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
            REPLY_GET => {
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

/// The reply to a get, from borrowed parts: ((create, mod), value).
pub(super) fn get_reply(revision: u64, found: Option<((u64, u64), &[u8])>) -> Vec<u8> {
    let value_length = found.map_or(0, |(_, value)| 16 + value.len());
    let mut bytes = Vec::with_capacity(10 + value_length);
    bytes.put_u8(REPLY_GET);
    bytes.put_u8(u8::from(found.is_some()));
    bytes.put_u64_le(revision);
    if let Some(((create, modified), value)) = found {
        bytes.put_u64_le(create);
        bytes.put_u64_le(modified);
        bytes.put_slice(value);
    }
    bytes
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_put_survives_encoding(key in prop::collection::vec(any::<u8>(), 1..64),
                                   value in prop::collection::vec(any::<u8>(), 0..64)) {
            let command = KvCommand::Put { key: &key, value: &value };
            let encoded = command.encode();
            prop_assert_eq!(KvCommand::decode(&encoded), Some(command));
        }

        #[test]
        fn any_bytes_decode_to_something_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            // It must not panic; what it accepts, it writes the same way.
            if let Some(command) = KvCommand::decode(&bytes) {
                prop_assert_eq!(&command.encode()[..], &bytes[..]);
            }
            if let Some(query) = KvQuery::decode(&bytes) {
                prop_assert_eq!(&query.encode()[..], &bytes[..]);
            }
            let _ = KvReply::decode(bytes.into());
        }
    }

    #[test]
    fn replies_survive_encoding() {
        let record = KvRecord {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            create_revision: 3,
            mod_revision: 4,
        };
        let anonymous = KvRecord {
            key: Bytes::new(),
            ..record.clone()
        };
        for reply in [
            KvReply::Put { revision: 7 },
            KvReply::Delete {
                deleted: true,
                revision: 8,
            },
            KvReply::Get {
                revision: 9,
                record: None,
            },
            KvReply::Get {
                revision: 9,
                record: Some(anonymous),
            },
            KvReply::Range {
                revision: 10,
                next: Bytes::from_static(b"n"),
                records: vec![record.clone(), record],
            },
            KvReply::Unknown("why".into()),
        ] {
            assert_eq!(KvReply::decode(reply.encode().into()), Some(reply));
        }
    }

    #[test]
    fn keys_out_of_bounds_are_no_commands() {
        let long = vec![0; KEY_BYTES_MAX + 1];
        for key in [&[][..], &long] {
            assert_eq!(
                KvCommand::decode(&KvCommand::Put { key, value: b"v" }.encode()),
                None
            );
            assert_eq!(KvCommand::decode(&KvCommand::Delete { key }.encode()), None);
            assert_eq!(KvQuery::decode(&KvQuery::Get { key }.encode()), None);
        }
    }
}
