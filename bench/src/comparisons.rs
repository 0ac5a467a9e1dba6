//! From rounds to figures, and from figures to verdicts.

use serde::Serialize;

use crate::rounds::{Leg, Round};
use crate::statistics::{Better, Figure};
use crate::systems::Kind;

/// One line of the report. Everything is a ratio of ours to the rival's in one round, unless
/// `target_of` says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    pub name: String,
    /// Of `ours` and `rival`.
    pub unit: &'static str,
    /// The median of the rounds.
    pub ours: f64,
    /// The median of the rounds.
    pub rival: f64,
    pub rival_name: &'static str,
    /// The echo server's, where it is calibrated: what gRPC alone would reach.
    pub echo: Option<f64>,
    /// The median of the rounds' ratios.
    pub ratio: f64,
    /// The lowest and highest of what the target is of.
    pub range: [f64; 2],
    /// What the target is compared with: the quartile on the bad side, or the worst.
    pub judged: f64,
    pub better: Better,
    pub target_of: TargetOf,
    /// `null`: informative.
    pub target: Option<f64>,
    /// `null`: no target, a run too short, or rounds that stayed void.
    pub met: Option<bool>,
    /// Samples behind the figures.
    pub rounds: usize,
    /// Rounds that stayed void when they were repeated.
    pub rounds_void: usize,
    /// Systems with a leg in which the generator may have been the limit.
    pub generator_bound: Vec<&'static str>,
}

/// What a target speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetOf {
    Ratio,
    Ours,
}

/// What is compared of the legs of one load.
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
    pub better: Better,
    pub target: Option<f64>,
    pub value: fn(&Leg) -> f64,
}

/// Compares `metric` over `rounds`. `judges`: whether the run is long enough for a verdict. `None` if
/// there is nothing to compare.
pub fn of_rounds(metric: &Metric, rounds: &[Round], judges: bool) -> Option<Comparison> {
    let last = last_attempts(rounds);
    let valid: Vec<&Round> = last
        .iter()
        .copied()
        .filter(|round| round.void.is_empty())
        .collect();
    let rounds_void = last.len() - valid.len();
    // Figures of void rounds are shown when there are no others, and never judged.
    let used = if valid.is_empty() { &last } else { &valid };
    let values = |kind| -> Vec<f64> {
        used.iter()
            .filter_map(|round| round.mean(kind, metric.value))
            .collect()
    };
    let (ours, rival) = (values(Kind::Kontiki), values(Kind::Etcd));
    let ratios: Vec<f64> = ours
        .iter()
        .zip(&rival)
        .map(|(ours, rival)| ours / rival)
        .collect();
    let ratio = Figure::of(&ratios)?;
    let judged = ratio.bad_quartile(metric.better);
    let met = metric.target.filter(|_| judges && rounds_void == 0);
    Some(Comparison {
        name: metric.name.to_owned(),
        unit: metric.unit,
        ours: Figure::of(&ours)?.median,
        rival: Figure::of(&rival)?.median,
        rival_name: Kind::Etcd.name(),
        echo: Figure::of(&values(Kind::Echo)).map(|echo| echo.median),
        ratio: ratio.median,
        range: [ratio.lowest, ratio.highest],
        judged,
        better: metric.better,
        target_of: TargetOf::Ratio,
        target: metric.target,
        met: met.map(|target| metric.better.meets(judged, target)),
        rounds: used.len(),
        rounds_void,
        generator_bound: generator_bound(used),
    })
}

/// Compares samples that were not taken in rounds, smaller ones being better; a target is of our
/// worst. `None` if there is nothing to compare.
pub fn of_samples(
    name: &str,
    unit: &'static str,
    (ours, rival): (&[f64], &[f64]),
    target: Option<f64>,
    judges: bool,
) -> Option<Comparison> {
    let (own, other) = (Figure::of(ours)?, Figure::of(rival)?);
    let better = Better::Lower;
    let judged = own.worst(better);
    Some(Comparison {
        name: name.to_owned(),
        unit,
        ours: own.median,
        rival: other.median,
        rival_name: Kind::Etcd.name(),
        echo: None,
        ratio: own.median / other.median,
        range: [own.lowest, own.highest],
        judged,
        better,
        target_of: TargetOf::Ours,
        target,
        met: target
            .filter(|_| judges)
            .map(|target| better.meets(judged, target)),
        rounds: ours.len(),
        rounds_void: 0,
        generator_bound: Vec::new(),
    })
}

