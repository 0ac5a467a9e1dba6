//! The control entries in the log, applied or not: what a leader must not propose again, and what it
//! would contradict if it looked only at what is applied. Follows the log when that is cut.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::Index;

use crate::host::{Control, HostStatus};
use crate::machine::Version;

#[derive(Debug, Default)]
pub(super) struct Controls {
    activate: Option<Index>,
    /// One for each version that was ever in force.
    versions: BTreeMap<Index, Version>,
    /// What entries say of reads under a lease: the newest counts.
    lease_reads: BTreeMap<Index, bool>,
    checkpoints: BTreeSet<Index>,
    /// By their entries: the checkpoints that they are about.
    verdicts: BTreeMap<Index, Index>,
}

impl Controls {
    /// Of a log that a snapshot through `last` took the place of; `status` is that of its state.
    pub(super) fn restored(last: Index, status: &HostStatus) -> Self {
        let versions = [(last, status.version)].into_iter();
        let lease_reads = [(last, status.lease_reads)].into();
        Self {
            activate: status.activated,
            versions: versions.filter(|(_, version)| *version > 0).collect(),
            lease_reads,
            ..Self::default()
        }
    }

    /// An entry was appended.
    pub(super) fn push(&mut self, index: Index, control: Control<'_>) {
        match control {
            Control::Activate => {
                self.activate.get_or_insert(index);
            }
            Control::Version(version) => {
                self.versions.insert(index, version);
            }
            Control::LeaseReads(are_on) => {
                self.lease_reads.insert(index, are_on);
            }
            Control::Checkpoint => {
                self.checkpoints.insert(index);
            }
            Control::Verdict(digest) => {
                self.verdicts.insert(index, digest.index);
            }
            // Nothing that a leader would contradict: they are decided when they are applied.
            Control::OpenSession(_)
            | Control::CloseSession(_)
            | Control::Clock(_)
            | Control::InSession { .. } => {}
        }
    }

    /// The log begins at `first`: of the versions before it only the last counts.
    pub(super) fn compact(&mut self, first: Index) {
        let before = self.versions.range(..first).next_back();
        if let Some(last) = before.map(|(index, _)| *index) {
            self.versions = self.versions.split_off(&last);
        }
    }

    /// Every entry after `after` was cut off.
    pub(super) fn truncate(&mut self, after: Index) {
        self.activate = self.activate.filter(|entry| *entry <= after);
        self.versions.retain(|entry, _| *entry <= after);
        self.lease_reads.retain(|entry, _| *entry <= after);
        self.checkpoints.retain(|entry| *entry <= after);
        self.verdicts.retain(|entry, _| *entry <= after);
    }

    /// Forgets what is of no use once it is applied; the log is never cut that far.
    pub(super) fn settle(&mut self, applied: Index) {
        if !self.checkpoints.is_empty() {
            self.checkpoints = self.checkpoints.split_off(&applied.next());
        }
        keep_last(&mut self.verdicts, applied);
        keep_last(&mut self.lease_reads, applied);
    }

    pub(super) fn is_activated(&self) -> bool {
        self.activate.is_some()
    }

    /// The highest version that any entry of the log raises to.
    pub(super) fn newest_version(&self) -> Option<Version> {
        self.versions.values().max().copied()
    }

    /// The version under which the commands of a log that begins at `first` begin.
    pub(super) fn oldest_version(&self, first: Index) -> Option<Version> {
        let before = self.versions.range(..first).next_back();
        let oldest = before.or_else(|| self.versions.first_key_value());
        oldest.map(|(_, version)| *version)
    }

    /// Whether reads under a lease are on at the end of the log.
    pub(super) fn are_lease_reads_on(&self) -> bool {
        self.lease_reads.values().next_back().is_some_and(|on| *on)
    }

    /// A checkpoint waits to be applied.
    pub(super) fn has_checkpoint(&self) -> bool {
        !self.checkpoints.is_empty()
    }

    /// The last checkpoint that there is a verdict about.
    pub(super) fn judged(&self) -> Option<Index> {
        self.verdicts.values().max().copied()
    }
}

/// Drops what is applied, but for the last of it: what comes after may be cut off.
fn keep_last<T>(entries: &mut BTreeMap<Index, T>, applied: Index) {
    while entries
        .keys()
        .nth(1)
        .is_some_and(|second| *second <= applied)
    {
        entries.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Digest;

    #[test]
    fn what_is_cut_off_does_not_count_and_what_is_applied_is_forgotten() {
        let mut controls = Controls::default();
        let verdict = |index| {
            Control::Verdict(Digest {
                index: Index(index),
                value: 1,
            })
        };
        for (at, control) in [
            Control::Version(2),
            Control::Activate,
            Control::Checkpoint,
            verdict(3),
            Control::Version(4),
            Control::Checkpoint,
            verdict(6),
            Control::LeaseReads(true),
            Control::LeaseReads(false),
        ]
        .into_iter()
        .enumerate()
        {
            controls.push(Index(at as u64 + 1), control);
        }
        assert_eq!(controls.newest_version(), Some(4));
        assert_eq!(controls.oldest_version(Index(1)), Some(2));
        assert_eq!(controls.oldest_version(Index(6)), Some(4));
        assert!(!controls.are_lease_reads_on());
        controls.settle(Index(5));
        assert!(controls.has_checkpoint());
        assert_eq!(controls.judged(), Some(Index(6)));
        controls.compact(Index(3));
        assert_eq!(controls.oldest_version(Index(3)), Some(2));
        assert_eq!(controls.versions.len(), 2);
        controls.truncate(Index(8));
        assert!(controls.are_lease_reads_on());
        controls.truncate(Index(4));
        assert!(!controls.are_lease_reads_on());
        assert!(!controls.has_checkpoint());
        assert_eq!(controls.newest_version(), Some(2));
        assert_eq!(controls.oldest_version(Index(6)), Some(2));
        assert!(controls.is_activated());
        controls.push(Index(5), Control::Version(4));
        controls.compact(Index(6));
        assert_eq!(controls.oldest_version(Index(6)), Some(4));
        assert_eq!(controls.versions.len(), 1, "those before are of no use");
        controls.truncate(Index(0));
        assert!(!controls.is_activated());
        assert_eq!(controls.newest_version(), None);
        assert_eq!(controls.judged(), None);
    }
}
