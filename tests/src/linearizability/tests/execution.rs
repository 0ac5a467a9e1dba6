//! Random histories of a real register: clients call, at some moment in between it is done, and they
//! are answered, or never are. And mutations of them.

use super::super::checker::{Verdict, check};
use super::super::history::{Call, Moment, Operation, Outcome, Reply};
use super::super::window;
use super::{DELETE, GET, known, put, swap, unknown};
use crate::rng::Rng;

/// What a history is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) operations: u64,
    /// Moments between two calls, and those that one lasts, at most.
    pub(super) pause_max: u64,
    pub(super) lasts_max: u64,
    /// So many of a thousand are unknown; half of these take effect, some of them late.
    pub(super) unknown_permille: u64,
}

struct Planned {
    called: Moment,
    effect: Option<Moment>,
    replied: Option<Moment>,
}

/// A history that is linearizable, because it happened.
pub(super) fn execute(rng: &mut Rng, shape: Shape) -> Vec<Operation> {
    let mut called = 0;
    let mut planned: Vec<Planned> = Vec::new();
    for _ in 0..shape.operations {
        called += rng.within(0, shape.pause_max);
        let is_unknown = rng.chance(shape.unknown_permille);
        let lasts = rng.within(1, shape.lasts_max * if is_unknown { 5 } else { 1 });
        let effect = called + rng.within(0, lasts);
        planned.push(Planned {
            called,
            effect: (!is_unknown || rng.chance(500)).then_some(effect),
            replied: (!is_unknown).then_some(called + lasts),
        });
    }
    let mut order: Vec<usize> = (0..planned.len()).collect();
    // Those that never take effect are last, after everything that could notice.
    order.sort_by_key(|index| planned[*index].effect.unwrap_or(Moment::MAX));
    let mut held = None;
    let mut history = Vec::new();
    for (value, index) in (1..).zip(order) {
        let plan = &planned[index];
        let call = draw_call(rng, held, value);
        let mut now = held;
        let reply = perform(&mut now, call);
        if plan.effect.is_some() {
            held = now;
        }
        history.push(match plan.replied {
            Some(replied) => known(plan.called, replied, call, reply),
            None => unknown(plan.called, call),
        });
    }
    history.sort_by_key(|operation| operation.called);
    history
}

fn draw_call(rng: &mut Rng, held: Option<u64>, value: u64) -> Call {
    let expected = match rng.below(3) {
        0 if value > 1 => Some(rng.within(1, value - 1)),
        _ => held,
    };
    match rng.below(10) {
        0..4 => GET,
        4..6 => put(value),
        6 => DELETE,
        7 => swap(expected, None),
        _ => swap(expected, value),
    }
}

/// The register by itself, written again: nothing here is the checker's.
pub(super) fn perform(held: &mut Option<u64>, call: Call) -> Reply {
    match call {
        Call::Get => Reply::Got(*held),
        Call::Put(value) => {
            *held = Some(value);
            Reply::Done
        }
        Call::Delete => Reply::Deleted(held.take().is_some()),
        Call::CompareAndSet { expected, new } if *held == expected => {
            *held = new;
            Reply::Done
        }
        Call::CompareAndSet { .. } => Reply::Mismatch(*held),
    }
}

/// Changes what one of the replies says. `None`: there is none that says anything.
pub(super) fn mutate(rng: &mut Rng, history: &[Operation]) -> Option<(Vec<Operation>, usize)> {
    let telling: Vec<usize> = (0..history.len())
        .filter(|index| history[*index].replied().is_some())
        .filter(|index| !matches!(history[*index].call, Call::Put(_)))
        .collect();
    let index = rng.pick(&telling)?;
    let mut mutant = history.to_vec();
    let other = rng.within(0, history.len() as u64);
    let other = (other > 0).then_some(other);
    let Outcome::Replied { reply, .. } = &mut mutant[index].outcome else {
        return None;
    };
    *reply = match *reply {
        Reply::Got(_) => Reply::Got(other),
        Reply::Deleted(found) => Reply::Deleted(!found),
        Reply::Done => Reply::Mismatch(other),
        Reply::Mismatch(_) if rng.chance(500) => Reply::Done,
        Reply::Mismatch(_) => Reply::Mismatch(other),
    };
    Some((mutant, index))
}

#[test]
fn what_happened_is_linearizable() {
    for seed in 0..150 {
        let mut rng = Rng::new(seed);
        let shape = Shape {
            operations: 400,
            pause_max: 4,
            lasts_max: rng.within(1, 30),
            unknown_permille: rng.within(0, 100),
        };
        let history = execute(&mut rng, shape);
        assert_eq!(check(&history), Verdict::Linearizable, "seed {seed}");
    }
}

#[test]
fn a_long_history_is_judged() {
    let shape = Shape {
        operations: 50_000,
        pause_max: 4,
        lasts_max: 8,
        unknown_permille: 5,
    };
    let mut rng = Rng::new(1);
    let mut history = execute(&mut rng, shape);
    assert_eq!(check(&history), Verdict::Linearizable);
    // A value of nowhere, in the middle.
    let middle = history.iter().skip(25_000);
    let offset = middle.take_while(|it| !matches!(it.call, Call::Get) || it.replied().is_none());
    let index = 25_000 + offset.count();
    let at = history[index].replied().expect("chosen so");
    let reply = Reply::Got(Some(u64::MAX));
    history[index].outcome = Outcome::Replied { at, reply };
    let window = window::shortest(&history).expect("nobody wrote it");
    assert!(window.operations.len() < 40, "{window}");
    let nowhere = |it: &Operation| it.outcome == history[index].outcome;
    assert!(window.operations.iter().any(nowhere), "{window}");
}

/// Where no two operations overlap and none is unknown, there is one order, and so one reply each.
#[test]
fn a_reply_that_is_changed_is_found_where_nothing_overlaps() {
    let shape = Shape {
        operations: 60,
        pause_max: 0,
        lasts_max: 1,
        unknown_permille: 0,
    };
    let mut mutants = 0;
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let mut history = execute(&mut rng, shape);
        let mut held = None;
        for (index, operation) in (0..).zip(&mut history) {
            operation.called = 10 * index;
            let reply = perform(&mut held, operation.call);
            let at = 10 * index + 5;
            operation.outcome = Outcome::Replied { at, reply };
        }
        assert_eq!(check(&history), Verdict::Linearizable, "seed {seed}");
        let Some((mutant, index)) = mutate(&mut rng, &history) else {
            continue;
        };
        if mutant[index].outcome == history[index].outcome {
            continue;
        }
        assert_eq!(check(&mutant), Verdict::NotLinearizable, "seed {seed}");
        let window = window::shortest(&mutant).expect("a changed reply");
        let until = window.operations.last().expect("it is not empty").called;
        assert!(until >= mutant[index].called, "seed {seed}");
        mutants += 1;
    }
    assert!(mutants > 400, "{mutants}");
}