/// Our median outage may be so much of the rival's median,
const MEDIAN_OUTAGE_MAX: f64 = 0.05;
/// and our worst so much of the rival's median.
const WORST_OUTAGE_MAX: f64 = 0.1;

/// Compares outages in milliseconds: our median with the rival's, and our worst with the rival's
/// median. The range is that of our outages, in parts of the rival's median. Empty if there is nothing
/// to compare.
pub fn of_outages(name: &str, (ours, rival): (&[f64], &[f64]), judges: bool) -> Vec<Comparison> {
    let (Some(own), Some(other)) = (Figure::of(ours), Figure::of(rival)) else {
        return Vec::new();
    };
    let (better, count) = (Better::Lower, ours.len().min(rival.len()));
    let compare = |what, ours: f64, target| {
        let ratio = ours / other.median;
        Comparison {
            name: format!("{name}, {what}"),
            unit: "ms",
            ours,
            rival: other.median,
            rival_name: Kind::Etcd.name(),
            echo: None,
            ratio,
            range: [own.lowest / other.median, own.highest / other.median],
            judged: ratio,
            better,
            target_of: TargetOf::Ratio,
            target: Some(target),
            met: judges.then(|| better.meets(ratio, target)),
            rounds: count,
            rounds_void: 0,
            generator_bound: Vec::new(),
        }
    };
    vec![
        compare("median", own.median, MEDIAN_OUTAGE_MAX),
        compare("worst", own.highest, WORST_OUTAGE_MAX),
    ]
}

/// The last attempt of every round.
fn last_attempts(rounds: &[Round]) -> Vec<&Round> {
    let is_last = |n: usize| {
        rounds
            .get(n + 1)
            .is_none_or(|next| next.round != rounds[n].round)
    };
    rounds
        .iter()
        .enumerate()
        .filter(|(n, _)| is_last(*n))
        .map(|(_, round)| round)
        .collect()
}

