//! The replicated machine of the simulation: a map of registers that records every command it
//! applies, so that state machine safety can be checked index by index.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use kontiki_node::machine::{
    BytesView, Command, Effects, Place, Refused, RestoreError, StateMachine, Validator, Version,
    View,
};
use kontiki_raft::{LogId, Role};

use crate::sabotage::{Call, Sabotage};

/// A command that some server applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its entry.
    pub id: LogId,
    /// Register.
    pub key: u8,
    /// Written value, unique in a run.
    pub value: u64,
    /// What the register held before.
    pub previous: u64,
    /// Version of the machine under which it was applied.
    pub version: Version,
}

impl Applied {
    /// Does to registers what the command did; answers what the register held before.
    pub fn apply_to(&self, values: &mut BTreeMap<u8, u64>) -> u64 {
        let previous = values.insert(self.key, self.value).unwrap_or(0);
        if self.version >= 2 {
            let sum = values.entry(SUM).or_default();
            *sum = sum.rotate_left(self.version) ^ self.value;
        }
        previous
    }
}

/// Where a machine records; shared with the simulator, which drains it after every turn.
pub type Record = Arc<Mutex<Vec<Applied>>>;

/// The values of a machine, where the simulator can change them behind its back.
pub type Memory = Arc<Mutex<BTreeMap<u8, u64>>>;

/// Entries whose effects were run, in order; shared with the simulator, which drains it.
pub type Ran = Arc<Mutex<Vec<LogId>>>;

/// Roles that a machine was told, in order.
pub type Told = Arc<Mutex<Vec<Role>>>;

/// One in so many commands has an effect.
const EFFECT_EVERY: u64 = 3;

/// Where the state keeps what depends on versions.
pub const SUM: u8 = 255;

/// Registers, all 0 at first. From version 2 on the state has a sum over what is written as well, which
/// every version forms in its own way.
#[derive(Debug)]
pub struct Registers {
    values: Memory,
    record: Record,
    versions: RangeInclusive<Version>,
    /// Snapshots that it will refuse.
    refusals: u64,
    /// It has just refused one, and is given back what it had.
    has_refused: bool,
    place: Place,
    /// Bytes of the state beside its registers, which never change.
    ballast: usize,
    sabotage: Sabotage,
    ran: Ran,
    told: Told,
}

impl Registers {
    /// Empty registers of a program that runs these versions; they record here.
    pub fn new(record: Record, values: Memory, versions: RangeInclusive<Version>) -> Self {
        Self {
            values,
            record,
            versions,
            refusals: 0,
            has_refused: false,
            place: Place::Inline,
            ballast: 0,
            sabotage: Sabotage::default(),
            ran: Ran::default(),
            told: Told::default(),
        }
    }

    /// They refuse the first so many snapshots.
    pub fn refusing(self, refusals: u64) -> Self {
        Self { refusals, ..self }
    }

    /// They are called there.
    pub fn living(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Their state, and every snapshot of it, takes so many bytes beside the registers.
    pub fn with_ballast(self, ballast: usize) -> Self {
        Self { ballast, ..self }
    }

    /// They panic when this says so.
    pub fn sabotaged(self, sabotage: Sabotage) -> Self {
        Self { sabotage, ..self }
    }

    /// Effects that are run, and roles that they are told, are recorded here.
    pub fn telling(self, ran: Ran, told: Told) -> Self {
        Self { ran, told, ..self }
    }
}

/// Encodes "write `value` to `key`", padded with `padding` bytes to make larger entries.
pub fn write(key: u8, value: u64, padding: usize) -> Vec<u8> {
    let mut command = vec![key];
    command.extend(value.to_le_bytes());
    command.resize(command.len() + padding, 0xa5);
    command
}

fn parse(command: &[u8]) -> Option<(u8, u64)> {
    let (key, rest) = command.split_first()?;
    let value = rest.first_chunk::<8>()?;
    Some((*key, u64::from_le_bytes(*value)))
}

/// Reads a machine's reply back.
pub fn value_of(reply: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(reply.try_into().ok()?))
}

impl StateMachine for Registers {
    fn name(&self) -> &'static str {
        "registers"
    }

    fn versions(&self) -> RangeInclusive<Version> {
        self.versions.clone()
    }

    fn place(&self) -> Place {
        self.place
    }

    fn validator(&self) -> Validator {
        Arc::new(|_, command| match parse(command) {
            Some(_) => Ok(()),
            None => Err(Refused("a command is a key and 8 bytes of value".into())),
        })
    }

    fn apply(
        &mut self,
        version: Version,
        batch: &[Command<'_>],
        effects: &mut Effects,
    ) -> Vec<Vec<u8>> {
        self.sabotage.strike(Call::Apply);
        let mut record = self.record.lock().expect("nobody panics with it");
        let mut values = self.values.lock().expect("nobody panics with it");
        batch
            .iter()
            .map(|command| {
                let Some((key, value)) = parse(command.bytes) else {
                    return Vec::new();
                };
                let mut applied = Applied {
                    id: command.id,
                    key,
                    value,
                    previous: 0,
                    version,
                };
                applied.previous = applied.apply_to(&mut values);
                record.push(applied);
                if value % EFFECT_EVERY == 0 {
                    let (ran, id) = (self.ran.clone(), command.id);
                    effects.push(id, move || {
                        ran.lock().expect("nobody panics with it").push(id);
                        Ok(())
                    });
                }
                applied.previous.to_le_bytes().to_vec()
            })
            .collect()
    }

    fn read(&self, query: &[u8]) -> Result<Vec<u8>, Refused> {
        let [key] = query else {
            return Err(Refused("a query is one key".into()));
        };
        let values = self.values.lock().expect("nobody panics with it");
        let value = values.get(key).copied().unwrap_or(0);
        Ok(value.to_le_bytes().to_vec())
    }

    fn on_role(&mut self, role: Role, _: &mut Effects) {
        let mut told = self.told.lock().expect("nobody panics with it");
        told.push(role);
    }

    fn snapshot(&self) -> Box<dyn View> {
        self.sabotage.strike(Call::Snapshot);
        let values = self.values.lock().expect("nobody panics with it");
        let pairs = values.iter();
        let mut bytes: Vec<u8> = pairs
            .flat_map(|(key, value)| write(*key, *value, 0))
            .collect();
        // After the registers, whose number it does not change.
        bytes.resize(bytes.len() + self.ballast, 0);
        Box::new(BytesView::new(bytes))
    }

    fn restore(&mut self, _: Version, reader: &mut dyn Read) -> Result<(), RestoreError> {
        self.sabotage.strike(Call::Restore);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        if !std::mem::take(&mut self.has_refused) && self.refusals > 0 {
            self.refusals -= 1;
            self.has_refused = true;
            self.values.lock().expect("nobody panics with it").clear();
            return Err(RestoreError("out of sorts".into()));
        }
        let registers = bytes.len().checked_sub(self.ballast);
        let registers = registers.ok_or_else(|| RestoreError("cut short".into()))?;
        let pairs = bytes[..registers]
            .chunks(9)
            .map(|pair| parse(pair).filter(|_| pair.len() == 9));
        let restored = pairs.collect::<Option<_>>();
        *self.values.lock().expect("nobody panics with it") =
            restored.ok_or_else(|| RestoreError("cut short".into()))?;
        Ok(())
    }

    fn size(&self) -> usize {
        let values = self.values.lock().expect("nobody panics with it");
        9 * values.len() + self.ballast
    }
}
