//! Clients: each does one thing after the other, at moments that do not depend on what becomes of it,
//! finds the leader by redirects, and gives up on what takes too long. A value is written once and never
//! again, so that an answer says which write it shows; what is not answered may or may not have happened.

use std::time::Duration;

use kontiki_node::driver::{Answer, ReadMode, Refusal};
use kontiki_raft::ServerId;

use super::World;
use super::requests::{Asker, PATIENCE, Question, Request};
use super::sessions::Sessions;
use crate::rng::Rng;

const KEYS: u64 = 5;
/// How often of a thousand times a client asks somebody else than who it believes to lead.
const ELSEWHERE: u64 = 100;
/// The client that only reads, most of it under a lease, and stays with who answers: it waits for no
/// write that a leader without its quorum cannot commit, and goes on asking that leader.
const READER: usize = 0;
/// The client that asks anybody every time: so that a new leader has a client while others still
/// believe in the one before.
const SEEKER: usize = 2;
/// The least staleness that is allowed: about what a follower of a fast cluster can keep to.
const SHORTEST: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(super) struct Client {
    /// Who it believes leads.
    leader: Option<ServerId>,
    /// What it waits for, and until when.
    waits_for: Option<(u64, u64)>,
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
    /// A client acts, unless it waits for something and does not give that up now. Says what it asks.
    pub(super) fn client(&mut self, client: usize, rng: &mut Rng) -> Option<String> {
        if !self.clients_work {
            return None;
        }
        let anybody: Vec<ServerId> = self
            .processes()
            .map(|(_, process)| process.server)
            .collect();
        if anybody.is_empty() {
            return None;
        }
        if let Some((_, until)) = self.clients[client].waits_for {
            if self.now < until {
                return None;
            }
            self.tally.add("client: gave up");
            self.clients[client].waits_for = None;
            self.clients[client].leader = None;
        }
        let believed = self.clients[client]
            .leader
            .filter(|server| self.lives(*server));
        let mode = match client {
            READER => Some(read_mode(rng).unwrap_or(ReadMode::Leased)),
            _ => read_mode(rng),
        };
        let forward = rng.chance(300);
        // Any server may answer these.
        let is_free = match mode {
            Some(ReadMode::Stale | ReadMode::Bounded(_)) => true,
            Some(ReadMode::Linearizable) => forward,
            Some(ReadMode::Leased) | None => false,
        };
        let server = match believed {
            Some(server) if client == READER && !is_free => server,
            Some(server) if !is_free && client != SEEKER && !rng.chance(ELSEWHERE) => server,
            _ => rng.pick(&anybody)?,
        };
        let question = self.question(client, mode, forward, rng);
        self.ask_twice(&anybody, &question, rng);
        let what = match self.story {
            Some(_) => format!("to {server}: {question:?}"),
            None => String::new(),
        };
        let id = self.ask(Asker::Client(client), server, question);
        self.tally.add("client: operation");
        let until = self.now + rng.duration(PATIENCE.0, PATIENCE.1);
        self.clients[client].waits_for = Some((id, until));
        Some(what)
    }

    fn question(
        &mut self,
        client: usize,
        mode: Option<ReadMode>,
        forward: bool,
        rng: &mut Rng,
    ) -> Question {
        let key = rng.below(KEYS) as u8;
        if let Some(mode) = mode {
            return Question::Read { key, mode, forward };
        }
        if rng.chance(10) {
            return Question::Malformed;
        }
        if let Some(question) = self.question_in_session(client, rng) {
            return question;
        }
        self.clients[client].written += 1;
        let padding = match rng.below(10) {
            0 => rng.below(2000) as usize,
            _ => rng.below(50) as usize,
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
        let waits_for = self.clients[client].waits_for;
        if waits_for.is_none_or(|(waits_for, _)| waits_for != id) {
            return; // it has given up
        }
        self.clients[client].waits_for = None;
        self.session_hears(client, &request.question, result);
        let is_by_leader = match request.question {
            Question::Read { mode, forward, .. } => {
                matches!(mode, ReadMode::Linearizable | ReadMode::Leased) && !forward
            }
            _ => true,
        };
        match result {
            Ok(_) if is_by_leader => self.clients[client].leader = Some(request.server),
            Ok(_) => {}
            Err(Refusal::NotLeader(leader)) => self.clients[client].leader = Some(*leader),
            Err(_) => self.clients[client].leader = None,
        }
    }
}

/// Half of what clients do is reading, in every way.
fn read_mode(rng: &mut Rng) -> Option<ReadMode> {
    match rng.below(100) {
        0..10 => Some(ReadMode::Stale),
        10..20 => {
            let limit = rng.duration(SHORTEST, 20 * SHORTEST);
            Some(ReadMode::Bounded(Duration::from_nanos(limit)))
        }
        20..35 => Some(ReadMode::Leased),
        35..55 => Some(ReadMode::Linearizable),
        _ => None,
    }
}
