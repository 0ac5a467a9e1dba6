//! A few servers, the messages between them, and a clock: no chance but the seeds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kontiki_raft::{
    Config, Configuration, EntryKind, EntryMeta, Index, LogChange, LogId, Message, Output, Raft,
    Role, ServerId, SnapshotAck, SnapshotChunk, SnapshotOutcome, Time,
};

use crate::words::{describe, describe_configuration};

/// Deliveries in one `settle`; a script that needs more does not settle.
const DELIVERIES_MAX: usize = 1000;

/// How a machine restores a snapshot: well, not at all, or without an end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Restores {
    Well,
    Not,
    ForEver,
}

/// A server and the entries that its driver would hold.
pub struct Server {
    pub raft: Raft,
    /// The entries after `base`.
    entries: Vec<EntryMeta>,
    base: Index,
    /// Its log is compacted at the end of every turn, as far as the engine says.
    pub compacts: bool,
    /// What its machine does with a snapshot.
    pub restores: Restores,
    due: Time,
    seen: (Role, u64, u64, Option<ServerId>),
    /// `None` if all that is written is persistent at once.
    disk: Option<Disk>,
}

/// A slow disk: what is written is persistent once the script says so.
struct Disk {
    /// The last write begun: end and generation of the log.
    begun: (LogId, u64),
    /// Writes that nobody has heard of yet, oldest first.
    pending: VecDeque<(LogId, u64)>,
}

/// A message on its way, with its entries.
#[derive(Clone)]
struct Letter {
    from: ServerId,
    to: ServerId,
    message: Message,
    entries: Vec<EntryMeta>,
    /// With a chunk: what the snapshot says of the membership. A script's snapshot is one chunk.
    configuration: Option<(Index, Configuration)>,
}

#[derive(Default)]
pub struct World {
    pub now: Time,
    pub servers: BTreeMap<ServerId, Server>,
    letters: VecDeque<Letter>,
    /// Taken from their way, to arrive when the script says so.
    delayed: VecDeque<Letter>,
    paused: BTreeSet<ServerId>,
    cut: BTreeSet<(ServerId, ServerId)>,
    events: Vec<String>,
}

impl World {
    pub fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    pub fn say(&mut self, event: impl Into<String>) {
        self.events.push(event.into());
    }

    pub fn start(&mut self, id: ServerId, config: Config) {
        let raft = Raft::new(id, config, self.now);
        let seen = (Role::Joiner, 0, 0, None);
        self.servers.insert(
            id,
            Server {
                raft,
                entries: Vec::new(),
                base: Index(0),
                compacts: false,
                restores: Restores::Well,
                due: Time::NEVER,
                seen,
                disk: None,
            },
        );
    }

    /// Calls one server, then does what its driver must do; ends the turn.
    pub fn turn(&mut self, id: ServerId, call: impl FnOnce(&mut Raft, Time) -> Option<String>) {
        self.turn_with(id, &[], call);
    }

    fn turn_with(
        &mut self,
        id: ServerId,
        received: &[EntryMeta],
        call: impl FnOnce(&mut Raft, Time) -> Option<String>,
    ) {
        let now = self.now;
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        server.raft.tick(now);
        server.follow_log(now, &[]);
        let said = call(&mut server.raft, now);
        server.follow_log(now, received);
        let mut outputs = Vec::new();
        server.due = server.raft.finish(now, &mut outputs);
        let mut events: Vec<String> = said.into_iter().collect();
        events.extend(server.changes());
        for output in outputs {
            match output {
                Output::Send { to, message } => {
                    let entries = server.entries_of(&message);
                    events.push(describe(id, to, &message, &entries));
                    self.letters.push_back(Letter {
                        from: id,
                        to,
                        message,
                        entries,
                        configuration: None,
                    });
                }
                Output::StartSnapshot { to } => {
                    let letter = server.snapshot_for(now, to);
                    events.push(describe(id, to, &letter.message, &[]));
                    self.letters.push_back(letter);
                }
                Output::ReadReady { id: read, index } => {
                    events.push(format!("{}: read {} ready at {}", id.0, read.0, index.0));
                }
                Output::ReadFailed { id: read } => {
                    events.push(format!("{}: read {} failed", id.0, read.0));
                }
            }
        }
        if server.compacts {
            let through = server.raft.compactable(now, server.raft.commit());
            events.extend(server.compact(through));
        }
        self.events.extend(events);
    }

