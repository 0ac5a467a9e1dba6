//! The map as bytes.
//!
//! ```text
//! u64 revision | u64 records | for each, in the order of the keys:
//!   u32 length of the key | u32 length of the value | key | u64 create | u64 mod | value
//! ```
//! All little-endian. Equal maps are equal bytes.

use std::io::Read;
use std::ops::Bound;
use std::sync::Arc;

use super::{HEAD, KEY_BYTES_MAX, Key, Kv, size_of_record};
use crate::machine::{RestoreError, View};

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

/// Reads a map back.
pub(super) fn read(reader: &mut dyn Read) -> Result<Kv, RestoreError> {
    let mut kv = Kv {
        revision: read_u64(reader)?,
        ..Kv::default()
    };
    let records = read_u64(reader)?;
    let mut key = Vec::new();
    for _ in 0..records {
        let key_bytes = read_u32(reader)? as usize;
        let value_bytes = read_u32(reader)? as usize;
        if !(1..=KEY_BYTES_MAX).contains(&key_bytes) {
            return Err(RestoreError(format!("a key of {key_bytes} bytes")));
        }
        read_bytes(reader, key_bytes, &mut key)?;
        let mut record = Vec::new();
        read_bytes(reader, HEAD + value_bytes, &mut record)?;
        let is_new = kv
            .records
            .get_max()
            .is_none_or(|(last, _)| last.as_bytes() < &key[..]);
        if !is_new {
            return Err(RestoreError("keys out of order".into()));
        }
        kv.size += size_of_record(&key, &record);
        kv.records.insert(Key::new(&key), Arc::from(record));
    }
    match reader.read(&mut [0])? {
        0 => Ok(kv),
        _ => Err(RestoreError("bytes after the last record".into())),
    }
}

/// Reads exactly so many bytes; allocates no more than there are.
fn read_bytes(reader: &mut dyn Read, length: usize, out: &mut Vec<u8>) -> Result<(), RestoreError> {
    out.clear();
    let read = reader.take(length as u64).read_to_end(out)?;
    match read == length {
        true => Ok(()),
        false => Err(RestoreError("cut short".into())),
    }
}

fn read_u64(reader: &mut dyn Read) -> Result<u64, RestoreError> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn read_u32(reader: &mut dyn Read) -> Result<u32, RestoreError> {
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
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

    #[test]
    fn comes_back_as_it_was_whatever_the_size_of_a_piece() {
        for count in [0, 1, 2000] {
            let kv = filled(count);
            let whole = written(KvView::new(kv.clone()), usize::MAX);
            for piece in [1, 100, 4096] {
                assert_eq!(written(KvView::new(kv.clone()), piece), whole);
            }
            let back = read(&mut &whole[..]).expect("restored");
            assert_eq!((back.revision, back.size), (kv.revision, kv.size));
            assert!(back.records.iter().eq(kv.records.iter()));
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
            assert!(read(&mut &whole[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [&whole[..], b"x"].concat();
        assert!(read(&mut &longer[..]).is_err());
        let mut huge = whole.clone();
        huge[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read(&mut &huge[..]).is_err());
    }
}
