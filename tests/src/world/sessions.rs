//! Clients that write in sessions: each repeats a write under its sequence until it knows what became
//! of it, to whoever leads then, sometimes twice at once, sometimes others first.

use std::time::Duration;

use kontiki_node::driver::{Answer, Refusal, SessionBounds};
use kontiki_node::host::{SessionId, SessionRefusal, Stamp};
use kontiki_raft::{ClusterId, ServerId};

use super::World;
use super::requests::{Asker, Question};
use crate::rng::Rng;

/// Writes that a client has begun and not ended.
const UNFINISHED_MAX: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Sessions {
    current: Option<Session>,
}

#[derive(Debug)]
struct Session {
    /// The cluster that it is of.
    cluster: ClusterId,
    id: SessionId,
    /// Given out last.
    sequence: u64,
    unfinished: Vec<Unfinished>,
}

#[derive(Clone, Copy, Debug)]
struct Unfinished {
    sequence: u64,
    key: u8,
    value: u64,
    padding: usize,
}

impl Session {
    fn stamp(&self, sequence: u64) -> (ClusterId, Stamp) {
        let oldest = self.unfinished.iter().map(|write| write.sequence).min();
        let stamp = Stamp {
            session: self.id,
            sequence,
            acknowledged: oldest.unwrap_or(sequence) - 1,
        };
        (self.cluster, stamp)
    }

    fn question(&self, write: Unfinished) -> Question {
        Question::Write {
            key: write.key,
            value: write.value,
            padding: write.padding,
            stamp: Some(self.stamp(write.sequence)),
        }
    }
}

impl Sessions {
    /// The place of a new write, if a session is open.
    pub(super) fn begin(
        &mut self,
        key: u8,
        value: u64,
        padding: usize,
    ) -> Option<(ClusterId, Stamp)> {
        let session = self.current.as_mut()?;
        session.sequence += 1;
        let sequence = session.sequence;
        session.unfinished.push(Unfinished {
            sequence,
            key,
            value,
            padding,
        });
        Some(session.stamp(sequence))
    }
}

/// The default bounds in half of the runs; small ones in the rest, so that they are reached.
pub(super) fn bounds(rng: &mut Rng) -> SessionBounds {
    let mut bounds = kontiki_node::Config::default().sessions.bounds();
    if rng.chance(300) {
        bounds.ttl = Duration::from_millis(rng.within(400, 8000));
    }
    if rng.chance(100) {
        bounds.sessions_max = 1;
    }
    if rng.chance(200) {
        bounds.window_max = rng.within(1, 3) as u32;
    }
    if rng.chance(100) {
        bounds.reply_bytes_max = rng.within(0, 16) as u32;
    }
    if rng.chance(50) {
        bounds.bytes_max = rng.within(100, 600);
    }
    bounds
}

impl World {
    /// What a client that writes in sessions asks before it begins another write.
    pub(super) fn question_in_session(&mut self, client: usize, rng: &mut Rng) -> Option<Question> {
        let sessions = self.clients[client].sessions.as_ref()?;
        let Some(session) = &sessions.current else {
            return Some(Question::OpenSession);
        };
        let repeats = match session.unfinished.len() {
            0 => false,
            UNFINISHED_MAX => true,
            _ => rng.chance(700),
        };
        if !repeats {
            return None;
        }
        let write = rng.pick(&session.unfinished)?;
        self.tally.add("session: write asked for again");
        Some(session.question(write))
    }

    /// Sometimes the same write is in flight twice.
    pub(super) fn ask_twice(&mut self, anybody: &[ServerId], question: &Question, rng: &mut Rng) {
        if matches!(question, Question::Write { stamp: Some(_), .. })
            && rng.chance(100)
            && let Some(server) = rng.pick(anybody)
        {
            self.tally.add("session: write asked for twice at once");
            self.ask(Asker::Nobody, server, question.clone());
        }
    }

    /// A client hears what became of what it asked.
    pub(super) fn session_hears(
        &mut self,
        client: usize,
        question: &Question,
        result: &Result<Answer, Refusal>,
    ) {
        let Some(sessions) = self.clients[client].sessions.as_mut() else {
            return;
        };
        if let Ok(Answer::SessionOpened { cluster, session }) = result {
            sessions.current = Some(Session {
                cluster: *cluster,
                id: *session,
                sequence: 0,
                unfinished: Vec::new(),
            });
        }
        let (
            Question::Write {
                stamp: Some((cluster, stamp)),
                ..
            },
            Some(session),
        ) = (question, sessions.current.as_mut())
        else {
            return;
        };
        if (session.cluster, session.id) != (*cluster, stamp.session) {
            return;
        }
        let mut finish = |name| {
            session
                .unfinished
                .retain(|write| write.sequence != stamp.sequence);
            self.tally.add(name);
        };
        match result {
            Ok(_) => finish("session: write acknowledged"),
            Err(Refusal::ReplyForgotten(_)) => finish("session: reply forgotten"),
            Err(Refusal::Session(SessionRefusal::Expired(_))) => {
                // What was asked for before may have been applied: unknown, for good.
                sessions.current = None;
                self.tally.add("session: expired");
            }
            Err(Refusal::SessionOf { .. }) => {
                // Of a cluster that was lost: what was asked for before is unknown, for good.
                sessions.current = None;
                self.tally.add("session: of another cluster");
            }
            Err(Refusal::Session(SessionRefusal::WindowFull { .. })) => {
                self.tally.add("session: window full");
            }
            Err(Refusal::Session(SessionRefusal::AlreadyAcknowledged { .. })) => {
                unreachable!("it acknowledges only what it has finished")
            }
            Err(_) => {}
        }
    }
}
