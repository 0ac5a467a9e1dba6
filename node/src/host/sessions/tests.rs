//! The table by itself, and beside a model that is slow and obvious.

use std::collections::BTreeMap;

use kontiki_raft::{Index, Term};
use proptest::prelude::*;

use super::*;
use crate::machine::View;

const OPENING: Opening = Opening {
    time: 0,
    sessions_max: 3,
    window_max: 4,
    reply_bytes_max: 10,
};

fn id(index: u64) -> LogId {
    LogId {
        term: Term(1),
        index: Index(index),
    }
}

fn stamp(session: u64, sequence: u64, acknowledged: u64) -> Stamp {
    Stamp {
        session: SessionId(session),
        sequence,
        acknowledged,
    }
}

fn opened(time: u64, sessions: &[u64]) -> Sessions {
    let mut table = Sessions::default();
    for session in sessions {
        table.open(SessionId(*session), &Opening { time, ..OPENING });
    }
    table
}

/// Applies as a host does; the reply is `reply`.
fn apply(table: &mut Sessions, time: u64, stamp: Stamp, index: u64, reply: &[u8]) -> Admission {
    let admission = table.admit(time, stamp, id(index));
    if admission == Admission::Apply {
        table.remember(stamp.session, stamp.sequence, reply);
    }
    admission
}

/// Written in pieces of about this size; without the length before it, which must be right.
fn encoded(table: &Sessions, bytes_max: usize) -> Vec<u8> {
    let mut view = SessionsView::new(table.clone());
    let mut bytes = Vec::new();
    while view.write(&mut bytes, bytes_max) {}
    let length: Vec<u8> = bytes.drain(..8).collect();
    assert_eq!(length, (bytes.len() as u64).to_le_bytes());
    bytes
}

fn clock(time: u64, ttl: u64) -> Clock {
    Clock {
        time,
        ttl,
        bytes_max: u64::MAX,
    }
}

fn is_open(table: &Sessions, session: u64) -> bool {
    table.open.contains_key(&SessionId(session))
}

#[test]
fn a_sequence_is_admitted_once_in_any_order_and_answered_as_it_was() {
    let mut table = opened(0, &[1]);
    for (sequence, index) in [(2, 10), (4, 11), (1, 12), (3, 13)] {
        let reply = [sequence as u8];
        let first = apply(&mut table, 0, stamp(1, sequence, 0), index, &reply);
        assert_eq!(first, Admission::Apply);
        let again = apply(&mut table, 0, stamp(1, sequence, 0), index + 50, b"other");
        assert_eq!(again, Admission::Repeated);
        let remembered = table
            .remembered(SessionId(1), sequence)
            .expect("remembered");
        assert_eq!(remembered.id, id(index));
        assert_eq!(remembered.reply.as_deref(), Some(&reply[..]));
    }
}

#[test]
fn a_window_ends_and_what_is_acknowledged_is_refused() {
    let mut table = opened(0, &[1]);
    let full = SessionRefusal::WindowFull {
        sequence: 5,
        acknowledged: 0,
        window_max: 4,
    };
    assert_eq!(
        apply(&mut table, 0, stamp(1, 5, 0), 7, b""),
        Admission::Refused(full)
    );
    assert_eq!(
        apply(&mut table, 0, stamp(1, 4, 0), 8, b"r"),
        Admission::Apply
    );
    assert_eq!(
        apply(&mut table, 0, stamp(1, 5, 4), 9, b"r"),
        Admission::Apply
    );
    // An old message that says less takes nothing back.
    for sequence in [1, 4] {
        let backwards = SessionRefusal::AlreadyAcknowledged {
            sequence,
            acknowledged: 4,
        };
        let admission = apply(&mut table, 0, stamp(1, sequence, 0), 10, b"");
        assert_eq!(admission, Admission::Refused(backwards));
    }
    assert_eq!(table.remembered(SessionId(1), 4), None);
    let far = stamp(1, u64::MAX, u64::MAX - 1);
    assert_eq!(apply(&mut table, 0, far, 11, b""), Admission::Apply);
}

