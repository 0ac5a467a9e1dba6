//! Searches for an order of a register's operations that explains all replies: Wing and Gong 1993,
//! with the memory of Lowe 2017 (*Testing for linearizability*), a register at a time (Herlihy and
//! Wing 1990: a history is linearizable if it is for every object by itself).
//!
//! The search goes from configuration to configuration: what has been put in order so far, and what
//! the register holds then. Next may come any operation that was called before the earliest reply
//! among those still missing. Three things keep it short, and none loses an order that there is:
//!
//! 1. An operation that sees the register as it is, and leaves it so, comes at once: in any order that
//!    has it later, it may be moved here.
//! 2. An unknown operation is taken only if it changes the register, and only in front of one that
//!    sees the change: in an order with as few of the unknown as possible each is followed by one, for
//!    without it it could be left out.
//! 3. Of unknown operations that ask the same the one called first is taken first. Writes of values
//!    that nobody sees are the same in this.
//! 4. A configuration is left out if another was met with the same known operations in order, the same
//!    register, and fewer of the unknown taken: whatever completes the one completes the other. A
//!    compare-and-set that found its value is forgotten once taken: a value is written once, so it is
//!    never found again.

use std::collections::{HashMap, HashSet};

use super::history::{Call, Moment, Operation, Outcome, Reply, Value};

/// Configurations that are remembered before the search gives up: a few hundred bytes each.
pub const CONFIGURATIONS_MAX: usize = 1_000_000;

/// What the search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every reply.
    Linearizable,
    /// There is none.
    NotLinearizable,
    /// It looked at as many configurations as it may, and knows neither.
    GaveUp,
}

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Whatever would explain the next reply: what was before is not known.
    Anything,
    /// Nothing, or a value.
    Is(Option<Value>),
}

impl State {
    fn may_be(self, value: Option<Value>) -> bool {
        self == Self::Anything || self == Self::Is(value)
    }

    /// What an operation with this reply leaves behind; `None`: it cannot have got this reply here.
    fn after(self, call: Call, reply: Reply) -> Option<Self> {
        match (call, reply) {
            (Call::Get, Reply::Got(seen)) => self.may_be(seen).then_some(Self::Is(seen)),
            (Call::Put(value), Reply::Done) => Some(Self::Is(Some(value))),
            (Call::Delete, Reply::Deleted(found)) => {
                let possible = match self {
                    Self::Anything => true,
                    Self::Is(held) => held.is_some() == found,
                };
                possible.then_some(Self::Is(None))
            }
            (Call::CompareAndSet { expected, new }, Reply::Done) => {
                self.may_be(expected).then_some(Self::Is(new))
            }
            (Call::CompareAndSet { expected, .. }, Reply::Mismatch(seen)) => {
                (seen != expected && self.may_be(seen)).then_some(Self::Is(seen))
            }
            _ => None, // a reply to another question
        }
    }

    /// What an operation leaves behind if it is done here; `None`: nothing else than was there.
    fn changed_by(self, call: Call) -> Option<Self> {
        let after = match call {
            Call::Get => self,
            Call::Put(value) => Self::Is(Some(value)),
            Call::Delete => Self::Is(None),
            Call::CompareAndSet { expected, new } if self.may_be(expected) => Self::Is(new),
            Call::CompareAndSet { .. } => self,
        };
        (after != self).then_some(after)
    }
}

/// Whether what comes of the call depends on what the register holds.
fn looks(call: Call) -> bool {
    !matches!(call, Call::Put(_))
}

/// Whether an unknown one can have seen what was there before.
fn looks_unknown(call: Call) -> bool {
    matches!(call, Call::CompareAndSet { .. })
}

/// Judges a register that holds nothing at first.
pub fn check(operations: &[Operation]) -> Verdict {
    check_from(State::Is(None), operations, CONFIGURATIONS_MAX)
}

/// Judges a register that begins like this, within so many configurations.
pub fn check_from(initial: State, operations: &[Operation], configurations_max: usize) -> Verdict {
    Search::new(operations, configurations_max).run(initial)
}

/// An operation that was answered.
#[derive(Clone, Copy, Debug)]
struct Known {
    called: Moment,
    replied: Moment,
    call: Call,
    reply: Reply,
}

/// One that may have taken effect.
#[derive(Clone, Copy, Debug)]
struct Unknown {
    called: Moment,
    call: Call,
}

/// Where the search stands, but for the unknown operations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cut {
    /// The first of the known that is not in the order yet.
    first: usize,
    /// Those after it that are, ascending.
    beyond: Vec<usize>,
    state: State,
    /// The last one was unknown, so one that looks must come next.
    to_be_seen: bool,
}

/// Where the search stands.
#[derive(Clone, Debug)]
struct Configuration {
    cut: Cut,
    /// The unknown that are in the order, ascending.
    taken: Vec<usize>,
}

impl Configuration {
    fn with_known(&self, index: usize, state: State) -> Self {
        let mut next = self.clone();
        next.cut.state = state;
        next.cut.to_be_seen = false;
        let Cut { first, beyond, .. } = &mut next.cut;
        beyond.insert(beyond.partition_point(|beyond| *beyond < index), index);
        let done = (*first..).zip(&*beyond);
        let done = done.take_while(|(next, index)| next == *index).count();
        beyond.drain(..done);
        *first += done;
        next
    }

