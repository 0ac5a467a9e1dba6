//! Histories that the revisions of the store contradict, or do not.

use super::super::history::{Call, History, Operation, Reply, Revisions};
use super::super::revisions::check;
use super::{DELETE, GET, got, known, put, swap, unknown};

fn at(operation: Operation, store: u64, of_value: u64) -> Operation {
    let revisions = Revisions { store, of_value };
    Operation {
        revisions,
        ..operation
    }
}

fn written(called: u64, call: Call, revision: u64) -> Operation {
    let reply = if call == DELETE {
        Reply::Deleted(true)
    } else {
        Reply::Done
    };
    at(known(called, called + 1, call, reply), revision, 0)
}

fn read(called: u64, value: impl Into<Option<u64>>, store: u64, of_value: u64) -> Operation {
    at(known(called, called + 1, GET, got(value)), store, of_value)
}

fn judge(keys: [Vec<Operation>; 2]) -> Result<(), String> {
    check(&History::from_iter([1, 2].into_iter().zip(keys)))
}

#[test]
fn a_store_that_counts_its_writes_contradicts_nothing() {
    let first = vec![
        written(10, put(1), 1),
        read(20, 1, 1, 1),
        at(known(50, 51, swap(2, 3), Reply::Mismatch(Some(1))), 2, 1),
        written(60, DELETE, 3),
        read(70, None, 3, 0),
        unknown(80, put(4)),
        read(90, 4, 5, 4),
    ];
    let second = vec![
        written(30, put(2), 2),
        read(40, 2, 2, 2),
        written(80, put(5), 5),
    ];
    assert_eq!(judge([first, second]), Ok(()));
}

#[test]
fn what_contradicts_is_shown() {
    let table = [
        (
            "an older state of another key",
            [
                vec![written(10, put(1), 1), read(50, 1, 1, 1)],
                vec![written(30, put(2), 2)],
            ],
            "older",
        ),
        (
            "a write that is not after what was seen",
            [vec![written(10, put(1), 2)], vec![written(30, put(2), 1)]],
            "older",
        ),
        (
            "a write again at the same revision",
            [vec![written(10, put(1), 1)], vec![written(10, put(2), 1)]],
            "two writes",
        ),
        (
            "a write that was applied twice",
            [vec![written(10, put(1), 1), read(20, 1, 2, 2)], vec![]],
            "two revisions",
        ),
        (
            "a value that was overwritten as of its revision",
            [
                vec![
                    written(10, put(1), 1),
                    written(12, put(2), 2),
                    at(known(11, 20, GET, got(1)), 2, 1),
                ],
                vec![],
            ],
            "does not show",
        ),
        (
            "a value of later than the store",
            [
                vec![
                    written(10, put(1), 1),
                    unknown(11, put(2)),
                    read(20, 2, 2, 3),
                ],
                vec![],
            ],
            "does not show",
        ),
    ];
    for (what, keys, why) in table {
        let found = judge(keys).expect_err(what);
        assert!(found.contains(why), "{what}: {found}");
        assert_eq!(found.lines().count(), 3, "{what}: {found}");
    }
}
