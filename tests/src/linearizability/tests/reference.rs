//! Two other checkers must agree with ours: one that tries every order, and the one of `todc-utils`.
//!
//! Neither knows unknown outcomes. For both they are spelt out: an unknown write was never done, or
//! was done and answered after everything else.

use std::collections::BTreeMap;

use todc_utils::Specification;
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};

use super::super::checker::{Verdict, check};
use super::super::history::{Call, Moment, Operation, Outcome, Reply};
use super::execution::{Shape, execute, mutate, perform};
use crate::rng::Rng;

/// A call and its reply; `None` in a reply: any will do.
#[derive(Clone, Copy, Debug)]
struct Done {
    called: Moment,
    replied: Moment,
    call: Call,
    reply: Option<Reply>,
}

/// Every choice of the unknown operations that were done.
fn choices(history: &[Operation]) -> Vec<Vec<Done>> {
    let mut choices = vec![Vec::new()];
    for operation in history {
        let done = |replied, reply| Done {
            called: operation.called,
            replied,
            call: operation.call,
            reply,
        };
        match operation.outcome {
            Outcome::Replied { at, reply } => {
                for choice in &mut choices {
                    choice.push(done(at, Some(reply)));
                }
            }
            Outcome::Unknown => {
                let without = choices.clone();
                for choice in &mut choices {
                    choice.push(done(Moment::MAX, None));
                }
                choices.extend(without);
            }
        }
    }
    choices
}

/// Tries every order that agrees with the clock.
fn some_order_explains(left: &mut Vec<Done>, held: Option<u64>) -> bool {
    if left.is_empty() {
        return true;
    }
    let earliest = left.iter().map(|done| done.replied).min();
    let earliest = earliest.expect("it is not empty");
    for index in 0..left.len() {
        if left[index].called > earliest {
            continue;
        }
        let next = left.swap_remove(index);
        let mut held = held;
        let reply = perform(&mut held, next.call);
        let explains = next.reply.is_none_or(|seen| seen == reply);
        let found = explains && some_order_explains(left, held);
        left.push(next);
        let last = left.len() - 1;
        left.swap(index, last);
        if found {
            return true;
        }
    }
    false
}

fn by_every_order(history: &[Operation]) -> bool {
    choices(history)
        .iter_mut()
        .any(|choice| some_order_explains(choice, None))
}

/// The register, for the other crate.
struct Register;

impl Specification for Register {
    type State = Option<u64>;
    type Operation = (Call, Option<Reply>);

    fn init() -> Self::State {
        None
    }

    fn apply((call, seen): &Self::Operation, state: &Self::State) -> (bool, Self::State) {
        let mut held = *state;
        let reply = perform(&mut held, *call);
        (seen.is_none_or(|seen| seen == reply), held)
    }
}

/// Calls come before replies of the same moment: those two overlap.
fn by_todc(history: &[Operation]) -> bool {
    choices(history).iter().any(|choice| {
        let mut actions = BTreeMap::new();
        for (process, done) in choice.iter().enumerate() {
            let operation = (done.call, done.reply);
            actions.insert((done.called, 0, process), Action::Call(operation));
            actions.insert((done.replied, 1, process), Action::Response(operation));
        }
        let actions: Vec<_> = actions
            .into_iter()
            .map(|((_, _, process), action)| (process, action))
            .collect();
        actions.is_empty()
            || WGLChecker::<Register>::is_linearizable(History::from_actions(actions))
    })
}

#[test]
fn three_checkers_agree() {
    let mut verdicts = BTreeMap::new();
    for seed in 0..3000 {
        let mut rng = Rng::new(seed);
        let shape = Shape {
            operations: rng.within(1, 7),
            pause_max: rng.within(0, 3),
            lasts_max: rng.within(1, 8),
            unknown_permille: rng.within(0, 500),
        };
        let mut history = execute(&mut rng, shape);
        for _ in 0..rng.below(3) {
            if let Some((mutant, _)) = mutate(&mut rng, &history) {
                history = mutant;
            }
        }
        let expected = by_every_order(&history);
        let unknown = history.iter().any(|it| it.replied().is_none());
        let ours = check(&history);
        let verdict = match expected {
            true => Verdict::Linearizable,
            false => Verdict::NotLinearizable,
        };
        assert_eq!(ours, verdict, "seed {seed}: {history:#?}");
        assert_eq!(by_todc(&history), expected, "seed {seed}: {history:#?}");
        *verdicts.entry((expected, unknown)).or_insert(0) += 1;
    }
    for kind in [(true, true), (true, false), (false, true), (false, false)] {
        let count = verdicts.get(&kind).copied().unwrap_or(0);
        assert!(
            count > 200,
            "(linearizable, with unknown) {kind:?}: {verdicts:?}"
        );
    }
}

/// Longer histories, which trying every order would take for ever with.
#[test]
fn two_checkers_agree_on_longer_histories() {
    let mut verdicts = BTreeMap::new();
    for seed in 0..250 {
        let mut rng = Rng::new(seed);
        let shape = Shape {
            operations: 32,
            pause_max: 3,
            lasts_max: rng.within(1, 10),
            unknown_permille: 60,
        };
        let mut history = execute(&mut rng, shape);
        if let (true, Some((mutant, _))) = (rng.chance(700), mutate(&mut rng, &history)) {
            history = mutant;
        }
        if history.iter().filter(|it| it.replied().is_none()).count() > 6 {
            continue;
        }
        let ours = check(&history);
        let theirs = by_todc(&history);
        assert_eq!(ours == Verdict::Linearizable, theirs, "seed {seed}");
        assert_ne!(ours, Verdict::GaveUp, "seed {seed}");
        *verdicts.entry(theirs).or_insert(0) += 1;
    }
    assert!(verdicts.values().all(|count| *count > 50), "{verdicts:?}");
}
