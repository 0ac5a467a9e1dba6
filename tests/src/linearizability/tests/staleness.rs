//! Reads that may be old, and ones that are too old.

use super::super::history::{History, Operation, Reply};
use super::super::staleness::{BoundedRead, check};
use super::{GET, got, known, put, unknown};

/// Acknowledged at 20 and 40, with revisions 1 and 2; a later one is unknown.
fn history() -> History {
    let revised = |operation: Operation, store| {
        let mut revised = operation;
        revised.revisions.store = store;
        revised
    };
    let one = vec![
        revised(known(10, 20, put(1), Reply::Done), 1),
        unknown(50, put(3)),
        revised(known(90, 95, GET, got(9)), 9),
    ];
    let two = vec![revised(known(30, 40, put(2), Reply::Done), 2)];
    [(1, one), (2, two)].into()
}

fn read(called: u64, allowed: u64, revision: u64) -> BoundedRead {
    BoundedRead {
        client: "client".into(),
        called,
        allowed,
        revision,
    }
}

#[test]
fn an_answer_reflects_what_was_acknowledged_so_long_before() {
    let good = [
        (0, 10, 0),
        (30, 10, 0), // acknowledged at that very moment, so perhaps after it
        (31, 10, 1),
        (50, 10, 1),
        (51, 10, 2),
        (200, 100, 2), // reads and unknown writes oblige nobody
    ];
    let reads = good.map(|(called, allowed, revision)| read(called, allowed, revision));
    assert_eq!(check(&history(), &reads), Ok(()));
    for (called, allowed, revision) in [(31, 10, 0), (51, 10, 1), (200, 100, 1), (200, 0, 0)] {
        // Whatever else is read, in whatever order.
        let reads = [read(called, allowed, revision), read(52, 10, 2)];
        let why = check(&history(), &reads).expect_err("it is too old");
        assert!(why.contains("put"), "{why}");
    }
}
