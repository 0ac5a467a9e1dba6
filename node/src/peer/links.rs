//! All streams of a node and who may use them. Owned by the driver's loop; everything here is
//! synchronous and cheap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kontiki_raft::{ServerId, Time};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::dial::Dialler;
use super::outbox::{Outbox, outbox};
use super::{Lane, LinkEvent, wire};
use crate::driver::{Envelope, Input, Loss};
use crate::handle::{Handle, Reply};
use crate::metrics::Dropped;

/// A peer outside the configuration that was not written to for so long is forgotten.
const IDLE: std::time::Duration = std::time::Duration::from_secs(30);

/// The streams of a node.
#[derive(Debug)]
pub struct Links {
    handle: Handle,
    events: mpsc::Sender<LinkEvent>,
    peers: BTreeMap<ServerId, Peer>,
}

#[derive(Debug, Default)]
struct Peer {
    dialled: [Option<Dialled>; 3],
    accepted: [Option<(u64, Outbox)>; 3],
    used: Time,
    /// When a piece of a snapshot was last sent.
    used_for_snapshots: Time,
}

#[derive(Debug)]
struct Dialled {
    outbox: Outbox,
    up: bool,
    hurry: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    /// Where an answer of this lane goes: to a stream of that lane, or else to any that the peer
    /// dialled. To a snapshot that it does not need a server answers as to entries, of which there may
    /// have been none yet.
    fn answers(&self, lane: Lane) -> Option<&Outbox> {
        let accepted = self.accepted[lane as usize].as_ref();
        let accepted = accepted.or_else(|| self.accepted.iter().flatten().next());
        accepted.map(|(_, outbox)| outbox)
    }

    fn is_unused(&self) -> bool {
        self.dialled.iter().all(Option::is_none) && self.accepted.iter().all(Option::is_none)
    }

    /// Whether all that is dialled is up, but for snapshots: without those a server is no worse off.
    fn is_up(&self) -> bool {
        let [liveness, entries, _] = &self.dialled;
        [liveness, entries]
            .into_iter()
            .flatten()
            .all(|dialled| dialled.up)
    }
}

impl Links {
    /// No streams yet. Their events come back through `events`.
    pub fn new(handle: Handle, events: mpsc::Sender<LinkEvent>) -> Self {
        Self {
            handle,
            events,
            peers: BTreeMap::new(),
        }
    }

    /// Queues a message: an answer on a stream that the peer dialled, a request on the one that
    /// this server dials, and dials if there is none. What cannot be queued is dropped and counted.
    pub fn send(&mut self, envelope: Envelope, now: Time) {
        let lane = Lane::of(&envelope.message);
        let (to, is_reply) = (envelope.to, envelope.message.is_reply());
        let metrics = self.handle.metrics.clone();
        if is_reply && !self.peers.contains_key(&to) {
            return metrics.count_drop(Dropped::NoStream);
        }
        let peer = self.peers.entry(to).or_default();
        peer.used = now;
        if lane == Lane::Snapshots {
            peer.used_for_snapshots = now;
        }
        let outbox = match is_reply {
            true => peer.answers(lane),
            false => {
                let dialled = peer.dialled[lane as usize]
                    .get_or_insert_with(|| dial(&self.handle, &self.events, to, lane));
                Some(&dialled.outbox)
            }
        };
        match outbox {
            None => metrics.count_drop(Dropped::NoStream),
            Some(outbox) => match outbox.push(wire::encode(envelope)) {
                true => metrics.count_sent(lane),
                false => metrics.count_drop(Dropped::OutboxFull),
            },
        }
    }

    /// Takes note of what happened to a stream, and tells the driver what it needs to know.
    pub fn on_event(
        &mut self,
        event: LinkEvent,
        leader: Option<ServerId>,
        inputs: &mut Vec<Input<Reply>>,
    ) {
        match event {
            LinkEvent::Up(id, lane) => self.on_up(id, lane, inputs),
            LinkEvent::Down(id, lane, loss, outbox) => self.on_down(id, lane, loss, outbox, inputs),
            LinkEvent::Accepted(id, lane, stream, outbox) => {
                let peer = self.peers.entry(id).or_default();
                peer.used = crate::clock::now();
                peer.accepted[lane as usize] = Some((stream, outbox));
                // The peer is there: no need to wait before it is dialled again.
                peer.dialled
                    .iter()
                    .flatten()
                    .filter(|lane| !lane.up)
                    .for_each(|dialled| {
                        dialled.hurry.notify_waiters();
                    });
            }
            LinkEvent::Closed(id, lane, stream) => self.on_closed(id, lane, stream, leader),
        }
    }

