//! A few servers, the messages between them, and a clock: no chance but the seeds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kontiki_raft::{
    AppendOutcome, Config, Configuration, EntryKind, EntryMeta, Index, LogChange, LogId, Message,
    Output, Purpose, Raft, Role, ServerId, Time,
};

/// Deliveries in one `settle`; a script that needs more does not settle.
const DELIVERIES_MAX: usize = 1000;

/// A server and the entries that its driver would hold.
pub struct Server {
    pub raft: Raft,
    entries: Vec<EntryMeta>,
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
                    });
                }
                Output::ReadReady { id: read, index } => {
                    events.push(format!("{}: read {} ready at {}", id.0, read.0, index.0));
                }
                Output::ReadFailed { id: read } => {
                    events.push(format!("{}: read {} failed", id.0, read.0));
                }
            }
        }
        self.events.extend(events);
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
        } = letter;
        if self.cut.contains(&(from, to)) || !self.servers.contains_key(&to) {
            return;
        }
        let received = entries.clone();
        self.turn_with(to, &received, move |raft, now| {
            raft.receive(now, from, message, &entries);
            None
        });
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
                    LogChange::Truncated { after } => self.entries.truncate(after.0 as usize),
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
                self.entries[append.prev.index.0 as usize..append.last.0 as usize].to_vec()
            }
            _ => Vec::new(),
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
        format!(
            "{}: {:?} term={} log=[{}] commit={} configuration={} {}",
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

fn list<'a>(servers: impl IntoIterator<Item = &'a ServerId>) -> String {
    servers
        .into_iter()
        .map(|server| server.0.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

pub fn describe_configuration(configuration: &Configuration) -> String {
    let mut text = format!("voters[{}]", list(&configuration.voters));
    if let Some(outgoing) = &configuration.outgoing {
        text.push_str(&format!(" outgoing[{}]", list(outgoing)));
    }
    for (server, purpose) in &configuration.learners {
        let purpose = match purpose {
            Purpose::Stay => "stays".to_owned(),
            Purpose::Join => "joins".to_owned(),
            Purpose::Replace(lost) => format!("replaces {}", lost.0),
        };
        text.push_str(&format!(" learner[{} {purpose}]", server.0));
    }
    text
}

fn describe(from: ServerId, to: ServerId, message: &Message, entries: &[EntryMeta]) -> String {
    let text = match message {
        Message::Vote(vote) => {
            let kind = if vote.pre { "pre-vote" } else { "vote" };
            let forced = if vote.forced { ", forced" } else { "" };
            format!(
                "{kind} for term {}, log ends {}{forced}",
                vote.term.0, vote.last
            )
        }
        Message::VoteReply(reply) => {
            let kind = if reply.pre { "pre-vote" } else { "vote" };
            let answer = if reply.granted { "granted" } else { "refused" };
            format!("{kind} {answer}, term {}", reply.term.0)
        }
        Message::Append(append) => {
            let kinds: Vec<String> = entries.iter().map(describe_entry).collect();
            let LogId { term, index } = append.prev;
            format!(
                "append after {}@{} [{}] commit {}",
                index.0,
                term.0,
                kinds.join(", "),
                append.commit.0
            )
        }
        Message::AppendAck(ack) => match ack.outcome {
            AppendOutcome::Accepted(Index(index)) => format!("holds through {index}"),
            AppendOutcome::Rejected { prev, hint } => {
                format!(
                    "append after {} does not fit, at most {hint}, term {}",
                    prev.0, ack.term.0
                )
            }
        },
        Message::Heartbeat(heartbeat) => {
            format!(
                "heartbeat round {} commit {}",
                heartbeat.round, heartbeat.commit.0
            )
        }
        Message::HeartbeatAck(ack) => format!("heard round {}, term {}", ack.round, ack.term.0),
        Message::TimeoutNow(request) => format!("campaign now, log ends {}", request.last),
    };
    format!("{} -> {}: {text}", from.0, to.0)
}

fn describe_entry(entry: &EntryMeta) -> String {
    let kind = match &entry.kind {
        EntryKind::Noop => "no-op".to_owned(),
        EntryKind::Command => "command".to_owned(),
        EntryKind::Control => "control".to_owned(),
        EntryKind::Configuration(configuration) => describe_configuration(configuration),
    };
    format!("{kind} @{}", entry.term.0)
}
