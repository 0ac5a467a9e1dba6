//! Compaction, and snapshots that are sent. Those that are received are in `receive`.
//!
//! The engine asks, the host freezes its state, which costs it nothing, and every turn writes one more
//! piece of it for each transfer, as long as a window, and the rate, has room. Pieces that are not
//! acknowledged are kept and sent again after a while, or once the connection is up again: that is all it
//! takes to resume.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{
    Index, Message, Role, ServerId, SnapshotAck, SnapshotChunk, SnapshotOutcome, Time,
};

use super::Driver;
use super::interface::{Envelope, HostReport, Output};
use super::outgoing::Outgoing;
use super::piece::Header;
use super::receive::Receiving;
use crate::host::{HostView, Job};

/// How snapshots travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// Bytes of a piece.
    pub piece_bytes: usize,
    /// Bytes of a snapshot that this server receives; past it the snapshot is refused.
    pub bytes_max: u64,
    /// Bytes sent in a second, to all servers together; 0: as many as go.
    pub bytes_per_second: u64,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        Self {
            piece_bytes: 256 << 10,
            bytes_max: 16 << 30,
            bytes_per_second: 0,
        }
    }
}

impl SnapshotSettings {
    /// How long the rate lets pass between two pieces, to whichever servers.
    pub(crate) fn piece_pause(&self) -> Duration {
        pause_after(self.piece_bytes, self)
    }
}

/// Snapshots under way.
pub(super) struct Snapshots {
    settings: SnapshotSettings,
    /// For whom the host was asked to freeze its state.
    asked: BTreeSet<ServerId>,
    outgoing: BTreeMap<ServerId, Outgoing>,
    /// When the rate allows the next piece.
    next_at: Time,
    pub(super) receiving: Receiving,
}

impl Snapshots {
    pub(super) fn new(settings: SnapshotSettings) -> Self {
        Self {
            settings,
            asked: BTreeSet::new(),
            outgoing: BTreeMap::new(),
            next_at: Time(0),
            receiving: Receiving::default(),
        }
    }

    /// Bytes of the pieces of snapshots that are on their way to others.
    pub(super) fn sending_bytes(&self) -> usize {
        self.outgoing.values().map(Outgoing::held_bytes).sum()
    }

    pub(super) fn settings(&self) -> &SnapshotSettings {
        &self.settings
    }

    /// How many are under way, how many of them are not delivered yet, and the bytes of all that are sent
    /// and not known to be settled.
    pub(super) fn outgoing(&self) -> (usize, usize, u64) {
        let all = self.outgoing.values();
        let sending = all.clone().filter(|it| !it.is_delivered()).count();
        let bytes = all.map(Outgoing::window_bytes).sum::<usize>();
        (self.outgoing.len(), sending, bytes as u64)
    }
}

impl<R> Driver<R> {
    /// Drops the log that the state covers, but for a tail. The first thing in a turn: what a turn
    /// appends is not dropped before others have seen it.
    pub(super) fn compact(&mut self) {
        let through = self.raft.compactable(self.now, self.applier.applied());
        self.compact_through(through);
    }

    /// Memory is short: drops the log that is kept for servers that lag as well. Nothing of this turn is
    /// among it, since only what was applied before is dropped.
    pub(super) fn compact_under_pressure(&mut self) {
        let applied = self.applier.applied();
        let through = self.raft.compactable_under_pressure(self.now, applied);
        self.compact_through(through);
    }

    fn compact_through(&mut self, through: Index) {
        if through < self.raft.first() {
            return;
        }
        self.counters.compactions += 1;
        self.counters.entries_compacted += through.0 + 1 - self.raft.first().0;
        self.raft.compact(through);
        self.log.compact(through);
        self.controls.compact(self.raft.first());
    }

    // --- sent ---------------------------------------------------------------------------------

    /// The engine wants a snapshot sent.
    pub(super) fn start_snapshot(&mut self, to: ServerId, outputs: &mut Vec<Output<R>>) {
        if self.applier.quarantine().is_none() && self.snapshots.asked.insert(to) {
            self.give(Job::Snapshot { to }, outputs);
        }
    }

    /// The host has frozen its state.
    pub(super) fn on_snapshot_taken(&mut self, to: ServerId, view: HostView) {
        self.snapshots.asked.remove(&to);
        let last = view.applied;
        let Some(id) = self.raft.snapshot_started(self.now, to, last) else {
            return;
        };
        let (index, configuration) = self.raft.configuration_at(last.index);
        let header = Header {
            last,
            configuration: (index, configuration.clone()),
        };
        self.end_snapshots(); // counts the one before, if the log outran it
        let piece_bytes = self.snapshots.settings.piece_bytes;
        let outgoing = Outgoing::new(id, &header, Box::new(view), piece_bytes, self.now);
        self.snapshots.outgoing.insert(to, outgoing);
        self.counters.snapshots_started += 1;
    }

