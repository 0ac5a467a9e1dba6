//! Three of `kontiki_raft::Raft`, each with a log of shared payloads.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use bytes::Bytes;
use kontiki_raft::{
    Config, Configuration, EntryKind, EntryMeta, Index, LogChange, Message, Output, Raft, Role,
    ServerId, Time,
};

use super::{
    APPEND_BYTES_MAX, APPENDS_MAX, Cluster, Delivered, HEARTBEAT, HELD_ENTRIES_MAX, KEPT_ENTRIES,
};

pub struct Kontiki {
    servers: [Server; 3],
    sent: Vec<(ServerId, Envelope)>,
}

struct Server {
    raft: Raft,
    /// Entries after `base`.
    log: VecDeque<(EntryMeta, Bytes)>,
    base: Index,
    inbox: Vec<Envelope>,
    /// Taken in by the next turn.
    proposals: Vec<Vec<Vec<u8>>>,
    /// Handed over through here.
    handed: Index,
    delivered: Delivered,
    outputs: Vec<Output>,
}

/// A message with the entries that it names.
struct Envelope {
    from: ServerId,
    message: Message,
    entries: Vec<EntryMeta>,
    payloads: Vec<Bytes>,
}

impl Kontiki {
    pub fn new() -> Self {
        let ids = [1, 2, 3].map(ServerId);
        let server = |id: ServerId| {
            let config = Config {
                heartbeat: HEARTBEAT,
                election_timeout_min: 10 * HEARTBEAT,
                election_timeout_max: 20 * HEARTBEAT,
                append_bytes_max: APPEND_BYTES_MAX,
                inflight_max: APPENDS_MAX,
                ..Config::default()
            };
            let mut raft = Raft::new(id, config, Time(0));
            raft.bootstrap(Time(0), Configuration::of(ids));
            Server {
                raft,
                log: VecDeque::new(),
                base: Index(0),
                inbox: Vec::new(),
                proposals: Vec::new(),
                handed: Index(0),
                delivered: Delivered::default(),
                outputs: Vec::new(),
            }
        };
        Self {
            servers: ids.map(server),
            sent: Vec::new(),
        }
    }

    fn leader(&self) -> Option<usize> {
        let leads = |server: &Server| server.raft.role() == Role::Leader;
        self.servers.iter().position(leads)
    }
}

impl Cluster for Kontiki {
    fn propose(&mut self, batch: Vec<Vec<u8>>) -> Result<()> {
        let leader = self.leader().ok_or_else(|| anyhow!("no leader"))?;
        self.servers[leader].proposals.push(batch);
        Ok(())
    }

    fn turn(&mut self, now: Duration) -> Result<()> {
        let now = Time(0) + now;
        let first = self.leader().unwrap_or(0);
        for n in 0..3 {
            self.servers[(first + n) % 3].turn(now, &mut self.sent)?;
            for (to, envelope) in self.sent.drain(..) {
                self.servers[to.0 as usize - 1].inbox.push(envelope);
            }
        }
        Ok(())
    }

    fn is_led(&self) -> bool {
        let mut rafts = self.servers.iter().map(|server| &server.raft);
        rafts.any(|raft| raft.role() == Role::Leader && raft.is_term_committed())
    }

    fn delivered(&self) -> [Delivered; 3] {
        let first = self.leader().unwrap_or(0);
        [0, 1, 2].map(|n| self.servers[(first + n) % 3].delivered)
    }
}

