//! No session ends early: one that is said to be gone was closed, had been idle for its time to live when
//! a clock entry said so, or had to make room as the one idle longest. Reckoned from the entries that are
//! committed, in a model of its own. What sessions take in bytes is not modelled: from a clock entry on
//! that may have ended sessions for that, they count as doubtful.

use std::collections::BTreeMap;

use kontiki_node::driver::Refusal;
use kontiki_node::host::{Control, SessionRefusal};
use kontiki_raft::{Index, LogId};

use super::{Asked, Invariant, Ledger, Turn};

/// All sessions of a run take less than this many bytes: a bound that is larger ends none.
const BYTES_MAX: u64 = 1 << 20;

/// What of an entry concerns sessions.
#[derive(Clone, Copy, Debug)]
enum Said {
    Open { time: u64, sessions_max: usize },
    Use { time: u64, session: u64 },
    Close(u64),
    Clock { time: u64, ttl: u64, bytes_max: u64 },
}

/// See the module.
#[derive(Debug, Default)]
pub struct SessionLife {
    /// Of every entry that was seen, when it was made.
    said: BTreeMap<LogId, Said>,
    model: Model,
    /// So many committed entries are in the model.
    through: usize,
}

#[derive(Debug, Default)]
struct Model {
    time: u64,
    /// When each was last used.
    open: BTreeMap<u64, u64>,
    /// Sessions may have ended for what all of them take.
    is_doubtful: bool,
}

impl Model {
    fn take(&mut self, index: u64, said: Said) {
        match said {
            Said::Open { time, sessions_max } => {
                self.time = self.time.max(time);
                while self.open.len() >= sessions_max.max(1) {
                    let idle = self.open.iter().min_by_key(|(id, used)| (**used, **id));
                    let idle = idle.map(|(id, _)| *id).unwrap_or_default();
                    self.open.remove(&idle);
                }
                self.open.insert(index, self.time);
            }
            Said::Use { time, session } => {
                self.time = self.time.max(time);
                if let Some(used) = self.open.get_mut(&session) {
                    *used = self.time;
                }
            }
            Said::Close(session) => {
                self.open.remove(&session);
            }
            Said::Clock {
                time,
                ttl,
                bytes_max,
            } => {
                self.time = self.time.max(time);
                let now = self.time;
                self.open.retain(|_, used| *used + ttl > now);
                self.is_doubtful |= bytes_max < BYTES_MAX;
            }
        }
    }
}

impl SessionLife {
    fn learn(&mut self, turn: &Turn<'_>, ledger: &Ledger) {
        let log = ledger.log(turn.server);
        // What the model has taken is committed, and so the same in every log.
        let fresh = turn.appended.start.max(self.through)..turn.appended.end;
        for position in fresh {
            let said = match turn.driver.control(Index(position as u64 + 1)) {
                Some(Control::OpenSession(opening)) => Said::Open {
                    time: opening.time,
                    sessions_max: opening.sessions_max as usize,
                },
                Some(Control::InSession { time, stamp, .. }) => Said::Use {
                    time,
                    session: stamp.session.0,
                },
                Some(Control::CloseSession(session)) => Said::Close(session.0),
                Some(Control::Clock(clock)) => Said::Clock {
                    time: clock.time,
                    ttl: clock.ttl,
                    bytes_max: clock.bytes_max,
                },
                _ => continue,
            };
            self.said.insert(log[position].id, said);
        }
    }
}

impl Invariant for SessionLife {
    fn name(&self) -> &'static str {
        "session life"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        self.learn(turn, ledger);
        // A refusal is decided at an entry that this server has applied. Sessions never come back, so one
        // that is open in the model, which has gone at least as far, was open then.
        let log = ledger.log(turn.server);
        let applied = (turn.status.applied.0 as usize).min(log.len());
        while self.through < applied {
            let entry = log[self.through];
            self.through += 1;
            if let Some(said) = self.said.remove(&entry.id) {
                self.model.take(entry.id.index.0, said);
            }
        }
        let model = &self.model;
        for (id, result) in turn.replies() {
            let Some((_, Asked::Write { .. }, _)) = ledger.open.get(&id) else {
                continue;
            };
            if let Err(Refusal::Session(SessionRefusal::Expired(session))) = result
                && let Some(used) = model.open.get(&session.0)
                && !model.is_doubtful
            {
                return Err(format!(
                    "session {} is said to be gone; it was last used at {used} ms, and replicated \
                     time is {} ms",
                    session.0, model.time
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(time: u64, sessions_max: usize) -> Said {
        Said::Open { time, sessions_max }
    }

    #[test]
    fn a_session_lives_for_its_time_to_live_after_its_last_entry() {
        let mut model = Model::default();
        model.take(4, open(1000, 10));
        model.take(
            5,
            Said::Use {
                time: 1500,
                session: 4,
            },
        );
        let clock = |time| Said::Clock {
            time,
            ttl: 500,
            bytes_max: BYTES_MAX,
        };
        model.take(6, clock(1999));
        assert!(model.open.contains_key(&4));
        model.take(7, clock(2000));
        assert!(!model.open.contains_key(&4));
        assert!(!model.is_doubtful);
    }

    #[test]
    fn the_one_idle_longest_makes_room() {
        let mut model = Model::default();
        model.take(4, open(1000, 2));
        model.take(5, open(1001, 2));
        model.take(
            6,
            Said::Use {
                time: 1002,
                session: 4,
            },
        );
        model.take(7, open(1003, 2));
        assert_eq!(model.open.keys().copied().collect::<Vec<_>>(), [4, 7]);
        model.take(8, Said::Close(4));
        assert_eq!(model.open.len(), 1);
    }
}
