//! Messages between servers, and the payloads that follow the engine's log.

use bytes::Bytes;
use kontiki_raft::{
    AppendOutcome, ClusterId, Eligibility, EntryKind, EntryMeta, Index, LogChange, LogId, Message,
    Role, ServerId, SnapshotOutcome,
};

use super::controls::Controls;
use super::interface::{Envelope, HostReport, Output};
use super::{Driver, piece};
use crate::entry;
use crate::host::Control;

impl<R> Driver<R> {
    pub(super) fn receive(&mut self, envelope: Envelope, outputs: &mut Vec<Output<R>>) {
        let me = self.raft.id();
        if envelope.to != me || envelope.from == me {
            self.counters.dropped_wrong_server += 1;
            return;
        }
        let is_stranger = match self.cluster {
            Some(cluster) => cluster != envelope.cluster,
            // Who knows this exact id was told it by the cluster that wants this server.
            None => envelope.cluster == ClusterId(0) || envelope.message.is_reply(),
        };
        if is_stranger {
            self.counters.dropped_wrong_cluster += 1;
            return;
        }
        if !self.origin.agrees(envelope.from, envelope.host.origin) {
            self.counters.dropped_wrong_origin += 1;
            return;
        }
        let is_plausible = is_plausible(&envelope.message)
            && !self.acknowledges_too_much(envelope.from, &envelope.message);
        let entries = is_plausible.then(|| decode_batch(&envelope)).flatten();
        let Some(entries) = entries else {
            self.counters.dropped_malformed += 1;
            return;
        };
        self.cluster = Some(envelope.cluster);
        self.origin.learn(envelope.host.origin);
        self.hear(envelope.from, &envelope.host);
        if self.is_held_back(envelope.from, &envelope.message) {
            return;
        }
        if matches!(envelope.message, Message::Append(_)) && self.is_log_full() {
            return;
        }
        let Envelope {
            from,
            message,
            batch,
            ..
        } = envelope;
        self.measure_round_trip(from, &message);
        self.raft.receive(self.now, from, message.clone(), &entries);
        self.follow_log(&batch);
        match message {
            Message::SnapshotChunk(chunk) => self.on_snapshot_chunk(from, chunk, &batch, outputs),
            Message::SnapshotAck(ack) => self.on_snapshot_ack(from, ack),
            _ => {}
        }
    }

    /// What is not applied cannot be compacted, so past a bound no more is stored; to the leader it is
    /// lost on its way. A machine that catches up makes room; a quarantined server applies nothing more,
    /// and still votes.
    fn is_log_full(&mut self) -> bool {
        if self.applier.quarantine().is_some() {
            let is_full = self.log.total_bytes() >= self.raft.config().log_kept_bytes_max;
            self.counters.dropped_quarantined += u64::from(is_full);
            return is_full;
        }
        let is_full = self.applier.check_backlog().is_err();
        self.counters.dropped_backlog += u64::from(is_full);
        is_full
    }

    /// What a sender says of its host.
    fn hear(&mut self, from: ServerId, host: &HostReport) {
        if let Some(versions) = &host.versions {
            self.learn_versions(from, versions);
        }
        self.learn_quarantine(from, host.is_quarantined);
        if let Some(settings) = &host.settings {
            self.learn_settings(from, settings);
        }
        let eligibility = Eligibility {
            priority: host.election_priority,
            is_retired: host.is_quarantined,
            applied: host.applied,
        };
        self.raft.learn(from, eligibility);
        if let Some(digest) = host.digest
            && self.raft.role() == Role::Leader
            && self.raft.configuration().1.contains(from)
        {
            self.reports.add(from, digest);
        }
    }

    /// Does to the payloads what the engine did to its log. `batch` is what came with the message
    /// just received.
    pub(super) fn follow_log(&mut self, batch: &Bytes) {
        loop {
            let changes = self.raft.take_log_changes();
            if changes.is_empty() {
                return;
            }
            for change in changes {
                match change {
                    LogChange::Truncated { after } => {
                        self.log.truncate(after);
                        self.controls.truncate(after);
                    }
                    LogChange::Received { from, to } => self.store(batch, from, to),
                    LogChange::Created { id, kind } => {
                        let bytes = self.log.push(id, &kind, &[]);
                        self.raft.created(id.index, bytes as u32);
                    }
                    LogChange::Replaced { last } => {
                        self.log.clear();
                        let status = self.applier.status();
                        self.controls = Controls::restored(last.index, &status);
                    }
                }
            }
            self.persist();
        }
    }

    pub(super) fn store(&mut self, batch: &Bytes, from: Index, to: Index) {
        let mut rest = &batch[..];
        while let Some(decoded) = entry::decode_trusted(rest) {
            let (encoded, after) = rest.split_at(decoded.size);
            let index = decoded.id.index;
            if (from..=to).contains(&index) {
                if decoded.kind == EntryKind::Control
                    && let Some(control) = Control::decode(decoded.payload)
                {
                    self.controls.push(index, control);
                }
                self.log.push_encoded(index, encoded);
            }
            rest = after;
        }
    }

