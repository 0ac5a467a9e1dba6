//! Reads are linearizable, writes too: with unique values, and the order of writes known from the
//! log, an operation must come after everything that was answered before it was asked. So are reads under
//! a lease and those of followers. Stale reads and bounded ones show the register as it was at the index that their answer names. At the end the history is
//! judged once more by times alone ([`super::zones`]).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use kontiki_node::driver::Answer;
use kontiki_raft::Index;

use super::zones::{History, Operation};
use super::{Asked, Invariant, Ledger, Turn};
use crate::register::value_of;

/// See the module.
#[derive(Debug, Default)]
pub struct Linearizable {
    registers: BTreeMap<u8, Register>,
    /// What an open operation must not be older than, and the step in which it was asked.
    floors: BTreeMap<u64, (Index, u64)>,
    /// The same for writes, by value, of when each was first asked for: one of a session that is
    /// asked for again may have taken effect the first time.
    first_floors: BTreeMap<u64, (Index, u64)>,
    history: BTreeMap<u8, History>,
}

#[derive(Debug, Default)]
struct Register {
    /// Values by the index of their write.
    values: BTreeMap<Index, u64>,
    indexes: BTreeMap<u64, Index>,
    /// The newest write that an answer has shown.
    floor: Index,
}

impl Invariant for Linearizable {
    fn name(&self) -> &'static str {
        "linearizable reads"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        for applied in turn.applied {
            let register = self.registers.entry(applied.key).or_default();
            register.values.insert(applied.id.index, applied.value);
            register.indexes.insert(applied.value, applied.id.index);
        }
        for (id, asked) in turn.asked {
            if let Asked::Write { key, .. } | Asked::Read { key } = asked {
                let floor = self.registers.entry(*key).or_default().floor;
                self.floors.insert(*id, (floor, turn.step));
            }
            if let Asked::Write { key, value, .. } = asked
                && let Entry::Vacant(first) = self.first_floors.entry(*value)
            {
                first.insert(self.floors[id]);
                let history = self.history.entry(*key).or_default();
                history.write(*value, turn.step);
            }
        }
        for (id, result) in turn.replies() {
            let asked = ledger.open.get(&id).map(|(_, asked, _)| asked);
            match (asked, result) {
                (Some(Asked::Write { key, value, .. }), Ok(Answer::Written { id: at, .. })) => {
                    self.written(*key, *value, at.index, turn.step)?;
                }
                _ if ledger.rotted.contains(&turn.server) => {}
                (Some(Asked::Read { key }), Ok(Answer::Read { reply, applied })) => {
                    self.read(id, *key, reply, *applied, turn.step)?;
                }
                (
                    Some(Asked::Stale { key } | Asked::Bounded { key, .. }),
                    Ok(Answer::Read { reply, applied }),
                ) => {
                    self.shown(*key, reply, *applied)?;
                }
                _ => {}
            }
            self.floors.remove(&id);
        }
        Ok(())
    }

    fn finish(&mut self, _ledger: &Ledger) -> Result<(), String> {
        for (key, history) in &self.history {
            history
                .check()
                .map_err(|why| format!("key {key}, judged by times alone: {why}"))?;
        }
        Ok(())
    }
}

impl Linearizable {
    fn written(&mut self, key: u8, value: u64, at: Index, step: u64) -> Result<(), String> {
        let (floor, _) = self.first_floors.get(&value).copied().unwrap_or_default();
        if at <= floor {
            let (at, floor) = (at.0, floor.0);
            return Err(format!(
                "a write took effect at {at}, after an answer from {floor}"
            ));
        }
        let register = self.registers.entry(key).or_default();
        register.floor = register.floor.max(at);
        let history = self.history.entry(key).or_default();
        history.written(value, step);
        Ok(())
    }

    fn read(
        &mut self,
        id: u64,
        key: u8,
        reply: &[u8],
        applied: Index,
        step: u64,
    ) -> Result<(), String> {
        let (value, at) = self.shown(key, reply, applied)?;
        let (floor, asked) = self.floors.get(&id).copied().unwrap_or_default();
        if at < floor {
            let (at, floor) = (at.0, floor.0);
            return Err(format!(
                "a read of key {key}, asked at step {asked}, shows the write at {at}; an answer \
                 before that showed {floor}"
            ));
        }
        let register = self.registers.entry(key).or_default();
        register.floor = register.floor.max(at);
        let history = self.history.entry(key).or_default();
        history.read(Operation {
            value,
            asked,
            answered: step,
        });
        Ok(())
    }

    /// The value of an answer and the index of its write; fails if that is not the register as of
    /// `applied`.
    fn shown(&mut self, key: u8, reply: &[u8], applied: Index) -> Result<(u64, Index), String> {
        let register = self.registers.entry(key).or_default();
        let value = value_of(reply).ok_or("a reply is not 8 bytes")?;
        let at = match value {
            0 => Index(0),
            _ => match register.indexes.get(&value) {
                Some(at) => *at,
                None => return Err(format!("read {value}, which nobody applied")),
            },
        };
        let latest = register.values.range(..=applied).next_back();
        let latest = latest.map_or(0, |(_, value)| *value);
        if latest != value {
            let applied = applied.0;
            return Err(format!(
                "read {value} as of {applied}, where it was {latest}"
            ));
        }
        Ok((value, at))
    }
}