#[test]
fn replies_are_forgotten_from_the_smallest_sequence_on_and_their_commands_are_not() {
    let mut table = opened(0, &[1]);
    for sequence in 1..=3 {
        apply(&mut table, 0, stamp(1, sequence, 0), sequence, b"four");
    }
    let kept = |table: &Sessions, sequence| {
        let found = table.remembered(SessionId(1), sequence);
        found.expect("known").reply.is_some()
    };
    assert_eq!([1, 2, 3].map(|at| kept(&table, at)), [false, true, true]);
    let again = apply(&mut table, 0, stamp(1, 1, 0), 9, b"");
    assert_eq!(again, Admission::Repeated);
    // One that is larger than all that is kept is not kept itself.
    apply(&mut table, 0, stamp(1, 4, 0), 10, &[0; 11]);
    assert!([1, 2, 3, 4].iter().all(|at| !kept(&table, *at)));
}

#[test]
fn only_a_clock_makes_sessions_expire_and_only_those_that_are_idle_for_the_ttl() {
    let mut table = opened(100, &[1, 2]);
    // Time that another entry brings makes nothing expire.
    assert_eq!(
        apply(&mut table, 1000, stamp(2, 1, 0), 5, b""),
        Admission::Apply
    );
    assert!(is_open(&table, 1));
    // A clock from an older leader takes no time back: 1 is idle since 100, and it is 1000.
    table.tick(&clock(300, 900));
    assert_eq!(table.status().time, 1000);
    assert!(!is_open(&table, 1) && is_open(&table, 2));
    table.tick(&clock(1899, 900));
    assert!(is_open(&table, 2));
    table.tick(&clock(1900, 900));
    assert!(!is_open(&table, 2));
    let refused = apply(&mut table, 1900, stamp(2, 1, 0), 6, b"");
    let expired = SessionRefusal::Expired(SessionId(2));
    assert_eq!(refused, Admission::Refused(expired));
    assert!(!is_open(&table, 2), "it is not opened by being used");
}

#[test]
fn one_session_too_many_ends_the_one_that_was_idle_longest() {
    let mut table = opened(0, &[1, 2, 3]);
    apply(&mut table, 5, stamp(1, 1, 0), 4, b"");
    table.open(SessionId(5), &Opening { time: 6, ..OPENING });
    assert_eq!(
        [1, 2, 3, 5].map(|session| is_open(&table, session)),
        [true, false, true, true]
    );
    table.close(SessionId(5));
    table.close(SessionId(5));
    assert_eq!(table.status().open, 2);
}

#[test]
fn bytes_are_accounted_and_bounded_by_the_clock() {
    let mut table = opened(0, &[1, 2]);
    let empty = table.status().bytes;
    apply(&mut table, 1, stamp(1, 1, 0), 4, b"12345");
    assert_eq!(table.status().bytes, empty + SLOT_BYTES + 5);
    apply(&mut table, 2, stamp(1, 2, 1), 5, b"");
    assert_eq!(table.status().bytes, empty + SLOT_BYTES);
    let bytes_max = (empty + SLOT_BYTES) as u64 - 1;
    table.tick(&Clock {
        bytes_max,
        ..clock(2, 1000)
    });
    assert!(is_open(&table, 1) && !is_open(&table, 2));
    table.close(SessionId(1));
    assert_eq!(table.status().bytes, 0);
}