    /// Drops entries, as a driver does whose state covers them.
    pub fn compact(&mut self, id: ServerId, through: Index) {
        let server = self.servers.get_mut(&id);
        let said = server.and_then(|server| server.compact(through));
        self.events.extend(said);
    }

    pub fn propose(&mut self, id: ServerId) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        let now = self.now;
        let result = server.raft.propose(now, [(EntryKind::Command, 10)]);
        let text = match result {
            Ok(entry) => {
                let kind = EntryKind::Command;
                server.entries.push(EntryMeta {
                    term: entry.term,
                    kind,
                    size: 10,
                });
                format!("{}: proposed {entry}", id.0)
            }
            Err(refused) => format!("{}: refused, {refused:?}", id.0),
        };
        self.say(text);
        self.turn(id, |_, _| None);
    }

    /// Lets time pass up to the moment when `id` is due, for it alone.
    pub fn time_out(&mut self, id: ServerId) {
        let due = self.servers[&id].due;
        assert!(due < Time::NEVER, "{id} waits for nothing");
        self.now = self.now.max(due);
        self.turn(id, |_, _| None);
    }

    /// Lets time pass for everyone.
    pub fn advance(&mut self, duration: Duration) {
        self.now = self.now + duration;
        for id in self.servers.keys().copied().collect::<Vec<_>>() {
            if self.servers[&id].due <= self.now && !self.paused.contains(&id) {
                self.turn(id, |_, _| None);
            }
        }
    }

    pub fn cut(&mut self, from: ServerId, to: ServerId) {
        self.cut.insert((from, to));
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn crash(&mut self, id: ServerId) {
        self.servers.remove(&id);
    }

    /// Stands still: no turns, and what is sent to it waits.
    pub fn pause(&mut self, id: ServerId) {
        self.paused.insert(id);
    }

    pub fn resume(&mut self, id: ServerId) {
        self.paused.remove(&id);
        self.turn(id, |_, _| None);
    }

    /// Makes the disk slow.
    pub fn slow(&mut self, id: ServerId) {
        let server = self.servers.get_mut(&id).expect("it runs");
        let begun = (server.raft.last(), server.raft.generation());
        let pending = VecDeque::new();
        server.disk = Some(Disk { begun, pending });
    }

    /// Reports a write of a slow disk: the oldest one, or the newest.
    pub fn persist(&mut self, id: ServerId, is_newest: bool) {
        let server = self.servers.get_mut(&id).expect("it runs");
        let pending = &mut server.disk.as_mut().expect("a slow disk").pending;
        let write = if is_newest {
            pending.pop_back()
        } else {
            pending.pop_front()
        };
        let (last, generation) = write.expect("nothing is being written");
        self.say(format!("{}: has written through {last}", id.0));
        self.turn(id, |raft, now| {
            raft.persisted(now, last, generation);
            None
        });
    }

    /// Delivers the first letter on the way between these two (or anyone). `false` if there is
    /// none.
    pub fn deliver(&mut self, way: Option<(ServerId, ServerId)>) -> bool {
        let paused = &self.paused;
        let is_meant = |letter: &Letter| {
            way.is_none_or(|(from, to)| (letter.from, letter.to) == (from, to))
                && !paused.contains(&letter.to)
        };
        let position = self.letters.iter().position(is_meant);
        let Some(letter) = position.and_then(|at| self.letters.remove(at)) else {
            return false;
        };
        self.hand_over(letter);
        true
    }

    fn hand_over(&mut self, letter: Letter) {
        let Letter {
            from,
            to,
            message,
            entries,
            configuration,
        } = letter;
        if self.cut.contains(&(from, to)) || !self.servers.contains_key(&to) {
            return;
        }
        let received = entries.clone();
        let chunk = match &message {
            Message::SnapshotChunk(chunk) => Some(*chunk),
            _ => None,
        };
        let acknowledged = match &message {
            Message::SnapshotAck(ack) if ack.outcome != SnapshotOutcome::Refused => Some(ack.id),
            _ => None,
        };
        let restores = self.servers[&to].restores;
        let told = self.servers.get(&from).map(|it| it.raft.eligibility());
        let mut answered = None;
        self.turn_with(to, &received, |raft, now| {
            raft.receive(now, from, message, &entries);
            told.into_iter().for_each(|told| raft.learn(from, told));
            if let Some(id) = acknowledged {
                raft.snapshot_delivered(now, from, id);
            }
            let chunk = chunk.filter(|chunk| raft.wants_snapshot(from, chunk))?;
            let outcome = match restores {
                Restores::Well => None,
                Restores::Not => Some(SnapshotOutcome::Refused),
                Restores::ForEver => Some(SnapshotOutcome::Received(1)),
            };
            if let Some(outcome) = outcome {
                answered = Some((raft.term(), chunk.id, outcome));
                return None;
            }
            let configuration = configuration.expect("it is in every snapshot");
            raft.install_snapshot(now, chunk.id.last, configuration)
                .then(|| format!("{}: installs the snapshot through {}", to.0, chunk.id.last))
        });
        if let Some((term, id, outcome)) = answered {
            let message = Message::SnapshotAck(SnapshotAck { term, id, outcome });
            self.say(describe(to, from, &message, &[]));
            self.letters.push_back(Letter {
                from: to,
                to: from,
                message,
                entries: Vec::new(),
                configuration: None,
            });
        }
    }

    /// Where in a queue the first letter between two is.
    fn first(letters: &VecDeque<Letter>, from: ServerId, to: ServerId) -> usize {
        let is_meant = |letter: &Letter| (letter.from, letter.to) == (from, to);
        let position = letters.iter().position(is_meant);
        position.unwrap_or_else(|| panic!("nothing from {} to {}", from.0, to.0))
    }

    /// Takes the first letter between two from its way.
    pub fn delay(&mut self, from: ServerId, to: ServerId) {
        let at = Self::first(&self.letters, from, to);
        self.delayed.extend(self.letters.remove(at));
    }

    /// Delivers the first letter between two that was delayed.
    pub fn deliver_late(&mut self, from: ServerId, to: ServerId) {
        let at = Self::first(&self.delayed, from, to);
        let letter = self.delayed.remove(at).expect("just found");
        self.hand_over(letter);
    }

    /// The first letter between two will arrive a second time, after all others.
    pub fn repeat(&mut self, from: ServerId, to: ServerId) {
        let at = Self::first(&self.letters, from, to);
        let copy = self.letters[at].clone();
        self.letters.push_back(copy);
    }

    pub fn drop_letters(&mut self, from: ServerId, to: ServerId) -> usize {
        let before = self.letters.len();
        self.letters
            .retain(|letter| (letter.from, letter.to) != (from, to));
        before - self.letters.len()
    }

    /// Delivers until nothing is on its way.
    pub fn settle(&mut self) {
        for _ in 0..DELIVERIES_MAX {
            if !self.deliver(None) {
                return;
            }
        }
        panic!("does not settle");
    }
}

