//! Histories of which everybody knows whether they are linearizable.

use super::super::checker::{State, Verdict, check, check_from};
use super::super::history::{Operation, Reply};
use super::super::window;
use super::{DELETE, GET, got, known, put, swap, unknown};

const DONE: Reply = Reply::Done;

fn good(what: &str, operations: &[Operation]) {
    assert_eq!(check(operations), Verdict::Linearizable, "{what}");
}

/// It is bad, and the stretch that is shown has so many operations and is bad as well.
fn bad(what: &str, operations: &[Operation], shown: usize) {
    assert_eq!(check(operations), Verdict::NotLinearizable, "{what}");
    let window = window::shortest(operations).expect(what);
    let text = window.describe(7);
    assert_eq!(window.operations.len(), shown, "{what}\n{text}");
    assert_eq!(
        check_from(window.initial, &window.operations, 1000),
        Verdict::NotLinearizable,
        "{what}\n{text}"
    );
}

#[test]
fn what_does_not_overlap_is_in_order() {
    good("nothing", &[]);
    good("reads nothing", &[known(1, 2, GET, got(None))]);
    good(
        "one after the other",
        &[
            known(1, 2, put(1), DONE),
            known(3, 4, GET, got(1)),
            known(5, 6, swap(1, 2), DONE),
            known(7, 8, swap(1, 3), Reply::Mismatch(Some(2))),
            known(9, 10, DELETE, Reply::Deleted(true)),
            known(11, 12, DELETE, Reply::Deleted(false)),
            known(13, 14, swap(None, 4), DONE),
            known(15, 16, swap(4, None), DONE),
            known(17, 18, GET, got(None)),
        ],
    );
    bad("a value of nowhere", &[known(1, 2, GET, got(9))], 1);
    bad(
        "a stale read",
        &[
            known(1, 2, put(1), DONE),
            known(3, 4, put(2), DONE),
            known(5, 6, GET, got(1)),
        ],
        2,
    );
    bad(
        "a lost write",
        &[known(1, 2, put(1), DONE), known(3, 4, GET, got(None))],
        2,
    );
    bad(
        "a delete that finds what was deleted",
        &[
            known(1, 2, put(1), DONE),
            known(3, 4, DELETE, Reply::Deleted(true)),
            known(5, 6, DELETE, Reply::Deleted(true)),
        ],
        2,
    );
    bad(
        "two compare-and-sets that both found the same",
        &[
            known(1, 2, put(1), DONE),
            known(3, 9, swap(1, 2), DONE),
            known(3, 9, swap(1, 3), DONE),
        ],
        2,
    );
    bad(
        "a mismatch with what was expected",
        &[
            known(1, 2, put(1), DONE),
            known(3, 4, swap(1, 2), Reply::Mismatch(Some(1))),
        ],
        1,
    );
}

#[test]
fn what_overlaps_is_in_any_order_but_in_one() {
    good(
        "a read beside a write sees it or not",
        &[
            known(1, 9, put(1), DONE),
            known(2, 3, GET, got(None)),
            known(4, 5, GET, got(1)),
        ],
    );
    bad(
        "a write that appears and disappears",
        &[
            known(1, 9, put(1), DONE),
            known(2, 3, GET, got(1)),
            known(4, 5, GET, got(None)),
        ],
        3,
    );
    bad(
        "two readers who disagree about the order of two writes",
        &[
            known(1, 2, put(1), DONE),
            known(1, 2, put(2), DONE),
            known(3, 4, GET, got(1)),
            known(5, 6, GET, got(2)),
        ],
        2,
    );
    good(
        "what was answered at the moment of a call may be after it",
        &[known(1, 2, put(1), DONE), known(2, 3, GET, got(None))],
    );
}

