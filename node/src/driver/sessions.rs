//! What a leader writes into entries of sessions: bounds, and the time.
//!
//! Replicated time is what leaders have seen pass, in milliseconds. Each goes on from what it has
//! applied, by its own monotonic clock, and writes the time into every entry of a session; the host
//! takes the largest. While there are sessions, the leader writes a clock entry four times in a ttl,
//! and that is what makes them expire. Between two leaders time stands still, so a session may live
//! longer than its ttl, and never shorter (but for a leader's clock that runs fast).
//!
//! A session id is unique in its cluster only, so every request names the cluster that its session is of.
//! It is checked here, before the log, by whoever leads. The entry does not repeat it: it is only ever in
//! the log of the cluster whose leader has checked it, because messages between servers name theirs.

use std::time::Duration;

use kontiki_raft::{ClusterId, Index, Role, Time};

use super::Driver;
use super::interface::{Output, Refusal};
use crate::host::{Clock, Control, Opening, SessionId, Stamp};

/// Clock entries in a ttl.
const CLOCKS_PER_TTL: u32 = 4;

/// Bounds of sessions, which the leader writes into the entries that they bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionBounds {
    /// A session idle for so long expires.
    pub ttl: Duration,
    /// Open sessions; one more makes the one expire that was idle longest.
    pub sessions_max: u32,
    /// How far above its acknowledged sequence a session's sequences may go.
    pub window_max: u32,
    /// Bytes of replies that one session keeps.
    pub reply_bytes_max: u32,
    /// Bytes of all sessions.
    pub bytes_max: u64,
}

/// Replicated time as this server would write it, and when it will.
#[derive(Debug)]
pub(super) struct SessionClock {
    bounds: SessionBounds,
    /// Milliseconds of replicated time, as of `since`.
    time: u64,
    since: Time,
    /// When the next clock entry is due, if this server leads and there are sessions.
    clock_at: Time,
    /// The last clock entry that was proposed here: until it is applied, another adds nothing.
    proposed: Index,
}

impl SessionClock {
    pub(super) fn new(bounds: SessionBounds, now: Time) -> Self {
        Self {
            bounds,
            time: 0,
            since: now,
            clock_at: now + bounds.ttl / CLOCKS_PER_TTL,
            proposed: Index(0),
        }
    }

    fn advance(&mut self, now: Time, applied: u64, leads: bool) {
        let passed = now.since(self.since);
        let whole = Duration::from_millis(passed.as_millis() as u64);
        if leads {
            self.time = self.time.saturating_add(whole.as_millis() as u64);
            self.since = self.since + whole;
            self.time = self.time.max(applied);
        } else {
            // Time that it saw pass as a leader and could not write into the log did not pass for entries
            // that others have written since.
            self.since = now;
            self.time = applied;
        }
    }

    fn put_off(&mut self, now: Time) {
        self.clock_at = now + self.bounds.ttl / CLOCKS_PER_TTL;
    }
}

impl<R> Driver<R> {
    /// At the beginning of a turn: takes over the time that has passed.
    pub(super) fn advance_sessions(&mut self) {
        let applied = self.applier.status().sessions;
        let leads = self.raft.role() == Role::Leader;
        self.sessions.advance(self.now, applied.time, leads);
        if !leads || applied.open == 0 {
            self.sessions.put_off(self.now);
        }
    }

    /// Proposes a clock entry if one is due, or if sessions take more than they may.
    pub(super) fn tick_sessions(&mut self) {
        let status = self.applier.status();
        let (open, bytes) = (status.sessions.open, status.sessions.bytes as u64);
        if self.raft.role() != Role::Leader || open == 0 {
            return;
        }
        let is_too_much = bytes > self.sessions.bounds.bytes_max;
        let is_pending = self.sessions.proposed > status.applied.index;
        if self.now < self.sessions.clock_at && (!is_too_much || is_pending) {
            return;
        }
        self.sessions.put_off(self.now);
        let clock = Clock {
            time: self.sessions.time,
            ttl: self.sessions.bounds.ttl.as_millis() as u64,
            bytes_max: self.sessions.bounds.bytes_max,
        };
        // Refused while leadership is handed over, or too much is in flight: the next will do.
        if let Ok(id) = self.propose_control(Control::Clock(clock)) {
            self.sessions.proposed = id.index;
        }
    }

