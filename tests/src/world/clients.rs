//! Clients: each does one thing after the other, finds the leader by redirects, and gives up on what
//! takes too long. A value is written once and never again, so that an answer says which write it
//! shows; what is not answered may or may not have happened.

use std::time::Duration;

use kontiki_node::driver::{Answer, Refusal};
use kontiki_raft::ServerId;

use super::requests::{Asker, PATIENCE, Question, Request};
use super::sessions::Sessions;
use super::{Event, World};

const KEYS: u64 = 5;

#[derive(Debug, Default)]
pub(super) struct Client {
    /// Who it believes leads.
    leader: Option<ServerId>,
    /// What it waits for.
    waits_for: Option<u64>,
    written: u64,
    /// What it writes in, if it writes in sessions at all.
    pub(super) sessions: Option<Sessions>,
}

impl Client {
    /// Every second one writes in sessions.
    pub(super) fn new(number: usize) -> Self {
        Self {
            sessions: (number % 2 == 1).then(Sessions::default),
            ..Self::default()
        }
    }
}

impl World {
    /// A client acts, or gives up on a request.
    pub(super) fn client(&mut self, client: usize, gives_up_on: Option<u64>) {
        if gives_up_on.is_some() {
            if self.clients[client].waits_for != gives_up_on {
                return;
            }
            self.tally.add("client: gave up");
            self.clients[client].waits_for = None;
            self.clients[client].leader = None;
        }
        if self.clients[client].waits_for.is_some() || !self.clients_work {
            return;
        }
        let believed = self.clients[client]
            .leader
            .filter(|server| self.lives(*server));
        let stale = self.rng.chance(100);
        let anybody: Vec<ServerId> = self
            .processes()
            .map(|(_, process)| process.server)
            .collect();
        let server = match believed {
            Some(server) if !stale && !self.rng.chance(30) => server,
            _ => match self.rng.pick(&anybody) {
                Some(server) => server,
                None => {
                    self.after(Duration::from_millis(50), Event::Client(client, None));
                    return;
                }
            },
        };
        let question = self.question(client, stale);
        self.ask_twice(&anybody, &question);
        let id = self.ask(Asker::Client(client), server, question);
        self.tally.add("client: operation");
        self.clients[client].waits_for = Some(id);
        self.between(PATIENCE.0, PATIENCE.1, Event::Client(client, Some(id)));
    }

    fn question(&mut self, client: usize, stale: bool) -> Question {
        let key = self.rng.below(KEYS) as u8;
        if stale || self.rng.chance(400) {
            return Question::Read { key, stale };
        }
        if self.rng.chance(10) {
            return Question::Malformed;
        }
        if let Some(question) = self.question_in_session(client) {
            return question;
        }
        self.clients[client].written += 1;
        let padding = match self.rng.below(10) {
            0 => self.rng.below(2000) as usize,
            _ => self.rng.below(50) as usize,
        };
        let written = self.clients[client].written;
        let value = (client as u64 + 1) << 32 | written;
        let sessions = self.clients[client].sessions.as_mut();
        let stamp = sessions.and_then(|sessions| sessions.begin(key, value, padding));
        Question::Write {
            key,
            value,
            padding,
            stamp,
        }
    }

    pub(super) fn client_hears(
        &mut self,
        client: usize,
        id: u64,
        request: &Request,
        result: &Result<Answer, Refusal>,
    ) {
        if self.clients[client].waits_for != Some(id) {
            return; // it has given up
        }
        self.clients[client].waits_for = None;
        self.session_hears(client, &request.question, result);
        let stale = matches!(request.question, Question::Read { stale: true, .. });
        let mut pause = (Duration::ZERO, Duration::from_millis(60));
        match result {
            Ok(_) if !stale => self.clients[client].leader = Some(request.server),
            Ok(_) => {}
            Err(Refusal::NotLeader(leader)) => {
                self.clients[client].leader = Some(*leader);
                pause.1 = Duration::from_millis(10);
            }
            Err(_) => {
                self.clients[client].leader = None;
                pause.1 = Duration::from_millis(100);
            }
        }
        self.between(pause.0, pause.1, Event::Client(client, None));
    }
}
