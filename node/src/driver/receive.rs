//! Snapshots that are received.
//!
//! Pieces are taken in order and go to the host as they come, which builds the new state beside the one
//! that is in use. A piece is acknowledged once the host has taken it in, so a leader sends no faster than
//! that, and what waits is bounded. Once the last piece is there the whole is verified; then the host puts
//! the new state in place of the old one, off the node thread, and then the engine moves its log.
//!
//! A snapshot that can be of no use any more is given up, and what the host built is dropped.

use bytes::Bytes;
use kontiki_raft::{Message, SnapshotAck, SnapshotChunk, SnapshotOutcome};

use super::Driver;
use super::incoming::{Assembly, Incoming, Name, PIECES_WITH_HOST_MAX};
use super::interface::{Output, Refusal};
use super::piece::{self, Header};
use crate::host::{HostStatus, Job};

/// The snapshot that is being received, if there is one.
#[derive(Default)]
pub(super) struct Receiving {
    incoming: Option<Incoming>,
    restoring: Option<Restoring>,
    /// How many were begun: the host knows each by its number.
    attempts: u64,
    /// Pieces, of whichever snapshot, that the host was given and has not taken in.
    with_host: usize,
    /// The host is dropping what it built of a snapshot.
    is_giving_up: bool,
    /// Why this server refused the last one that it did.
    refusal: Option<String>,
    /// Which that was: if the answer got lost, the leader goes on sending its end, and is told again.
    refused: Option<Name>,
}

/// A snapshot that is whole and verified, in the host's hands.
struct Restoring {
    name: Name,
    bytes: u64,
    held: usize,
    header: Header,
}

impl Receiving {
    /// Why this server refused the last snapshot that it did.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Bytes that came of the snapshot that this server is receiving or restoring.
    pub(super) fn received(&self) -> Option<u64> {
        let restoring = self.restoring.as_ref().map(|restoring| restoring.bytes);
        restoring.or(self.incoming.as_ref().map(Incoming::received))
    }

    /// Bytes of memory that it takes.
    pub(super) fn held_bytes(&self) -> usize {
        let restoring = self.restoring.as_ref().map(|restoring| restoring.held);
        let incoming = self.incoming.as_ref().map(Incoming::held_bytes);
        restoring.or(incoming).unwrap_or(0)
    }

    /// Pieces that the host was given and has not taken in.
    pub(super) fn with_host(&self) -> usize {
        self.with_host
    }

    /// Begins to receive a snapshot, if this is its beginning, and it is newer than the one under way.
    fn begin(&mut self, name: Name, offset: u64) -> bool {
        let is_newer = self.incoming.as_ref().is_none_or(|incoming| {
            let old = incoming.name;
            (name.term, name.id.number) > (old.term, old.id.number)
        });
        if offset != 0 || !is_newer {
            return false;
        }
        self.attempts += 1;
        self.incoming = Some(Incoming::new(name, self.attempts));
        true
    }
}

impl<R> Driver<R> {
    /// A piece, which the engine has seen. `sealed` was found undamaged.
    pub(super) fn on_snapshot_chunk(
        &mut self,
        from: kontiki_raft::ServerId,
        chunk: SnapshotChunk,
        sealed: &Bytes,
        outputs: &mut Vec<Output<R>>,
    ) {
        if !self.raft.wants_snapshot(from, &chunk) {
            return;
        }
        let name = Name {
            from,
            term: chunk.term,
            id: chunk.id,
        };
        let receiving = &self.snapshots.receiving;
        if self.applier.quarantine().is_some() || receiving.refused == Some(name) {
            return self.ack_snapshot(name, SnapshotOutcome::Refused, outputs);
        }
        if let Some(restoring) = &receiving.restoring {
            // One at a time; another leader sends its own again until this one is settled.
            if restoring.name == name {
                let received = SnapshotOutcome::Received(restoring.bytes);
                self.ack_snapshot(name, received, outputs);
            }
            return;
        }
        if receiving.with_host == PIECES_WITH_HOST_MAX || receiving.is_giving_up {
            return; // the leader sends it again
        }
        self.take_piece(name, chunk, sealed.slice(piece::CHECKSUM_BYTES..), outputs);
    }