#[test]
fn a_clone_does_not_see_what_comes_after_it() {
    let mut table = opened(0, &[1]);
    apply(&mut table, 0, stamp(1, 1, 0), 2, b"one");
    let view = table.clone();
    let before = encoded(&view, 1000);
    apply(&mut table, 9, stamp(1, 2, 1), 3, b"two");
    table.tick(&clock(10_000, 1));
    assert_eq!(before, encoded(&view, 1000));
    assert_eq!(table.status().open, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    Close(u64),
    Tick { passed: u64, bytes_max: u64 },
    Command { stamp: Stamp, reply: usize },
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let session = 1..40u64;
    let command = (session.clone(), 1..10u64, 0..9u64, 0..6usize);
    let step = prop_oneof![
        2 => Just(Step::Open),
        1 => session.prop_map(Step::Close),
        2 => (0..30u64, 500..2000u64)
            .prop_map(|(passed, bytes_max)| Step::Tick { passed, bytes_max }),
        20 => command.prop_map(|(session, sequence, acknowledged, reply)| {
            let acknowledged = acknowledged.min(sequence - 1);
            Step::Command { stamp: stamp(session, sequence, acknowledged), reply }
        }),
    ];
    prop::collection::vec((0..12u64, step), 1..120)
}

/// Session by session, everything in plain maps, everything looked for anew.
#[derive(Default)]
struct Model {
    time: u64,
    open: BTreeMap<u64, ModelSession>,
}

#[derive(Default)]
struct ModelSession {
    used: u64,
    acknowledged: u64,
    /// Every command ever applied, with its place; never removed.
    applied: BTreeMap<u64, (u64, usize)>,
    /// Replies still kept.
    kept: Vec<u64>,
}

impl ModelSession {
    fn bytes(&self) -> usize {
        let window = self.applied.range(self.acknowledged + 1..).count();
        SESSION_BYTES + SLOT_BYTES * window + self.reply_bytes()
    }

    fn reply_bytes(&self) -> usize {
        self.kept.iter().map(|at| self.applied[at].1).sum()
    }
}

impl Model {
    fn idle_longest(&self) -> Option<u64> {
        let idle = self
            .open
            .iter()
            .map(|(id, session)| (session.used, *id))
            .min();
        idle.map(|(_, id)| id)
    }

    fn step(&mut self, index: u64, time: u64, step: &Step) -> Option<&'static str> {
        match step {
            Step::Open => {
                self.time = self.time.max(time);
                if self.open.len() == OPENING.sessions_max as usize {
                    let gives_way = self.idle_longest().expect("one is open");
                    self.open.remove(&gives_way);
                }
                let session = ModelSession {
                    used: self.time,
                    ..ModelSession::default()
                };
                self.open.insert(index, session);
            }
            Step::Close(session) => drop(self.open.remove(session)),
            Step::Tick { passed, bytes_max } => {
                self.time = self.time.max(time + passed);
                self.open.retain(|_, session| session.used + 40 > self.time);
                while self.open.values().map(ModelSession::bytes).sum::<usize>() as u64 > *bytes_max
                {
                    let gives_way = self.idle_longest().expect("bytes are of sessions");
                    self.open.remove(&gives_way);
                }
            }
            Step::Command { stamp, reply } => {
                self.time = self.time.max(time);
                let Some(session) = self.open.get_mut(&stamp.session.0) else {
                    return Some("expired");
                };
                session.used = self.time;
                session.acknowledged = session.acknowledged.max(stamp.acknowledged);
                let acknowledged = session.acknowledged;
                session.kept.retain(|at| *at > acknowledged);
                if stamp.sequence <= acknowledged {
                    return Some("acknowledged");
                }
                if stamp.sequence > acknowledged + u64::from(OPENING.window_max) {
                    return Some("full");
                }
                if session.applied.contains_key(&stamp.sequence) {
                    return Some("repeated");
                }
                session.applied.insert(stamp.sequence, (index, *reply));
                session.kept.push(stamp.sequence);
                session.kept.sort_unstable();
                while session.reply_bytes() > OPENING.reply_bytes_max as usize {
                    session.kept.remove(0);
                }
                return Some("apply");
            }
        }
        None
    }
}

fn name(admission: &Admission) -> &'static str {
    match admission {
        Admission::Apply => "apply",
        Admission::Repeated => "repeated",
        Admission::Refused(SessionRefusal::Expired(_)) => "expired",
        Admission::Refused(SessionRefusal::AlreadyAcknowledged { .. }) => "acknowledged",
        Admission::Refused(SessionRefusal::WindowFull { .. }) => "full",
    }
}

fn take(table: &mut Sessions, index: u64, time: u64, step: &Step) -> Option<Admission> {
    match step {
        Step::Open => table.open(SessionId(index), &Opening { time, ..OPENING }),
        Step::Close(session) => table.close(SessionId(*session)),
        Step::Tick { passed, bytes_max } => table.tick(&Clock {
            time: time + passed,
            ttl: 40,
            bytes_max: *bytes_max,
        }),
        Step::Command { stamp, .. } => return Some(table.admit(time, *stamp, id(index))),
    }
    None
}

