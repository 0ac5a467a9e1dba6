//! What a machine changed lately, for those who watch it.
//!
//! Not a part of the replicated state: no snapshot and no digest contains it, no command sees it, and
//! two servers that began at different times hold different histories of the same changes. A machine
//! writes into it while it applies; whoever watches reads out of it, at their own pace. Who is too slow
//! finds that what they want next is gone, and is told: nothing is kept for them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Bounds of a [`History`]. The newest change is kept whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryBounds {
    /// Revisions that are kept; at least 1.
    pub events_max: usize,
    /// Bytes of them: keys, values, and 32 for each revision.
    pub bytes_max: usize,
}

/// Bytes of a revision besides its key and value.
const SLOT_BYTES: usize = size_of::<Slot>();
const _: () = assert!(SLOT_BYTES == 32);

/// The latest changes of one machine, in the order of their revisions. Cheap to clone; all clones are
/// the same history. The machine writes, watchers read; every access is short.
#[derive(Clone, Debug)]
pub struct History(Arc<Mutex<Recent>>);

/// A change as watchers get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Of the store, after the change.
    pub revision: u64,
    /// Which key.
    pub key: Bytes,
    /// What it is now.
    pub change: Change<Bytes>,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<V> {
    /// It has this value.
    Put {
        /// Revision of the change that created the key.
        create_revision: u64,
        /// What is stored.
        value: V,
    },
    /// It is gone.
    Delete,
}

/// The keys that a watcher wants: `start <= key < end`; an empty `end` stands for no end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// First key.
    pub start: Bytes,
    /// First key after the range.
    pub end: Bytes,
}

impl KeyRange {
    /// Whether the key is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start <= key && (self.end.is_empty() || key < self.end)
    }
}

/// How much one [`History::read`] may do.
#[derive(Clone, Copy, Debug)]
pub struct ReadBounds {
    /// Revisions looked at.
    pub revisions_max: usize,
    /// Bytes of keys and values handed out, unless a single event is larger.
    pub bytes_max: usize,
}

/// What a watcher gets at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// In the order of their revisions; of every revision all or none.
    pub events: Vec<Event>,
    /// The revision to go on with: everything before it has been looked at.
    pub next: u64,
    /// There is more to be looked at already.
    pub more: bool,
}

/// The revision that a watcher wants next is not kept any more, or never was here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The first one that can be watched.
    pub oldest: u64,
}

/// One revision. Kept apart from its bytes, so that those who look for other keys touch no more than
/// the key.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Where its value ends, counted from the beginning of time.
    end: u64,
    create_revision: u64,
    key_bytes: u32,
    value_bytes: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Put,
    Delete,
    /// A change of nothing, which has a revision all the same.
    Nothing,
}

/// Held while a machine writes a batch.
#[derive(Debug)]
pub struct Recent {
    bounds: HistoryBounds,
    /// Invariant: one for every revision after `revision - slots.len()`, without a gap.
    slots: VecDeque<Slot>,
    /// Keys and values, end to end.
    bytes: VecDeque<u8>,
    /// Bytes that were dropped before the first of them.
    dropped: u64,
    /// The last one. Invariant: grows by one with each change; only [`Recent::begin`] skips some.
    revision: u64,
}

impl History {
    /// Of a machine that has changed nothing yet.
    pub fn new(bounds: HistoryBounds) -> Self {
        Self(Arc::new(Mutex::new(Recent {
            bounds,
            slots: VecDeque::new(),
            bytes: VecDeque::new(),
            dropped: 0,
            revision: 0,
        })))
    }

    /// To write into.
    pub fn write(&self) -> MutexGuard<'_, Recent> {
        // A machine that panicked was applying a change that is not in here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last revision.
    pub fn revision(&self) -> u64 {
        self.write().revision
    }

    /// Bytes that it takes, as they are bounded.
    pub fn bytes(&self) -> usize {
        self.write().size()
    }

    /// Changes of `range` from the revision `from` on, which may be still to come.
    ///
    /// # Errors
    /// [`Compacted`] if that revision is not kept any more.
    pub fn read(&self, from: u64, range: &KeyRange, bounds: ReadBounds) -> Result<Read, Compacted> {
        self.write().read(from, range, bounds)
    }
}

