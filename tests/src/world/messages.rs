//! Messages between servers.

use bytes::Bytes;
use kontiki_node::driver::{Envelope, Input};
use kontiki_raft::{AppendAck, ClusterId, HeartbeatAck, Message, SnapshotAck};

use super::chaos::Did;
use super::{Event, World};
use crate::network::Place;
use crate::rng::Rng;

impl World {
    /// A server sends; the network decides.
    pub(super) fn send(&mut self, from: Place, envelope: Envelope) {
        self.tally.add(kind(&envelope.message));
        // An address that nobody ever had.
        let Some(to) = self.address.get(&envelope.to).copied() else {
            return;
        };
        let fate = self.network.fate(self.now, from, to);
        let Some(arrival) = fate.arrival else {
            self.tally.add("message: lost");
            return;
        };
        if fate.overtakes {
            self.tally.add("message: reordered");
        }
        if fate.delayed {
            self.tally.add("message: held up");
        }
        if fate.slow {
            self.tally.add("message: slow");
        }
        if let Some(copy) = fate.copy {
            self.tally.add("message: duplicated");
            self.at(copy, Event::Arrival(to, envelope.clone()));
        }
        self.at(arrival, Event::Arrival(to, envelope));
    }

    /// A message reaches its address, and whoever lives there now. What was sent to one that is gone
    /// reaches the one in its place: it must drop it.
    pub(super) fn arrive(&mut self, place: Place, envelope: Envelope) {
        let from = self.address.get(&envelope.from).copied().unwrap_or(place);
        if self.network.is_cut(from, place) {
            self.tally.add("message: cut off");
            return;
        }
        let lost = !self.lives(envelope.from);
        let Some(process) = self.places[place].as_mut() else {
            self.tally.add("message: to an empty place");
            return;
        };
        let cluster = process.status.cluster;
        let foreign = cluster.is_some_and(|cluster| cluster != envelope.cluster);
        if envelope.to != process.server || foreign {
            process.misaddressed += 1;
        } else {
            match &envelope.message {
                Message::VoteReply(reply) if reply.granted && !reply.pre => {
                    process.votes.push((envelope.from, reply.term));
                }
                Message::AppendAck(AppendAck { term, .. })
                | Message::HeartbeatAck(HeartbeatAck { term, .. })
                | Message::SnapshotAck(SnapshotAck { term, .. }) => {
                    process.acknowledgements.push((envelope.from, *term));
                }
                _ => {}
            }
        }
        let misrouted = envelope.to != process.server;
        if misrouted {
            self.tally.add("message: for a lost incarnation");
        } else if lost {
            self.tally.add("message: from a lost incarnation, late");
        }
        self.input(place, Input::Peer(envelope));
    }

    /// A copy of some message in flight arrives as if another cluster had sent it, or with a bit
    /// flipped.
    pub(super) fn forge(&mut self, corrupt: bool, rng: &mut Rng) -> Did {
        let suits = |event: &Event| match event {
            Event::Arrival(_, envelope) => !corrupt || !envelope.batch.is_empty(),
            _ => false,
        };
        let mut suitable: Vec<&super::Scheduled> = self
            .events
            .iter()
            .map(|scheduled| &scheduled.0)
            .filter(|scheduled| suits(&scheduled.event))
            .collect();
        suitable.sort(); // a heap's own order is no order to rely on
        let chosen = suitable.first().map(|scheduled| &scheduled.event);
        let Some(Event::Arrival(place, envelope)) = chosen else {
            return None;
        };
        let (place, mut envelope) = (*place, envelope.clone());
        let process = self.places[place].as_ref()?;
        let name = if corrupt {
            let mut batch = envelope.batch.to_vec();
            let at = rng.index(batch.len());
            batch[at] ^= 1 << rng.below(8);
            envelope.batch = Bytes::from(batch);
            self.tally.add("message: corrupted");
            "fault: corrupted message"
        } else {
            process.status.cluster?;
            envelope.cluster = ClusterId(envelope.cluster.0 ^ 0xf00d);
            self.tally.add("message: of another cluster");
            "fault: message of another cluster"
        };
        self.at(self.now, Event::Arrival(place, envelope));
        Some((name, format!("to place {place}")))
    }
}

fn kind(message: &Message) -> &'static str {
    match message {
        Message::Vote(vote) if vote.pre => "sent: pre-vote",
        Message::Vote(_) => "sent: vote",
        Message::VoteReply(_) => "sent: vote reply",
        Message::Append(_) => "sent: append",
        Message::AppendAck(_) => "sent: append ack",
        Message::Heartbeat(_) => "sent: heartbeat",
        Message::HeartbeatAck(_) => "sent: heartbeat ack",
        Message::TimeoutNow(_) => "sent: timeout now",
        Message::SnapshotChunk(_) => "sent: snapshot chunk",
        Message::SnapshotAck(_) => "sent: snapshot ack",
        Message::ReadIndex(_) => "sent: read index",
        Message::ReadIndexReply(_) => "sent: read index reply",
    }
}
