//! Replicated time goes on no faster than time does, also from one leader to the next: or sessions would
//! end before their clients were idle for so long. Each entry that carries it is compared with those
//! before it in the log, by when leaders made them.

use std::collections::BTreeMap;

use kontiki_node::host::Control;
use kontiki_raft::{CLOCK_DRIFT_PPM_MAX, Index, LogId};

use super::{Invariant, Ledger, Turn};

const MILLION: u64 = 1_000_000;
/// Replicated time is in whole milliseconds, and so is what a leader has left over of one.
const SLACK_MS: u64 = 2;

/// Replicated time at the end of a part of the log.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    /// In milliseconds.
    time: u64,
    /// When it was known to be that, in nanoseconds of the simulation.
    at: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct ReplicatedTime {
    reached: BTreeMap<LogId, Reached>,
}

impl Reached {
    /// After an entry that carries a time, made at a moment.
    fn then(self, time: u64, at: u64) -> Result<Self, String> {
        let elapsed = at.saturating_sub(self.at) / MILLION;
        let most = elapsed + elapsed * CLOCK_DRIFT_PPM_MAX / MILLION + SLACK_MS;
        if time > self.time + most {
            return Err(format!(
                "replicated time goes from {} to {time} ms, at most {most} ms later",
                self.time
            ));
        }
        Ok(match time >= self.time {
            true => Self { time, at },
            // An earlier leader was ahead: what this one writes counts for nothing yet.
            false => self,
        })
    }
}

impl Invariant for ReplicatedTime {
    fn name(&self) -> &'static str {
        "replicated time"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        if ledger.clocks_are_wild {
            return Ok(());
        }
        // An entry is first seen in the turn in which a leader makes it, also if that leads no more at the
        // end of the turn.
        let log = ledger.log(turn.server);
        for position in turn.appended.clone() {
            let id = log[position].id;
            if self.reached.contains_key(&id) {
                continue;
            }
            let before = position.checked_sub(1).map(|before| log[before].id);
            let before = before.and_then(|id| self.reached.get(&id));
            let before = before.copied().unwrap_or_default();
            let time = match turn.driver.control(Index(position as u64 + 1)) {
                Some(Control::OpenSession(opening)) => Some(opening.time),
                Some(Control::InSession { time, .. }) => Some(time),
                Some(Control::Clock(clock)) => Some(clock.time),
                _ => None,
            };
            let reached = match time {
                Some(time) => before
                    .then(time, turn.now)
                    .map_err(|why| format!("entry {id}: {why}"))?,
                None => before,
            };
            self.reached.insert(id, reached);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_found_and_a_leader_that_is_behind_changes_nothing() {
        let seconds = |seconds: u64| seconds * 1_000_000_000;
        let start = Reached::default();
        let first = start.then(10_100, seconds(10)).expect("within the drift");
        assert!(start.then(10_300, seconds(10)).is_err());
        let behind = first.then(9_000, seconds(11)).expect("time stands still");
        assert_eq!((behind.time, behind.at), (10_100, seconds(10)));
        assert!(behind.then(11_000, seconds(11)).is_ok());
        assert!(first.then(12_000, seconds(11)).is_err());
    }
}
