//! The simulator, briefly: `make sim` is its long form.

use kontiki_tests::profile::{PROFILES, Profile};
use kontiki_tests::simulation::run;

fn profile(name: &str) -> &'static Profile {
    Profile::named(name).expect("a profile that there is")
}

#[test]
fn the_same_seed_is_the_same_run() {
    let profile = profile("default");
    let (one, other) = (run(11, profile, false), run(11, profile, false));
    assert_eq!(one.hash, other.hash);
    assert_eq!(one.step, other.step);
    assert_eq!(one.tally, other.tally);
    assert_ne!(one.hash, run(12, profile, false).hash);
}

#[test]
fn a_few_seeds_of_every_profile_hold_and_something_happens_in_each() {
    for profile in PROFILES {
        for seed in 1..=4 {
            let outcome = run(seed, profile, false);
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
