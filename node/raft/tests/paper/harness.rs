//! One server under test, whose peers are played by the test; and clusters of the scripts' world.

use std::time::Duration;

use kontiki_raft::{
    Append, AppendAck, AppendOutcome, Config, Configuration, EntryKind, EntryMeta, Heartbeat,
    HeartbeatAck, Index, LogId, Message, Output, Raft, ReadId, ReadIndex, ReadIndexReply, Role,
    ServerId, Term, Time, TimeoutNow, Vote, VoteReply,
};

use crate::world::World;

/// Messages between two subjects; past it they do not come to an end.
const EXCHANGES_MAX: usize = 200;

/// What a server sent, to whom.
pub type Sent = Vec<(u64, Message)>;

/// Server 1.
pub struct Subject {
    pub raft: Raft,
    pub now: Time,
    /// What it writes becomes persistent only when the test says so.
    pub is_disk_slow: bool,
    /// Reads answered: number, and the index or failure.
    pub reads: Vec<(u64, Option<u64>)>,
    /// Who is to get a snapshot.
    pub snapshots_asked: Vec<u64>,
    due: Time,
}

impl Subject {
    /// A fresh one, which no configuration names.
    pub fn fresh() -> Self {
        Self::with(1, Config::default())
    }

    pub fn with(id: u64, config: Config) -> Self {
        let now = Time(0);
        Self {
            raft: Raft::new(ServerId(id), config, now),
            now,
            is_disk_slow: false,
            reads: Vec::new(),
            snapshots_asked: Vec::new(),
            due: Time::NEVER,
        }
    }

    /// One of the voters 1 to `count`, bootstrapped: a follower in term 1 that knows no leader and
    /// holds the entry 1@1.
    pub fn of(count: u64) -> Self {
        Self::of_with(count, Config::default())
    }

    pub fn of_with(count: u64, config: Config) -> Self {
        let mut subject = Self::with(1, config);
        subject.bootstrap(count);
        subject
    }

    pub fn bootstrap(&mut self, count: u64) {
        let voters = Configuration::of((1..=count).map(ServerId));
        self.turn(|raft, now| assert!(raft.bootstrap(now, voters)));
    }

    /// As [`Subject::of`], with entries of these terms after the first, got from server 2, which
    /// led the last of the terms. A request of the term after that has ended its leadership.
    pub fn holding(count: u64, terms: &[u64]) -> Self {
        let mut subject = Self::of(count);
        let last = *terms.last().expect("a term");
        subject.append(2, last, at(1, 1), terms, 1);
        subject.hear(3, forced(vote(last + 1, at(0, 0))));
        assert_eq!(subject.raft.leader(), None);
        subject
    }

    /// The leader of term 2 of `count` voters, with the log `[1 2]`, of which 1 is committed.
    pub fn leading(count: u64) -> Self {
        let mut subject = Self::of(count);
        subject.elect(count);
        subject
    }

    /// Elects it with the votes of as many others as needed; answers what it says as the leader.
    pub fn elect(&mut self, count: u64) -> Sent {
        let mut sent = self.turn(|raft, now| raft.trigger_election(now).expect("a voter"));
        let term = self.raft.term().0;
        for voter in 2..=count {
            if self.raft.role() != Role::Leader {
                sent = self.hear(voter, granted(term));
            }
        }
        assert_eq!(self.raft.role(), Role::Leader);
        sent
    }

    /// One turn: what a driver does around `call`.
    pub fn turn(&mut self, call: impl FnOnce(&mut Raft, Time)) -> Sent {
        let now = self.now;
        self.raft.tick(now);
        self.follow_log();
        call(&mut self.raft, now);
        self.follow_log();
        let mut outputs = Vec::new();
        self.due = self.raft.finish(now, &mut outputs);
        let mut sent = Vec::new();
        for output in outputs {
            match output {
                Output::Send { to, message } => sent.push((to.0, message)),
                Output::StartSnapshot { to } => self.snapshots_asked.push(to.0),
                Output::ReadReady { id, index } => self.reads.push((id.0, Some(index.0))),
                Output::ReadFailed { id } => self.reads.push((id.0, None)),
            }
        }
        sent
    }

    fn follow_log(&mut self) {
        loop {
            let changes = self.raft.take_log_changes();
            if !self.is_disk_slow {
                let (last, generation) = (self.raft.last(), self.raft.generation());
                self.raft.persisted(self.now, last, generation);
            }
            if changes.is_empty() {
                return;
            }
        }
    }

    /// A turn in which a message arrives; answers what is sent in it.
    pub fn hear(&mut self, from: u64, message: Message) -> Sent {
        self.turn(|raft, now| raft.receive(now, ServerId(from), message, &[]))
    }

    /// An append of commands of these terms arrives.
    pub fn append(
        &mut self,
        from: u64,
        term: u64,
        prev: LogId,
        terms: &[u64],
        commit: u64,
    ) -> Sent {
        let entries: Vec<EntryMeta> = terms.iter().map(|term| command(*term)).collect();
        self.append_entries(from, term, prev, &entries, commit)
    }

