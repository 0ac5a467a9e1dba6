//! CPU time in nanoseconds and context switches, of all threads of some processes.

use std::fs;
use std::io;
use std::ops::{AddAssign, Sub};

use anyhow::{Context, Result};

/// What threads have used since they started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Time on a CPU, user and system, in nanoseconds.
    pub cpu_ns: u64,
    /// Voluntary and involuntary.
    pub context_switches: u64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.cpu_ns += other.cpu_ns;
        self.context_switches += other.context_switches;
    }
}

impl Sub for Cost {
    type Output = Cost;
    /// What was used since `earlier`. Less than nothing (a thread has ended) counts as nothing.
    fn sub(self, earlier: Cost) -> Cost {
        Cost {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            context_switches: self
                .context_switches
                .saturating_sub(earlier.context_switches),
        }
    }
}

/// The cost of all living threads of `pids` together.
pub fn cost_of(pids: &[u32]) -> Result<Cost> {
    let mut cost = Cost::default();
    for pid in pids {
        let folder = format!("/proc/{pid}/task");
        for task in fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
            let task = task.with_context(|| format!("read {folder}"))?.path();
            match cost_of_task(&task.to_string_lossy()) {
                // The thread ended between the listing and the reading.
                Err(error) if is_gone(&error) => {}
                task => cost += task?,
            }
        }
    }
    Ok(cost)
}

/// The cost of the calling thread.
pub fn cost_of_this_thread() -> Result<Cost> {
    cost_of_task("/proc/thread-self")
}

fn cost_of_task(folder: &str) -> Result<Cost> {
    let read = |name: &str| {
        let path = format!("{folder}/{name}");
        fs::read_to_string(&path).with_context(|| format!("read {path}"))
    };
    Ok(Cost {
        cpu_ns: parse_schedstat(&read("schedstat")?)
            .context("schedstat is not three numbers: the kernel has no CONFIG_SCHED_INFO")?,
        context_switches: parse_context_switches(&read("status")?)
            .context("status counts no context switches")?,
    })
}

fn is_gone(error: &anyhow::Error) -> bool {
    const NO_SUCH_PROCESS: i32 = 3;
    error.downcast_ref::<io::Error>().is_some_and(|e| {
        e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(NO_SUCH_PROCESS)
    })
}

/// The first of `schedstat`'s three numbers: time on a CPU, time waiting for one (both ns), slices.
fn parse_schedstat(text: &str) -> Option<u64> {
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map(|n| n.parse().ok())
        .collect::<Option<_>>()?;
    match numbers[..] {
        [on_cpu, _waiting, _slices] => Some(on_cpu),
        _ => None,
    }
}

fn parse_context_switches(status: &str) -> Option<u64> {
    let value = |key: &str| -> Option<u64> {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key))?
            .trim()
            .parse()
            .ok()
    };
    Some(value("voluntary_ctxt_switches:")? + value("nonvoluntary_ctxt_switches:")?)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn schedstat_is_three_numbers() {
        assert_eq!(parse_schedstat("2002087 153 1\n"), Some(2_002_087));
        assert_eq!(parse_schedstat("18446744073709551615 0 0"), Some(u64::MAX));
        for bad in ["", "0", "1 2", "1 2 3 4", "1 x 3", "-1 2 3", "1.5 2 3"] {
            assert_eq!(parse_schedstat(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn both_kinds_of_context_switches_count() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n";
        assert_eq!(parse_context_switches(status), Some(42));
        assert_eq!(
            parse_context_switches("voluntary_ctxt_switches:\t40\n"),
            None
        );
    }

    #[test]
    fn a_busy_thread_is_seen_to_the_millisecond() {
        // The kernel charges from tick to tick: begin where it has just done so, or what ran before
        // would be counted as well.
        let first = cost_of_this_thread().unwrap();
        let mut start = Instant::now();
        let before = loop {
            let asked = Instant::now();
            let cost = cost_of_this_thread().unwrap();
            if cost.cpu_ns > first.cpu_ns {
                break cost;
            }
            start = asked;
        };
        // Burn until the kernel has charged 20 ms, however often it runs something else.
        let spent = loop {
            let spent = cost_of_this_thread().unwrap() - before;
            if spent.cpu_ns >= 20_000_000 {
                break spent;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{spent:?}");
        };
        assert!(
            spent.cpu_ns <= start.elapsed().as_nanos() as u64,
            "{spent:?}"
        );
        let process = cost_of(&[std::process::id()]).unwrap();
        assert!(process.cpu_ns >= 20_000_000, "{process:?}");
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        let error = cost_of(&[u32::MAX]).unwrap_err();
        assert!(
            error.to_string().contains("/proc/4294967295/task"),
            "{error}"
        );
    }
}