    fn with_unknown(&self, index: usize, call: Call, state: State) -> Self {
        let mut next = self.clone();
        next.cut.state = state;
        next.cut.to_be_seen = true;
        let found_its_value = matches!(
            call,
            Call::CompareAndSet {
                expected: Some(_),
                ..
            }
        );
        if !found_its_value {
            let at = next.taken.partition_point(|taken| *taken < index);
            next.taken.insert(at, index);
        }
        next
    }
}

struct Search {
    /// By the moment of the call.
    known: Vec<Known>,
    unknown: Vec<Unknown>,
    configurations_max: usize,
}

impl Search {
    fn new(operations: &[Operation], configurations_max: usize) -> Self {
        let mut known = Vec::new();
        let mut unknown = Vec::new();
        for Operation {
            call,
            called,
            outcome,
            ..
        } in operations
        {
            let (call, called) = (*call, *called);
            match *outcome {
                Outcome::Replied { at, reply } => known.push(Known {
                    called,
                    replied: at,
                    call,
                    reply,
                }),
                Outcome::Unknown if call.is_write() => unknown.push(Unknown { called, call }),
                Outcome::Unknown => {} // a get without an answer
            }
        }
        known.sort_by_key(|operation| operation.called);
        unknown.sort_by_key(|operation| operation.called);
        make_unseen_alike(&mut unknown, operations);
        Self {
            known,
            unknown,
            configurations_max,
        }
    }

    /// Depth first, without recursion: a history may have many thousand operations.
    fn run(&self, initial: State) -> Verdict {
        let start = Configuration {
            cut: Cut {
                first: 0,
                beyond: Vec::new(),
                state: initial,
                to_be_seen: false,
            },
            taken: Vec::new(),
        };
        let mut met: HashMap<Cut, Vec<Vec<usize>>> = HashMap::new();
        let mut count = 0;
        let mut open = vec![start];
        while let Some(configuration) = open.pop() {
            if configuration.cut.first == self.known.len() {
                return Verdict::Linearizable;
            }
            // The one to go on with is on top.
            for next in self.successors(&configuration).into_iter().rev() {
                if count == self.configurations_max {
                    return Verdict::GaveUp;
                }
                let taken_before = met.entry(next.cut.clone()).or_default();
                if !taken_before
                    .iter()
                    .any(|fewer| is_within(fewer, &next.taken))
                {
                    taken_before.push(next.taken.clone());
                    count += 1;
                    open.push(next);
                }
            }
        }
        Verdict::NotLinearizable
    }

    /// What may come next.
    fn successors(&self, from: &Configuration) -> Vec<Configuration> {
        let (missing, earliest_reply) = self.missing(&from.cut);
        let mut successors = Vec::new();
        for index in missing {
            let operation = &self.known[index];
            if from.cut.to_be_seen && !looks(operation.call) {
                continue;
            }
            let Some(state) = from.cut.state.after(operation.call, operation.reply) else {
                continue;
            };
            let next = from.with_known(index, state);
            if state == from.cut.state && looks(operation.call) {
                return vec![next];
            }
            successors.push(next);
        }
        let mut asked = HashSet::new();
        for (index, operation) in self.unknown.iter().enumerate() {
            if operation.called > earliest_reply {
                break;
            }
            let call = operation.call;
            let fits = !from.cut.to_be_seen || looks_unknown(call);
            if !fits || from.taken.binary_search(&index).is_ok() {
                continue;
            }
            let Some(state) = from.cut.state.changed_by(call) else {
                continue;
            };
            if asked.insert(call) {
                successors.push(from.with_unknown(index, call, state));
            }
        }
        successors
    }

    /// The known that may come next: all that were called before the earliest reply among those that
    /// are missing. The one whose reply came first is first. And the moment of that reply.
    fn missing(&self, cut: &Cut) -> (Vec<usize>, Moment) {
        let mut earliest_reply = Moment::MAX;
        let mut missing = Vec::new();
        for (index, operation) in self.known.iter().enumerate().skip(cut.first) {
            if operation.called > earliest_reply {
                break;
            }
            if cut.beyond.binary_search(&index).is_err() {
                earliest_reply = earliest_reply.min(operation.replied);
                missing.push(index);
            }
        }
        missing.sort_by_key(|index| self.known[*index].replied);
        (missing, earliest_reply)
    }
}

/// Whether all of the one, ascending, are in the other, ascending.
fn is_within(one: &[usize], other: &[usize]) -> bool {
    let mut other = other.iter();
    one.iter().all(|wanted| other.any(|index| index == wanted))
}

/// Unknown puts of values that nobody saw and nobody expects all store the same one instead.
fn make_unseen_alike(unknown: &mut [Unknown], operations: &[Operation]) {
    let seen = operations
        .iter()
        .filter_map(|operation| operation.seen().flatten());
    let expected = operations
        .iter()
        .filter_map(|operation| match operation.call {
            Call::CompareAndSet { expected, .. } => expected,
            _ => None,
        });
    let of_interest: HashSet<Value> = seen.chain(expected).collect();
    let mut unseen = None;
    for operation in unknown {
        if let Call::Put(value) = &mut operation.call
            && !of_interest.contains(value)
        {
            *value = *unseen.get_or_insert(*value);
        }
    }
}
