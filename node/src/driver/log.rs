//! The payloads: encoded entries in chunks, found by a 4-byte offset each.

use std::collections::VecDeque;

use bytes::Bytes;
use kontiki_raft::{EntryKind, Index, LogId};

use crate::entry::{self, Decoded};

/// Bytes of a chunk, unless a single entry is larger.
const CHUNK_BYTES: usize = 128 << 10;

/// Invariant: chunks are contiguous, none is empty, and each holds what `offsets` says.
#[derive(Debug)]
pub(super) struct PayloadLog {
    chunks: VecDeque<Chunk>,
    chunk_bytes: usize,
    /// Of all chunks.
    bytes: usize,
    /// The range encoded last: the next peer is likely sent the same.
    encoded: Option<(Index, Index, Bytes)>,
    /// One that was compacted: its memory is the next one's, so that a busy log neither grows buffers
    /// nor has the kernel map pages.
    spare: Option<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    first: Index,
    bytes: Vec<u8>,
    /// Where each entry begins.
    offsets: Vec<u32>,
}

impl Chunk {
    fn last(&self) -> Index {
        Index(self.first.0 + self.offsets.len() as u64 - 1)
    }

    /// Where the entry at `index` begins; the end of the chunk for the one after its last.
    fn offset(&self, index: Index) -> usize {
        let at = (index.0 - self.first.0) as usize;
        self.offsets
            .get(at)
            .map_or(self.bytes.len(), |offset| *offset as usize)
    }
}

