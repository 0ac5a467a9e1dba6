//! How long the stages of a write take: one write at a time is followed, and each gap noted.

use std::time::Duration;

use kontiki_raft::{Index, Time};

/// Samples kept until they are drained; past it new ones are not taken.
const SAMPLES_MAX: usize = 1024;

/// A stage of a write; the gap is to the stage before. The first and the last are outside the driver,
/// and measured by whoever runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Taken in by a turn, since it was handed in.
    Proposed,
    /// In the leader's log, since the turn that proposed it began.
    Appended,
    /// Persistent there.
    Persisted,
    /// Held by a quorum.
    Committed,
    /// Applied by the leader.
    Applied,
    /// Answered.
    Replied,
}

#[derive(Debug, Default)]
pub(super) struct Samples {
    /// The write that is followed, the stage it has reached, and when.
    followed: Option<(Index, Stage, Time)>,
    taken: Vec<(Stage, Duration)>,
}

impl Samples {
    pub(super) fn on_appended(&mut self, index: Index, now: Time) {
        if self.followed.is_none() && self.taken.len() + 4 <= SAMPLES_MAX {
            self.taken.push((Stage::Appended, Duration::ZERO));
            self.followed = Some((index, Stage::Appended, now));
        }
    }

    pub(super) fn on_persisted(&mut self, now: Time) {
        self.reach(Stage::Appended, Stage::Persisted, None, now);
    }

    pub(super) fn on_committed(&mut self, commit: Index, now: Time) {
        self.reach(Stage::Persisted, Stage::Committed, Some(commit), now);
    }

    pub(super) fn on_applied(&mut self, applied: Index, now: Time) {
        self.reach(Stage::Committed, Stage::Applied, Some(applied), now);
        self.followed
            .take_if(|followed| followed.1 == Stage::Applied);
    }

    fn reach(&mut self, from: Stage, to: Stage, through: Option<Index>, now: Time) {
        if let Some((index, stage, at)) = &mut self.followed
            && *stage == from
            && through.is_none_or(|through| *index <= through)
        {
            self.taken.push((to, now.since(*at)));
            (*stage, *at) = (to, now);
        }
    }

    pub(super) fn drain(&mut self, mut each: impl FnMut(Stage, Duration)) {
        self.taken
            .drain(..)
            .for_each(|(stage, gap)| each(stage, gap));
    }
}
