//! Legs, rounds, and when a round says nothing.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::generator::{self, Data, Load, Measured};
use crate::options::Effort;
use crate::systems::{Kind, System};

/// Cores that other processes may use within a leg.
const OTHER_CORES_MAX: f64 = 0.1;
/// Part of the machine's time that the hypervisor may take within a leg.
const STEAL_MAX: f64 = 0.01;
/// How far the two echo legs of a round may differ, as a part of the slower.
const ECHO_DIFFERENCE_MAX: f64 = 0.15;
/// A generator above this may be what limits a closed loop.
const GENERATOR_CORES_MAX: f64 = 0.9;

/// The order within a round; it cancels a linear drift.
const ORDER: [Kind; 6] = [
    Kind::Echo,
    Kind::Kontiki,
    Kind::Etcd,
    Kind::Etcd,
    Kind::Kontiki,
    Kind::Echo,
];

/// One system under one load for a few seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Leg {
    pub system: &'static str,
    pub operations: u64,
    pub seconds: f64,
    pub operations_per_second: f64,
    pub latency_p50_us: u64,
    pub latency_p99_us: u64,
    pub latency_max_us: u64,
    /// Of all servers together.
    pub server_cpu_us_per_operation: f64,
    /// Of all servers together.
    pub context_switches_per_operation: f64,
    pub generator_cores: f64,
    /// The generator may have been the limit, not the servers.
    pub generator_bound: bool,
    pub other_cores: f64,
    pub steal: f64,
}

/// Six legs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Round {
    /// From 1.
    pub round: u32,
    /// From 1; above 1 it is a repetition.
    pub attempt: u32,
    /// Why it says nothing; empty: it counts.
    pub void: Vec<String>,
    pub legs: Vec<Leg>,
}

/// The systems of a run. Without ours the rival is measured alone.
pub struct Systems {
    pub echo: System,
    pub ours: Option<System>,
    pub rival: System,
}

impl Leg {
    fn new(system: &'static str, measured: &Measured) -> Self {
        let operations = measured.latencies.len();
        let seconds = measured.elapsed.as_secs_f64();
        let per_operation = 1.0 / operations as f64;
        let generator_cores = measured.generator.cpu_ns as f64 / 1e9 / seconds;
        Leg {
            system,
            operations,
            seconds,
            operations_per_second: operations as f64 / seconds,
            latency_p50_us: measured.latencies.value_at_quantile(0.5),
            latency_p99_us: measured.latencies.value_at_quantile(0.99),
            latency_max_us: measured.latencies.max(),
            server_cpu_us_per_operation: measured.servers.cpu_ns as f64 / 1e3 * per_operation,
            context_switches_per_operation: measured.servers.context_switches as f64
                * per_operation,
            generator_cores,
            generator_bound: generator_cores > GENERATOR_CORES_MAX,
            other_cores: measured.machine.other_cores,
            steal: measured.machine.steal,
        }
    }
}

impl Round {
    /// The mean of `value` over the two legs of `kind`. `None` if it has none.
    pub fn mean(&self, kind: Kind, value: impl Fn(&Leg) -> f64) -> Option<f64> {
        let values: Vec<f64> = self
            .legs
            .iter()
            .filter(|leg| leg.system == kind.name())
            .map(value)
            .collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }
}

impl Systems {
    fn get(&mut self, kind: Kind) -> Option<&mut System> {
        match kind {
            Kind::Echo => Some(&mut self.echo),
            Kind::Kontiki => self.ours.as_mut(),
            Kind::Etcd => Some(&mut self.rival),
        }
    }

    /// All of them.
    pub fn all(&mut self) -> impl Iterator<Item = &mut System> {
        [
            Some(&mut self.echo),
            self.ours.as_mut(),
            Some(&mut self.rival),
        ]
        .into_iter()
        .flatten()
    }

    /// Runs `effort.rounds` rounds of `load`, each again while it is void. The last attempt of every
    /// round is the one that counts.
    pub async fn rounds(&mut self, load: Load, data: &Data, effort: Effort) -> Result<Vec<Round>> {
        let mut rounds = Vec::new();
        for round in 1..=effort.rounds {
            for attempt in 1..=1 + effort.repeats_max {
                let legs = self.legs(load, data, effort).await?;
                let void = void_reasons(&legs);
                eprintln!("  round {round}/{}: {}", effort.rounds, summary(&legs));
                for reason in &void {
                    eprintln!("    void: {reason}");
                }
                let done = void.is_empty();
                rounds.push(Round {
                    round,
                    attempt,
                    void,
                    legs,
                });
                if done {
                    break;
                }
            }
        }
        Ok(rounds)
    }

    async fn legs(&mut self, load: Load, data: &Data, effort: Effort) -> Result<Vec<Leg>> {
        let mut legs = Vec::new();
        for kind in ORDER {
            let Some(system) = self.get(kind) else {
                continue;
            };
            let measured = leg(system, load, data, (effort.warm_up, effort.measured)).await;
            let measured = measured.with_context(|| format!("measure {}", kind.name()))?;
            legs.push(Leg::new(kind.name(), &measured));
        }
        Ok(legs)
    }
}

