//! New entries of a leader: what is proposed to it, within the bounds of the uncommitted tail, and what
//! it makes itself.

use crate::log::{EntryKind, EntryMeta, LogChange};
use crate::output::Refused;
use crate::raft::Raft;
use crate::types::{Index, LogId, Time};

impl Raft {
    /// Appends entries of these sizes (encoded bytes) as the leader. Answers the first one's id;
    /// the driver appends the same entries to its log before anything else.
    ///
    /// The uncommitted tail is bounded in bytes and in entries, those of former terms included; what the
    /// engine appends by itself counts, and is never refused. It is looked up in the log, so that there
    /// is no account that could leak (cockroachdb/cockroach #31689).
    ///
    /// # Errors
    /// Nothing is appended: [`Refused::Full`] if a bound would be passed, unless everything is committed;
    /// [`Refused::NotLeader`], [`Refused::QuorumLost`], [`Refused::Transferring`].
    pub fn propose(
        &mut self,
        now: Time,
        entries: impl IntoIterator<Item = (EntryKind, u32)>,
    ) -> Result<LogId, Refused> {
        self.check_serving(now)?;
        if self.is_transferring() {
            return Err(Refused::Transferring);
        }
        let before = self.log.last().index;
        for (kind, size) in entries {
            self.log.append(EntryMeta {
                term: self.term,
                kind,
                size,
            });
        }
        if before > self.commit
            && let Err(full) = self.check_uncommitted()
        {
            self.log.truncate(before);
            return Err(full);
        }
        Ok(LogId {
            term: self.term,
            index: before.next(),
        })
    }

    fn check_uncommitted(&self) -> Result<(), Refused> {
        let last = self.log.last().index;
        let bytes = self.log.bytes(self.commit, last);
        let entries = (last.0 - self.commit.0) as usize;
        for (what, held, max) in [
            (
                "uncommitted tail of the log in bytes",
                bytes,
                self.config.uncommitted_bytes_max,
            ),
            (
                "uncommitted tail of the log in entries",
                entries,
                self.config.uncommitted_entries_max,
            ),
        ] {
            if held > max {
                return Err(Refused::Full { what, max });
            }
        }
        Ok(())
    }

    /// An entry that the engine made ([`LogChange::Created`]) takes so many encoded bytes: so it counts
    /// here as it does at the servers that receive it.
    pub fn created(&mut self, index: Index, bytes: u32) {
        self.log.resize(index, bytes);
    }

    /// Appends an entry that this leader makes itself.
    pub(crate) fn create(&mut self, kind: EntryKind) -> LogId {
        let meta = EntryMeta {
            term: self.term,
            kind: kind.clone(),
            size: 0,
        };
        let id = self.log.append(meta);
        self.log_changes.push(LogChange::Created { id, kind });
        id
    }
}
