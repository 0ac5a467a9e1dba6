//! The simulator, briefly: `make sim` is its long form.

use std::fs;
use std::path::Path;

use kontiki_tests::fault::Fault;
use kontiki_tests::invariants::{Invariant, Ledger, Turn};
use kontiki_tests::profile::{PROFILES, Profile};
use kontiki_tests::script::{Deed, Ending, Script, Stimulus};
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

/// What is wrong with a script of a former failure, if anything is.
fn judge(text: &str) -> Result<(), String> {
    let script = Script::parse(text)?;
    if script.ending.is_none() {
        return Err("it does not say how the run failed (`ends HASH INVARIANT`)".into());
    }
    let outcome = replay(&script, &Observer::default());
    if let Some(violation) = outcome.violation {
        return Err(format!("it fails again: {violation}"));
    }
    let is_done = |one: &&Stimulus| outcome.done.contains(one);
    let all = script.stimuli.len();
    match script.stimuli.iter().filter(is_done).count() {
        done if done == all => Ok(()),
        done => Err(format!(
            "it no longer replays: {done} of its {all} lines still do anything, because the model draws \
             otherwise than it did. Put the fault back and find the failure again, or delete the script \
             (see CONTRIBUTING.md)"
        )),
    }
}

#[test]
fn former_failures_stay_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sim/scripts");
    let mut wrong = Vec::new();
    let mut judged = 0;
    for entry in fs::read_dir(folder).expect("the folder of scripts is there") {
        let path = entry.expect("readable").path();
        let text = fs::read_to_string(&path).expect("a script is text");
        judged += 1;
        if let Err(why) = judge(&text) {
            wrong.push(format!("{}: {why}", path.display()));
        }
    }
    assert!(judged > 0, "no script was found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_script_that_no_longer_replays_says_so() {
    let drawn = run(3, profile("default"), &Observer::default());
    let mut script = drawn.script();
    script.ending = Some(Ending {
        hash: 0,
        invariant: "nothing is cut off".into(),
    });
    assert_eq!(judge(&script.to_string()), Ok(()));
    // Activation has not come yet, so another size cannot be wanted at the very beginning.
    let mut early = script.stimuli[0];
    early.at = 1_000;
    early.deed = Deed::Fault(Fault::Scale);
    script.stimuli.insert(0, early);
    let why = judge(&script.to_string()).expect_err("a line does nothing");
    assert!(why.contains("no longer replays"), "{why}");
    script.ending = None;
    let why = judge(&script.to_string()).expect_err("it does not say what failed");
    assert!(why.contains("how the run failed"), "{why}");
}