    fn take_piece(
        &mut self,
        name: Name,
        chunk: SnapshotChunk,
        piece: Bytes,
        outputs: &mut Vec<Output<R>>,
    ) {
        let receiving = &self.snapshots.receiving;
        let known = receiving.incoming.as_ref();
        if known.is_none_or(|incoming| incoming.name != name) {
            let was_with_host = known.is_some_and(Incoming::is_with_host);
            if !self.snapshots.receiving.begin(name, chunk.offset) {
                return self.ack_snapshot(name, SnapshotOutcome::Received(0), outputs);
            }
            if was_with_host {
                self.discard(outputs);
            }
        }
        let Some(incoming) = &self.snapshots.receiving.incoming else {
            return;
        };
        let before = incoming.received();
        if chunk.offset == before
            && let Err(why) = self.check_room_for_snapshot(piece.len())
        {
            return self.refuse_incoming(name, why, outputs);
        }
        let bytes_max = self.snapshots.settings().bytes_max;
        let Some(incoming) = &mut self.snapshots.receiving.incoming else {
            return;
        };
        let assembly = incoming.take(chunk.offset, chunk.is_end, piece, bytes_max);
        let (received, taken) = (incoming.received(), incoming.taken());
        self.counters.snapshot_bytes_received += received - before;
        match assembly {
            Assembly::Next(bytes) if incoming.is_with_host() => self.give_piece(bytes, outputs),
            Assembly::Next(_) | Assembly::Other => {
                self.ack_snapshot(name, SnapshotOutcome::Received(taken), outputs);
            }
            Assembly::Later => {}
            Assembly::Last(bytes, header) => {
                self.give_piece(bytes, outputs);
                self.restore_snapshot(header, outputs);
            }
            Assembly::Broken(why) => self.refuse_incoming(name, why.to_owned(), outputs),
        }
    }

    /// Gives the host the bytes of the piece that was taken last.
    fn give_piece(&mut self, piece: Bytes, outputs: &mut Vec<Output<R>>) {
        let receiving = &mut self.snapshots.receiving;
        let Some(incoming) = &mut receiving.incoming else {
            return;
        };
        incoming.on_given();
        receiving.with_host += 1;
        let attempt = incoming.attempt;
        self.give(Job::Receive { attempt, piece }, outputs);
    }

    /// The host has taken in a piece, or could not.
    pub(super) fn on_piece_taken(
        &mut self,
        attempt: u64,
        result: Result<usize, String>,
        outputs: &mut Vec<Output<R>>,
    ) {
        let receiving = &mut self.snapshots.receiving;
        receiving.with_host = receiving.with_host.saturating_sub(1);
        let incoming = receiving.incoming.as_mut();
        let Some(incoming) = incoming.filter(|incoming| incoming.attempt == attempt) else {
            return;
        };
        let name = incoming.name;
        match result {
            Ok(held) => {
                incoming.on_taken(held);
                let taken = SnapshotOutcome::Received(incoming.taken());
                self.ack_snapshot(name, taken, outputs);
            }
            Err(why) => self.refuse_incoming(name, why, outputs),
        }
    }

    /// The snapshot is whole and verified: has the host use it.
    fn restore_snapshot(&mut self, header: Header, outputs: &mut Vec<Output<R>>) {
        // The host may have refused its last piece.
        let Some(incoming) = self.snapshots.receiving.incoming.take() else {
            return;
        };
        let (name, bytes, last) = (incoming.name, incoming.received(), header.last);
        self.snapshots.receiving.restoring = Some(Restoring {
            name,
            bytes,
            held: incoming.held_bytes(),
            header,
        });
        self.ack_snapshot(name, SnapshotOutcome::Received(bytes), outputs);
        self.applier.restore(Job::Restore { last }, outputs);
    }

