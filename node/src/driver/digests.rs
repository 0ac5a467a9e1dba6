//! Comparing the digests of the servers: who differs from the majority is told so through the log.
//!
//! The leader appends a checkpoint from time to time. Every server hashes its state at it, and says
//! with its acknowledgements of heartbeats what its last digest is. Once a majority of the voters
//! agrees and somebody differs, the leader appends a verdict, and who it contradicts quarantines
//! itself, the leader as well. If they differ and none has a majority, nobody knows who is right:
//! client writes are refused until one has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kontiki_raft::{Configuration, Index, Role, ServerId, Time};

use super::Driver;
use super::interface::{Output, Refusal};
use crate::host::{Control, Digest, Job};

/// Checkpoints whose digests are compared.
pub(super) const CHECKPOINTS_MAX: usize = 4;
/// Servers whose digests of one checkpoint are kept.
const SERVERS_MAX: usize = kontiki_raft::SERVERS_MAX;
/// Pause after a piece of the state was hashed. With pieces of 256 KiB a gigabyte takes 8 s, and most of
/// the thread is left to everything else.
const PIECE_PAUSE: Duration = Duration::from_millis(2);

/// When the leader has everyone take a digest. It never does while nothing changes.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointConfig {
    /// After so many commands and configurations, at the latest.
    pub entries_max: u64,
    /// After so long.
    pub interval: Duration,
}

/// What a leader knows of the others' digests.
#[derive(Debug, Default)]
pub(super) struct Reports {
    by_checkpoint: BTreeMap<Index, BTreeMap<ServerId, u64>>,
    /// Something was added since they were compared.
    is_new: bool,
    /// What the servers differ about, if none of their digests has a majority.
    diverged: Option<String>,
}

impl Reports {
    pub(super) fn add(&mut self, from: ServerId, digest: Digest) {
        if self.by_checkpoint.len() >= CHECKPOINTS_MAX
            && !self.by_checkpoint.contains_key(&digest.index)
        {
            match self.by_checkpoint.first_key_value() {
                Some((oldest, _)) if *oldest < digest.index => self.by_checkpoint.pop_first(),
                _ => return,
            };
        }
        let reports = self.by_checkpoint.entry(digest.index).or_default();
        if reports.len() < SERVERS_MAX || reports.contains_key(&from) {
            self.is_new |= reports.insert(from, digest.value) != Some(digest.value);
        }
    }

    /// How many are compared.
    pub(super) fn checkpoints(&self) -> usize {
        self.by_checkpoint.len()
    }

    pub(super) fn diverged(&self) -> Option<&String> {
        self.diverged.as_ref()
    }
}

/// What the digests of one checkpoint say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Comparison {
    /// Nobody differs, or too few have said anything.
    Open,
    /// A majority of the voters agrees, and somebody differs from it.
    Differs(u64),
    /// They differ, and nobody has a majority.
    Split,
}

fn compare(reports: &BTreeMap<ServerId, u64>, configuration: &Configuration) -> Comparison {
    let said_by = |counts: &dyn Fn(ServerId) -> bool| -> BTreeSet<u64> {
        let counted = reports.iter().filter(|(server, _)| counts(**server));
        counted.map(|(_, value)| *value).collect()
    };
    let values = said_by(&|server| configuration.contains(server));
    let voted = said_by(&|server| configuration.is_voter(server));
    let is_majority = |value: &u64| {
        configuration.halves().all(|half| {
            let agree = half
                .iter()
                .filter(|voter| reports.get(voter) == Some(value));
            agree.count() > half.len() / 2
        })
    };
    match values.iter().find(|value| is_majority(value)) {
        Some(right) if values.len() > 1 => Comparison::Differs(*right),
        None if voted.len() > 1 => Comparison::Split,
        _ => Comparison::Open,
    }
}

impl<R> Driver<R> {
    /// Appends a checkpoint if it is time, and a verdict if somebody differs.
    pub(super) fn check_digests(&mut self) {
        if self.raft.role() != Role::Leader {
            self.checkpoint_at = None;
            self.reports = Reports::default();
            return;
        }
        if let Some(digest) = self.applier.status().digest {
            self.reports.add(self.raft.id(), digest);
        }
        // A change of the configuration may leave those who agree a majority.
        if std::mem::take(&mut self.reports.is_new) || self.reports.diverged.is_some() {
            self.compare_reports();
        }
        if self.is_checkpoint_due() && self.propose_control(Control::Checkpoint).is_ok() {
            self.checkpoint_at = Some(self.now);
        }
    }

    fn is_checkpoint_due(&mut self) -> bool {
        let since = *self.checkpoint_at.get_or_insert(self.now);
        let status = self.applier.status();
        let is_late = self.now.since(since) >= self.checkpoint.interval;
        let is_wanted = status.unchecked >= self.checkpoint.entries_max
            || (is_late && (status.unchecked > 0 || self.reports.diverged.is_some()));
        is_wanted
            && status.activated.is_some()
            && !status.hashing
            && !self.controls.has_checkpoint()
            && self.raft.is_term_committed()
    }

