//! Is the history of one register linearizable? Decided from the times of calls and answers alone.
//!
//! With unique values this takes no search (Gibbons and Korach 1997): all operations on one value
//! make a cluster; its zone lies between the first answer `f` and the last call `s`. The zone is
//! *forward* if `f < s`: the value was there from `f` to `s`. Otherwise some instant between the two
//! suffices. A history is linearizable exactly if no read precedes the call of its write, no two
//! forward zones overlap, and no other zone lies within a forward one.

use std::collections::BTreeMap;

/// A read that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it showed.
    pub value: u64,
    /// When it was asked.
    pub asked: u64,
    /// When it was answered.
    pub answered: u64,
}

/// What happened to one register, which was 0 at first.
#[derive(Clone, Debug, Default)]
pub struct History {
    clusters: BTreeMap<u64, Cluster>,
    initial_read: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Cluster {
    value: u64,
    written_from: u64,
    first_answer: u64,
    last_call: u64,
}

/// Within a turn requests go in before answers come out: a time for each half of it.
fn call(step: u64) -> u64 {
    2 * step
}

fn answer(step: u64) -> u64 {
    2 * step + 1
}

impl History {
    /// A write was asked for.
    pub fn write(&mut self, value: u64, at: u64) {
        let at = call(at);
        let cluster = Cluster {
            value,
            written_from: at,
            first_answer: u64::MAX,
            last_call: at,
        };
        self.clusters.insert(value, cluster);
    }

    /// It was acknowledged.
    pub fn written(&mut self, value: u64, at: u64) {
        if let Some(cluster) = self.clusters.get_mut(&value) {
            cluster.first_answer = cluster.first_answer.min(answer(at));
        }
    }

    /// A read was answered.
    pub fn read(&mut self, read: Operation) {
        match self.clusters.get_mut(&read.value) {
            Some(cluster) => {
                cluster.first_answer = cluster.first_answer.min(answer(read.answered));
                cluster.last_call = cluster.last_call.max(call(read.asked));
            }
            None => self.initial_read = self.initial_read.max(Some(call(read.asked))),
        }
    }

    /// Says why not, if it is not linearizable.
    pub fn check(&self) -> Result<(), String> {
        // What was neither acknowledged nor read may never have happened.
        let mut zones: Vec<Cluster> = self
            .clusters
            .values()
            .filter(|cluster| cluster.first_answer != u64::MAX)
            .copied()
            .collect();
        zones.extend(self.initial_read.map(|last_call| Cluster {
            value: 0,
            written_from: 0,
            first_answer: 0,
            last_call,
        }));
        for zone in &zones {
            if zone.first_answer < zone.written_from {
                return Err(format!("{} was read before it was written", zone.value));
            }
        }
        zones.sort_by_key(|zone| zone.first_answer.min(zone.last_call));
        let mut reach: Option<Cluster> = None;
        for zone in &zones {
            let (f, s) = (zone.first_answer, zone.last_call);
            let forward = f < s;
            if let Some(before) = reach {
                let overlaps = f.min(s) < before.last_call;
                let within = overlaps && f.max(s) < before.last_call;
                if (forward && overlaps) || within {
                    let (one, other) = (before.value, zone.value);
                    return Err(format!("{one} was still there when {other} was"));
                }
            }
            if forward && reach.is_none_or(|before| before.last_call < s) {
                reach = Some(*zone);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: u64, asked: u64, answered: u64) -> Operation {
        Operation {
            value,
            asked,
            answered,
        }
    }

    fn two_writes(second_asked: u64) -> History {
        let mut history = History::default();
        history.write(1, 1);
        history.written(1, 2);
        history.write(2, second_asked);
        history.written(2, 10);
        history
    }

    #[test]
    fn reads_may_show_either_side_of_a_concurrent_write() {
        let mut history = two_writes(5);
        history.read(read(1, 6, 7));
        history.read(read(2, 8, 9));
        history.read(read(2, 11, 12));
        assert_eq!(history.check(), Ok(()));
    }

    #[test]
    fn a_read_that_goes_back_is_found() {
        let mut history = two_writes(5);
        history.read(read(2, 6, 7));
        history.read(read(1, 8, 9));
        assert!(history.check().is_err());
    }

    #[test]
    fn a_read_that_misses_an_acknowledged_write_is_found() {
        let mut history = two_writes(5);
        history.read(read(1, 11, 12));
        assert!(history.check().is_err());
    }

    #[test]
    fn the_initial_value_is_found_after_a_write() {
        let mut history = two_writes(5);
        history.read(read(0, 3, 4));
        assert!(history.check().is_err());
    }

    #[test]
    fn a_write_of_unknown_outcome_may_have_happened_or_not() {
        let mut history = two_writes(5);
        history.write(3, 6);
        assert_eq!(history.check(), Ok(()));
        history.read(read(3, 20, 21));
        assert_eq!(history.check(), Ok(()));
        history.read(read(2, 22, 23));
        assert!(history.check().is_err());
    }
}
