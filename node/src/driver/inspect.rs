//! Context and log of a server, to look at (ExRaft's `inspect`).

use bytes::Bytes;
use kontiki_raft::{EntryKind, Index, LogId, ServerId};

use super::Driver;
use super::interface::Status;

/// Entries of one [`Inspection`].
pub const INSPECT_ENTRIES_MAX: usize = 256;
/// Bytes of the commands in it, unless the first alone is larger.
pub const INSPECT_BYTES_MAX: usize = 1 << 20;

/// What a server knows, and a page of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Term, role, indexes, configuration and the rest.
    pub status: Status,
    /// Whom it voted for in its term.
    pub vote: Option<ServerId>,
    /// Entries in order, committed or not.
    pub entries: Vec<LogEntry>,
    /// Where the next page begins; `None` if the log ends here.
    pub next: Option<Index>,
}

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Term and index.
    pub id: LogId,
    /// What it is; a configuration is in here.
    pub kind: EntryKind,
    /// The command, or the first bytes of it. Empty for a configuration or a no-op.
    pub payload: Bytes,
    /// Bytes of the whole command.
    pub payload_bytes: usize,
}

impl<R> Driver<R> {
    /// What this server knows, and its log from `first` on, bounded by [`INSPECT_ENTRIES_MAX`] and
    /// [`INSPECT_BYTES_MAX`]. Of each command the first `payload_bytes_max` bytes are copied.
    pub fn inspect(&self, first: Index, payload_bytes_max: usize) -> Inspection {
        let last = self.raft.last().index;
        let mut index = first.max(self.raft.first());
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while index <= last
            && entries.len() < INSPECT_ENTRIES_MAX
            && let Some(entry) = self.log.get(index)
        {
            let payload = match entry.kind {
                EntryKind::Command | EntryKind::Control => entry.payload,
                EntryKind::Noop | EntryKind::Configuration(_) => &[],
            };
            let shown = &payload[..payload.len().min(payload_bytes_max)];
            bytes += shown.len();
            if bytes > INSPECT_BYTES_MAX && !entries.is_empty() {
                break;
            }
            entries.push(LogEntry {
                id: entry.id,
                payload: Bytes::copy_from_slice(shown),
                payload_bytes: payload.len(),
                kind: entry.kind,
            });
            index = index.next();
        }
        let has_more = index <= last && !entries.is_empty();
        Inspection {
            status: self.status(),
            vote: self.raft.vote(),
            entries,
            next: has_more.then_some(index),
        }
    }
}
