//! Linearizable reads: ReadIndex (thesis section 6.4), batched, one round in flight.
//!
//! A round has a number that is never used again in the term, so an acknowledgement of an earlier
//! round confirms nothing later (etcd #20418).

use std::collections::BTreeSet;

use crate::message::{Beat, Message, ReadIndexReply};
use crate::output::{Output, ReadId, Refused};
use crate::quorum::Quorum;
use crate::raft::{Raft, State};
use crate::types::{Index, ServerId, Time};

/// The reads of a leader.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    /// The last round begun.
    round: u64,
    waiting: Vec<Reader>,
    flight: Option<Flight>,
    /// Which voters are asked first; moves on with every round.
    rotation: usize,
}

/// Who waits for a confirmation of leadership.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reader {
    /// A read of this server's.
    Here(ReadId),
    /// Another server, which answers the reads behind its question by itself.
    There { server: ServerId, id: u64 },
}

impl Reader {
    /// What it is told: the index, or that there is none.
    fn answer(self, index: Option<Index>) -> Output {
        match (self, index) {
            (Self::Here(id), Some(index)) => Output::ReadReady { id, index },
            (Self::Here(id), None) => Output::ReadFailed { id },
            (Self::There { server, id }, index) => Output::Send {
                to: server,
                message: Message::ReadIndexReply(ReadIndexReply { id, index }),
            },
        }
    }
}

/// Reads that wait for one round.
#[derive(Clone, Debug)]
struct Flight {
    round: u64,
    /// The commit index when the round began.
    index: Index,
    readers: Vec<Reader>,
    began: Time,
    /// Everyone has been asked, not only the smallest quorum.
    is_wide: bool,
    asked: BTreeSet<ServerId>,
}

impl Reads {
    pub(crate) fn push(&mut self, reader: Reader, max: usize) -> Result<(), Refused> {
        let held = self.waiting.len()
            + self
                .flight
                .as_ref()
                .map_or(0, |flight| flight.readers.len());
        if held >= max {
            return Err(Refused::Full {
                what: "queue of reads",
                max,
            });
        }
        self.waiting.push(reader);
        Ok(())
    }

    /// The number for a heartbeat to everyone: it confirms whatever is in flight.
    fn next_round_for_all(&mut self) -> u64 {
        self.round += 1;
        if let Some(flight) = &mut self.flight {
            flight.is_wide = true;
        }
        self.round
    }

    fn begin(&mut self, now: Time, index: Index) {
        if self.flight.is_some() || self.waiting.is_empty() {
            return;
        }
        self.round += 1;
        self.rotation += 1;
        self.flight = Some(Flight {
            round: self.round,
            index,
            readers: std::mem::take(&mut self.waiting),
            began: now,
            is_wide: false,
            asked: BTreeSet::new(),
        });
    }
}

impl Raft {
    /// Asks for a linearizable read. An output of this or a later turn answers it. It waits until
    /// an entry of the leader's term is committed (etcd #7331).
    pub fn read(&mut self, now: Time, id: ReadId) -> Result<(), Refused> {
        self.check_serving(now)?;
        let max = self.config.reads_max;
        let State::Leader(leader) = &mut self.state else {
            unreachable!("checked above")
        };
        leader.reads.push(Reader::Here(id), max)
    }

    /// Answers the reads whose round a quorum has echoed, and begins the next round.
    pub(crate) fn confirm_reads(&mut self, now: Time) {
        self.answer_confirmed();
        let is_term_committed = self.is_term_committed();
        let commit = self.commit;
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        if is_term_committed {
            leader.reads.begin(now, commit);
            self.answer_confirmed(); // a quorum of one needs nobody's word
        }
    }

