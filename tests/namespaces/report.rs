//! What a scenario came to, and the table of all.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kontiki_tests::linearizability::checker::CONFIGURATIONS_MAX;
use kontiki_tests::linearizability::complaints::complaints;
use kontiki_tests::linearizability::history::{Endings, Moment, Recorder, between};
use kontiki_tests::linearizability::staleness::BoundedRead;

use crate::world::Note;

/// What is noted this soon after the last write before a gap was done before the gap: an acknowledgement
/// may have been under way.
const JUST_AFTER: Moment = 20_000_000;

/// Time without an acknowledged write.
#[derive(Clone, Debug, Default)]
pub struct Outage {
    pub lasted: Duration,
    /// The fault that was made last before it; if none was, or it was over, the first in it.
    pub cause: String,
}

/// The longest time between two acknowledged writes, whoever wrote.
pub fn longest_outage(acknowledged: &[Moment], notes: &[Note]) -> Outage {
    let gaps = acknowledged.windows(2).map(|pair| (pair[0], pair[1]));
    let Some((from, until)) = gaps.max_by_key(|(from, until)| until - from) else {
        return Outage::default();
    };
    let before = notes.iter().rfind(|note| note.at <= from + JUST_AFTER);
    let in_it = |note: &&Note| note.is_fault && note.at > from && note.at <= until;
    let cause = match (before, notes.iter().find(in_it)) {
        (Some(before), _) if before.is_fault => before.what.clone(),
        (_, Some(fault)) => fault.what.clone(),
        (Some(step), None) => format!("after: {}", step.what),
        (None, None) => "nothing".to_owned(),
    };
    Outage {
        lasted: between(from, until),
        cause,
    }
}

/// The longest time without an acknowledged write between two moments.
pub fn longest_gap(acknowledged: &[Moment], from: Moment, until: Moment) -> Duration {
    let within = acknowledged.iter().copied();
    let within = within.filter(|at| (from..until).contains(at));
    let mut gap = Duration::ZERO;
    let mut last = from;
    for at in within.chain([until]) {
        gap = gap.max(between(last, at));
        last = at;
    }
    gap
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub scenario: String,
    pub has_leases: bool,
    pub faults: usize,
    pub endings: Endings,
    /// Answers that may be old, which are judged by themselves.
    pub bounded: usize,
    /// Of a key each, that are linearizable.
    pub histories: usize,
    /// What shows that the faults took place.
    pub evidence: String,
    pub outage: Outage,
}

/// Judges what was recorded.
///
/// # Errors
/// It is not linearizable, or the search was given up, or an answer is older than it may be. The whole
/// history is in the folder then.
pub fn judge(recorder: &Recorder, bounded: &[BoundedRead], folder: &Path) -> Result<usize> {
    let history = recorder.history();
    let complaints = complaints(&history, bounded, CONFIGURATIONS_MAX);
    if complaints.is_empty() {
        return Ok(history.len());
    }
    let file = folder.join("history.txt");
    let text: String = history
        .iter()
        .flat_map(|(key, operations)| operations.iter().map(move |one| format!("{key} {one}\n")))
        .collect();
    std::fs::write(&file, text).with_context(|| file.display().to_string())?;
    bail!(
        "{}\nthe whole history is in {}",
        complaints.join("\n"),
        file.display()
    )
}

/// All rows, with a sum.
pub struct Table<'a>(pub &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<20} {:<6} {:>6} {:>10} {:>6} {:>6} {:>7} {:>7} {:>9} {:>9}  cause",
            "scenario",
            "leases",
            "faults",
            "operations",
            "ok",
            "failed",
            "unknown",
            "bounded",
            "histories",
            "outage ms"
        )?;
        let mut total = Endings::default();
        for row in self.0 {
            let Endings {
                replied,
                failed,
                unknown,
            } = row.endings;
            total.replied += replied;
            total.failed += failed;
            total.unknown += unknown;
            writeln!(
                f,
                "{:<20} {:<6} {:>6} {:>10} {replied:>6} {failed:>6} {unknown:>7} {:>7} {:>9} {:>9}  {}",
                row.scenario,
                if row.has_leases { "on" } else { "off" },
                row.faults,
                replied + failed + unknown,
                row.bounded,
                row.histories,
                row.outage.lasted.as_millis(),
                row.outage.cause
            )?;
        }
        let Endings {
            replied,
            failed,
            unknown,
        } = total;
        let sum = |of: fn(&Row) -> usize| self.0.iter().map(of).sum::<usize>();
        writeln!(
            f,
            "{:<20} {:<6} {:>6} {:>10} {replied:>6} {failed:>6} {unknown:>7} {:>7} {:>9}",
            "all",
            "",
            sum(|row| row.faults),
            replied + failed + unknown,
            sum(|row| row.bounded),
            sum(|row| row.histories)
        )?;
        writeln!(f, "\nwhat shows that the faults took place:")?;
        for row in self.0 {
            writeln!(f, "{:<20} {}", row.scenario, row.evidence)?;
        }
        Ok(())
    }
}

/// The shortest time that a write took which was asked for after a moment.
pub fn fastest_write(recorder: &Recorder, after: Moment) -> Option<Duration> {
    let history = recorder.history();
    let operations = history.values().flatten();
    let written = operations.filter(|one| one.called > after && one.call.is_write());
    let took = written.filter_map(|one| Some(between(one.called, one.replied()?)));
    took.min()
}