    /// In memory mode what is in the log is as persistent as it gets.
    pub(super) fn persist(&mut self) {
        let (last, generation) = (self.raft.last(), self.raft.generation());
        self.raft.persisted(self.now, last, generation);
        self.samples.on_persisted(self.now);
        if self.raft.last() != last {
            self.follow_log(&Bytes::new());
        }
    }

    /// Performs one output of the engine. `true` if another turn is needed at once.
    pub(super) fn perform(
        &mut self,
        output: kontiki_raft::Output,
        outputs: &mut Vec<Output<R>>,
    ) -> bool {
        match output {
            kontiki_raft::Output::Send {
                to,
                message: Message::Append(_),
            } if self.is_withheld(to) => {
                self.counters.withheld += 1;
                false
            }
            kontiki_raft::Output::Send { to, message } => {
                let batch = match &message {
                    Message::Append(append) => {
                        self.log.encoded(append.prev.index.next(), append.last)
                    }
                    _ => Bytes::new(),
                };
                self.send(to, message, batch, outputs);
                false
            }
            kontiki_raft::Output::StartSnapshot { to } if self.is_withheld(to) => false,
            kontiki_raft::Output::StartSnapshot { to } => {
                self.start_snapshot(to, outputs);
                false
            }
            kontiki_raft::Output::ReadReady { id, index } => self.on_read_ready(id, index, outputs),
            kontiki_raft::Output::ReadFailed { id } => {
                let asked = self.requests.take_read(id);
                let refusal = self.not_leader();
                self.answer(asked.into_reply(), Err(refusal), outputs);
                false
            }
        }
    }
}

/// Terms, indexes and the like that a message may name: with a thousand million a second it takes a
/// century to get there, and what follows one of them is a number still.
const NUMBER_MAX: u64 = 1 << 62;

/// Whether all numbers of a message are such as a server can have come to.
fn is_plausible(message: &Message) -> bool {
    let id = |id: &LogId| id.term.0.max(id.index.0);
    let largest = match message {
        Message::Vote(vote) => vote.term.0.max(id(&vote.last)),
        Message::VoteReply(reply) => reply.term.0,
        Message::Append(append) => {
            let indexes = append.last.0.max(append.commit.0);
            append.term.0.max(id(&append.prev)).max(indexes)
        }
        Message::AppendAck(ack) => match &ack.outcome {
            AppendOutcome::Accepted(index) => ack.term.0.max(index.0),
            AppendOutcome::Rejected { prev, hint } => ack.term.0.max(prev.0).max(id(hint)),
        },
        Message::Heartbeat(heartbeat) => {
            let fresh = heartbeat.beat.and_then(|beat| beat.fresh);
            let index = fresh.map_or(0, |fresh| fresh.index.0);
            let number = heartbeat.round.max(heartbeat.commit.0).max(index);
            heartbeat.term.0.max(number)
        }
        Message::HeartbeatAck(ack) => ack.term.0.max(ack.round),
        Message::TimeoutNow(request) => request.term.0.max(id(&request.last)),
        Message::ReadIndex(request) => request.id,
        Message::ReadIndexReply(reply) => reply.id.max(reply.index.map_or(0, |index| index.0)),
        Message::SnapshotChunk(chunk) => {
            let number = chunk.id.number.max(chunk.offset);
            chunk.term.0.max(id(&chunk.id.last)).max(number)
        }
        Message::SnapshotAck(ack) => {
            let received = match ack.outcome {
                SnapshotOutcome::Received(offset) => offset,
                SnapshotOutcome::Refused => 0,
            };
            let number = ack.id.number.max(received);
            ack.term.0.max(id(&ack.id.last)).max(number)
        }
    };
    largest <= NUMBER_MAX
}

/// The metadata of the entries in an envelope. `None` if they are not what an append says, or a piece
/// of a snapshot is damaged.
fn decode_batch(envelope: &Envelope) -> Option<Vec<EntryMeta>> {
    let append = match &envelope.message {
        Message::Append(append) => append,
        Message::SnapshotChunk(_) => return piece::open(&envelope.batch).map(|_| Vec::new()),
        _ => return envelope.batch.is_empty().then(Vec::new),
    };
    // By what there is room for, whatever it says.
    let said = append.last.0.saturating_sub(append.prev.index.0);
    let most = envelope.batch.len() / entry::HEADER_BYTES;
    let mut entries = Vec::with_capacity((said as usize).min(most));
    let mut rest = &envelope.batch[..];
    let mut index = append.prev.index;
    while !rest.is_empty() {
        let decoded = entry::decode(rest)?;
        index = index.next();
        if decoded.id.index != index {
            return None;
        }
        entries.push(decoded.meta());
        rest = &rest[decoded.size..];
    }
    (index == append.last).then_some(entries)
}
