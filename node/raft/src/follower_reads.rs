//! Linearizable reads of a server that does not lead: it asks the leader for a read index, and answers
//! from its own state (thesis section 6.4).
//!
//! One question is on its way at a time, for all reads that came before it. After a heartbeat without
//! an answer it is asked anew, under an id of its own: an answer to the one before, however late, is
//! none to this one (etcd #20418).

use crate::message::{Message, ReadIndex, ReadIndexReply};
use crate::output::{Output, ReadId, Refused};
use crate::raft::{Raft, State};
use crate::reads::Reader;
use crate::types::{ServerId, Time};

/// Reads that wait for the leader's word.
#[derive(Clone, Debug, Default)]
pub(crate) struct FollowerReads {
    waiting: Vec<ReadId>,
    flight: Option<Flight>,
}

#[derive(Clone, Debug)]
struct Flight {
    id: u64,
    to: ServerId,
    sent: Time,
    reads: Vec<ReadId>,
}

impl FollowerReads {
    fn push(&mut self, id: ReadId, max: usize) -> Result<(), Refused> {
        let held = self.waiting.len() + self.flight.as_ref().map_or(0, |flight| flight.reads.len());
        if held >= max {
            return Err(Refused::Full {
                what: "queue of reads",
                max,
            });
        }
        self.waiting.push(id);
        Ok(())
    }

    /// Takes all of them.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = ReadId> + use<> {
        let all = std::mem::take(self);
        let flying = all.flight.into_iter().flat_map(|flight| flight.reads);
        flying.chain(all.waiting)
    }
}

impl Raft {
    /// Asks for a linearizable read, of whichever server: one that does not lead asks the leader for an
    /// index and answers by itself. An output of this or a later turn answers it; at the latest when
    /// this server gives its leader up.
    pub fn read_through_leader(&mut self, now: Time, id: ReadId) -> Result<(), Refused> {
        let max = self.config.reads_max;
        match &mut self.state {
            State::Leader(_) => self.read(now, id),
            State::Follower(follower) if follower.leader.is_some() => follower.reads.push(id, max),
            _ => Err(Refused::NotLeader(None)),
        }
    }

    /// Asks the leader, if there is anything to ask, and answers when to look again.
    pub(crate) fn ask_read_index(&mut self, now: Time) -> Time {
        let State::Follower(follower) = &mut self.state else {
            return Time::NEVER;
        };
        let Some(leader) = follower.leader else {
            return Time::NEVER;
        };
        let heartbeat = self.config.heartbeat;
        let mut reads = match follower.reads.flight.take() {
            Some(flight) if flight.to == leader && now < flight.sent + heartbeat => {
                let due = flight.sent + heartbeat;
                follower.reads.flight = Some(flight);
                return due;
            }
            Some(flight) => flight.reads,
            None => Vec::new(),
        };
        reads.append(&mut follower.reads.waiting);
        if reads.is_empty() {
            return Time::NEVER;
        }
        self.read_index_last += 1;
        let id = self.read_index_last;
        follower.reads.flight = Some(Flight {
            id,
            to: leader,
            sent: now,
            reads,
        });
        self.send(leader, Message::ReadIndex(ReadIndex { id }));
        now + heartbeat
    }

    /// At the leader: as a read of its own, but that the answer is sent.
    pub(crate) fn on_read_index(&mut self, now: Time, from: ServerId, asked: ReadIndex) {
        let max = self.config.reads_max;
        let id = asked.id;
        let is_serving = self.check_serving(now).is_ok();
        let is_taken = match &mut self.state {
            State::Leader(leader) if is_serving && leader.progress.contains_key(&from) => {
                let reader = Reader::There { server: from, id };
                leader.reads.push(reader, max).is_ok()
            }
            _ => false,
        };
        if !is_taken {
            let reply = ReadIndexReply { id, index: None };
            self.send(from, Message::ReadIndexReply(reply));
        }
    }

    pub(crate) fn on_read_index_reply(&mut self, from: ServerId, reply: ReadIndexReply) {
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        let is_mine = |flight: &mut Flight| (flight.id, flight.to) == (reply.id, from);
        let Some(flight) = follower.reads.flight.take_if(is_mine) else {
            return; // an answer to an earlier question, or one that came twice
        };
        let answered = flight.reads.into_iter().map(|id| match reply.index {
            Some(index) => Output::ReadReady { id, index },
            None => Output::ReadFailed { id },
        });
        self.outputs.extend(answered);
    }
}
