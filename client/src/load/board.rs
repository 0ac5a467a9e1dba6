//! Where writers score: counts, gaps and latencies of the section in progress and of the whole run.
//! Time is an argument, in durations since the run's start.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::report::{Latency, Report, Section};
use super::writers::Outcome;

/// Latencies are recorded from 1 us to 10 minutes with 3 significant digits.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Sections of a run; a further mark ends the last one's label but opens none.
const SECTIONS_MAX: usize = 10_000;

/// The score of a stretch of time.
#[derive(Debug, Clone)]
struct Tally {
    label: String,
    began: Duration,
    acknowledged: u64,
    failed: u64,
    unknown: u64,
    longest_gap: Duration,
    longest_writer_gap: Duration,
    latency: Histogram<u64>,
    last_error: Option<String>,
}

impl Tally {
    fn new(label: String, began: Duration) -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("bounds are valid");
        Tally {
            label,
            began,
            acknowledged: 0,
            failed: 0,
            unknown: 0,
            longest_gap: Duration::ZERO,
            longest_writer_gap: Duration::ZERO,
            latency,
            last_error: None,
        }
    }

    fn section(&self, until: Duration, gap_open: Duration) -> Section {
        let lasted = until.saturating_sub(self.began);
        let seconds = lasted.as_secs_f64();
        Section {
            label: self.label.clone(),
            began: self.began,
            lasted,
            acknowledged: self.acknowledged,
            failed: self.failed,
            unknown: self.unknown,
            rate: if seconds > 0.0 {
                self.acknowledged as f64 / seconds
            } else {
                0.0
            },
            longest_gap: self.longest_gap.max(gap_open),
            longest_writer_gap: self.longest_writer_gap,
            latency: Latency::of(&self.latency),
            last_error: self.last_error.clone(),
        }
    }
}

/// The score of a run.
#[derive(Debug)]
pub(super) struct Board {
    total: Tally,
    current: Tally,
    closed: Vec<Section>,
    /// When anybody was last acknowledged; at first the start.
    last_acknowledged: Duration,
    /// The same, for each writer.
    last_by_writer: Vec<Duration>,
    /// When the last writer ended.
    ended: Option<Duration>,
}

impl Board {
    pub fn new(writers: usize) -> Self {
        Board {
            total: Tally::new("total".to_owned(), Duration::ZERO),
            current: Tally::new("start".to_owned(), Duration::ZERO),
            closed: Vec::new(),
            last_acknowledged: Duration::ZERO,
            last_by_writer: vec![Duration::ZERO; writers],
            ended: None,
        }
    }

    /// A write ended at `now`; `latency` counts from when it was due.
    pub fn score(
        &mut self,
        writer: usize,
        outcome: Outcome,
        now: Duration,
        latency: Duration,
        error: Option<String>,
    ) {
        let last_of_writer = self.last_by_writer[writer];
        for tally in [&mut self.total, &mut self.current] {
            match outcome {
                Outcome::Acknowledged { .. } => {
                    tally.acknowledged += 1;
                    let micros = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX);
                    tally.latency.saturating_record(micros.max(1));
                    let gap = now.saturating_sub(self.last_acknowledged);
                    tally.longest_gap = tally.longest_gap.max(gap);
                    let own_gap = now.saturating_sub(last_of_writer);
                    tally.longest_writer_gap = tally.longest_writer_gap.max(own_gap);
                }
                Outcome::Failed => tally.failed += 1,
                Outcome::Unknown => tally.unknown += 1,
            }
            if error.is_some() {
                tally.last_error.clone_from(&error);
            }
        }
        if matches!(outcome, Outcome::Acknowledged { .. }) {
            self.last_acknowledged = self.last_acknowledged.max(now);
            self.last_by_writer[writer] = now;
        }
    }

    /// Ends the section in progress and begins another.
    pub fn mark(&mut self, label: &str, now: Duration) {
        if self.closed.len() + 1 >= SECTIONS_MAX {
            return;
        }
        self.closed
            .push(self.current.section(now, self.gap_open(now)));
        self.current = Tally::new(label.to_owned(), now);
    }

    /// The run is over: no time passes on the board any more.
    pub fn end(&mut self, now: Duration) {
        self.ended.get_or_insert(now);
    }

    pub fn acknowledged(&self) -> u64 {
        self.total.acknowledged
    }

    pub fn report(&self, now: Duration) -> Report {
        let now = self.ended.unwrap_or(now);
        let gap_open = self.gap_open(now);
        let mut sections = self.closed.clone();
        sections.push(self.current.section(now, gap_open));
        Report {
            total: self.total.section(now, gap_open),
            sections,
        }
    }

    fn gap_open(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last_acknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn acknowledge(board: &mut Board, writer: usize, at: u64) {
        board.score(
            writer,
            Outcome::Acknowledged { revision: 1 },
            ms(at),
            ms(1),
            None,
        );
    }

    #[test]
    fn a_gap_counts_where_it_ends_and_where_it_was_open() {
        let mut board = Board::new(2);
        acknowledge(&mut board, 0, 10);
        acknowledge(&mut board, 1, 20);
        board.mark("leader killed", ms(25));
        acknowledge(&mut board, 0, 220);
        board.mark("nothing comes any more", ms(230));
        board.score(
            1,
            Outcome::Unknown,
            ms(400),
            ms(1),
            Some("broken".to_owned()),
        );
        let report = board.report(ms(720));
        let gaps: Vec<_> = report
            .sections
            .iter()
            .map(|section| section.longest_gap)
            .collect();
        assert_eq!(gaps, [ms(10), ms(200), ms(500)]);
        assert_eq!(report.total.longest_gap, ms(500));
        assert_eq!(report.sections[1].longest_writer_gap, ms(210));
        assert_eq!(report.sections[2].unknown, 1);
        assert_eq!(report.sections[2].last_error.as_deref(), Some("broken"));
        assert_eq!(report.total.acknowledged, 3);
    }

    #[test]
    fn no_time_passes_after_the_end() {
        let mut board = Board::new(1);
        acknowledge(&mut board, 0, 100);
        board.end(ms(1000));
        let report = board.report(ms(60_000));
        assert_eq!(report.total.lasted, ms(1000));
        assert!((report.total.rate - 1.0).abs() < 1e-9);
    }
}
