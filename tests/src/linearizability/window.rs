//! The shortest stretch of a history that no order explains, for people to read.
//!
//! It ends with the first reply that cannot be explained together with all before it. It begins as
//! late as it can while what is left cannot be explained whatever the register held before.

use std::fmt;

use super::checker::{CONFIGURATIONS_MAX, State, Verdict, check_from};
use super::history::{Call, Key, Moment, Operation, Outcome};

/// Operations that are shown: more tell a person nothing.
const SHOWN_MAX: usize = 60;

/// Operations that contradict each other.
#[derive(Clone, Debug)]
pub struct Window {
    /// In the order of their calls.
    pub operations: Vec<Operation>,
    /// What the register held before: nothing, if the stretch reaches back to the beginning.
    pub initial: State,
}

/// Replies that are looked at together, before the whole history is.
const CHUNK: usize = 400;

/// The shortest such stretch of a history; `None` if there is none, or none is found within the bound
/// of the search.
pub fn shortest(operations: &[Operation]) -> Option<Window> {
    let mut replies: Vec<Moment> = operations.iter().filter_map(Operation::replied).collect();
    replies.sort_unstable();
    // To see that a long history has no order, all orders of all that was before must be tried. A part
    // of it is seldom longer than it needs to be.
    let parts = (0..replies.len()).step_by(CHUNK / 2).map(|begin| {
        let end = (begin + CHUNK).min(replies.len()) - 1;
        let ended = through(operations, replies[end]);
        let from = begin.checked_sub(1).map(|before| replies[before]);
        from.map_or(ended.clone(), |from| since(&ended, from))
    });
    let mut parts = parts.map(|part| (State::Anything, part));
    let found = parts.find(|(initial, part)| contradicts(*initial, part));
    let whole = (State::Is(None), operations.to_vec());
    let (initial, operations) = found.unwrap_or(whole);
    narrowed(initial, &operations)
}

fn contradicts(initial: State, operations: &[Operation]) -> bool {
    check_from(initial, operations, CONFIGURATIONS_MAX) == Verdict::NotLinearizable
}

/// The shortest stretch of this one.
fn narrowed(initial: State, operations: &[Operation]) -> Option<Window> {
    let mut replies: Vec<Moment> = operations.iter().filter_map(Operation::replied).collect();
    replies.sort_unstable();
    // A longer history has more to explain, so the first that cannot be explained is found by halves.
    let explained = |until: &Moment| !contradicts(initial, &through(operations, *until));
    let until = *replies.get(replies.partition_point(explained))?;
    let ended = through(operations, until);
    // A shorter one has less.
    let contradicted = |from: &Moment| contradicts(State::Anything, &since(&ended, *from));
    let begins = replies.partition_point(contradicted);
    let (initial, operations) = match begins.checked_sub(1) {
        Some(last) => (State::Anything, since(&ended, replies[last])),
        None if contradicts(State::Anything, &ended) => (State::Anything, ended),
        None => (initial, ended),
    };
    Some(Window {
        operations: relevant(operations),
        initial,
    })
}

/// The history as it was at this moment: what was not answered by then is unknown.
fn through(operations: &[Operation], until: Moment) -> Vec<Operation> {
    let called = operations
        .iter()
        .filter(|operation| operation.called <= until);
    called
        .map(|operation| match operation.replied() {
            Some(at) if at > until => Operation {
                outcome: Outcome::Unknown,
                ..operation.clone()
            },
            _ => operation.clone(),
        })
        .collect()
}

/// What is left of it after this moment: what was called by then may have taken effect before.
fn since(operations: &[Operation], from: Moment) -> Vec<Operation> {
    let lasting = operations
        .iter()
        .filter(|operation| operation.replied().is_none_or(|at| at > from));
    lasting
        .map(|operation| match operation.called {
            called if called <= from => Operation {
                outcome: Outcome::Unknown,
                ..operation.clone()
            },
            _ => operation.clone(),
        })
        .collect()
}

/// Leaves out what explains nothing: gets without an answer, and unknown writes whose value is not
/// seen in the stretch.
fn relevant(mut operations: Vec<Operation>) -> Vec<Operation> {
    let seen: Vec<_> = operations
        .iter()
        .filter_map(|operation| operation.seen())
        .collect();
    operations.retain(|operation| match (operation.outcome, operation.call) {
        (Outcome::Replied { .. }, _) => true,
        (Outcome::Unknown, Call::Get) => false,
        (Outcome::Unknown, call) => seen.contains(&call.stores()),
    });
    operations.sort_by_key(|operation| operation.called);
    operations
}

impl Window {
    /// As lines of text, of this register.
    pub fn describe(&self, key: Key) -> String {
        let before = match self.initial {
            State::Anything => "whatever it held before",
            State::Is(_) => "with nothing in it at first",
        };
        format!("key {key}: no order explains these, {before}:\n{self}")
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_out = self.operations.len().saturating_sub(SHOWN_MAX);
        if left_out > 0 {
            writeln!(f, "  ({left_out} earlier operations are not shown)")?;
        }
        writeln!(
            f,
            "  {:>11} {:>11}  {:<18} {:<24} -> reply",
            "called (s)", "replied (s)", "client", "call"
        )?;
        for operation in self.operations.iter().skip(left_out) {
            writeln!(f, "  {operation}")?;
        }
        Ok(())
    }
}