    fn compare_reports(&mut self) {
        let configuration = self.raft.configuration().1;
        let judged = self.controls.judged().unwrap_or_default();
        let mut verdict = None;
        // A later checkpoint says more about now than an earlier one, once two voters have one.
        let mut diverged = None;
        for (index, reports) in &self.reports.by_checkpoint {
            let compared = compare(reports, configuration);
            let voters = reports.keys().filter(|from| configuration.is_voter(**from));
            if voters.count() > 1 {
                diverged = (compared == Comparison::Split).then(|| {
                    let each = reports.iter();
                    let each = each.map(|(server, value)| format!("{server} has {value:016x}"));
                    let each: Vec<String> = each.collect();
                    format!(
                        "the servers differ at entry {}, and no majority of voters agrees: {}; \
                         replace those that are wrong",
                        index.0,
                        each.join(", "),
                    )
                });
            }
            if let Comparison::Differs(value) = compared
                && *index > judged
            {
                verdict = Some(Digest {
                    index: *index,
                    value,
                });
            }
        }
        self.reports.diverged = diverged;
        if let Some(verdict) = verdict {
            let is_proposed = self.propose_control(Control::Verdict(verdict)).is_ok();
            self.reports.is_new |= !is_proposed;
        }
    }

    /// No write is accepted while nobody knows which of the states is right.
    pub(super) fn check_agreement(&self) -> Result<(), Refusal> {
        match &self.reports.diverged {
            Some(why) => Err(Refusal::Diverged(why.clone())),
            None => Ok(()),
        }
    }

    /// Hashes a piece of the state, if it is time. Answers when the next one is due.
    pub(super) fn hash_state(&mut self, outputs: &mut Vec<Output<R>>) -> Time {
        if !self.applier.may_hash() {
            return Time::NEVER;
        }
        if self.now >= self.hash_due {
            self.hash_due = self.now + PIECE_PAUSE;
            self.give(Job::Digest, outputs);
        }
        match self.applier.may_hash() {
            true => self.hash_due,
            false => Time::NEVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(ids: &[u64]) -> BTreeSet<ServerId> {
        ids.iter().map(|id| ServerId(*id)).collect()
    }

    fn configuration(ids: &[u64]) -> Configuration {
        Configuration {
            voters: voters(ids),
            learners: [(ServerId(9), kontiki_raft::Purpose::Join)].into(),
            ..Configuration::default()
        }
    }

    fn reports(pairs: &[(u64, u64)]) -> BTreeMap<ServerId, u64> {
        pairs
            .iter()
            .map(|(server, value)| (ServerId(*server), *value))
            .collect()
    }

    #[test]
    fn only_a_majority_of_voters_is_right() {
        let three = configuration(&[1, 2, 3]);
        for (said, expected) in [
            (&[][..], Comparison::Open),
            (&[(1, 7)], Comparison::Open),
            (&[(1, 7), (2, 7), (3, 7)], Comparison::Open),
            (&[(1, 7), (2, 7), (3, 8)], Comparison::Differs(7)),
            (&[(1, 9), (2, 8), (3, 8)], Comparison::Differs(8)),
            // A learner is judged, and does not count; whoever is no member any more is not judged.
            (&[(1, 7), (2, 7), (9, 8)], Comparison::Differs(7)),
            (&[(1, 7), (9, 8)], Comparison::Open),
            (&[(1, 7), (2, 7), (8, 8)], Comparison::Open),
            (&[(1, 7), (2, 8)], Comparison::Split),
            (&[(1, 7), (2, 8), (9, 8)], Comparison::Split),
            (&[(1, 7), (2, 8), (3, 9)], Comparison::Split),
        ] {
            let compared = compare(&reports(said), &three);
            assert_eq!(compared, expected, "{said:?}");
        }
    }

    #[test]
    fn of_an_even_number_of_voters_half_is_not_enough() {
        let said = reports(&[(1, 7), (2, 7), (3, 8), (4, 8)]);
        assert_eq!(
            compare(&said, &configuration(&[1, 2, 3, 4])),
            Comparison::Split
        );
    }

    #[test]
    fn while_joint_both_halves_must_agree() {
        let joint = Configuration {
            outgoing: Some(voters(&[1, 2, 3])),
            ..configuration(&[3, 4, 5])
        };
        let said = reports(&[(1, 7), (2, 7), (3, 8), (4, 8), (5, 8)]);
        assert_eq!(compare(&said, &joint), Comparison::Split);
        let said = reports(&[(1, 7), (2, 8), (3, 8), (4, 8), (5, 8)]);
        assert_eq!(compare(&said, &joint), Comparison::Differs(8));
    }

    #[test]
    fn only_the_last_checkpoints_are_kept() {
        let mut kept = Reports::default();
        for index in 1..=10 {
            let index = Index(index);
            kept.add(ServerId(1), Digest { index, value: 7 });
        }
        kept.add(
            ServerId(1),
            Digest {
                index: Index(2),
                value: 7,
            },
        );
        let indexes: Vec<u64> = kept.by_checkpoint.keys().map(|index| index.0).collect();
        assert_eq!(indexes, [7, 8, 9, 10]);
    }
}
