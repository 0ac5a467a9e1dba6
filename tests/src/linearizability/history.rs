//! What clients called and what came of it, recorded while they run side by side.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A register.
pub type Key = u8;
/// What a register holds; every write of a history has its own.
pub type Value = u64;
/// Nanoseconds since the history began.
pub type Moment = u64;

/// What a client asked of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Shows it.
    Get,
    /// Stores this.
    Put(Value),
    /// Removes what is there, if anything is.
    Delete,
    /// Stores this, or removes what is there, if the register is as expected.
    CompareAndSet {
        /// Nothing, or this value.
        expected: Option<Value>,
        /// Nothing, or this value.
        new: Option<Value>,
    },
}

impl Call {
    /// Whether it may change the register.
    pub fn is_write(&self) -> bool {
        !matches!(self, Self::Get)
    }

    /// The value that it stores if it is done.
    pub fn stores(&self) -> Option<Value> {
        match self {
            Self::Put(value) => Some(*value),
            Self::CompareAndSet { new, .. } => *new,
            Self::Get | Self::Delete => None,
        }
    }
}

/// What the store answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// To a get: what the register holds.
    Got(Option<Value>),
    /// To a put, and to a compare-and-set that found what it expected.
    Done,
    /// To a delete: whether there was something.
    Deleted(bool),
    /// To a compare-and-set that found something else: this.
    Mismatch(Option<Value>),
}

/// How it ended for the client. What failed is in no history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Replied {
        /// When.
        at: Moment,
        /// What.
        reply: Reply,
    },
    /// It may take effect at any moment since its call, or never.
    Unknown,
}

/// The revisions of a reply, where it names them; 0: it does not. Those of the store grow by one with
/// every write that is done, to whatever key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revisions {
    /// Of the store: after a write that was done; else when the register was looked at.
    pub store: u64,
    /// Of the write that stored the value that was seen.
    pub of_value: u64,
}

/// A call and what came of it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who called, for people.
    pub client: Arc<str>,
    /// What was asked.
    pub call: Call,
    /// When.
    pub called: Moment,
    /// How it ended.
    pub outcome: Outcome,
    /// What the reply said of revisions.
    pub revisions: Revisions,
}

impl Operation {
    /// When it was answered, if it was.
    pub fn replied(&self) -> Option<Moment> {
        match self.outcome {
            Outcome::Replied { at, .. } => Some(at),
            Outcome::Unknown => None,
        }
    }

    /// What was seen of the register, if anything was: nothing, or a value.
    pub fn seen(&self) -> Option<Option<Value>> {
        match self.outcome {
            Outcome::Replied { reply, .. } => match reply {
                Reply::Got(seen) | Reply::Mismatch(seen) => Some(seen),
                Reply::Done | Reply::Deleted(_) => None,
            },
            Outcome::Unknown => None,
        }
    }
}

fn shown(value: Option<Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => write!(f, "get"),
            Self::Put(value) => write!(f, "put {value}"),
            Self::Delete => write!(f, "delete"),
            Self::CompareAndSet { expected, new } => {
                write!(f, "if {} then {}", shown(*expected), shown(*new))
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => write!(f, "unknown"),
            Self::Replied { reply, .. } => match reply {
                Reply::Got(seen) => write!(f, "{}", shown(*seen)),
                Reply::Done => write!(f, "done"),
                Reply::Deleted(true) => write!(f, "deleted"),
                Reply::Deleted(false) => write!(f, "there was nothing"),
                Reply::Mismatch(seen) => write!(f, "mismatch, it is {}", shown(*seen)),
            },
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |at: Moment| format!("{:.6}", at as f64 / 1e9);
        let until = self.replied().map_or_else(|| "...".to_owned(), seconds);
        let call = self.call.to_string();
        write!(
            f,
            "{:>11} {until:>11}  {:<18} {call:<24} -> {}",
            seconds(self.called),
            self.client,
            self.outcome
        )?;
        if self.revisions.store > 0 {
            write!(f, ", revision {}", self.revisions.store)?;
        }
        if self.revisions.of_value > 0 {
            write!(f, ", written by {}", self.revisions.of_value)?;
        }
        Ok(())
    }
}

/// What was called, by key, in the order of the calls.
pub type History = BTreeMap<Key, Vec<Operation>>;

/// A number of each kind of ending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endings {
    /// Answered.
    pub replied: u64,
    /// Not done, and never will be.
    pub failed: u64,
    /// Nobody knows, or its client was stopped before it did.
    pub unknown: u64,
}

/// Takes down what clients do. An operation that nobody settles is unknown.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    /// `None`: it failed.
    operations: Vec<Option<(Key, Operation)>>,
    failed: u64,
}

/// A call that was taken down.
#[derive(Debug)]
#[must_use = "a call that is not settled counts as unknown"]
pub struct Open(usize);

impl Recorder {
    /// Of a history that begins now.
    pub fn begin() -> Self {
        Self {
            began: Instant::now(),
            record: Mutex::default(),
        }
    }

    /// Now.
    pub fn now(&self) -> Moment {
        self.moment(Instant::now())
    }

    /// A moment of the clock that the history has its times from.
    pub fn moment(&self, instant: Instant) -> Moment {
        let since = instant.saturating_duration_since(self.began);
        u64::try_from(since.as_nanos()).expect("a history is shorter than centuries")
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().expect("nobody panics with it")
    }

    /// A client is about to call.
    pub fn call(&self, client: &Arc<str>, key: Key, call: Call) -> Open {
        let mut record = self.record();
        let operation = Operation {
            client: Arc::clone(client),
            call,
            called: self.now(),
            outcome: Outcome::Unknown,
            revisions: Revisions::default(),
        };
        record.operations.push(Some((key, operation)));
        Open(record.operations.len() - 1)
    }

    /// It was answered.
    pub fn reply(&self, open: Open, reply: Reply, revisions: Revisions) {
        let at = self.now();
        let mut record = self.record();
        let (_, operation) = record.operations[open.0]
            .as_mut()
            .expect("a call is settled once");
        operation.outcome = Outcome::Replied { at, reply };
        operation.revisions = revisions;
    }

    /// It was not done and never will be. A get that was not answered fails too: it says nothing.
    pub fn fail(&self, open: Open) {
        let mut record = self.record();
        record.operations[open.0] = None;
        record.failed += 1;
    }

    /// How the operations have ended so far; those that go on count as unknown.
    pub fn endings(&self) -> Endings {
        let record = self.record();
        let (replied, unknown) = record.operations.iter().flatten().fold(
            (0, 0),
            |(replied, unknown), (_, operation)| match operation.outcome {
                Outcome::Replied { .. } => (replied + 1, unknown),
                Outcome::Unknown => (replied, unknown + 1),
            },
        );
        Endings {
            replied,
            failed: record.failed,
            unknown,
        }
    }

    /// When writes were acknowledged, in order.
    pub fn acknowledgements(&self) -> Vec<Moment> {
        let record = self.record();
        let operations = record.operations.iter().flatten();
        let written = operations.filter(|(_, operation)| operation.call.is_write());
        let mut moments: Vec<Moment> = written
            .filter_map(|(_, operation)| operation.replied())
            .collect();
        moments.sort_unstable();
        moments
    }

    /// The history so far.
    pub fn history(&self) -> History {
        let mut history = History::new();
        for (key, operation) in self.record().operations.iter().flatten() {
            history.entry(*key).or_default().push(operation.clone());
        }
        history
    }
}

/// A length of time, for people.
pub fn between(from: Moment, until: Moment) -> Duration {
    Duration::from_nanos(until.saturating_sub(from))
}
