//! A machine that hangs on its thread while the machines of other servers go on.
//!
//! Its server answers heartbeats and stores entries, so as the leader it would keep its office, commit as much
//! as may wait for its machine, and then refuse every write. So it hands over to a server whose machine has
//! applied everything that this one was given. If all machines stand still, at one entry that hangs them all
//! perhaps, nobody is any better and nobody hands over.

use std::time::Duration;

use kontiki_raft::{Index, Time};

use super::Driver;

/// A machine that has entries to apply and is done with none of them for so long stands still. A batch
/// counts once all of it is applied.
const STILL_MAX: Duration = Duration::from_secs(10);

/// Since when the machine stands still.
#[derive(Default)]
pub(super) struct Standstill {
    /// Applied through here.
    applied: Index,
    /// When that was last seen to change, or there was nothing to apply.
    since: Time,
    /// This server led and the machines of most others were further. Until this machine moves.
    is_outrun: bool,
}

impl Standstill {
    pub(super) fn is_outrun(&self) -> bool {
        self.is_outrun
    }

    /// For people.
    pub(super) fn describe(&self, now: Time) -> Option<String> {
        let seconds = now.since(self.since).as_secs();
        self.is_outrun.then(|| {
            format!(
                "the machine has applied nothing after entry {} for {seconds} s, and those of most other \
                 servers have",
                self.applied.0
            )
        })
    }
}

impl<R> Driver<R> {
    /// Hands over if this leader's machine stands still and those of most others do not.
    pub(super) fn watch_machine(&mut self) {
        let (applied, given) = (self.applier.applied(), self.applier.submitted());
        let still = &mut self.applier.standstill;
        if applied != still.applied || applied >= given {
            *still = Standstill {
                applied,
                since: self.now,
                is_outrun: false,
            };
            return;
        }
        if self.now.since(still.since) >= STILL_MAX && self.raft.is_outrun(self.now, given) {
            still.is_outrun = true;
            self.raft.hand_over_to_moving(self.now, given);
        }
    }
}
