//! Legs in turns, and what their ratios say.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kontiki_bench::measure::{Machine, Snapshot};
use kontiki_bench::statistics::{Better, Figure};
use serde::Serialize;

use crate::options::Options;

/// Cores that other processes may use within a round.
const OTHER_CORES_MAX: f64 = 0.1;
/// Part of the machine's time that the hypervisor may take within a round.
const STEAL_MAX: f64 = 0.01;
/// Ours at least as fast as the rival.
const TARGET: f64 = 1.0;

/// Two engines under the same load.
pub struct Contest {
    pub name: String,
    pub rival: &'static str,
    /// Makes ours, then the rival.
    pub make: [Box<dyn Fn() -> Result<Box<dyn Side>>>; 2],
}

/// One engine, three servers of it.
pub trait Side {
    /// Loads it, and answers how many entries were committed a second after the warm-up. Nothing is in
    /// flight afterwards.
    fn leg(&mut self, warm_up: Duration, measured: Duration) -> Result<f64>;

    /// Fails unless all three servers have applied the same, and exactly what was answered.
    fn verify(self: Box<Self>) -> Result<()>;
}

/// One line of the report; figures are committed entries a second.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub name: String,
    /// The median of the rounds.
    pub ours: f64,
    /// The median of the rounds.
    pub rival: f64,
    pub rival_name: &'static str,
    /// The median of the rounds' ratios.
    pub ratio: f64,
    pub range: [f64; 2],
    /// The lower quartile.
    pub judged: f64,
    pub target: f64,
    /// `null`: a run too short, or rounds that stayed void.
    pub met: Option<bool>,
    /// Behind the figures: those that are not void, or all if there are no others.
    pub rounds_used: usize,
    pub rounds_void: usize,
    /// Every attempt.
    pub rounds: Vec<Round>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// The mean of two legs.
    pub ours: f64,
    /// The mean of two legs.
    pub rival: f64,
    pub other_cores: f64,
    pub steal: f64,
    pub is_void: bool,
}

/// Has the two of a contest take their turns.
pub fn compare(contest: Contest, options: &Options) -> Result<Comparison> {
    let Contest { name, rival, make } = contest;
    let [ours, theirs] = make;
    let mut ours = ours().with_context(|| format!("{name}: start kontiki"))?;
    let mut theirs = theirs().with_context(|| format!("{name}: start {rival}"))?;
    let mut rounds: Vec<Round> = Vec::new();
    let mut repeats = options.repeats_max;
    let mut wanted = options.rounds;
    while wanted > 0 {
        let round = round(&mut *ours, &mut *theirs, options);
        let round = round.with_context(|| name.clone())?;
        let void = if round.is_void { " (void)" } else { "" };
        eprintln!(
            "{name}: kontiki {:.0}/s, {rival} {:.0}/s, ratio {:.2}{void}",
            round.ours,
            round.rival,
            round.ours / round.rival
        );
        if round.is_void && repeats > 0 {
            repeats -= 1;
        } else {
            wanted -= 1;
        }
        rounds.push(round);
    }
    ours.verify().with_context(|| format!("{name}: kontiki"))?;
    theirs
        .verify()
        .with_context(|| format!("{name}: {rival}"))?;
    Ok(summary(name, rival, rounds, options))
}

fn round(ours: &mut dyn Side, rival: &mut dyn Side, options: &Options) -> Result<Round> {
    let (warm_up, measured) = (options.warm_up(), options.measured());
    let me = [std::process::id()];
    let before = Snapshot::take(&me)?;
    let first = ours.leg(warm_up, measured).context("kontiki")?;
    let rivals = [
        rival.leg(warm_up, measured).context("rival")?,
        rival.leg(warm_up, measured).context("rival")?,
    ];
    let second = ours.leg(warm_up, measured).context("kontiki")?;
    let machine = before.until(&Snapshot::take(&me)?);
    let Machine { other_cores, steal } = machine;
    Ok(Round {
        ours: (first + second) / 2.0,
        rival: (rivals[0] + rivals[1]) / 2.0,
        other_cores,
        steal,
        is_void: other_cores > OTHER_CORES_MAX || steal > STEAL_MAX,
    })
}

fn summary(
    name: String,
    rival_name: &'static str,
    rounds: Vec<Round>,
    options: &Options,
) -> Comparison {
    let quiet: Vec<&Round> = rounds.iter().filter(|round| !round.is_void).collect();
    let needed = options.rounds as usize;
    let used: Vec<&Round> = match quiet.is_empty() {
        true => rounds.iter().collect(),
        false => quiet.clone(),
    };
    let figure = |value: &dyn Fn(&Round) -> f64| {
        let values: Vec<f64> = used.iter().map(|round| value(round)).collect();
        Figure::of(&values).expect("there is a round")
    };
    let ratio = figure(&|round| round.ours / round.rival);
    let judged = ratio.bad_quartile(Better::Higher);
    let judges = options.judges() && quiet.len() >= needed;
    Comparison {
        name,
        ours: figure(&|round| round.ours).median,
        rival: figure(&|round| round.rival).median,
        rival_name,
        ratio: ratio.median,
        range: [ratio.lowest, ratio.highest],
        judged,
        target: TARGET,
        met: judges.then(|| Better::Higher.meets(judged, TARGET)),
        rounds_used: used.len(),
        rounds_void: rounds.len() - quiet.len(),
        rounds,
    }
}

/// Entries a second, of a count that grew from `before` in the time since `begun`.
pub fn rate(before: u64, now: u64, begun: Instant) -> f64 {
    (now - before) as f64 / begun.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn rounds(ours: &[f64], void: usize) -> Vec<Round> {
        let round = |(n, ours): (usize, &f64)| Round {
            ours: *ours,
            rival: 100.0,
            other_cores: 0.0,
            steal: 0.0,
            is_void: n < void,
        };
        ours.iter().enumerate().map(round).collect()
    }

    #[test]
    fn the_lower_quartile_of_quiet_rounds_decides() {
        let options = Options::parse_from(["x"]);
        let summary = |ours: &[f64], void| summary("x".into(), "y", rounds(ours, void), &options);
        let slow = summary(&[90.0, 95.0, 150.0, 160.0, 170.0], 0);
        assert_eq!(
            (slow.ratio, slow.judged, slow.met),
            (1.5, 0.95, Some(false))
        );
        let fast = summary(&[10.0, 90.0, 100.0, 150.0, 160.0, 170.0], 1);
        assert_eq!((fast.range, fast.met), ([0.9, 1.7], Some(true)));
        assert_eq!((fast.rounds_used, fast.rounds_void), (5, 1));
        let noisy = summary(&[150.0; 5], 1);
        assert_eq!(noisy.met, None, "four rounds are too few");
        let all_void = summary(&[150.0; 5], 5);
        assert_eq!((all_void.ratio, all_void.met), (1.5, None));
    }
}
