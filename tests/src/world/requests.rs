//! Requests of clients, of the operator and of chaos: the way there and the way back.

use std::time::Duration;

use bytes::Bytes;
use kontiki_node::driver::{Answer, Input, ReadMode, Refusal, Until};
use kontiki_node::host::Stamp;
use kontiki_raft::{ChangeRequest, ClusterId, ServerId};

use super::{Event, World};
use crate::invariants::Asked;
use crate::network::Place;
use crate::register;

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Client(usize),
    Operator,
    Nobody,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) enum Question {
    Write {
        key: u8,
        value: u64,
        padding: usize,
        /// Its place in a session, if it is in one.
        stamp: Option<(ClusterId, Stamp)>,
    },
    OpenSession,
    Malformed,
    Read {
        key: u8,
        mode: ReadMode,
        forward: bool,
    },
    Bootstrap {
        cluster: ClusterId,
        voters: Vec<ServerId>,
    },
    Activate,
    Change {
        change: ChangeRequest,
        until: Until,
    },
    Transfer(Option<ServerId>),
    TriggerElection,
    /// The operator's, to the survivors of a total loss.
    Quarantine,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) asker: Asker,
    pub(super) server: ServerId,
    pub(super) question: Question,
}

impl World {
    /// Sends a request on its way; its number.
    pub(super) fn ask(&mut self, asker: Asker, server: ServerId, question: Question) -> u64 {
        self.ask_later(asker, server, question, Duration::ZERO)
    }

    /// Sends a request on its way after a while; its number.
    pub(super) fn ask_later(
        &mut self,
        asker: Asker,
        server: ServerId,
        question: Question,
        delay: Duration,
    ) -> u64 {
        self.request_next += 1;
        let id = self.request_next;
        let request = Request {
            asker,
            server,
            question,
        };
        if let Question::Change { change, .. } = &request.question {
            self.changes.insert(id, (server, change.clone()));
        }
        self.requests.insert(id, request);
        let place = self.address[&server];
        let arrival = self.now + delay.as_nanos() as u64 + self.network.way_to(self.now, place);
        self.at(arrival, Event::Request(id));
        id
    }

    pub(super) fn deliver_request(&mut self, id: u64) {
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        let server = request.server;
        let place = self.address[&server];
        let question = request.question.clone();
        if self.process_mut(place, server).is_none() {
            // Nobody there: it was not even read.
            self.changes.remove(&id);
            self.answer(id, Err(Refusal::WrongServer(server)));
            return;
        }
        if let Some(refusal) = self.is_queue_full(place) {
            self.tally.add("request: refused, the queue is full");
            self.changes.remove(&id);
            self.answer(id, Err(refusal));
            return;
        }
        self.note(format_args!("{server} is asked {id} {question:?}"));
        if let Question::Change { change, .. } = &question {
            self.tell_versions(place, change);
        }
        let is_foreign = self.is_of_another_cluster(place, &question);
        let (mut asked, input) = input(question, id);
        if is_foreign && let Asked::Write { stamp, .. } = &mut asked {
            // What it says of a session is about another: it is as one without, and must be refused.
            *stamp = None;
            self.tally.add("session: asked in another cluster");
        }
        let asked = self.judged(asked, &input);
        let process = self.process_mut(place, server).expect("it was there");
        process.asked.push((id, asked));
        self.input(place, input);
    }

    /// A write in a session of another cluster than that of the server which is asked.
    fn is_of_another_cluster(&self, place: Place, question: &Question) -> bool {
        let process = self.places[place].as_ref();
        let mine = process.and_then(|process| process.status.cluster);
        match question {
            Question::Write {
                stamp: Some((theirs, _)),
                ..
            } => mine.is_some_and(|mine| mine != *theirs),
            _ => false,
        }
    }

    /// A server answered: the answer travels back, or gets lost.
    pub(super) fn replied(&mut self, place: Place, id: u64, result: Result<Answer, Refusal>) {
        self.count_answer(id, &result);
        self.changes.remove(&id);
        let fate = self.network.fate(self.now, place, place);
        match fate.arrival {
            Some(arrival) => self.at(arrival, Event::Answer(id, result)),
            None => self.tally.add("message: answer lost"),
        }
    }