impl PayloadLog {
    /// A log of which a tail of so many bytes is kept by compaction, which drops whole chunks.
    pub(super) fn new(tail_bytes: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            chunk_bytes: CHUNK_BYTES.min(tail_bytes / 8),
            bytes: 0,
            encoded: None,
            spare: None,
        }
    }

    /// Bytes of all entries held.
    pub(super) fn total_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of a chunk: compaction drops whole ones.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Encodes an entry at the end; answers its size.
    pub(super) fn push(&mut self, id: LogId, kind: &EntryKind, command: &[u8]) -> usize {
        let chunk = self.chunk_for(id.index, entry::HEADER_BYTES + command.len());
        let start = chunk.bytes.len();
        chunk.offsets.push(start as u32);
        entry::encode(id, kind, command, &mut chunk.bytes);
        let size = chunk.bytes.len() - start;
        self.bytes += size;
        size
    }

    /// Copies an entry that is encoded already.
    pub(super) fn push_encoded(&mut self, index: Index, encoded: &[u8]) {
        let chunk = self.chunk_for(index, encoded.len());
        chunk.offsets.push(chunk.bytes.len() as u32);
        chunk.bytes.extend_from_slice(encoded);
        self.bytes += encoded.len();
    }

    fn chunk_for(&mut self, index: Index, size: usize) -> &mut Chunk {
        let has_room = self.chunks.back().is_some_and(|chunk| {
            assert_eq!(chunk.last().next(), index, "the log has no gaps");
            chunk.bytes.len() + size <= self.chunk_bytes
        });
        if !has_room {
            let chunk = self.empty_chunk(index);
            self.chunks.push_back(chunk);
        }
        self.chunks.back_mut().expect("pushed above")
    }

    /// The first one grows as it is filled; those after it are as large as they may get.
    fn empty_chunk(&mut self, first: Index) -> Chunk {
        let (mut bytes, mut offsets) = (Vec::new(), Vec::new());
        if let Some(spare) = self.spare.take() {
            (bytes, offsets) = (spare.bytes, spare.offsets);
            bytes.clear();
            offsets.clear();
        }
        if let Some(full) = self.chunks.back_mut() {
            full.bytes.shrink_to(self.chunk_bytes);
            bytes.reserve_exact(self.chunk_bytes);
        }
        Chunk {
            first,
            bytes,
            offsets,
        }
    }

    /// Drops every entry after `after`.
    pub(super) fn truncate(&mut self, after: Index) {
        self.encoded = None;
        while self.chunks.back().is_some_and(|chunk| chunk.first > after) {
            let dropped = self.chunks.pop_back();
            self.bytes -= dropped.map_or(0, |chunk| chunk.bytes.len());
        }
        if let Some(chunk) = self.chunks.back_mut()
            && chunk.last() > after
        {
            let end = chunk.offset(after.next());
            self.bytes -= chunk.bytes.len() - end;
            chunk.bytes.truncate(end);
            chunk
                .offsets
                .truncate((after.0 - chunk.first.0 + 1) as usize);
        }
    }

    /// Drops chunks of which nothing is after `through`.
    pub(super) fn compact(&mut self, through: Index) {
        while self
            .chunks
            .front()
            .is_some_and(|chunk| chunk.last() <= through)
        {
            let dropped = self.chunks.pop_front();
            self.bytes -= dropped.as_ref().map_or(0, |chunk| chunk.bytes.len());
            // Not that of a single large entry.
            self.spare = dropped.filter(|chunk| chunk.bytes.len() <= self.chunk_bytes);
        }
    }

    /// Drops everything; the next entry may be any.
    pub(super) fn clear(&mut self) {
        *self = Self {
            chunk_bytes: self.chunk_bytes,
            ..Self::new(0)
        };
    }

    fn chunk_of(&self, index: Index) -> Option<usize> {
        let after = self.chunks.partition_point(|chunk| chunk.first <= index);
        after
            .checked_sub(1)
            .filter(|at| index <= self.chunks[*at].last())
    }

    /// The entry at `index`.
    pub(super) fn get(&self, index: Index) -> Option<Decoded<'_>> {
        let chunk = &self.chunks[self.chunk_of(index)?];
        let encoded = &chunk.bytes[chunk.offset(index)..chunk.offset(index.next())];
        entry::decode_trusted(encoded)
    }

    /// The last of the entries `first..=last` that fit into so many bytes, at least `first`.
    pub(super) fn end_of_batch(&self, first: Index, last: Index, bytes_max: usize) -> Index {
        let start = self
            .chunk_of(first)
            .expect("only what is held is handed on");
        let mut bytes = 0;
        let mut end = first;
        for chunk in self.chunks.range(start..) {
            let from = first.max(chunk.first);
            let to = last.min(chunk.last());
            if from > to {
                break;
            }
            let size = chunk.offset(to.next()) - chunk.offset(from);
            if bytes + size <= bytes_max {
                (bytes, end) = (bytes + size, to);
                continue;
            }
            let room = bytes_max - bytes;
            let begin = chunk.offset(from);
            let fits = |at: &Index| chunk.offset(at.next()) - begin <= room;
            let taken = (from.0..=to.0).map(Index).take_while(fits).last();
            return taken.unwrap_or(end);
        }
        end
    }

    /// Bytes of the entries after `after`, through `through`.
    pub(super) fn bytes(&self, after: Index, through: Index) -> usize {
        let first = after.next();
        let Some(start) = (first <= through).then(|| self.chunk_of(first)).flatten() else {
            return 0;
        };
        let chunks = self.chunks.range(start..);
        let chunks = chunks.take_while(|chunk| chunk.first <= through);
        let size = |chunk: &Chunk| {
            let from = chunk.offset(first.max(chunk.first));
            chunk.offset(through.min(chunk.last()).next()) - from
        };
        chunks.map(size).sum()
    }

    /// The entries `first..=last` as they are sent; empty if `last` is before `first`.
    pub(super) fn encoded(&mut self, first: Index, last: Index) -> Bytes {
        if last < first {
            return Bytes::new();
        }
        if let Some((from, to, bytes)) = &self.encoded
            && (*from, *to) == (first, last)
        {
            return bytes.clone();
        }
        let mut out = Vec::new();
        let start = self.chunk_of(first).expect("only what is held is sent");
        for chunk in self
            .chunks
            .range(start..)
            .take_while(|chunk| chunk.first <= last)
        {
            let from = chunk.offset(first.max(chunk.first));
            let to = chunk.offset(last.min(chunk.last()).next());
            out.extend_from_slice(&chunk.bytes[from..to]);
        }
        let bytes = Bytes::from(out);
        self.encoded = Some((first, last, bytes.clone()));
        bytes
    }

    /// Forgets what was kept for sending: called at the end of a turn.
    pub(super) fn forget_encoded(&mut self) {
        self.encoded = None;
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::Term;

    use super::*;

    fn id(index: u64) -> LogId {
        LogId {
            term: Term(1),
            index: Index(index),
        }
    }

    /// Entries of growing size, over several chunks, one of them larger than a chunk.
    fn filled(count: u64) -> (PayloadLog, Vec<Vec<u8>>) {
        let mut log = PayloadLog::new(8 << 20);
        let commands: Vec<Vec<u8>> = (1..=count)
            .map(|at| {
                vec![
                    at as u8;
                    if at == 7 {
                        3 * CHUNK_BYTES
                    } else {
                        at as usize * 500
                    }
                ]
            })
            .collect();
        for (at, command) in commands.iter().enumerate() {
            log.push(id(at as u64 + 1), &EntryKind::Command, command);
        }
        (log, commands)
    }

    #[test]
    fn every_range_comes_out_as_it_went_in() {
        let (mut log, commands) = filled(40);
        assert!(log.chunks.len() > 3);
        for (first, last) in [(1, 40), (1, 1), (7, 7), (6, 8), (12, 39), (40, 40), (5, 4)] {
            let batch = log.encoded(Index(first), Index(last));
            let mut rest = &batch[..];
            for at in first..=last {
                let decoded = entry::decode(rest).expect("decodes");
                assert_eq!(decoded.id, id(at));
                assert_eq!(decoded.payload, &commands[at as usize - 1][..]);
                rest = &rest[decoded.size..];
            }
            assert!(rest.is_empty());
            let after = Index(first - 1);
            assert_eq!(log.bytes(after, Index(last)), batch.len());
        }
    }

    #[test]
    fn a_batch_ends_where_its_bytes_do_and_has_one_entry_at_least() {
        let (mut log, _) = filled(40);
        for max in [0, 1, 600, 5000, 100_000, 1 << 20, 64 << 20] {
            let mut first = Index(1);
            while first <= Index(40) {
                let end = log.end_of_batch(first, Index(40), max);
                assert!(end >= first && end <= Index(40));
                let size = log.encoded(first, end).len();
                assert!(size <= max || end == first, "{size} bytes of {max}");
                if end < Index(40) {
                    assert!(log.encoded(first, end.next()).len() > max, "one more fits");
                }
                first = end.next();
            }
        }
    }

    #[test]
    fn truncation_at_every_place_keeps_what_is_before_it() {
        for after in 0..=40 {
            let (mut log, commands) = filled(40);
            log.truncate(Index(after));
            assert!(log.get(Index(after + 1)).is_none());
            if after > 0 {
                let kept = log.get(Index(after)).expect("kept");
                assert_eq!(kept.payload, &commands[after as usize - 1][..]);
            }
            log.push(id(after + 1), &EntryKind::Command, b"new");
            assert_eq!(log.get(Index(after + 1)).expect("pushed").payload, b"new");
        }
    }
}