impl Server {
    /// What the driver does after every call; in memory mode all is persistent at once.
    fn follow_log(&mut self, now: Time, received: &[EntryMeta]) {
        loop {
            let changes = self.raft.take_log_changes();
            let (last, generation) = (self.raft.last(), self.raft.generation());
            match &mut self.disk {
                None => self.raft.persisted(now, last, generation),
                Some(disk) if disk.begun != (last, generation) => {
                    disk.begun = (last, generation);
                    disk.pending.push_back(disk.begun);
                }
                Some(_) => {}
            }
            if changes.is_empty() {
                return;
            }
            for change in changes {
                match change {
                    LogChange::Truncated { after } => {
                        self.entries.truncate((after.0 - self.base.0) as usize);
                    }
                    LogChange::Replaced { last } => {
                        self.entries.clear();
                        self.base = last.index;
                    }
                    LogChange::Created { id, kind } => {
                        self.entries.push(EntryMeta {
                            term: id.term,
                            kind,
                            size: 0,
                        });
                    }
                    LogChange::Received { from, to } => {
                        let count = (to.0 - from.0 + 1) as usize;
                        let new = &received[received.len() - count..];
                        self.entries.extend_from_slice(new);
                    }
                }
            }
        }
    }

    fn entries_of(&self, message: &Message) -> Vec<EntryMeta> {
        match message {
            Message::Append(append) => {
                let at = |index: Index| (index.0 - self.base.0) as usize;
                self.entries[at(append.prev.index)..at(append.last)].to_vec()
            }
            _ => Vec::new(),
        }
    }