    pub fn append_entries(
        &mut self,
        from: u64,
        term: u64,
        prev: LogId,
        entries: &[EntryMeta],
        commit: u64,
    ) -> Sent {
        let append = Message::Append(Append {
            term: Term(term),
            prev,
            last: Index(prev.index.0 + entries.len() as u64),
            commit: Index(commit),
        });
        self.turn(|raft, now| raft.receive(now, ServerId(from), append, entries))
    }

    /// Time passes up to its next deadline.
    pub fn time_out(&mut self) -> Sent {
        assert!(self.due < Time::NEVER, "it waits for nothing");
        self.now = self.now.max(self.due);
        self.turn(|_, _| ())
    }

    pub fn pass(&mut self, milliseconds: u64) -> Sent {
        self.now = self.now + Duration::from_millis(milliseconds);
        self.turn(|_, _| ())
    }

    /// Until its next deadline, if it has one.
    pub fn wait(&self) -> Option<Duration> {
        (self.due < Time::NEVER).then(|| self.due.since(self.now))
    }

    pub fn propose(&mut self, count: usize) -> Sent {
        let entries = vec![(EntryKind::Command, 10); count];
        self.turn(|raft, now| {
            raft.propose(now, entries).expect("it serves");
        })
    }

    pub fn read(&mut self, id: u64) -> Sent {
        self.turn(|raft, now| raft.read(now, ReadId(id)).expect("it serves"))
    }

    /// The terms of its log.
    pub fn terms(&self) -> Vec<u64> {
        (1..=self.raft.last().index.0)
            .map(|index| self.raft.id_at(Index(index)).expect("held").term.0)
            .collect()
    }

    pub fn commit(&self) -> u64 {
        self.raft.commit().0
    }

    /// Role and term.
    pub fn is(&self) -> (Role, u64) {
        (self.raft.role(), self.raft.term().0)
    }

    pub fn matched(&self, server: u64) -> u64 {
        let of = |progress: &kontiki_raft::PeerProgress| progress.server == ServerId(server);
        self.raft.progress().find(of).expect("a member").matched.0
    }
}

/// Delivers what `a` sent to `b`, and all that the two say to each other then; they are servers of
/// one cluster and all others are silent.
pub fn exchange(a: &mut Subject, b: &mut Subject, sent: Sent) {
    let (a_id, b_id) = (a.raft.id().0, b.raft.id().0);
    let mut on_their_way: std::collections::VecDeque<_> = sent
        .into_iter()
        .map(|(to, message)| (a_id, to, message))
        .collect();
    for _ in 0..EXCHANGES_MAX {
        let Some((from, to, message)) = on_their_way.pop_front() else {
            return;
        };
        let (sender, receiver) = match (from, to) {
            way if way == (a_id, b_id) => (&*a, &mut *b),
            way if way == (b_id, a_id) => (&*b, &mut *a),
            _ => continue,
        };
        let entries: Vec<EntryMeta> = match &message {
            Message::Append(append) => (append.prev.index.0 + 1..=append.last.0)
                .map(|index| sender.raft.id_at(Index(index)).expect("held").term.0)
                .map(command)
                .collect(),
            _ => Vec::new(),
        };
        let answers =
            receiver.turn(|raft, now| raft.receive(now, ServerId(from), message, &entries));
        on_their_way.extend(
            answers
                .into_iter()
                .map(|(next, message)| (to, next, message)),
        );
    }
    panic!("the two do not come to an end");
}

pub fn at(index: u64, term: u64) -> LogId {
    let (index, term) = (Index(index), Term(term));
    LogId { term, index }
}

pub fn command(term: u64) -> EntryMeta {
    entry(term, EntryKind::Command)
}

pub fn configuration(term: u64, configuration: Configuration) -> EntryMeta {
    entry(term, EntryKind::Configuration(Box::new(configuration)))
}

fn entry(term: u64, kind: EntryKind) -> EntryMeta {
    let term = Term(term);
    EntryMeta {
        term,
        kind,
        size: 10,
    }
}

/// Voters of a stable configuration, or of a joint one.
pub fn voters(incoming: &[u64], outgoing: Option<&[u64]>) -> Configuration {
    let of = |ids: &[u64]| ids.iter().copied().map(ServerId).collect();
    Configuration {
        voters: of(incoming),
        outgoing: outgoing.map(of),
        ..Configuration::default()
    }
}

pub fn vote(term: u64, last: LogId) -> Message {
    let term = Term(term);
    let (pre, forced) = (false, false);
    let released = None;
    Message::Vote(Vote {
        term,
        last,
        pre,
        forced,
        released,
    })
}

pub fn pre_vote(term: u64, last: LogId) -> Message {
    let term = Term(term);
    let (pre, forced) = (true, false);
    let released = None;
    Message::Vote(Vote {
        term,
        last,
        pre,
        forced,
        released,
    })
}