async fn leg(
    system: &mut System,
    load: Load,
    data: &Data,
    time: (Duration, Duration),
) -> Result<Measured> {
    // Asked every time: clients of a follower would measure something else.
    let leader = system.leader().await?;
    let address = system.servers[leader].client;
    generator::closed_loop(address, system.dialect(), data, load, time, &system.pids()).await
}

fn summary(legs: &[Leg]) -> String {
    let leg = |leg: &Leg| format!("{} {:.0}/s", leg.system, leg.operations_per_second);
    legs.iter().map(leg).collect::<Vec<_>>().join(", ")
}

/// Why the round of these legs says nothing; empty if it does say something.
pub fn void_reasons(legs: &[Leg]) -> Vec<String> {
    let mut reasons = Vec::new();
    for (n, leg) in legs.iter().enumerate() {
        let name = format!("leg {} ({})", n + 1, leg.system);
        if leg.other_cores > OTHER_CORES_MAX {
            let percent = leg.other_cores * 100.0;
            reasons.push(format!(
                "{name}: other processes used {percent:.0} % of a core"
            ));
        }
        if leg.steal > STEAL_MAX {
            reasons.push(format!(
                "{name}: {:.1} % of the time was stolen",
                leg.steal * 100.0
            ));
        }
    }
    let echoes: Vec<f64> = legs
        .iter()
        .filter(|leg| leg.system == Kind::Echo.name())
        .map(|leg| leg.operations_per_second)
        .collect();
    let slower = echoes.iter().copied().fold(f64::INFINITY, f64::min);
    let faster = echoes.iter().copied().fold(0.0, f64::max);
    let difference = faster / slower - 1.0;
    if difference > ECHO_DIFFERENCE_MAX {
        reasons.push(format!(
            "the echo legs differ by {:.0} %",
            difference * 100.0
        ));
    }
    reasons
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A leg that disturbs nothing.
    pub fn quiet(kind: Kind, operations_per_second: f64, cpu_us: f64) -> Leg {
        Leg {
            system: kind.name(),
            operations: (4.0 * operations_per_second) as u64,
            seconds: 4.0,
            operations_per_second,
            latency_p50_us: 1000,
            latency_p99_us: 2000,
            latency_max_us: 3000,
            server_cpu_us_per_operation: cpu_us,
            context_switches_per_operation: 0.5,
            generator_cores: 0.5,
            generator_bound: false,
            other_cores: 0.02,
            steal: 0.001,
        }
    }

    fn legs() -> Vec<Leg> {
        let speeds = [30_000.0, 20_000.0, 5_000.0, 6_000.0, 22_000.0, 31_000.0];
        ORDER
            .into_iter()
            .zip(speeds)
            .map(|(kind, speed)| quiet(kind, speed, 50.0))
            .collect()
    }

    #[test]
    fn a_quiet_round_counts_and_averages_its_two_legs() {
        assert_eq!(void_reasons(&legs()), Vec::<String>::new());
        let round = Round {
            round: 1,
            attempt: 1,
            void: Vec::new(),
            legs: legs(),
        };
        assert_eq!(
            round.mean(Kind::Kontiki, |leg| leg.operations_per_second),
            Some(21_000.0)
        );
        assert_eq!(
            round.mean(Kind::Etcd, |leg| leg.operations_per_second),
            Some(5_500.0)
        );
    }

    #[test]
    fn other_processes_void_a_round() {
        let mut legs = legs();
        legs[2].other_cores = 0.1;
        assert!(
            void_reasons(&legs).is_empty(),
            "the bound itself is allowed"
        );
        legs[2].other_cores = 0.13;
        assert_eq!(
            void_reasons(&legs),
            ["leg 3 (etcd): other processes used 13 % of a core"]
        );
    }

    #[test]
    fn stolen_time_voids_a_round() {
        let mut legs = legs();
        legs[4].steal = 0.01;
        assert!(
            void_reasons(&legs).is_empty(),
            "the bound itself is allowed"
        );
        legs[4].steal = 0.02;
        assert_eq!(
            void_reasons(&legs),
            ["leg 5 (kontiki): 2.0 % of the time was stolen"]
        );
    }

    #[test]
    fn echo_legs_that_differ_void_a_round_whichever_is_slower() {
        for (first, last) in [(30_000.0, 25_000.0), (25_000.0, 30_000.0)] {
            let mut legs = legs();
            legs[0].operations_per_second = first;
            legs[5].operations_per_second = last;
            assert_eq!(void_reasons(&legs), ["the echo legs differ by 20 %"]);
        }
        let mut legs = legs();
        legs[0].operations_per_second = 27_000.0;
        assert!(void_reasons(&legs).is_empty());
    }
}
