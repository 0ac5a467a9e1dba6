//! How an entry is encoded: once, when it is proposed. The same bytes go to every peer and into
//! every log.
//!
//! ```text
//! u32 length of the payload | u32 CRC-32C of the rest | u64 term | u64 index | u8 kind | payload
//! ```
//! All little-endian.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::{
    Configuration, EntryKind, EntryMeta, Index, LogId, Purpose, SERVERS_MAX, ServerId, Term,
};

/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 25;
/// Where the checksummed part begins.
const CHECKED_FROM: usize = 8;

const NOOP: u8 = 0;
const CONFIGURATION: u8 = 1;
const COMMAND: u8 = 2;
const CONTROL: u8 = 3;

/// Appends one encoded entry to `out`.
pub(crate) fn encode(id: LogId, kind: &EntryKind, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; CHECKED_FROM]);
    out.extend_from_slice(&id.term.0.to_le_bytes());
    out.extend_from_slice(&id.index.0.to_le_bytes());
    match kind {
        EntryKind::Noop => out.push(NOOP),
        EntryKind::Command | EntryKind::Control => {
            let is_command = *kind == EntryKind::Command;
            out.push(if is_command { COMMAND } else { CONTROL });
            out.extend_from_slice(payload);
        }
        EntryKind::Configuration(configuration) => {
            out.push(CONFIGURATION);
            encode_configuration(configuration, out);
        }
    }
    let length = (out.len() - start - HEADER_BYTES) as u32;
    let checksum = crc32c::crc32c(&out[start + CHECKED_FROM..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// One entry of a batch or a log.
#[derive(Clone, Debug)]
pub(crate) struct Decoded<'a> {
    pub(crate) id: LogId,
    pub(crate) kind: EntryKind,
    pub(crate) payload: &'a [u8],
    /// Header and payload.
    pub(crate) size: usize,
}

impl Decoded<'_> {
    pub(crate) fn meta(&self) -> EntryMeta {
        EntryMeta {
            term: self.id.term,
            kind: self.kind.clone(),
            size: self.size as u32,
        }
    }
}

/// Decodes the entry at the front of `bytes`. `None` if it is cut short, its checksum is wrong, or
/// it is not an entry.
pub(crate) fn decode(bytes: &[u8]) -> Option<Decoded<'_>> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let checksum = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let size = HEADER_BYTES.checked_add(length)?;
    let entry = bytes.get(..size)?;
    if crc32c::crc32c(&entry[CHECKED_FROM..]) != checksum {
        return None;
    }
    decode_trusted(entry)
}

/// As [`decode`], of bytes whose checksum was looked at when they came in.
pub(crate) fn decode_trusted(entry: &[u8]) -> Option<Decoded<'_>> {
    let length = u32::from_le_bytes(entry.get(..4)?.try_into().ok()?) as usize;
    let size = HEADER_BYTES + length;
    let payload = entry.get(HEADER_BYTES..size)?;
    let number = |at: usize| Some(u64::from_le_bytes(entry.get(at..at + 8)?.try_into().ok()?));
    let id = LogId {
        term: Term(number(8)?),
        index: Index(number(16)?),
    };
    let kind = match entry[24] {
        NOOP => EntryKind::Noop,
        COMMAND => EntryKind::Command,
        CONTROL => EntryKind::Control,
        CONFIGURATION => EntryKind::Configuration(Box::new(decode_configuration(payload)?)),
        _ => return None,
    };
    Some(Decoded {
        id,
        kind,
        payload,
        size,
    })
}

// Counts are u16; ids u64; a purpose is a tag and, for `Replace`, an id.
const STAY: u8 = 0;
const JOIN: u8 = 1;
const REPLACE: u8 = 2;

pub(crate) fn encode_configuration(configuration: &Configuration, out: &mut Vec<u8>) {
    let set = |servers: &BTreeSet<ServerId>, out: &mut Vec<u8>| {
        out.extend_from_slice(&(servers.len() as u16).to_le_bytes());
        servers
            .iter()
            .for_each(|server| out.extend_from_slice(&server.0.to_le_bytes()));
    };
    set(&configuration.voters, out);
    out.push(u8::from(configuration.outgoing.is_some()));
    if let Some(outgoing) = &configuration.outgoing {
        set(outgoing, out);
    }
    out.extend_from_slice(&(configuration.learners.len() as u16).to_le_bytes());
    for (server, purpose) in &configuration.learners {
        out.extend_from_slice(&server.0.to_le_bytes());
        match purpose {
            Purpose::Stay => out.push(STAY),
            Purpose::Join => out.push(JOIN),
            Purpose::Replace(lost) => {
                out.push(REPLACE);
                out.extend_from_slice(&lost.0.to_le_bytes());
            }
        }
    }
}

pub(crate) fn decode_configuration(mut bytes: &[u8]) -> Option<Configuration> {
    let voters = take_set(&mut bytes)?;
    let outgoing = match take::<1>(&mut bytes)? {
        [0] => None,
        [1] => Some(take_set(&mut bytes)?),
        _ => return None,
    };
    let mut learners = BTreeMap::new();
    for _ in 0..take_count(&mut bytes)? {
        let server = take_id(&mut bytes)?;
        let purpose = match take::<1>(&mut bytes)? {
            [STAY] => Purpose::Stay,
            [JOIN] => Purpose::Join,
            [REPLACE] => Purpose::Replace(take_id(&mut bytes)?),
            _ => return None,
        };
        learners.insert(server, purpose);
    }
    bytes.is_empty().then_some(Configuration {
        voters,
        outgoing,
        learners,
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn take_count(bytes: &mut &[u8]) -> Option<usize> {
    let count = usize::from(u16::from_le_bytes(take(bytes)?));
    (count <= SERVERS_MAX).then_some(count)
}

fn take_id(bytes: &mut &[u8]) -> Option<ServerId> {
    Some(ServerId(u64::from_le_bytes(take(bytes)?)))
}

fn take_set(bytes: &mut &[u8]) -> Option<BTreeSet<ServerId>> {
    (0..take_count(bytes)?).map(|_| take_id(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(kind: &EntryKind, command: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(
            LogId {
                term: Term(3),
                index: Index(9),
            },
            kind,
            command,
            &mut out,
        );
        out
    }

    #[test]
    fn every_kind_comes_back_as_it_was() {
        let configuration = Configuration {
            voters: [ServerId(1), ServerId(2)].into(),
            outgoing: Some([ServerId(1)].into()),
            learners: [
                (ServerId(5), Purpose::Stay),
                (ServerId(6), Purpose::Join),
                (ServerId(7), Purpose::Replace(ServerId(1))),
            ]
            .into(),
        };
        let kinds = [
            EntryKind::Noop,
            EntryKind::Command,
            EntryKind::Control,
            EntryKind::Configuration(Box::new(configuration)),
        ];
        for kind in kinds {
            let bytes = encoded(&kind, b"hello");
            let decoded = decode(&bytes).expect("decodes");
            assert_eq!((decoded.id.term, decoded.id.index), (Term(3), Index(9)));
            assert_eq!((&decoded.kind, decoded.size), (&kind, bytes.len()));
            if matches!(kind, EntryKind::Command | EntryKind::Control) {
                assert_eq!(decoded.payload, b"hello");
            }
        }
    }

    #[test]
    fn no_cut_and_no_flipped_bit_decodes() {
        let bytes = encoded(&EntryKind::Command, b"hello");
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_none(), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_none(), "bit {bit}");
        }
    }
}