    /// Gives up what was received of a snapshot once it can be of no use: the log has overtaken it, the
    /// term of its leader is over, so that nobody sends the rest, or this server restores nothing more.
    pub(super) fn give_up_useless_snapshot(&mut self, outputs: &mut Vec<Output<R>>) {
        let Some(incoming) = &self.snapshots.receiving.incoming else {
            return;
        };
        let name = incoming.name;
        let is_useful = self.raft.commit() < name.id.last.index
            && self.raft.term() == name.term
            && self.applier.quarantine().is_none();
        if !is_useful {
            self.give_up_incoming(outputs);
        }
    }

    fn give_up_incoming(&mut self, outputs: &mut Vec<Output<R>>) {
        let incoming = self.snapshots.receiving.incoming.take();
        if incoming.is_some_and(|incoming| incoming.is_with_host()) {
            self.discard(outputs);
        }
    }

    /// Has the host drop what it built of a snapshot.
    fn discard(&mut self, outputs: &mut Vec<Output<R>>) {
        self.snapshots.receiving.is_giving_up = true;
        self.give(Job::GiveUp, outputs);
    }

    /// The host holds nothing of it any more.
    pub(super) fn on_given_up(&mut self) {
        self.snapshots.receiving.is_giving_up = false;
    }

    /// Gives up the snapshot that is being received, and refuses it.
    fn refuse_incoming(&mut self, name: Name, why: String, outputs: &mut Vec<Output<R>>) {
        self.give_up_incoming(outputs);
        self.refuse_snapshot(name, why, outputs);
    }

    /// Keeps what there was, and tells the leader, which tries again after a pause.
    fn refuse_snapshot(&mut self, name: Name, why: String, outputs: &mut Vec<Output<R>>) {
        self.counters.snapshots_refused += 1;
        self.snapshots.receiving.refusal = Some(why);
        self.snapshots.receiving.refused = Some(name);
        self.ack_snapshot(name, SnapshotOutcome::Refused, outputs);
    }

    fn ack_snapshot(&mut self, name: Name, outcome: SnapshotOutcome, outputs: &mut Vec<Output<R>>) {
        let ack = SnapshotAck {
            term: self.raft.term(),
            id: name.id,
            outcome,
        };
        self.send(name.from, Message::SnapshotAck(ack), Bytes::new(), outputs);
    }

    /// The host uses the new state, or could not read it.
    pub(super) fn on_restored(
        &mut self,
        result: Result<HostStatus, String>,
        outputs: &mut Vec<Output<R>>,
    ) {
        let Some(restoring) = self.snapshots.receiving.restoring.take() else {
            return;
        };
        self.applier.on_restored(result.as_ref().ok());
        let Header {
            last,
            configuration,
        } = restoring.header;
        match result {
            Ok(status) => self.raft.set_lease_reads(status.lease_reads),
            Err(why) => return self.refuse_snapshot(restoring.name, why, outputs),
        }
        self.snapshots.receiving.refusal = None;
        self.counters.snapshots_restored += 1;
        // What was proposed here and is covered may be in it or not: nobody can tell any more.
        while let Some((_, reply)) = self.requests.take_write(last.index) {
            if let Some(reply) = reply {
                self.answer(reply, Err(Refusal::OutcomeUnknown), outputs);
            }
        }
        let is_known = last.index <= self.raft.commit();
        let is_installed = self.raft.install_snapshot(self.now, last, configuration);
        self.follow_log(&Bytes::new());
        if !is_installed && !is_known {
            let why =
                format!("a snapshot through entry {last} was restored, and the log contradicts it");
            self.quarantine(why, outputs);
        }
    }
}