impl Recent {
    /// From here on the history follows a state at this revision; what was kept is forgotten.
    pub fn begin(&mut self, revision: u64) {
        self.dropped += self.bytes.len() as u64;
        self.slots.clear();
        self.bytes.clear();
        self.revision = revision;
    }

    /// The next revision changed `key`.
    pub fn push(&mut self, key: &[u8], change: Change<&[u8]>) {
        let (kind, create_revision, value) = match change {
            Change::Put {
                create_revision,
                value,
            } => (Kind::Put, create_revision, value),
            Change::Delete => (Kind::Delete, 0, &b""[..]),
        };
        self.append(kind, create_revision, key, value);
    }

    /// The next revision changed nothing.
    pub fn push_nothing(&mut self) {
        self.append(Kind::Nothing, 0, b"", b"");
    }

    fn append(&mut self, kind: Kind, create_revision: u64, key: &[u8], value: &[u8]) {
        let added = key.len() + value.len();
        let HistoryBounds {
            events_max,
            bytes_max,
        } = self.bounds;
        while !self.slots.is_empty()
            && (self.slots.len() >= events_max || self.size() + SLOT_BYTES + added > bytes_max)
        {
            self.forget_oldest();
        }
        if self.bytes.capacity() == 0 {
            // In one piece, so that it never doubles past its bound. What is not used costs nothing.
            self.bytes.reserve_exact(bytes_max);
        }
        self.bytes.extend(key);
        self.bytes.extend(value);
        self.revision += 1;
        self.slots.push_back(Slot {
            end: self.dropped + self.bytes.len() as u64,
            create_revision,
            key_bytes: key.len() as u32,
            value_bytes: value.len() as u32,
            kind,
        });
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.slots.pop_front() {
            self.bytes.drain(..(oldest.end - self.dropped) as usize);
            self.dropped = oldest.end;
        }
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.slots.len() * SLOT_BYTES
    }

    fn oldest(&self) -> u64 {
        self.revision + 1 - self.slots.len() as u64
    }

    fn read(&self, from: u64, range: &KeyRange, bounds: ReadBounds) -> Result<Read, Compacted> {
        let oldest = self.oldest();
        if from < oldest {
            return Err(Compacted { oldest });
        }
        let (mut events, mut bytes, mut next) = (Vec::new(), 0, from);
        let first = usize::try_from(from - oldest).unwrap_or(usize::MAX);
        let rest = self.slots.iter().skip(first.min(self.slots.len()));
        for slot in rest.take(bounds.revisions_max) {
            let size = (slot.key_bytes + slot.value_bytes) as usize;
            let start = (slot.end - self.dropped) as usize - size;
            let key_end = start + slot.key_bytes as usize;
            if slot.kind != Kind::Nothing && self.is_wanted(range, start, key_end) {
                if !events.is_empty() && bytes + size > bounds.bytes_max {
                    break;
                }
                bytes += size;
                events.push(Event {
                    revision: next,
                    key: self.copy(start, key_end),
                    change: match slot.kind {
                        Kind::Put => Change::Put {
                            create_revision: slot.create_revision,
                            value: self.copy(key_end, start + size),
                        },
                        Kind::Delete | Kind::Nothing => Change::Delete,
                    },
                });
            }
            next += 1;
        }
        Ok(Read {
            events,
            next,
            more: next <= self.revision,
        })
    }

    /// Whether the key at these bytes is in the range. It is copied only if it lies around the seam.
    fn is_wanted(&self, range: &KeyRange, start: usize, end: usize) -> bool {
        let (head, tail) = self.bytes.as_slices();
        if end <= head.len() {
            range.contains(&head[start..end])
        } else if start >= head.len() {
            range.contains(&tail[start - head.len()..end - head.len()])
        } else {
            range.contains(&self.copy(start, end))
        }
    }

    fn copy(&self, start: usize, end: usize) -> Bytes {
        let (head, tail) = self.bytes.as_slices();
        let seam = head.len();
        let in_head = &head[start.min(seam)..end.min(seam)];
        let in_tail = &tail[start.max(seam) - seam..end.max(seam) - seam];
        match in_tail {
            [] => Bytes::copy_from_slice(in_head),
            _ => [in_head, in_tail].concat().into(),
        }
    }
}

#[cfg(test)]
mod tests;