    fn compact(&mut self, through: Index) -> Option<String> {
        if through <= self.base {
            return None;
        }
        self.raft.compact(through);
        self.entries.drain(..(through.0 - self.base.0) as usize);
        self.base = through;
        Some(format!(
            "{}: compacts through {}",
            self.raft.id().0,
            through.0
        ))
    }

    /// What the driver sends when the engine asks for a snapshot: its state, all that is committed.
    fn snapshot_for(&mut self, now: Time, to: ServerId) -> Letter {
        let commit = self.raft.commit();
        let (at, configuration) = self.raft.configuration_at(commit);
        let configuration = (at, configuration.clone());
        let last = self.raft.id_at(commit).expect("held");
        let id = self.raft.snapshot_started(now, to, last).expect("wanted");
        let chunk = SnapshotChunk {
            term: self.raft.term(),
            id,
            offset: 0,
            is_end: true,
        };
        Letter {
            from: self.raft.id(),
            to,
            message: Message::SnapshotChunk(chunk),
            entries: Vec::new(),
            configuration: Some(configuration),
        }
    }

    /// What changed since the last turn, in words.
    fn changes(&mut self) -> Vec<String> {
        let raft = &self.raft;
        let (role, term, commit, leader) =
            (raft.role(), raft.term().0, raft.commit().0, raft.leader());
        let was = std::mem::replace(&mut self.seen, (role, term, commit, leader));
        let id = raft.id().0;
        let mut events = Vec::new();
        if (was.0, was.1) != (role, term) {
            events.push(format!("{id}: {role:?} in term {term}"));
        }
        if was.3 != leader && leader.is_some_and(|leader| leader != raft.id()) {
            events.push(format!(
                "{id}: follows {}",
                leader.map_or(0, |leader| leader.0)
            ));
        }
        if was.2 != commit {
            events.push(format!("{id}: commits through {commit}"));
        }
        events
    }

    pub fn describe(&self) -> String {
        let raft = &self.raft;
        let (index, configuration) = raft.configuration();
        let base = match raft.id_at(self.base) {
            Some(base) if base.index > Index(0) => format!("..{base} "),
            _ => String::new(),
        };
        format!(
            "{}: {:?} term={} log={base}[{}] commit={} configuration={} {}",
            raft.id().0,
            raft.role(),
            raft.term().0,
            self.entries
                .iter()
                .map(|entry| entry.term.0.to_string())
                .collect::<Vec<_>>()
                .join(" "),
            raft.commit().0,
            index.0,
            describe_configuration(configuration),
        )
    }
}