fn generator_bound(rounds: &[&Round]) -> Vec<&'static str> {
    let mut names: Vec<&str> = rounds
        .iter()
        .flat_map(|round| &round.legs)
        .filter(|leg| leg.generator_bound)
        .map(|leg| leg.system)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use crate::rounds::tests::quiet;

    use super::*;

    const SPEED: Metric = Metric {
        name: "speed",
        unit: "1/s",
        better: Better::Higher,
        target: Some(2.5),
        value: |leg| leg.operations_per_second,
    };

    #[test]
    fn one_long_outage_misses_the_target_of_the_worst_alone() {
        let rival = [1000.0, 1500.0, 9000.0];
        let met = |ours: &[f64]| {
            let compared = of_outages("x", (ours, &rival), true);
            assert_eq!(compared[1].range[1], compared[1].ratio);
            compared.iter().map(|c| c.met).collect::<Vec<_>>()
        };
        assert_eq!(met(&[30.0, 75.0, 150.0]), [Some(true), Some(true)]);
        assert_eq!(met(&[30.0, 75.0, 151.0]), [Some(true), Some(false)]);
        assert_eq!(met(&[30.0, 76.0, 80.0]), [Some(false), Some(true)]);
        assert_eq!(of_outages("x", (&[1.0], &rival), false)[0].met, None);
        assert!(of_outages("x", (&[], &rival), true).is_empty());
    }

    fn round(round: u32, attempt: u32, void: bool, ours: f64) -> Round {
        let legs = vec![
            quiet(Kind::Echo, 9000.0, 10.0),
            quiet(Kind::Kontiki, ours, 50.0),
            quiet(Kind::Etcd, 1000.0, 200.0),
        ];
        let void = if void {
            vec!["noise".to_owned()]
        } else {
            Vec::new()
        };
        Round {
            round,
            attempt,
            void,
            legs,
        }
    }

    fn rounds(ours: &[f64]) -> Vec<Round> {
        (1..)
            .zip(ours)
            .map(|(n, ours)| round(n, 1, false, *ours))
            .collect()
    }

    #[test]
    fn the_verdict_is_of_the_lower_quartile_not_of_the_median() {
        let comparison = of_rounds(
            &SPEED,
            &rounds(&[2000.0, 2400.0, 2600.0, 2700.0, 2800.0]),
            true,
        )
        .unwrap();
        assert_eq!(
            (comparison.ratio, comparison.judged, comparison.met),
            (2.6, 2.4, Some(false))
        );
        assert_eq!(comparison.range, [2.0, 2.8]);
        assert_eq!(
            (comparison.ours, comparison.rival, comparison.echo),
            (2600.0, 1000.0, Some(9000.0))
        );
        let comparison = of_rounds(
            &SPEED,
            &rounds(&[2000.0, 2500.0, 2600.0, 2700.0, 2800.0]),
            true,
        )
        .unwrap();
        assert_eq!(comparison.met, Some(true));
    }

    #[test]
    fn a_cost_is_judged_by_its_upper_quartile() {
        let cost = Metric {
            better: Better::Lower,
            target: Some(0.3),
            value: |leg| leg.server_cpu_us_per_operation,
            ..SPEED
        };
        let comparison = of_rounds(&cost, &rounds(&[2000.0; 5]), true).unwrap();
        assert_eq!((comparison.judged, comparison.met), (0.25, Some(true)));
    }

    #[test]
    fn a_repeated_round_counts_once_by_its_last_attempt() {
        let mut all = rounds(&[3000.0; 4]);
        all.insert(0, round(0, 1, true, 1.0));
        all.insert(1, round(0, 2, false, 3000.0));
        let comparison = of_rounds(&SPEED, &all, true).unwrap();
        assert_eq!((comparison.rounds, comparison.rounds_void), (5, 0));
        assert_eq!((comparison.range, comparison.met), ([3.0, 3.0], Some(true)));
    }

    #[test]
    fn a_round_that_stays_void_is_left_out_and_takes_the_verdict_away() {
        let mut all = rounds(&[3000.0; 4]);
        all.push(round(5, 1, true, 1.0));
        all.push(round(5, 2, true, 1.0));
        let comparison = of_rounds(&SPEED, &all, true).unwrap();
        assert_eq!((comparison.rounds, comparison.rounds_void), (4, 1));
        assert_eq!((comparison.range, comparison.met), ([3.0, 3.0], None));
    }

    #[test]
    fn without_a_valid_round_the_void_ones_are_shown_unjudged() {
        let all = [round(1, 1, true, 3000.0), round(2, 1, true, 3000.0)];
        let comparison = of_rounds(&SPEED, &all, true).unwrap();
        assert_eq!(
            (comparison.ratio, comparison.rounds_void, comparison.met),
            (3.0, 2, None)
        );
    }

    #[test]
    fn a_short_run_has_no_verdict() {
        assert_eq!(
            of_rounds(&SPEED, &rounds(&[3000.0; 5]), false).unwrap().met,
            None
        );
        let samples: (&[f64], &[f64]) = (&[100.0], &[1000.0]);
        assert_eq!(
            of_samples("gap", "ms", samples, Some(3000.0), false)
                .unwrap()
                .met,
            None
        );
    }

    #[test]
    fn samples_are_judged_by_our_worst() {
        let samples: (&[f64], &[f64]) = (&[100.0, 200.0, 3100.0], &[1000.0, 2000.0, 3000.0]);
        let comparison = of_samples("gap", "ms", samples, Some(3000.0), true).unwrap();
        assert_eq!((comparison.judged, comparison.met), (3100.0, Some(false)));
        assert_eq!((comparison.ratio, comparison.range), (0.1, [100.0, 3100.0]));
    }

    #[test]
    fn a_generator_that_was_the_limit_is_named() {
        let mut all = rounds(&[3000.0; 5]);
        all[2].legs[1].generator_bound = true;
        assert_eq!(
            of_rounds(&SPEED, &all, true).unwrap().generator_bound,
            ["kontiki"]
        );
    }
}