fn compare(table: &Sessions, model: &Model) {
    let status = table.status();
    assert_eq!((status.open, status.time), (model.open.len(), model.time));
    let bytes: usize = model.open.values().map(ModelSession::bytes).sum();
    assert_eq!(status.bytes, bytes);
    assert_eq!(table.idle.len(), table.open.len());
    for (session, expected) in &model.open {
        for sequence in 1..12 {
            let applied = expected.applied.get(&sequence);
            let applied = applied.filter(|_| sequence > expected.acknowledged);
            let found = table.remembered(SessionId(*session), sequence);
            assert_eq!(
                found.as_ref().map(|found| found.id),
                applied.map(|a| id(a.0))
            );
            let kept = found.is_some_and(|found| found.reply.is_some());
            assert_eq!(kept, expected.kept.contains(&sequence));
        }
    }
}

proptest! {
    #[test]
    fn the_table_does_what_the_model_does_and_comes_back_from_its_bytes(steps in steps()) {
        let (mut table, mut model) = (Sessions::default(), Model::default());
        let mut time = 0;
        for (at, (passed, step)) in steps.iter().enumerate() {
            let index = at as u64 + 1;
            // Sometimes it stands still, sometimes another leader is behind.
            time = (time + passed).saturating_sub(3);
            let admission = take(&mut table, index, time, step);
            let expected = model.step(index, time, step);
            prop_assert_eq!(admission.as_ref().map(name), expected);
            if let (Some(Admission::Apply), Step::Command { stamp, reply }) = (&admission, step) {
                table.remember(stamp.session, stamp.sequence, &vec![7; *reply]);
            }
            compare(&table, &model);
            let mut bytes = encoded(&table, usize::MAX);
            let decoded = Sessions::decode(&bytes).expect("its own bytes");
            prop_assert_eq!(&decoded, &table);
            for bytes_max in [1, 50, 150] {
                prop_assert_eq!(&encoded(&decoded, bytes_max), &bytes);
            }
            for cut in [0, bytes.len() / 2, bytes.len() - 1] {
                prop_assert!(Sessions::decode(&bytes[..cut]).is_err());
            }
            bytes.push(0);
            prop_assert!(Sessions::decode(&bytes).is_err());
        }
    }

    /// A host remembers replies at the end of a batch, whose size is its own affair.
    #[test]
    fn when_replies_are_remembered_changes_nothing(steps in steps(), batch_max in 2..9usize) {
        let (mut at_once, mut batched) = (Sessions::default(), Sessions::default());
        let mut gathered: Vec<(Stamp, usize)> = Vec::new();
        for (at, (time, step)) in steps.iter().enumerate() {
            let index = at as u64 + 1;
            let flush = |table: &mut Sessions, gathered: &mut Vec<(Stamp, usize)>| {
                for (stamp, reply) in gathered.drain(..) {
                    table.remember(stamp.session, stamp.sequence, &vec![7; reply]);
                }
            };
            if !matches!(step, Step::Command { .. }) {
                flush(&mut batched, &mut gathered);
            }
            let one = take(&mut at_once, index, *time, step);
            let other = take(&mut batched, index, *time, step);
            prop_assert_eq!(&one, &other);
            match (one, step) {
                (Some(Admission::Apply), Step::Command { stamp, reply }) => {
                    at_once.remember(stamp.session, stamp.sequence, &vec![7; *reply]);
                    gathered.push((*stamp, *reply));
                }
                (Some(_), Step::Command { .. }) => flush(&mut batched, &mut gathered),
                _ => {}
            }
            if gathered.len() >= batch_max {
                flush(&mut batched, &mut gathered);
            }
            if gathered.is_empty() {
                prop_assert_eq!(&at_once, &batched);
            }
        }
    }
}

#[test]
fn bytes_that_break_an_invariant_are_refused() {
    let mut table = opened(50, &[1, 2]);
    apply(&mut table, 60, stamp(1, 1, 0), 4, b"reply");
    let bytes = encoded(&table, 1000);
    // Offsets from the layout in `codec`: time 0..8, count 8..12, then the first session.
    let changed = |at: usize, value: u64| {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        Sessions::decode(&bytes).expect_err("broken").to_string()
    };
    assert!(changed(0, 59).contains("future"));
    for id in [0, 3] {
        assert!(changed(12, id).contains("ids"), "{id}");
    }
    assert!(changed(28, 1).contains("window"));
    assert!(changed(12 + 36, 5).contains("window"));
}
