//! The checker is judged before it judges: by histories that people know the answer to, by random
//! ones made from an execution, and by two other checkers.

mod classic;
mod complaints;
mod execution;
mod reference;
mod revisions;
mod staleness;

use std::sync::Arc;

use super::history::{Call, Moment, Operation, Outcome, Reply, Revisions};

const GET: Call = Call::Get;
const DELETE: Call = Call::Delete;

fn put(value: u64) -> Call {
    Call::Put(value)
}

fn swap(expected: impl Into<Option<u64>>, new: impl Into<Option<u64>>) -> Call {
    Call::CompareAndSet {
        expected: expected.into(),
        new: new.into(),
    }
}

fn got(value: impl Into<Option<u64>>) -> Reply {
    Reply::Got(value.into())
}

/// A call at a moment, answered at another.
fn known(called: Moment, replied: Moment, call: Call, reply: Reply) -> Operation {
    Operation {
        client: Arc::from("client"),
        call,
        called,
        outcome: Outcome::Replied { at: replied, reply },
        revisions: Revisions::default(),
    }
}

/// A call at a moment, of which nobody knows what came.
fn unknown(called: Moment, call: Call) -> Operation {
    Operation {
        client: Arc::from("client"),
        call,
        called,
        outcome: Outcome::Unknown,
        revisions: Revisions::default(),
    }
}
