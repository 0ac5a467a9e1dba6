//! The map as bytes.
//!
//! ```text
//! u64 revision | u64 records | for each, in the order of the keys:
//!   u32 length of the key | u32 length of the value | key | u64 create | u64 mod | value
//! ```
//! All little-endian. Equal maps are equal bytes.

use std::ops::Bound;
use std::sync::Arc;

use super::{HEAD, KEY_BYTES_MAX, Key, Kv, size_of_record};
use crate::machine::{History, RestoreError, Restoring, StateMachine, View};

/// Bytes of the header: the revision, and the number of records.
const HEADER_BYTES: usize = 16;
/// Bytes with which a record begins: the lengths of its key and its value.
const LENGTHS_BYTES: usize = 8;

/// A map that is not written to any more.
pub(super) struct KvView {
    kv: Kv,
    /// The last key written; `None` before the header is.
    written: Option<Key>,
    is_begun: bool,
}

impl KvView {
    pub(super) fn new(kv: Kv) -> Self {
        Self {
            kv,
            written: None,
            is_begun: false,
        }
    }
}

impl View for KvView {
    fn write(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        let start = out.len();
        if !self.is_begun {
            self.is_begun = true;
            out.extend_from_slice(&self.kv.revision.to_le_bytes());
            out.extend_from_slice(&(self.kv.records.len() as u64).to_le_bytes());
        }
        let from = match &self.written {
            Some(key) => Bound::Excluded(key.as_bytes()),
            None => Bound::Unbounded,
        };
        let mut last = None;
        for (key, record) in self.kv.records.range::<_, [u8]>((from, Bound::Unbounded)) {
            if out.len() - start >= bytes_max {
                self.written = last.or_else(|| self.written.take());
                return true;
            }
            let bytes = key.as_bytes();
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(&((record.len() - HEAD) as u32).to_le_bytes());
            out.extend_from_slice(bytes);
            out.extend_from_slice(record);
            last = Some(key.clone());
        }
        false
    }
}

/// A map that is read back piece by piece.
pub(super) struct KvRestoring {
    kv: Kv,
    /// That of the machine whose place the map will take.
    history: Option<History>,
    /// Records that are still to come; `None` before the header has said how many there are.
    missing: Option<u64>,
    /// The beginning of a record, or of the header, whose end is still to come.
    partial: Vec<u8>,
    /// The last key that was read.
    last: Vec<u8>,
}

impl KvRestoring {
    pub(super) fn new(history: Option<History>) -> Self {
        Self {
            kv: Kv::default(),
            history,
            missing: None,
            partial: Vec::new(),
            last: Vec::new(),
        }
    }

    /// How long the record is, or the header, that begins with these bytes; if they are too few to tell,
    /// how many are needed for that.
    fn length(&self, bytes: &[u8]) -> Result<usize, RestoreError> {
        match self.missing {
            None => Ok(HEADER_BYTES),
            Some(0) => Err(RestoreError("bytes after the last record".into())),
            Some(_) => match lengths(bytes) {
                Some((key, _)) if !(1..=KEY_BYTES_MAX).contains(&key) => {
                    Err(RestoreError(format!("a key of {key} bytes")))
                }
                Some((key, value)) => Ok(LENGTHS_BYTES + key + HEAD + value),
                None => Ok(LENGTHS_BYTES),
            },
        }
    }