    pub(super) fn on_snapshot_ack(&mut self, from: ServerId, ack: SnapshotAck) {
        let outgoing = self.snapshots.outgoing.get_mut(&from);
        let Some(outgoing) = outgoing.filter(|outgoing| outgoing.id == ack.id) else {
            return;
        };
        match ack.outcome {
            SnapshotOutcome::Received(offset) => {
                outgoing.on_received(offset, self.now);
                if outgoing.is_delivered() {
                    self.raft.snapshot_delivered(self.now, from, ack.id);
                }
            }
            SnapshotOutcome::Refused => {
                self.counters.snapshots_refused_by_peers += 1;
                self.snapshots.outgoing.remove(&from);
            }
        }
    }

    /// Whether a message acknowledges more of a snapshot than there is: as much log would be kept.
    pub(super) fn acknowledges_too_much(&self, from: ServerId, message: &Message) -> bool {
        let Message::SnapshotAck(ack) = message else {
            return false;
        };
        let outgoing = self.snapshots.outgoing.get(&from);
        let outgoing = outgoing.filter(|outgoing| outgoing.id == ack.id);
        let SnapshotOutcome::Received(offset) = ack.outcome else {
            return false;
        };
        outgoing.is_some_and(|outgoing| offset > outgoing.written_through())
    }

    /// The connection for snapshots to a server is new: whatever was under way is lost.
    pub(super) fn on_snapshots_connected(&mut self, peer: ServerId) {
        if let Some(outgoing) = self.snapshots.outgoing.get_mut(&peer) {
            outgoing.rewind(self.now);
            self.counters.snapshots_resumed += 1;
        }
    }

    /// Sends what may be sent now: of each snapshot one piece a turn. Answers when the next turn is
    /// due for it.
    pub(super) fn send_snapshots(&mut self, outputs: &mut Vec<Output<R>>) -> Time {
        self.end_snapshots();
        let mut due = Time::NEVER;
        let heartbeat = self.raft.config().heartbeat;
        let (term, now) = (self.raft.term(), self.now);
        let mut sent = Vec::new();
        for (to, outgoing) in &mut self.snapshots.outgoing {
            if outgoing.lost_at(heartbeat).is_some_and(|at| now >= at) {
                outgoing.on_lost(now);
            }
            if outgoing.is_ready() && now < self.snapshots.next_at {
                due = due.min(self.snapshots.next_at);
            } else if let Some(piece) = outgoing.next(now) {
                let pause = pause_after(piece.sealed.len(), &self.snapshots.settings);
                self.snapshots.next_at = now + pause;
                sent.push((*to, outgoing.id, piece));
                if outgoing.is_ready() {
                    due = due.min(self.snapshots.next_at);
                }
            }
            due = due.min(outgoing.lost_at(heartbeat).unwrap_or(Time::NEVER));
        }
        for (to, id, piece) in sent {
            self.counters.snapshot_bytes_sent += piece.sealed.len() as u64;
            let chunk = SnapshotChunk {
                term,
                id,
                offset: piece.offset,
                is_end: piece.is_end,
            };
            self.send(to, Message::SnapshotChunk(chunk), piece.sealed, outputs);
        }
        due
    }

    /// Forgets transfers that the engine does not know any more.
    fn end_snapshots(&mut self) {
        let (raft, counters) = (&self.raft, &mut self.counters);
        self.snapshots.outgoing.retain(|to, outgoing| {
            if raft.snapshot_for(*to) == Some(outgoing.id) {
                return true;
            }
            let progress = raft.progress().find(|peer| peer.server == *to);
            match progress {
                Some(peer) if peer.matched >= outgoing.id.last.index => {
                    counters.snapshots_delivered += 1;
                }
                _ => counters.snapshots_given_up += 1,
            }
            false
        });
        if self.raft.role() != Role::Leader {
            self.snapshots.asked.clear();
        }
    }

    pub(super) fn send(
        &mut self,
        to: ServerId,
        message: Message,
        batch: Bytes,
        outputs: &mut Vec<Output<R>>,
    ) {
        let (digest, settings) = match &message {
            Message::HeartbeatAck(ack) => {
                let settings = || Box::new(self.comparison.mine().clone());
                (self.applier.status().digest, ack.beat.map(|_| settings()))
            }
            _ => (None, None),
        };
        let applied = matches!(message, Message::HeartbeatAck(_)).then(|| self.applier.applied());
        let host = HostReport {
            versions: Some(self.applier.versions()),
            digest,
            settings,
            is_quarantined: self.applier.quarantine().is_some(),
            election_priority: self.raft.config().election_priority,
            applied,
            origin: self.origin.hash(),
        };
        outputs.push(Output::Send(Envelope {
            cluster: self.cluster.expect("a server that speaks has a cluster"),
            from: self.raft.id(),
            to,
            message,
            batch,
            host,
        }));
    }
}

fn pause_after(bytes: usize, settings: &SnapshotSettings) -> Duration {
    match settings.bytes_per_second {
        0 => Duration::ZERO,
        rate => Duration::from_secs_f64(bytes as f64 / rate as f64),
    }
}