    fn count_answer(&mut self, id: u64, result: &Result<Answer, Refusal>) {
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        let server = request.server;
        let outcome = match result {
            Ok(_) => "ok".to_owned(),
            Err(refusal) => format!("refused: {refusal}"),
        };
        self.trace.line(
            self.now,
            self.step,
            format_args!("{server} answers {id}: {outcome}"),
        );
        let name = match (&request.question, result) {
            (Question::Write { .. }, Ok(_)) => "write: acknowledged",
            (Question::Write { .. }, Err(Refusal::OutcomeUnknown)) => "write: outcome unknown",
            (Question::Write { .. }, Err(_)) => "write: refused",
            (Question::OpenSession, Ok(_)) => "session: opened",
            (Question::OpenSession, Err(_)) => "session: not opened",
            (Question::Malformed, _) => "write: malformed, refused",
            (Question::Read { mode, forward, .. }, result) => {
                read_name(*mode, *forward, result.is_ok())
            }
            (Question::Transfer(_), Ok(_)) => "transfer: done",
            (Question::Transfer(_), Err(_)) => "transfer: refused or failed",
            (Question::TriggerElection, Ok(_)) => "trigger election: done",
            (Question::TriggerElection, Err(_)) => "trigger election: refused",
            (Question::Change { .. }, Ok(_)) => "change: answered",
            (Question::Change { .. }, Err(refusal)) => change_refused(refusal),
            (Question::Bootstrap { .. }, _) => "bootstrap",
            (Question::Activate, _) => "activate",
            (Question::Quarantine, Ok(_)) => "quarantine: done",
            (Question::Quarantine, Err(_)) => "quarantine: refused",
        };
        self.tally.add(name);
    }

    pub(super) fn answer(&mut self, id: u64, result: Result<Answer, Refusal>) {
        let Some(request) = self.requests.remove(&id) else {
            return;
        };
        match request.asker {
            Asker::Client(client) => self.client_hears(client, id, &request, &result),
            Asker::Operator => self.operator_hears(id, &request, &result),
            Asker::Nobody => {}
        }
    }

    /// Requests that somebody has waited for since before a moment and whose server lives.
    pub(super) fn unanswered_since(&self, moment: u64) -> usize {
        let open = self.checker.ledger.open.values();
        open.filter(|(_, _, since)| *since < moment).count()
    }
}

fn change_refused(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::UnstableConfig => "change: refused, another is in flight",
        Refusal::StaleConfig { .. } => "change: refused, stale configuration",
        Refusal::NoCommit => "change: refused, no commit in the term",
        Refusal::BelowMinMajority { .. } => "change: refused, below min_majority",
        Refusal::NoQuorumAfterwards { .. } => "change: refused, no quorum afterwards",
        Refusal::UnsupportedVersion(_) => "change: refused, unsupported version",
        Refusal::OutcomeUnknown | Refusal::ChangeUnfinished(_) => "change: outcome unknown",
        _ => "change: refused otherwise",
    }
}

fn read_name(mode: ReadMode, forward: bool, is_answered: bool) -> &'static str {
    match (mode, is_answered) {
        (ReadMode::Linearizable, true) if forward => "follower read: answered",
        (ReadMode::Linearizable, false) if forward => "follower read: refused",
        (ReadMode::Linearizable, true) => "read: answered",
        (ReadMode::Linearizable, false) => "read: refused",
        (ReadMode::Leased, true) => "lease read: answered",
        (ReadMode::Leased, false) => "lease read: refused",
        (ReadMode::Bounded(_), true) => "bounded read: answered",
        (ReadMode::Bounded(_), false) => "bounded read: refused",
        (ReadMode::Stale, true) => "stale read: answered",
        (ReadMode::Stale, false) => "stale read: refused",
    }
}

fn input(question: Question, reply: u64) -> (Asked, Input<u64>) {
    let administration = Asked::Administration;
    match question {
        Question::Write {
            key,
            value,
            padding,
            stamp,
        } => {
            let command = Bytes::from(register::write(key, value, padding));
            let input = match stamp {
                None => Input::Write { command, reply },
                Some((cluster, stamp)) => Input::WriteInSession {
                    command,
                    cluster,
                    stamp,
                    reply,
                },
            };
            let stamp = stamp.map(|(_, stamp)| stamp);
            (Asked::Write { key, value, stamp }, input)
        }
        Question::OpenSession => (administration, Input::OpenSession { reply }),
        Question::Malformed => {
            let command = Bytes::from_static(b"odd");
            (administration, Input::Write { command, reply })
        }
        Question::Read { key, mode, forward } => {
            let asked = match mode {
                ReadMode::Linearizable | ReadMode::Leased => Asked::Read { key },
                ReadMode::Bounded(limit) => Asked::Bounded { key, limit },
                ReadMode::Stale => Asked::Stale { key },
            };
            let query = Bytes::from(vec![key]);
            (
                asked,
                Input::Read {
                    query,
                    mode,
                    forward,
                    reply,
                },
            )
        }
        Question::Bootstrap { cluster, voters } => (
            administration,
            Input::Bootstrap {
                cluster,
                voters,
                reply,
            },
        ),
        Question::Activate => (administration, Input::Activate { reply }),
        Question::Change { change, until } => (
            Asked::Change {
                change: change.clone(),
                until,
            },
            Input::Change {
                change,
                until,
                reply,
            },
        ),
        Question::Transfer(target) => {
            let asked = Asked::Transfer { target };
            (asked, Input::Transfer { target, reply })
        }
        Question::Quarantine => {
            let why = "a quorum is lost".into();
            (administration, Input::Quarantine { why, reply })
        }
        Question::TriggerElection => (administration, Input::TriggerElection { reply }),
    }
}

/// How long a client waits.
pub(super) const PATIENCE: (Duration, Duration) =
    (Duration::from_millis(500), Duration::from_secs(3));