    fn on_up(&mut self, id: ServerId, lane: Lane, inputs: &mut Vec<Input<Reply>>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if let Some(dialled) = &mut peer.dialled[lane as usize] {
            dialled.up = true;
        }
        tracing::debug!(peer = %id, lane = lane.name(), "connected");
        if lane == Lane::Snapshots {
            inputs.push(Input::SnapshotsConnected(id));
        } else if peer.is_up() {
            inputs.push(Input::Connected(id));
        }
    }

    fn on_down(
        &mut self,
        id: ServerId,
        lane: Lane,
        loss: Option<Loss>,
        outbox: Outbox,
        inputs: &mut Vec<Input<Reply>>,
    ) {
        let peer = self.peers.get_mut(&id);
        let dialled = peer.and_then(|peer| peer.dialled[lane as usize].as_mut());
        let Some(dialled) = dialled else {
            return;
        };
        dialled.outbox = outbox;
        dialled.up = false;
        if let Some(loss) = loss {
            tracing::debug!(peer = %id, lane = lane.name(), ?loss, "disconnected");
            if lane != Lane::Snapshots {
                inputs.push(Input::Disconnected(id, loss));
            }
        }
    }

    /// A stream that a peer dialled has ended. If that was the leader, it may have died: only a dial
    /// can tell, so one is made at once. What it finds is reported as any other loss.
    fn on_closed(&mut self, id: ServerId, lane: Lane, stream: u64, leader: Option<ServerId>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let accepted = &mut peer.accepted[lane as usize];
        if accepted
            .as_ref()
            .is_none_or(|(current, _)| *current != stream)
        {
            return;
        }
        *accepted = None;
        if peer.is_unused() && !self.handle.book.is_member(id) {
            // Strangers come and go: they are not remembered.
            self.peers.remove(&id);
            return;
        }
        if leader != Some(id) {
            return;
        }
        let liveness = &mut peer.dialled[Lane::Liveness as usize];
        match liveness {
            Some(dialled) => dialled.hurry.notify_waiters(),
            None => *liveness = Some(dial(&self.handle, &self.events, id, Lane::Liveness)),
        }
    }

    /// Keeps the liveness lane to every server of the configuration connected, and forgets others
    /// that have been idle.
    pub fn keep(&mut self, servers: &BTreeSet<ServerId>, now: Time) {
        self.handle.book.keep(servers);
        let me = self.handle.server;
        for &id in servers.iter().filter(|id| **id != me) {
            let peer = self.peers.entry(id).or_default();
            peer.used = now;
            peer.dialled[Lane::Liveness as usize]
                .get_or_insert_with(|| dial(&self.handle, &self.events, id, Lane::Liveness));
        }
        self.peers.retain(|_, peer| {
            let connected = peer.accepted.iter().any(Option::is_some);
            if now.since(peer.used) >= IDLE {
                peer.dialled = Default::default();
            }
            if now.since(peer.used_for_snapshots) >= IDLE {
                peer.dialled[Lane::Snapshots as usize] = None;
            }
            connected || now.since(peer.used) < IDLE
        });
    }
}

fn dial(handle: &Handle, events: &mpsc::Sender<LinkEvent>, peer: ServerId, lane: Lane) -> Dialled {
    let limits = handle.limits;
    let (outbox, queue) = outbox(limits.peer_queue_messages_max, limits.peer_queue_bytes_max);
    let hurry = Arc::new(Notify::new());
    let dialler = Dialler {
        handle: handle.clone(),
        peer,
        lane,
        events: events.clone(),
        hurry: hurry.clone(),
    };
    Dialled {
        outbox,
        up: false,
        hurry,
        task: tokio::spawn(dialler.run(queue)),
    }
}
