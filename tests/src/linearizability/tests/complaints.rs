//! Whatever is wrong is said, and so is that a search was given up.

use super::super::checker::CONFIGURATIONS_MAX;
use super::super::complaints::complaints;
use super::super::history::{History, Operation, Reply};
use super::super::staleness::BoundedRead;
use super::{GET, got, known, put, unknown};

const DONE: Reply = Reply::Done;

fn of_one(operations: Vec<Operation>) -> History {
    [(1, operations)].into()
}

fn complaints_of(operations: Vec<Operation>) -> Vec<String> {
    complaints(&of_one(operations), &[], CONFIGURATIONS_MAX)
}

#[test]
fn a_search_that_was_given_up_is_no_success() {
    let mut operations: Vec<Operation> = (1..=12).map(|it| known(1, 9, put(it), DONE)).collect();
    operations.push(known(10, 11, GET, got(1)));
    let history = of_one(operations);
    assert_eq!(
        complaints(&history, &[], CONFIGURATIONS_MAX),
        Vec::<String>::new()
    );
    let all = complaints(&history, &[], 5);
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].contains("given up"), "{all:?}");
}

#[test]
fn an_unknown_write_may_be_done_and_need_not_be() {
    let none = Vec::<String>::new();
    let seen = vec![unknown(1, put(1)), known(5, 6, GET, got(1))];
    assert_eq!(complaints_of(seen), none);
    let seen_late = vec![
        unknown(1, put(1)),
        known(2, 3, GET, got(None)),
        known(5, 6, GET, got(1)),
    ];
    assert_eq!(complaints_of(seen_late), none);
    let never = vec![unknown(1, put(1)), known(5, 6, GET, got(None))];
    assert_eq!(complaints_of(never), none);
    let undone = vec![
        unknown(1, put(1)),
        known(2, 3, GET, got(1)),
        known(5, 6, GET, got(None)),
    ];
    assert_eq!(complaints_of(undone).len(), 1);
}

#[test]
fn every_rule_is_asked() {
    let stale = vec![
        known(1, 2, put(1), DONE),
        known(3, 4, put(2), DONE),
        known(5, 6, GET, got(1)),
    ];
    let all = complaints_of(stale.clone());
    assert!(all.len() == 1 && all[0].contains("no order"), "{all:?}");

    // Each key for itself is well, and the revisions are not.
    let mut one = known(1, 2, put(1), DONE);
    one.revisions.store = 5;
    let mut other = known(3, 4, GET, got(None));
    other.revisions.store = 4;
    let history: History = [(1, vec![one]), (2, vec![other])].into();
    let all = complaints(&history, &[], CONFIGURATIONS_MAX);
    assert!(all.len() == 1 && all[0].contains("is older"), "{all:?}");

    let mut written = known(1, 2, put(1), DONE);
    written.revisions.store = 1;
    let read = BoundedRead {
        client: "client".into(),
        called: 100,
        allowed: 10,
        revision: 0,
    };
    let all = complaints(&of_one(vec![written]), &[read], CONFIGURATIONS_MAX);
    assert!(
        all.len() == 1 && all[0].contains("no older than"),
        "{all:?}"
    );
}
