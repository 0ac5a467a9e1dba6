//! Comparing the digests of the servers: who differs from the majority is told so through the log.
//!
//! The leader appends a checkpoint from time to time. Every server hashes its state at it, and says
//! with its acknowledgements of heartbeats what its last digest is. Once a majority of the voters
//! agrees and somebody differs, the leader appends a verdict, and who it contradicts quarantines
//! itself, the leader as well. If they differ and none has a majority, nor can get one from those that
//! have not said theirs and may still do so, nobody knows who is right: client writes are refused until
//! one has.

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
    /// What the servers differ about, if none of their digests has a majority or can still get one.
    diverged: Option<String>,
    /// Voters differ at the last checkpoint of which two have said something, and it is not decided.
    is_contested: bool,
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
    /// Too few voters have said anything yet.
    Open,
    /// Voters differ, and one of their digests can still get a majority.
    Contested,
    /// A majority of the voters agrees, and nobody differs.
    Agreed,
    /// A majority of the voters agrees, and somebody differs from it.
    Differs(u64),
    /// Voters differ, and none of their digests can get a majority.
    Split,
}

/// `may_say` tells of a voter without a digest whether one can be expected.
fn compare(
    reports: &BTreeMap<ServerId, u64>,
    configuration: &Configuration,
    may_say: impl Fn(ServerId) -> bool,
) -> Comparison {
    let said_by = |counts: &dyn Fn(ServerId) -> bool| -> BTreeSet<u64> {
        let counted = reports.iter().filter(|(server, _)| counts(**server));
        counted.map(|(_, value)| *value).collect()
    };
    let values = said_by(&|server| configuration.contains(server));
    let voted = said_by(&|server| configuration.is_voter(server));
    // Whether the voters that have said `value`, with those that have said nothing and are counted as
    // if they had, are a majority of each half.
    let is_majority = |value: u64, counts_silent: &dyn Fn(ServerId) -> bool| {
        configuration.halves().all(|half| {
            let agree = half.iter().filter(|voter| match reports.get(voter) {
                Some(said) => *said == value,
                None => counts_silent(**voter),
            });
            agree.count() > half.len() / 2
        })
    };
    let right = values.iter().find(|value| is_majority(**value, &|_| false));
    let can_be_right = || voted.iter().any(|value| is_majority(*value, &may_say));
    match right {
        Some(right) if values.len() > 1 => Comparison::Differs(*right),
        Some(_) => Comparison::Agreed,
        None if voted.len() < 2 => Comparison::Open,
        None if can_be_right() => Comparison::Contested,
        None => Comparison::Split,
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
        // A change of the configuration may leave those who agree a majority; who was to decide may
        // have gone.
        let is_undecided = self.reports.is_contested || self.reports.diverged.is_some();
        if std::mem::take(&mut self.reports.is_new) || is_undecided {
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
        let is_undecided = self.reports.is_contested || self.reports.diverged.is_some();
        let is_wanted = status.unchecked >= self.checkpoint.entries_max
            || (is_late && (status.unchecked > 0 || is_undecided));
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
        // A later checkpoint says more about now than an earlier one, once it says anything.
        let (mut diverged, mut is_contested) = (None, false);
        for (index, reports) in &self.reports.by_checkpoint {
            let compared = compare(reports, configuration, |voter| self.may_say(voter));
            match compared {
                Comparison::Open => {}
                Comparison::Contested => is_contested = true,
                Comparison::Agreed | Comparison::Differs(_) => {
                    (diverged, is_contested) = (None, false);
                }
                Comparison::Split => {
                    let each = reports.iter();
                    let each = each.map(|(server, value)| format!("{server} has {value:016x}"));
                    let each: Vec<String> = each.collect();
                    diverged = Some(format!(
                        "the servers differ at entry {}, and no majority of voters agrees: {}; \
                         replace those that are wrong",
                        index.0,
                        each.join(", "),
                    ));
                    is_contested = false;
                }
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
        (self.reports.diverged, self.reports.is_contested) = (diverged, is_contested);
        if let Some(verdict) = verdict {
            let is_proposed = self.propose_control(Control::Verdict(verdict)).is_ok();
            self.reports.is_new |= !is_proposed;
        }
    }

    /// Whether a voter that has not said its digest can be expected to say it: it is heard, and goes on
    /// applying.
    fn may_say(&self, voter: ServerId) -> bool {
        if voter == self.raft.id() {
            return true;
        }
        let silence_max = self.raft.config().election_timeout_max;
        let mut peers = self.raft.progress();
        let is_heard = peers.find(|peer| peer.server == voter).is_some_and(|peer| {
            let is_silent = |heard| self.now.since(heard) >= silence_max;
            peer.reachable && !peer.heard.is_some_and(is_silent)
        });
        is_heard && !self.is_known_quarantined(voter)
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
            (&[(1, 7), (2, 7)], Comparison::Agreed),
            (&[(1, 7), (2, 7), (3, 7)], Comparison::Agreed),
            (&[(1, 7), (2, 7), (3, 8)], Comparison::Differs(7)),
            (&[(1, 9), (2, 8), (3, 8)], Comparison::Differs(8)),
            // A learner is judged, and does not count; whoever is no member any more is not judged.
            (&[(1, 7), (2, 7), (9, 8)], Comparison::Differs(7)),
            (&[(1, 7), (9, 8)], Comparison::Open),
            (&[(1, 7), (2, 7), (8, 8)], Comparison::Agreed),
            (&[(1, 7), (2, 8), (3, 9)], Comparison::Split),
        ] {
            for may_say in [false, true] {
                let compared = compare(&reports(said), &three, |_| may_say);
                assert_eq!(compared, expected, "{said:?}");
            }
        }
    }

    #[test]
    fn h14_a_voter_that_has_yet_to_say_its_digest_can_still_make_a_majority() {
        let three = configuration(&[1, 2, 3]);
        let five = configuration(&[1, 2, 3, 4, 5]);
        for (said, configuration, if_expected) in [
            (&[(1, 7), (2, 8)][..], &three, Comparison::Contested),
            (&[(1, 7), (2, 8), (9, 8)], &three, Comparison::Contested),
            (&[(1, 7), (2, 8), (3, 9)], &five, Comparison::Contested),
            (
                &[(1, 7), (2, 7), (3, 8), (4, 8)],
                &five,
                Comparison::Contested,
            ),
            // Three would have to agree, and two is the most that can.
            (&[(1, 7), (2, 8), (3, 9), (4, 6)], &five, Comparison::Split),
        ] {
            let compare = |may_say| compare(&reports(said), configuration, |_| may_say);
            assert_eq!(compare(true), if_expected, "{said:?}");
            // Nobody is left who could decide it.
            assert_eq!(compare(false), Comparison::Split, "{said:?}");
        }
    }

    #[test]
    fn of_an_even_number_of_voters_half_is_not_enough() {
        let said = reports(&[(1, 7), (2, 7), (3, 8), (4, 8)]);
        assert_eq!(
            compare(&said, &configuration(&[1, 2, 3, 4]), |_| true),
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
        assert_eq!(compare(&said, &joint, |_| true), Comparison::Split);
        let said = reports(&[(1, 7), (2, 8), (3, 8), (4, 8), (5, 8)]);
        assert_eq!(compare(&said, &joint, |_| true), Comparison::Differs(8));
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
