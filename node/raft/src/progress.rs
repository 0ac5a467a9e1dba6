//! What a leader knows of another server, and what may be sent to it.

use std::collections::VecDeque;

use crate::catch_up::CatchUp;
use crate::lease::lease_end;
use crate::message::BeatAck;
use crate::refill::{Delivery, Refill};
use crate::transfer::Eligibility;
use crate::types::{Index, Time};

/// How entries are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Where the logs agree, or whether there is room for more, is not known: one append at a time.
    Probe(Option<Probe>),
    /// They agree up to `next`: appends are pipelined.
    Replicate,
    /// It lacks entries that are compacted: no appends, only heartbeats, until it has a snapshot.
    Refill(Refill),
}

/// The one append that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// When it was sent.
    pub(crate) at: Time,
    /// Its last entry.
    pub(crate) last: Index,
}

/// An append that is not acknowledged.
#[derive(Clone, Copy, Debug)]
struct Sent {
    last: Index,
    /// Encoded, of its entries.
    bytes: usize,
    at: Time,
}

/// Progress of one server.
///
/// Invariant: `matched < next`; `inflight` grows and lies in `matched+1..next`; `inflight_bytes` are its.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Highest index known to be there, persistently.
    pub(crate) matched: Index,
    /// The next index to send.
    pub(crate) next: Index,
    pub(crate) flow: Flow,
    /// Appends not yet acknowledged, oldest first.
    inflight: VecDeque<Sent>,
    inflight_bytes: usize,
    /// Last acknowledgement of anything in this term.
    pub(crate) heard: Option<Time>,
    /// Highest heartbeat round that it has echoed.
    pub(crate) round: u64,
    /// When the last regular heartbeat was sent that it has echoed.
    pub(crate) echoed: Time,
    /// What it has promised holds until then, by the leader's clock.
    pub(crate) leased_until: Time,
    /// Its clock when it answered one, and this leader's when that was heard.
    pub(crate) clock: Option<(Time, Time)>,
    /// Its connection is not known to be down.
    pub(crate) reachable: bool,
    /// What it says of itself; `None` before it said anything.
    pub(crate) eligibility: Option<Eligibility>,
    /// Of a learner.
    pub(crate) catch_up: Option<CatchUp>,
    pub(crate) delivery: Delivery,
}

impl Progress {
    pub(crate) fn new(next: Index) -> Self {
        Self {
            matched: Index(0),
            next,
            flow: Flow::Probe(None),
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            heard: None,
            round: 0,
            echoed: Time(0),
            leased_until: Time(0),
            clock: None,
            reachable: true,
            eligibility: None,
            catch_up: None,
            delivery: Delivery::default(),
        }
    }

    /// Anything came from it.
    pub(crate) fn on_sign_of_life(&mut self, now: Time) {
        self.heard = Some(now);
        self.reachable = true;
    }

    /// It answered a regular heartbeat.
    pub(crate) fn on_beat(&mut self, now: Time, beat: BeatAck) {
        if beat.sent > now {
            return; // not what a server sends
        }
        self.echoed = self.echoed.max(beat.sent);
        let lease_end = lease_end(beat.sent, beat.promise);
        self.leased_until = self.leased_until.max(lease_end);
        if self.clock.is_none_or(|(at, _)| at < beat.at) {
            self.clock = Some((beat.at, now));
        }
    }