    /// When the next clock entry is due.
    pub(super) fn sessions_due(&self) -> Time {
        let open = self.applier.status().sessions.open;
        match self.raft.role() {
            Role::Leader if open > 0 => self.sessions.clock_at,
            _ => Time::NEVER,
        }
    }

    pub(super) fn write_in_session(
        &mut self,
        command: &[u8],
        cluster: ClusterId,
        stamp: Stamp,
        reply: R,
        outputs: &mut Vec<Output<R>>,
    ) {
        let entry = Control::InSession {
            time: self.sessions.time,
            stamp,
            command,
        };
        let checked = self
            .check_session(cluster, stamp.session)
            .and_then(|()| self.check_write(command));
        self.propose_for(checked, entry, reply, outputs);
    }

    pub(super) fn open_session(&mut self, reply: R, outputs: &mut Vec<Output<R>>) {
        let bounds = self.sessions.bounds;
        let entry = Control::OpenSession(Opening {
            time: self.sessions.time,
            sessions_max: bounds.sessions_max,
            window_max: bounds.window_max,
            reply_bytes_max: bounds.reply_bytes_max,
        });
        let checked = self.check_activated();
        self.propose_for(checked, entry, reply, outputs);
    }

    pub(super) fn close_session(
        &mut self,
        cluster: ClusterId,
        session: SessionId,
        reply: R,
        outputs: &mut Vec<Output<R>>,
    ) {
        let checked = self
            .check_session(cluster, session)
            .and_then(|()| self.check_activated());
        self.propose_for(checked, Control::CloseSession(session), reply, outputs);
    }

    /// Refuses a session of another cluster. Only a leader does: what a server left over from a former
    /// cluster says must not make a client give up a session of the present one.
    fn check_session(&self, theirs: ClusterId, session: SessionId) -> Result<(), Refusal> {
        match self.cluster {
            Some(mine) if self.raft.role() == Role::Leader && mine != theirs => {
                Err(Refusal::SessionOf {
                    session,
                    theirs,
                    mine,
                })
            }
            _ => Ok(()),
        }
    }

    /// Proposes an entry that a client waits for.
    fn propose_for(
        &mut self,
        checked: Result<(), Refusal>,
        entry: Control<'_>,
        reply: R,
        outputs: &mut Vec<Output<R>>,
    ) {
        let proposed = checked.and_then(|()| self.propose_control(entry));
        match proposed {
            Ok(id) => {
                self.counters.proposed += 1;
                self.requests.wait_for_write(id, Some(reply));
            }
            Err(refusal) => self.answer(reply, Err(refusal), outputs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> SessionClock {
        let bounds = SessionBounds {
            ttl: Duration::from_secs(60),
            sessions_max: 10,
            window_max: 10,
            reply_bytes_max: 100,
            bytes_max: 1000,
        };
        SessionClock::new(bounds, Time(0))
    }

    fn at(milliseconds: u64) -> Time {
        Time(0) + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_leader_goes_on_from_what_is_applied_by_its_own_clock() {
        let mut clock = clock();
        clock.advance(at(500), 0, false);
        assert_eq!(clock.time, 0, "a follower sees no time pass");
        clock.advance(at(800), 0, true);
        assert_eq!(clock.time, 300);
        clock.advance(at(900), 7000, true);
        assert_eq!(clock.time, 7000);
        clock.advance(at(1000), 7000, true);
        assert_eq!(clock.time, 7100);
    }

    /// A session that another leader has served meanwhile would age by that time at once.
    #[test]
    fn a_leader_forgets_time_that_it_did_not_get_into_the_log() {
        let mut clock = clock();
        clock.advance(at(2000), 100, true);
        assert_eq!(clock.time, 2000);
        clock.advance(at(2100), 100, false);
        assert_eq!(clock.time, 100, "none of its entries was committed");
        clock.advance(at(2200), 150, false);
        clock.advance(at(2250), 150, true);
        assert_eq!(clock.time, 200);
    }
}
