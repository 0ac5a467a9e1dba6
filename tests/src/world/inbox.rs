//! What waits for a turn: the node's loop takes a bounded number of requests into one, the rest waits for
//! the next; and a request that finds the queue full is refused before any driver sees it.

use kontiki_node::driver::{Input, Refusal};

use super::{Process, World};
use crate::invariants::Asked;
use crate::network::Place;
use crate::rng::Rng;

/// Bounds of queues, as nodes have them, and small ones in some runs, so that they are reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queues {
    turn_inputs_max: usize,
    requests_max: usize,
}

impl Queues {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut bound = |low, high, usual: usize| match rng.chance(200) {
            true => rng.within(low, high) as usize,
            false => usual,
        };
        Self {
            turn_inputs_max: bound(1, 2, 8192),
            requests_max: bound(2, 4, 65536),
        }
    }
}

/// What goes into a turn: requests among it, by their numbers.
pub(super) struct Taken {
    pub(super) inputs: Vec<Input<u64>>,
    pub(super) asked: Vec<(u64, Asked)>,
    /// There is more.
    pub(super) is_part: bool,
}

impl Process {
    fn requests(&self) -> usize {
        let requests = self.inbox.iter();
        requests.filter(|one| reply_of(one).is_some()).count()
    }

    /// The first so many requests, and all that came from elsewhere.
    pub(super) fn take_inputs(&mut self, queues: Queues) -> Taken {
        if self.requests() <= queues.turn_inputs_max {
            return Taken {
                inputs: std::mem::take(&mut self.inbox),
                asked: std::mem::take(&mut self.asked),
                is_part: false,
            };
        }
        let mut taken = Vec::new();
        let (mut left, mut requests) = (Vec::new(), 0);
        for input in self.inbox.drain(..) {
            requests += usize::from(reply_of(&input).is_some());
            match reply_of(&input).is_some() && requests > queues.turn_inputs_max {
                true => left.push(input),
                false => taken.push(input),
            }
        }
        let waits = |id: u64| left.iter().any(|input| reply_of(input) == Some(id));
        let (waiting, asked) = self.asked.drain(..).partition(|(id, _)| waits(*id));
        self.inbox = left;
        self.asked = waiting;
        Taken {
            inputs: taken,
            asked,
            is_part: true,
        }
    }
}

impl World {
    /// Why a request is refused by the queue that it would wait in, if it is full.
    pub(super) fn is_queue_full(&self, place: Place) -> Option<Refusal> {
        let process = self.places[place].as_ref()?;
        let (what, max) = ("request queue", self.queues.requests_max);
        (process.requests() >= max).then_some(Refusal::QueueFull { what, max })
    }
}

/// The request that an input is, if it is one.
fn reply_of(input: &Input<u64>) -> Option<u64> {
    match input {
        Input::Write { reply, .. }
        | Input::WriteInSession { reply, .. }
        | Input::OpenSession { reply }
        | Input::CloseSession { reply, .. }
        | Input::Read { reply, .. }
        | Input::Bootstrap { reply, .. }
        | Input::Activate { reply }
        | Input::Change { reply, .. }
        | Input::Transfer { reply, .. }
        | Input::TriggerElection { reply }
        | Input::Quarantine { reply, .. }
        | Input::Inspect { reply, .. }
        | Input::Status { reply } => Some(*reply),
        _ => None,
    }
}
