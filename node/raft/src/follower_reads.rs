//! Linearizable reads of a server that does not lead: it asks the leader for a read index, and answers
//! from its own state (thesis section 6.4).
//!
//! After a heartbeat without an answer the question is asked anew, under an id of its own, and for what
//! came meanwhile as well. An answer is one to the reads that came before its question was first sent, and
//! to no later ones (etcd #20418); it may be to an earlier question, else a leader that is further away
//! than a heartbeat would never answer any.

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
    to: ServerId,
    sent: Time,
    /// Each with the id of the first question that was for it.
    reads: Vec<(ReadId, u64)>,
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
        flying.map(|(id, _)| id).chain(all.waiting)
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
        if reads.is_empty() && follower.reads.waiting.is_empty() {
            return Time::NEVER;
        }
        self.read_index_last += 1;
        let id = self.read_index_last;
        reads.extend(follower.reads.waiting.drain(..).map(|read| (read, id)));
        follower.reads.flight = Some(Flight {
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
        let Some(flight) = &mut follower.reads.flight else {
            return; // an answer that came twice, or to a question of before
        };
        if flight.to != from {
            return;
        }
        let is_answered = |(_, first): &mut (ReadId, u64)| *first <= reply.id;
        let answered: Vec<_> = flight.reads.extract_if(.., is_answered).collect();
        if flight.reads.is_empty() {
            follower.reads.flight = None;
        }
        let answered = answered.into_iter().map(|(id, _)| match reply.index {
            Some(index) => Output::ReadReady { id, index },
            None => Output::ReadFailed { id },
        });
        self.outputs.extend(answered);
    }
}