/// The vote request, marked as one of a transfer or of `trigger_election`.
pub fn forced(message: Message) -> Message {
    let Message::Vote(vote) = message else {
        panic!("no vote request: {message:?}")
    };
    Message::Vote(Vote {
        forced: true,
        ..vote
    })
}

/// ... and sent because the leader of that term told the candidate to campaign.
pub fn released(message: Message, term: u64) -> Message {
    let Message::Vote(vote) = message else {
        panic!("no vote request: {message:?}")
    };
    Message::Vote(Vote {
        released: Some(Term(term)),
        ..vote
    })
}

pub fn granted(term: u64) -> Message {
    reply(term, true, false)
}

pub fn refused(term: u64) -> Message {
    reply(term, false, false)
}

pub fn pre_granted(term: u64) -> Message {
    reply(term, true, true)
}

pub fn pre_refused(term: u64) -> Message {
    reply(term, false, true)
}

fn reply(term: u64, granted: bool, pre: bool) -> Message {
    let term = Term(term);
    Message::VoteReply(VoteReply { term, granted, pre })
}

pub fn accepted(term: u64, index: u64) -> Message {
    let outcome = AppendOutcome::Accepted(Index(index));
    let term = Term(term);
    Message::AppendAck(AppendAck { term, outcome })
}

pub fn rejected(term: u64, prev: u64, hint: LogId) -> Message {
    let prev = Index(prev);
    let outcome = AppendOutcome::Rejected { prev, hint };
    let term = Term(term);
    Message::AppendAck(AppendAck { term, outcome })
}

pub fn heartbeat(term: u64, commit: u64) -> Message {
    heartbeat_of_round(term, commit, 1)
}

pub fn heartbeat_of_round(term: u64, commit: u64, round: u64) -> Message {
    let (term, commit) = (Term(term), Index(commit));
    let beat = None;
    Message::Heartbeat(Heartbeat {
        term,
        commit,
        round,
        beat,
    })
}

pub fn heard(term: u64, round: u64) -> Message {
    let (term, beat) = (Term(term), None);
    Message::HeartbeatAck(HeartbeatAck { term, round, beat })
}

pub fn read_index(id: u64) -> Message {
    Message::ReadIndex(ReadIndex { id })
}

pub fn read_index_is(id: u64, index: Option<u64>) -> Message {
    let index = index.map(Index);
    Message::ReadIndexReply(ReadIndexReply { id, index })
}

/// An order to campaign that was sent after any promise.
pub fn timeout_now(term: u64, last: LogId) -> Message {
    timeout_now_at(Time(1 << 60), term, last)
}

pub fn timeout_now_at(sent: Time, term: u64, last: LogId) -> Message {
    let term = Term(term);
    Message::TimeoutNow(TimeoutNow { term, last, sent })
}

/// Of what was sent, the appends.
pub fn appends(sent: &Sent) -> Vec<(u64, Append)> {
    let append = |(to, message): &(u64, Message)| match message {
        Message::Append(append) => Some((*to, *append)),
        _ => None,
    };
    sent.iter().filter_map(append).collect()
}

/// Of what was sent, the heartbeats: to whom, and the round.
pub fn heartbeats(sent: &Sent) -> Vec<(u64, u64)> {
    let round = |(to, message): &(u64, Message)| match message {
        Message::Heartbeat(heartbeat) => Some((*to, heartbeat.round)),
        _ => None,
    };
    sent.iter().filter_map(round).collect()
}

/// Of what was sent, the commit indexes of heartbeats.
pub fn commits_told(sent: &Sent) -> Vec<(u64, u64)> {
    let commit = |(to, message): &(u64, Message)| match message {
        Message::Heartbeat(heartbeat) => Some((*to, heartbeat.commit.0)),
        _ => None,
    };
    sent.iter().filter_map(commit).collect()
}

/// To whom requests for votes went, and which.
pub fn votes(sent: &Sent) -> Vec<(u64, Vote)> {
    let vote = |(to, message): &(u64, Message)| match message {
        Message::Vote(vote) => Some((*to, *vote)),
        _ => None,
    };
    sent.iter().filter_map(vote).collect()
}

/// A cluster of the scripts' world: voters 1 to `count`, the first of which leads.
pub fn cluster(count: u64) -> World {
    let mut world = World::default();
    for id in 1..=count {
        world.start(ServerId(id), Config::default());
        world.turn(ServerId(id), |raft, now| {
            assert!(raft.bootstrap(now, Configuration::of((1..=count).map(ServerId))));
            None
        });
    }
    trigger(&mut world, 1);
    world.settle();
    assert_eq!(raft(&world, 1).role(), Role::Leader);
    world
}

pub fn trigger(world: &mut World, id: u64) {
    world.turn(ServerId(id), |raft, now| {
        raft.trigger_election(now).expect("a voter");
        None
    });
}

pub fn raft(world: &World, id: u64) -> &Raft {
    &world.servers[&ServerId(id)].raft
}

/// Both ways.
pub fn cut(world: &mut World, a: u64, b: u64) {
    world.cut(ServerId(a), ServerId(b));
    world.cut(ServerId(b), ServerId(a));
}