    fn answer_confirmed(&mut self) {
        let quorum = Quorum::new(self.log.configuration().1, self.config.min_majority);
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        let Some(flight) = &leader.reads.flight else {
            return;
        };
        let has_echoed = |server: ServerId| {
            server == self.id
                || leader
                    .progress
                    .get(&server)
                    .is_some_and(|peer| peer.round >= flight.round)
        };
        if quorum.reached(has_echoed) {
            let flight = leader.reads.flight.take().expect("looked at above");
            let index = Some(flight.index);
            let ready = flight.readers.into_iter();
            self.outputs
                .extend(ready.map(|reader| reader.answer(index)));
        }
    }

    /// Sends what confirms leadership: heartbeats to all when they are due; between those, a round
    /// of reads to the smallest quorum, and to the rest if that has not answered after a quarter of
    /// a heartbeat. Answers when to look again.
    pub(crate) fn send_heartbeats(&mut self, now: Time) -> Time {
        let heartbeat = self.config.heartbeat;
        let State::Leader(leader) = &mut self.state else {
            return Time::NEVER;
        };
        if now >= leader.heartbeat_due {
            leader.heartbeat_due = now + heartbeat;
            let round = leader.reads.next_round_for_all();
            let servers: Vec<ServerId> = leader.progress.keys().copied().collect();
            let lease = self.lease_asked();
            for server in servers {
                let fresh = self.freshness_of(now, server);
                let beat = Beat {
                    sent: now,
                    lease,
                    fresh,
                };
                self.send_heartbeat(server, round, Some(beat));
            }
            return now + heartbeat;
        }
        let heartbeat_due = leader.heartbeat_due;
        let Some(flight) = &mut leader.reads.flight else {
            return heartbeat_due;
        };
        let widen_due = flight.began + heartbeat / 4;
        if flight.is_wide || (!flight.asked.is_empty() && now < widen_due) {
            return heartbeat_due.min(if flight.is_wide {
                Time::NEVER
            } else {
                widen_due
            });
        }
        let round = flight.round;
        let asked = if flight.asked.is_empty() {
            self.smallest_quorum()
        } else {
            flight.is_wide = true;
            let asked = std::mem::take(&mut flight.asked);
            self.other_voters()
                .into_iter()
                .filter(|voter| !asked.contains(voter))
                .collect()
        };
        if let State::Leader(leader) = &mut self.state
            && let Some(flight) = &mut leader.reads.flight
        {
            flight.asked.extend(&asked);
        }
        asked
            .into_iter()
            .for_each(|server| self.send_heartbeat(server, round, None));
        heartbeat_due.min(widen_due)
    }

    /// As few of the other voters as make a quorum with this one; others in every round, those
    /// whose connection is up before those whose is not.
    fn smallest_quorum(&self) -> Vec<ServerId> {
        let State::Leader(leader) = &self.state else {
            return Vec::new();
        };
        let mut voters = self.other_voters();
        if !voters.is_empty() {
            let middle = leader.reads.rotation % voters.len();
            voters.rotate_left(middle);
        }
        voters.sort_by_key(|voter| {
            !leader
                .progress
                .get(voter)
                .is_some_and(|peer| peer.reachable)
        });
        let quorum = self.quorum();
        let enough = (0..voters.len())
            .find(|count| quorum.reached(|v| v == self.id || voters[..*count].contains(&v)))
            .unwrap_or(voters.len());
        voters.truncate(enough);
        voters
    }

    /// Leadership ends, here or where it was asked for: nothing that waits was confirmed.
    pub(crate) fn fail_reads(&mut self) {
        match &mut self.state {
            State::Leader(leader) => {
                let reads = std::mem::take(&mut leader.reads);
                let flying = reads.flight.into_iter().flat_map(|flight| flight.readers);
                let readers = flying.chain(reads.waiting);
                self.outputs
                    .extend(readers.map(|reader| reader.answer(None)));
            }
            State::Follower(follower) => {
                let failed = follower.reads.take().map(|id| Output::ReadFailed { id });
                self.outputs.extend(failed);
            }
            State::PreCandidate(_) | State::Candidate(_) => {}
        }
    }
}