impl Server {
    fn turn(&mut self, now: Time, sent: &mut Vec<(ServerId, Envelope)>) -> Result<()> {
        self.compact();
        self.raft.tick(now);
        self.follow_log(now, None)?;
        for envelope in std::mem::take(&mut self.inbox) {
            let message = envelope.message.clone();
            self.raft
                .receive(now, envelope.from, message, &envelope.entries);
            self.follow_log(now, Some(&envelope))?;
        }
        for batch in std::mem::take(&mut self.proposals) {
            self.propose(now, batch)?;
        }
        self.persist(now);
        self.hand_over();
        let mut outputs = std::mem::take(&mut self.outputs);
        self.raft.finish(now, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Send { to, message } => sent.push((to, self.envelope(message))),
                output => bail!("nothing asks for {output:?}"),
            }
        }
        self.outputs = outputs;
        Ok(())
    }

    fn propose(&mut self, now: Time, batch: Vec<Vec<u8>>) -> Result<()> {
        let sizes = batch
            .iter()
            .map(|payload| (EntryKind::Command, payload.len() as u32));
        let first = self.raft.propose(now, sizes);
        let first = first.map_err(|refused| anyhow!("refused: {refused:?}"))?;
        for payload in batch {
            let meta = EntryMeta {
                term: first.term,
                kind: EntryKind::Command,
                size: payload.len() as u32,
            };
            self.log.push_back((meta, payload.into()));
        }
        Ok(())
    }

    fn persist(&mut self, now: Time) {
        let (last, generation) = (self.raft.last(), self.raft.generation());
        self.raft.persisted(now, last, generation);
    }

    fn follow_log(&mut self, now: Time, envelope: Option<&Envelope>) -> Result<()> {
        for change in self.raft.take_log_changes() {
            match change {
                LogChange::Truncated { after } => {
                    self.log.truncate((after.0 - self.base.0) as usize);
                }
                LogChange::Received { from, to } => {
                    let envelope = envelope.ok_or_else(|| anyhow!("entries of no message"))?;
                    let Message::Append(append) = &envelope.message else {
                        bail!("entries of {:?}", envelope.message);
                    };
                    let known = (from.0 - append.prev.index.0 - 1) as usize;
                    let count = (to.0 + 1 - from.0) as usize;
                    let entries = envelope.entries.iter().zip(&envelope.payloads);
                    let entries = entries.skip(known).take(count);
                    self.log
                        .extend(entries.map(|(meta, payload)| (meta.clone(), payload.clone())));
                }
                LogChange::Created { id, kind } => {
                    let meta = EntryMeta {
                        term: id.term,
                        kind,
                        size: 0,
                    };
                    self.log.push_back((meta, Bytes::new()));
                }
                LogChange::Replaced { .. } => bail!("no snapshot was sent"),
            }
        }
        self.persist(now);
        Ok(())
    }

    fn hand_over(&mut self) {
        let commit = self.raft.commit();
        let from = (self.handed.0 - self.base.0) as usize;
        let to = (commit.0 - self.base.0) as usize;
        for (meta, payload) in self.log.range(from..to) {
            if meta.kind == EntryKind::Command {
                self.delivered.take(payload);
            }
        }
        self.handed = commit;
    }

    fn envelope(&self, message: Message) -> Envelope {
        let (mut entries, mut payloads) = (Vec::new(), Vec::new());
        if let Message::Append(append) = &message {
            let from = (append.prev.index.0 - self.base.0) as usize;
            let to = (append.last.0 - self.base.0) as usize;
            entries.reserve_exact(to - from);
            payloads.reserve_exact(to - from);
            for (meta, payload) in self.log.range(from..to) {
                entries.push(meta.clone());
                payloads.push(payload.clone());
            }
        }
        Envelope {
            from: self.raft.id(),
            message,
            entries,
            payloads,
        }
    }

    fn compact(&mut self) {
        if (self.log.len() as u64) < HELD_ENTRIES_MAX {
            return;
        }
        let wanted = Index(self.raft.last().index.0 - KEPT_ENTRIES);
        // A follower may lag: what it needs is kept.
        let needed = self.raft.progress().map(|peer| peer.matched).min();
        let through = wanted.min(self.handed).min(needed.unwrap_or(wanted));
        if through > self.base {
            self.raft.compact(through);
            self.log.drain(..(through.0 - self.base.0) as usize);
            self.base = through;
        }
    }
}