#[test]
fn an_unknown_write_takes_effect_at_some_moment_or_never() {
    good("never", &[unknown(1, put(1)), known(3, 4, GET, got(None))]);
    good(
        "late",
        &[
            unknown(1, put(1)),
            known(2, 3, put(2), DONE),
            known(4, 5, GET, got(2)),
            known(6, 7, GET, got(1)),
        ],
    );
    bad(
        "twice",
        &[
            unknown(1, put(1)),
            known(2, 3, GET, got(1)),
            known(4, 5, put(2), DONE),
            known(6, 7, GET, got(1)),
        ],
        4,
    );
    bad(
        "before its call",
        &[known(1, 2, GET, got(1)), unknown(3, put(1))],
        1,
    );
    bad(
        "not, although it was seen: there is no going back",
        &[
            unknown(1, put(1)),
            known(2, 3, GET, got(1)),
            known(4, 5, GET, got(None)),
        ],
        3,
    );
    good(
        "a delete, whenever something is gone",
        &[
            known(1, 2, put(1), DONE),
            unknown(3, DELETE),
            known(4, 5, GET, got(1)),
            known(6, 7, GET, got(None)),
        ],
    );
    bad(
        "one delete, although things were gone twice",
        &[
            unknown(1, DELETE),
            known(2, 3, put(1), DONE),
            known(4, 5, GET, got(None)),
            known(6, 7, put(2), DONE),
            known(8, 9, GET, got(None)),
        ],
        5,
    );
    good(
        "a put that only a delete notices",
        &[
            unknown(1, put(1)),
            unknown(1, put(2)),
            known(2, 3, DELETE, Reply::Deleted(true)),
            known(4, 5, DELETE, Reply::Deleted(true)),
            known(6, 7, DELETE, Reply::Deleted(false)),
        ],
    );
    good(
        "a chain of compare-and-sets",
        &[
            unknown(1, put(1)),
            unknown(2, swap(2, 3)),
            unknown(3, swap(1, 2)),
            known(4, 5, GET, got(3)),
        ],
    );
    bad(
        "a compare-and-set that never found what it expected",
        &[unknown(1, swap(1, 2)), known(4, 5, GET, got(2))],
        2,
    );
}

#[test]
fn a_failed_write_is_absent() {
    // It is not in the history; the value that somebody sees all the same comes from nowhere.
    let recorder = super::super::history::Recorder::begin();
    let client = "client".into();
    let failed = recorder.call(&client, 1, put(1));
    recorder.fail(failed);
    let read = recorder.call(&client, 1, GET);
    recorder.reply(read, got(1), super::Revisions::default());
    let history = recorder.history();
    assert_eq!(check(&history[&1]), Verdict::NotLinearizable);
    let endings = recorder.endings();
    assert_eq!(
        (endings.replied, endings.failed, endings.unknown),
        (1, 1, 0)
    );
}

#[test]
fn what_nobody_settles_is_unknown() {
    let recorder = super::super::history::Recorder::begin();
    let client = "client".into();
    let _open = recorder.call(&client, 1, put(1));
    let read = recorder.call(&client, 1, GET);
    recorder.reply(read, got(1), super::Revisions::default());
    assert_eq!(recorder.endings().unknown, 1);
    assert_eq!(check(&recorder.history()[&1]), Verdict::Linearizable);
}

#[test]
fn a_search_that_is_too_long_is_given_up() {
    // Twelve writes at once, and a read that says nothing about their order.
    let mut operations: Vec<Operation> = (1..=12).map(|it| known(1, 9, put(it), DONE)).collect();
    operations.push(known(10, 11, GET, got(99)));
    let begin = State::Is(None);
    assert_eq!(check_from(begin, &operations, 100), Verdict::GaveUp);
    assert_eq!(
        check_from(begin, &operations, 1_000_000),
        Verdict::NotLinearizable
    );
}

#[test]
fn many_unknown_writes_cost_little() {
    let mut operations: Vec<Operation> = (0..500).map(|it| unknown(it, put(it))).collect();
    operations.extend((0..500).map(|it| unknown(it, DELETE)));
    for round in 0..1000 {
        let at = 1000 + 10 * round;
        operations.push(known(at, at + 5, put(1000 + round), DONE));
        operations.push(known(
            at + 1,
            at + 6,
            DELETE,
            Reply::Deleted(round % 2 == 0),
        ));
        operations.push(known(at + 2, at + 7, GET, got(None)));
    }
    let verdict = check_from(State::Is(None), &operations, 100_000);
    assert_eq!(verdict, Verdict::Linearizable);
}

#[test]
fn a_window_is_shown_for_people() {
    let operations = [
        known(1_000_000_000, 1_500_000_000, put(1), DONE),
        known(2_000_000_000, 2_500_000_000, put(2), DONE),
        known(3_000_000_000, 3_500_000_000, GET, got(1)),
        known(4_000_000_000, 4_500_000_000, put(3), DONE),
    ];
    let window = window::shortest(&operations).expect("a stale read");
    let text = window.describe(3);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "key 3: no order explains these, whatever it held before:"
    );
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[2].contains("put 2"), "{text}");
    assert!(lines[2].contains("2.000000    2.500000"), "{text}");
    assert!(lines[3].contains("get"), "{text}");
    assert!(lines[3].ends_with("-> 1"), "{text}");
}