    /// Takes a whole record, or the header.
    fn take_whole(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let Some(missing) = self.missing else {
            let (revision, records) = bytes.split_at(HEADER_BYTES / 2);
            self.kv.revision = number(revision);
            self.missing = Some(number(records));
            return Ok(());
        };
        let (key_bytes, _) = lengths(bytes).unwrap_or_default();
        let (key, record) = bytes[LENGTHS_BYTES..].split_at(key_bytes);
        if key <= &self.last[..] {
            return Err(RestoreError("keys out of order".into()));
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.kv.size += size_of_record(key, record);
        self.kv.records.insert(Key::new(key), Arc::from(record));
        self.missing = Some(missing - 1);
        Ok(())
    }

    pub(super) fn into_kv(self) -> Result<Kv, RestoreError> {
        if self.missing != Some(0) || !self.partial.is_empty() {
            return Err(RestoreError("cut short".into()));
        }
        let mut kv = self.kv;
        if let Some(history) = self.history {
            kv.observe(history);
        }
        Ok(kv)
    }
}

impl Restoring for KvRestoring {
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), RestoreError> {
        while !bytes.is_empty() {
            if self.partial.is_empty() {
                let length = self.length(bytes)?;
                let Some((whole, rest)) = bytes.split_at_checked(length) else {
                    // No more than there is, whatever the lengths say.
                    self.partial.extend_from_slice(bytes);
                    return Ok(());
                };
                self.take_whole(whole)?;
                bytes = rest;
                continue;
            }
            let wanted = self.length(&self.partial)? - self.partial.len();
            let (added, rest) = bytes.split_at(wanted.min(bytes.len()));
            self.partial.extend_from_slice(added);
            bytes = rest;
            if self.length(&self.partial)? == self.partial.len() {
                let whole = std::mem::take(&mut self.partial);
                self.take_whole(&whole)?;
            }
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.kv.size + self.partial.len()
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn StateMachine>, RestoreError> {
        Ok(Box::new(self.into_kv()?))
    }
}

/// The lengths of a key and its value, with which a record begins.
fn lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    let length = |at: usize| {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    };
    Some((length(0)?, length(LENGTHS_BYTES / 2)?))
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: u32) -> Kv {
        let mut kv = Kv::default();
        for at in 0..count {
            let key = format!(
                "{:0width$}",
                at * 7919 % 10_007,
                width = 5 + at as usize % 40
            );
            kv.put(
                key.as_bytes(),
                &vec![at as u8; at as usize % 300],
                None,
                None,
            );
        }
        kv
    }

    fn written(mut view: KvView, piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let before = out.len();
            let more = view.write(&mut out, piece);
            let most = piece.saturating_add(16 + 64 + HEAD + 300);
            assert!(out.len() - before <= most, "a large piece");
            if !more {
                return out;
            }
        }
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Kv, RestoreError> {
        let mut restoring = KvRestoring::new(None);
        for piece in bytes.chunks(piece) {
            restoring.take(piece)?;
        }
        restoring.into_kv()
    }

    #[test]
    fn comes_back_as_it_was_whatever_the_size_of_a_piece() {
        for count in [0, 1, 2000] {
            let kv = filled(count);
            let whole = written(KvView::new(kv.clone()), usize::MAX);
            for piece in [1, 100, 4096] {
                assert_eq!(written(KvView::new(kv.clone()), piece), whole);
            }
            for piece in [1, 7, 300, 4096, usize::MAX] {
                let back = read(&whole, piece).expect("restored");
                assert_eq!((back.revision, back.size), (kv.revision, kv.size));
                assert!(back.records.iter().eq(kv.records.iter()));
            }
        }
    }

    #[test]
    fn a_view_does_not_see_later_writes() {
        let mut kv = filled(2000);
        let whole = written(KvView::new(kv.clone()), usize::MAX);
        let mut view = KvView::new(kv.clone());
        let mut out = Vec::new();
        let mut at = 0_u32;
        while view.write(&mut out, 1000) {
            at += 1;
            kv.put(format!("new {at}").as_bytes(), b"later", None, None);
            let some = kv
                .records
                .iter()
                .nth(at as usize)
                .map(|(key, _)| key.clone());
            kv.put(
                some.expect("there are many").as_bytes(),
                b"changed",
                None,
                None,
            );
            let last = kv.records.get_max().expect("there are many").0.clone();
            kv.delete(last.as_bytes(), None, None);
        }
        assert_eq!(out, whole);
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let whole = written(KvView::new(filled(3)), usize::MAX);
        for cut in 0..whole.len() {
            for piece in [1, 5, usize::MAX] {
                assert!(read(&whole[..cut], piece).is_err(), "cut at {cut}");
            }
        }
        let longer = [&whole[..], b"x"].concat();
        assert!(read(&longer, usize::MAX).is_err());
        assert!(read(&longer, 1).is_err());
        let mut huge = whole.clone();
        huge[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read(&huge, usize::MAX).is_err());
    }
}