    /// `base` is the end of what is compacted: a server that waits for a snapshot needs none any
    /// more once it holds that.
    ///
    /// A server that has less than it was sent has no room for more, or its disk is not done. It is sent
    /// the next append at once if this one brought it further, else a heartbeat later, and the pipeline
    /// begins again only once it has stored a whole append.
    pub(crate) fn on_accepted(&mut self, index: Index, base: Index) {
        let has_grown = index > self.matched;
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched.next());
        if matches!(self.flow, Flow::Refill(_)) {
            if self.matched < base {
                return;
            }
            self.next = self.matched.next();
            self.on_refilled();
        }
        while let Some(sent) = self.inflight.front()
            && sent.last <= self.matched
        {
            self.inflight_bytes -= sent.bytes;
            self.inflight.pop_front();
        }
        match self.flow {
            Flow::Probe(Some(probe)) if self.matched < probe.last => {
                if has_grown {
                    self.flow = Flow::Probe(None);
                }
            }
            _ => self.flow = Flow::Replicate,
        }
    }

    /// The append after `prev` did not fit; the logs agree at most up to `agreement`.
    /// A refusal of something older than what is already known changes nothing.
    pub(crate) fn on_rejected(&mut self, prev: Index, agreement: Index) {
        let is_stale = match self.flow {
            Flow::Replicate => prev <= self.matched,
            Flow::Probe(_) => prev != self.next.previous(),
            Flow::Refill(_) => true,
        };
        if is_stale {
            return;
        }
        let next = agreement.next().min(prev).max(self.matched.next());
        // Where there is nothing further back to try, the next attempt waits for a heartbeat as well.
        let is_paused = matches!(self.flow, Flow::Probe(_)) && next >= self.next;
        let flow = self.flow;
        self.restart(next);
        if is_paused {
            self.flow = flow;
        }
    }

    /// What was in flight is lost, or will never be acknowledged.
    pub(crate) fn on_lost(&mut self) {
        match self.flow {
            // As it was: as long as it has answered nothing, that it lacks what is compacted is not known.
            Flow::Probe(_) => self.flow = Flow::Probe(None),
            Flow::Replicate => self.restart(self.matched.next()),
            Flow::Refill(_) => {}
        }
    }

    pub(crate) fn restart(&mut self, next: Index) {
        self.next = next;
        self.inflight.clear();
        self.inflight_bytes = 0;
        self.flow = Flow::Probe(None);
    }

    /// An append of so many encoded bytes went out, through `last`.
    pub(crate) fn on_sent(&mut self, now: Time, last: Index, bytes: usize) {
        match self.flow {
            Flow::Probe(_) => self.flow = Flow::Probe(Some(Probe { at: now, last })),
            Flow::Replicate if last >= self.next => {
                self.inflight.push_back(Sent {
                    last,
                    bytes,
                    at: now,
                });
                self.inflight_bytes += bytes;
                self.next = last.next();
            }
            Flow::Replicate | Flow::Refill(_) => {}
        }
    }

    /// Appends in flight.
    pub(crate) fn inflight(&self) -> usize {
        self.inflight.len()
    }

    /// Their encoded bytes.
    pub(crate) fn inflight_bytes(&self) -> usize {
        self.inflight_bytes
    }

    /// When the newest append in flight was sent.
    pub(crate) fn newest_sent(&self) -> Option<Time> {
        self.inflight.back().map(|sent| sent.at)
    }

    /// When the oldest append in flight was sent.
    pub(crate) fn oldest_sent(&self) -> Option<Time> {
        self.inflight.front().map(|sent| sent.at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_late_refusal_does_not_move_what_is_known_to_match() {
        let mut progress = Progress::new(Index(10));
        progress.on_accepted(Index(20), Index(0));
        progress.on_rejected(Index(9), Index(3));
        assert_eq!((progress.matched, progress.next), (Index(20), Index(21)));
        assert_eq!(progress.flow, Flow::Replicate);
    }

    #[test]
    fn a_refusal_in_the_pipeline_probes_again_from_the_match() {
        let mut progress = Progress::new(Index(10));
        progress.on_accepted(Index(9), Index(0));
        progress.on_sent(Time(1), Index(12), 30);
        progress.on_sent(Time(2), Index(15), 30);
        progress.on_rejected(Index(12), Index(9));
        assert_eq!((progress.next, progress.inflight()), (Index(10), 0));
        assert_eq!(progress.flow, Flow::Probe(None));
    }

    #[test]
    fn a_server_that_stores_less_than_it_is_sent_is_sent_no_pipeline() {
        let mut progress = Progress::new(Index(10));
        progress.on_sent(Time(1), Index(20), 30);
        progress.on_accepted(Index(15), Index(0));
        assert_eq!(
            (progress.flow, progress.next),
            (Flow::Probe(None), Index(16))
        );
        progress.on_sent(Time(2), Index(24), 30);
        let waits = Flow::Probe(Some(Probe {
            at: Time(2),
            last: Index(24),
        }));
        progress.on_accepted(Index(15), Index(0));
        assert_eq!((progress.flow, progress.next), (waits, Index(16)));
        progress.on_accepted(Index(24), Index(0));
        assert_eq!((progress.flow, progress.next), (Flow::Replicate, Index(25)));
    }

    #[test]
    fn a_refusal_that_leaves_nothing_to_try_waits_for_a_heartbeat() {
        let mut progress = Progress::new(Index(10));
        progress.on_accepted(Index(9), Index(0));
        progress.on_lost();
        progress.on_sent(Time(2), Index(12), 30);
        let waits = progress.flow;
        progress.on_rejected(Index(9), Index(3));
        assert_eq!((progress.flow, progress.next), (waits, Index(10)));
    }

    #[test]
    fn an_answer_that_comes_again_says_nothing_new_of_a_clock() {
        let mut progress = Progress::new(Index(10));
        let answer = |at| BeatAck {
            sent: Time(5),
            at: Time(at),
            promise: Duration::ZERO,
        };
        progress.on_beat(Time(10), answer(100));
        progress.on_beat(Time(50), answer(100));
        assert_eq!(progress.clock, Some((Time(100), Time(10))));
        progress.on_beat(Time(60), answer(99));
        assert_eq!(progress.clock, Some((Time(100), Time(10))));
        progress.on_beat(Time(70), answer(101));
        assert_eq!(progress.clock, Some((Time(101), Time(70))));
    }

    /// A new leader whose first connection comes up just then would otherwise send a snapshot to who
    /// has the whole log.
    #[test]
    fn a_probe_that_is_lost_is_sent_again_as_it_was() {
        let mut progress = Progress::new(Index(10));
        progress.on_sent(Time(1), Index(10), 10);
        progress.on_lost();
        assert_eq!(
            (progress.flow, progress.next),
            (Flow::Probe(None), Index(10))
        );
    }
}
