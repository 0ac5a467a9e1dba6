//! Judges a history by the revisions that the store itself names, all keys together: a write that is
//! done gets the next one. They say in which order things were done, so nothing has to be searched,
//! and a read of one key that is older than a write to another is found as well.
//!
//! What must hold: nobody is answered with an older revision than somebody was before he asked; no
//! two writes have the same one; a value has one, wherever it is seen; and a reply shows the newest
//! write of its key that the history knows of, as of its revision.

use std::collections::BTreeMap;

use super::history::{History, Key, Moment, Operation, Outcome, Reply, Value};

/// Says what is wrong, if anything is.
///
/// # Errors
/// The operations that contradict each other, for people.
pub fn check(history: &History) -> Result<(), String> {
    let all: Vec<(Key, &Operation)> = history
        .iter()
        .flat_map(|(key, operations)| operations.iter().map(move |operation| (*key, operation)))
        .filter(|(_, operation)| operation.replied().is_some() && operation.revisions.store > 0)
        .collect();
    values_have_one_revision(&all)?;
    time_does_not_go_back(&all)?;
    for key in history.keys() {
        let of_key = all.iter().filter(|(other, _)| other == key);
        shows_the_newest(
            *key,
            &of_key.map(|(_, operation)| *operation).collect::<Vec<_>>(),
        )?;
    }
    Ok(())
}

/// Whether it was answered that a write was done: it has a revision of its own.
fn is_done(operation: &Operation) -> bool {
    matches!(
        operation.outcome,
        Outcome::Replied {
            reply: Reply::Done | Reply::Deleted(_),
            ..
        }
    )
}

fn contradiction(why: &str, key: Key, first: &Operation, second: &Operation) -> String {
    format!("key {key}: {why}:\n  {first}\n  {second}")
}

fn values_have_one_revision(all: &[(Key, &Operation)]) -> Result<(), String> {
    let mut writes: BTreeMap<u64, &Operation> = BTreeMap::new();
    let mut values: BTreeMap<Value, (u64, &Operation)> = BTreeMap::new();
    for (key, operation) in all {
        if is_done(operation)
            && let Some(other) = writes.insert(operation.revisions.store, operation)
        {
            return Err(contradiction(
                "two writes of one revision",
                *key,
                other,
                operation,
            ));
        }
        let of_value = match operation.seen() {
            Some(Some(value)) => Some((value, operation.revisions.of_value)),
            _ if is_done(operation) => {
                let stored = operation.call.stores();
                stored.map(|value| (value, operation.revisions.store))
            }
            _ => None,
        };
        let Some((value, revision)) = of_value else {
            continue;
        };
        let (known, other) = *values.entry(value).or_insert((revision, operation));
        if known != revision {
            return Err(contradiction(
                "one value with two revisions",
                *key,
                other,
                operation,
            ));
        }
    }
    Ok(())
}

fn time_does_not_go_back(all: &[(Key, &Operation)]) -> Result<(), String> {
    let mut by_reply = all.to_vec();
    by_reply.sort_by_key(|(_, operation)| operation.replied());
    let mut by_call = all.to_vec();
    by_call.sort_by_key(|(_, operation)| operation.called);
    let mut replies = by_reply.into_iter().peekable();
    let mut newest: Option<&Operation> = None;
    for (key, operation) in by_call {
        let earlier =
            |reply: &(Key, &Operation)| reply.1.replied().unwrap_or(Moment::MAX) < operation.called;
        while let Some((_, answered)) = replies.next_if(earlier) {
            if newest.is_none_or(|newest| newest.revisions.store < answered.revisions.store) {
                newest = Some(answered);
            }
        }
        let Some(newest) = newest else { continue };
        let least = newest.revisions.store + u64::from(is_done(operation));
        if operation.revisions.store < least {
            return Err(contradiction(
                "the second was called after the first was answered, and is older",
                key,
                newest,
                operation,
            ));
        }
    }
    Ok(())
}

fn shows_the_newest(key: Key, operations: &[&Operation]) -> Result<(), String> {
    let writes: BTreeMap<u64, &Operation> = operations
        .iter()
        .filter(|operation| is_done(operation))
        .map(|operation| (operation.revisions.store, *operation))
        .collect();
    for operation in operations {
        let Some(seen) = operation.seen() else {
            continue;
        };
        let Some((revision, newest)) = writes.range(..=operation.revisions.store).next_back()
        else {
            continue;
        };
        // A value of a newer write than that is of an unknown one, which has no reply to go by.
        let explained = match seen {
            Some(_) if operation.revisions.of_value != *revision => {
                operation.revisions.of_value > *revision
            }
            Some(value) => newest.call.stores() == Some(value),
            // An unknown delete may have been in between.
            None => true,
        };
        if !explained || operation.revisions.of_value > operation.revisions.store {
            return Err(contradiction(
                "the second does not show the first",
                key,
                newest,
                operation,
            ));
        }
    }
    Ok(())
}
