//! The simulated disk, and the small log of the tests' own over it: right, it loses nothing in thousands
//! of runs; wrong, it is caught.

use kontiki_tests::disk::log::Defect;
use kontiki_tests::disk::trial::{Outcome, run};
use kontiki_tests::tally::Tally;

const SEEDS: u64 = 3000;
/// Seeds within which a defect must be caught.
const CAUGHT_WITHIN: u64 = 500;

/// A run that holds; one that does not is run again, with its trace.
fn hold(seed: u64) -> Outcome {
    let outcome = run(seed, None, false);
    if let Some(violation) = &outcome.violation {
        run(seed, None, true);
        panic!("seed {seed}: {violation}");
    }
    outcome
}

#[test]
fn what_is_acknowledged_outlives_every_fault_and_each_fault_takes_place() {
    let mut total = Tally::default();
    for seed in 1..=SEEDS {
        total.absorb(&hold(seed).tally);
    }
    println!("{total}");
    let everything = [
        "disk: power cut",
        "disk: crash",
        "disk: write lost",
        "disk: write torn",
        "disk: torn sector",
        "disk: writes reordered",
        "disk: change of a name lost",
        "disk: changes of names reordered",
        "disk: error of a read",
        "disk: error of a write",
        "disk: error of a sync",
        "disk: error of a sync of a folder",
        "disk: no space",
        "disk: bit flipped",
        "disk: slow operation",
        "log: recovered",
        "log: recovery spoiled",
        "log: record of a torn tail",
        "log: refused damage",
        "log: append refused",
        "log: ended by an error",
        "log: read failed",
        "log: compacted",
        "log: synced",
    ];
    for name in everything {
        assert!(total.count(name) >= 100, "{name}: {}", total.count(name));
    }
    // The log that is right believes no sync of a file of which one failed.
    assert_eq!(total.count("disk: sync after a failed one, of nothing"), 0);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1..=20 {
        let (one, other) = (run(seed, None, false), run(seed, None, false));
        assert_eq!(one.hash, other.hash, "seed {seed}");
        assert_eq!(one.tally, other.tally, "seed {seed}");
        assert_ne!(one.hash, run(seed + 1, None, false).hash, "seed {seed}");
    }
}

/// The first seed that catches a log with this defect, and how.
fn assert_caught(defect: Defect) {
    let mut runs = (1..=CAUGHT_WITHIN).map(|seed| run(seed, Some(defect), false));
    let found = runs.find_map(|outcome| outcome.violation.map(|what| (outcome.seed, what)));
    let (seed, what) = found.unwrap_or_else(|| panic!("{defect:?}: {CAUGHT_WITHIN} seeds passed"));
    println!("{defect:?} caught seed={seed} {what}");
}

#[test]
fn b7_an_acknowledgement_before_the_sync_is_caught() {
    assert_caught(Defect::AcknowledgesBeforeSync);
}

#[test]
fn b10_an_error_of_a_read_that_is_taken_for_the_end_is_caught() {
    assert_caught(Defect::TakesReadErrorForTheEnd);
}

#[test]
fn e1_a_sync_that_is_tried_again_is_caught() {
    assert_caught(Defect::RetriesFailedSync);
}

#[test]
fn e2_a_rename_without_a_sync_of_the_folder_is_caught() {
    assert_caught(Defect::RenamesWithoutFolderSync);
}

#[test]
fn e3_a_torn_tail_that_is_accepted_refused_or_left_is_caught() {
    assert_caught(Defect::AcceptsTornTail);
    assert_caught(Defect::RefusesTornTail);
    assert_caught(Defect::LeavesTornTail);
}

#[test]
fn e4_a_snapshot_ahead_of_the_records_is_caught() {
    assert_caught(Defect::SnapshotsAhead);
}

#[test]
fn e5_a_flipped_bit_that_is_believed_is_caught() {
    assert_caught(Defect::BelievesFlippedBits);
}

#[test]
fn e6_records_that_are_removed_ahead_of_the_snapshot_are_caught() {
    assert_caught(Defect::CompactsAhead);
}

#[test]
fn e7_a_gap_that_is_accepted_or_left_is_caught() {
    assert_caught(Defect::AcceptsGap);
    assert_caught(Defect::RemovesInNoOrder);
}
