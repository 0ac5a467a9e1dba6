//! All that is wrong with what clients saw.

use super::checker::{State, Verdict, check_from};
use super::history::History;
use super::staleness::{self, BoundedRead};
use super::{revisions, window};

/// One for each key that no order explains, or of which that is not known within so many
/// configurations; and what the revisions say. None: the history is linearizable, and no answer is
/// older than it may be.
pub fn complaints(
    history: &History,
    bounded: &[BoundedRead],
    configurations_max: usize,
) -> Vec<String> {
    let mut complaints = Vec::new();
    for (key, operations) in history {
        let verdict = check_from(State::Is(None), operations, configurations_max);
        if verdict == Verdict::Linearizable {
            continue;
        }
        complaints.push(match window::shortest(operations) {
            Some(window) => window.describe(*key),
            None => format!("key {key}: the search for an order was given up ({verdict:?})"),
        });
    }
    complaints.extend(revisions::check(history).err());
    complaints.extend(staleness::check(history, bounded).err());
    complaints
}
