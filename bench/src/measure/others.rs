//! What else the machine did: CPU time of other processes, and time that the hypervisor took.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

use super::{Cost, cost_of};

/// Ticks of `/proc` in a second: USER_HZ is 100 on every architecture that Kontiki builds for.
const TICKS_PER_SECOND: f64 = 100.0;

/// The machine at one moment.
#[derive(Debug)]
pub struct Snapshot {
    at: Instant,
    total: Ticks,
    processes: BTreeMap<u32, u64>,
    measured: Cost,
}

/// The machine between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Cores that processes outside the measurement used.
    pub other_cores: f64,
    /// Part of all cores' time that the hypervisor gave to others.
    pub steal: f64,
}

/// The first line of `/proc/stat`, in ticks of all cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    /// User, nice and system; without interrupts, which may or may not be the measured processes'.
    of_processes: u64,
    stolen: u64,
    all: u64,
}

impl Snapshot {
    /// Now; `measured` are the processes that are no *others*.
    pub fn take(measured: &[u32]) -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let mut processes = ticks_of_processes()?;
        processes.retain(|pid, _| !measured.contains(pid));
        Ok(Snapshot {
            at: Instant::now(),
            total: parse_total(&stat).context("/proc/stat does not begin with a line `cpu`")?,
            processes,
            measured: cost_of(measured)?,
        })
    }

    /// What happened between `self` and `later`, both of the same measured processes.
    ///
    /// Two methods, each of which can only miss something: the sum over the other processes that are
    /// still alive, and what is left of the machine's time without the measured processes (which
    /// includes those that came and went, and those of other PID namespaces). The larger counts.
    pub fn until(&self, later: &Snapshot) -> Machine {
        let seconds = later.at.duration_since(self.at).as_secs_f64();
        let alive: u64 = later
            .processes
            .iter()
            .map(|(pid, ticks)| ticks.saturating_sub(*self.processes.get(pid).unwrap_or(&0)))
            .sum();
        let total = later
            .total
            .of_processes
            .saturating_sub(self.total.of_processes);
        let measured = (later.measured - self.measured).cpu_ns as f64 / 1e9;
        let left = (total as f64 / TICKS_PER_SECOND - measured).max(0.0);
        let all = later.total.all.saturating_sub(self.total.all).max(1);
        let stolen = later.total.stolen.saturating_sub(self.total.stolen);
        Machine {
            other_cores: (alive as f64 / TICKS_PER_SECOND).max(left) / seconds,
            steal: stolen as f64 / all as f64,
        }
    }
}

/// `cpu user nice system idle iowait irq softirq steal guest guest_nice`; guests are in user and nice.
fn parse_total(stat: &str) -> Option<Ticks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .map(|n| n.parse().ok())
        .collect::<Option<_>>()?;
    let &[
        user,
        nice,
        system,
        _idle,
        _iowait,
        _irq,
        _softirq,
        stolen,
        ..,
    ] = &ticks[..]
    else {
        return None;
    };
    Some(Ticks {
        of_processes: user + nice + system,
        stolen,
        all: ticks[..8].iter().sum(),
    })
}

/// User and system ticks of every process in this PID namespace, kernel threads included.
fn ticks_of_processes() -> Result<BTreeMap<u32, u64>> {
    let mut processes = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("read /proc")? {
        let name = entry.context("read /proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that has just ended has no file any more.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        if let Some(ticks) = parse_process(&stat) {
            processes.insert(pid, ticks);
        }
    }
    Ok(processes)
}

/// Fields 14 and 15 of a process's `stat`. The name in field 2 may hold spaces and parentheses.
fn parse_process(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(14 - 3);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_line_of_stat_is_split_into_what_matters() {
        let stat = "cpu  100 10 50 800 7 3 20 9 5 5\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let expected = Ticks {
            of_processes: 160,
            stolen: 9,
            all: 999,
        };
        assert_eq!(parse_total(stat), Some(expected));
        assert_eq!(parse_total("intr 1 2 3"), None);
        assert_eq!(parse_total("cpu 1 2 3"), None);
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a b) c) R 1 42 42 0 -1 4194304 9 8 7 6 250 17 0 0 20 0 1 0 5 6 7";
        assert_eq!(parse_process(stat), Some(267));
        assert_eq!(parse_process("42 no name"), None);
    }

    fn snapshot(at: Instant, processes: &[(u32, u64)], total: Ticks, cpu_ns: u64) -> Snapshot {
        let measured = Cost {
            cpu_ns,
            context_switches: 0,
        };
        Snapshot {
            at,
            total,
            processes: processes.iter().copied().collect(),
            measured,
        }
    }

    #[test]
    fn others_are_those_alive_or_what_is_left_of_the_machine() {
        let start = Instant::now();
        let end = start + Duration::from_secs(4);
        let zero = Ticks {
            of_processes: 1000,
            stolen: 0,
            all: 2000,
        };
        let before = snapshot(start, &[(1, 50), (2, 900)], zero, 0);
        // 40 ticks by an old process, 20 by a new one; process 2 has ended. The measured processes
        // used 3 s of the 3.2 s that processes used in all.
        let end_ticks = Ticks {
            of_processes: 1320,
            stolen: 8,
            all: 2800,
        };
        let after = snapshot(end, &[(1, 90), (3, 20)], end_ticks, 3_000_000_000);
        let machine = before.until(&after);
        assert!((machine.other_cores - 0.15).abs() < 1e-9, "{machine:?}");
        assert!((machine.steal - 0.01).abs() < 1e-9, "{machine:?}");
        // With only 2 s measured, 1.2 s are left: some came and went.
        let after = snapshot(end, &[(1, 90)], end_ticks, 2_000_000_000);
        assert!((before.until(&after).other_cores - 0.3).abs() < 1e-9);
    }

    #[test]
    fn this_process_is_no_other_when_it_is_measured() {
        let own = std::process::id();
        assert!(!Snapshot::take(&[own]).unwrap().processes.contains_key(&own));
        assert!(Snapshot::take(&[]).unwrap().processes.contains_key(&own));
    }
}
