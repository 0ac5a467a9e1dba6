//! The simulator, briefly: `make sim` is its long form.

use kontiki_tests::invariants::{Invariant, Ledger, Turn};
use kontiki_tests::profile::{PROFILES, Profile};
use kontiki_tests::script::Script;
use kontiki_tests::shrink::shrink;
use kontiki_tests::simulation::{Observer, replay, run};

fn profile(name: &str) -> &'static Profile {
    Profile::named(name).expect("a profile that there is")
}

#[test]
fn the_same_seed_is_the_same_run() {
    let profile = profile("default");
    let observer = Observer::default();
    let (one, other) = (run(11, profile, &observer), run(11, profile, &observer));
    assert_eq!(one.hash, other.hash);
    assert_eq!(one.step, other.step);
    assert_eq!(one.tally, other.tally);
    assert_ne!(one.hash, run(12, profile, &observer).hash);
}

#[test]
fn a_script_of_all_that_a_seed_did_is_the_same_run() {
    for name in ["default", "churn"] {
        let observer = Observer::default();
        let drawn = run(3, profile(name), &observer);
        let text = drawn.script().to_string();
        let script = Script::parse(&text).expect("what is written is read");
        let listed = replay(&script, &observer);
        assert_eq!(drawn.hash, listed.hash, "{name}");
        assert_eq!(drawn.step, listed.step, "{name}");
        assert_eq!(drawn.tally, listed.tally, "{name}");
    }
}

#[test]
fn a_few_seeds_of_every_profile_hold_and_something_happens_in_each() {
    for profile in PROFILES {
        for seed in 1..=4 {
            let outcome = run(seed, profile, &Observer::default());
            let name = profile.name;
            assert_eq!(outcome.violation, None, "profile {name}, seed {seed}");
            let operations = outcome.tally.count("client: operation");
            let faults = outcome.tally.sum("fault: ");
            assert!(
                operations >= 200,
                "{name} {seed}: only {operations} operations"
            );
            assert!(faults >= 10, "{name} {seed}: only {faults} faults");
            assert!(
                outcome.tally.count("write: acknowledged") > 0,
                "{name} {seed}"
            );
        }
    }
}

/// A sentence that is false: an election that was lost cuts off what the loser alone has.
struct NothingIsCutOff;

impl Invariant for NothingIsCutOff {
    fn name(&self) -> &'static str {
        "nothing is cut off"
    }

    fn check(&mut self, turn: &Turn<'_>, _: &Ledger) -> Result<(), String> {
        match turn.truncated {
            0 => Ok(()),
            count => Err(format!("{count} entries were")),
        }
    }
}

/// What is left of a failure that needs little.
const LINES_MAX: usize = 10;

#[test]
fn a_failure_is_made_small_and_its_script_fails_the_same_way() {
    let observer = Observer {
        invariants: || vec![Box::new(NothingIsCutOff)],
        ..Observer::default()
    };
    let mut seeds = 1..=20;
    let failed = seeds.find_map(|seed| {
        let outcome = run(seed, profile("default"), &observer);
        outcome.violation.is_some().then_some(outcome)
    });
    let failed = failed.expect("a tail is cut off in some run");
    assert!(
        failed.done.len() > 2 * LINES_MAX,
        "it is not small by itself"
    );
    let shrunk = shrink(&failed, &observer, 3000).expect("it fails again");
    let lines = shrunk.script.stimuli.len();
    let script = &shrunk.script;
    assert!(lines <= LINES_MAX, "{lines} are left:\n{script}");
    let script = Script::parse(&shrunk.script.to_string()).expect("what is written is read");
    let again = replay(&script, &observer);
    assert_eq!(again.violation, shrunk.outcome.violation);
    assert_eq!(again.hash, shrunk.outcome.hash);
    assert_eq!(again.script(), shrunk.script);
    let name = again.violation.map(|violation| violation.invariant);
    assert_eq!(name, Some("nothing is cut off"));
}
