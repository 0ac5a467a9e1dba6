//! The `counter` machine: one signed number.
//!
//! A command is what to add: decimal text (`5`, `-3`, `+7`) or exactly `\0` and eight bytes, an
//! `i64` in little-endian order. The reply, and the answer to any query, is the value as decimal
//! text. The sum wraps around at the bounds of `i64`. A command that is neither adds nothing.

use std::io::Read;
use std::mem::size_of;
use std::sync::Arc;

use super::{
    BytesView, Command, Effects, Growth, Place, Refused, RestoreError, StateMachine, Validator,
    Version, View,
};

/// One number, 0 at first.
#[derive(Debug, Default)]
pub struct Counter {
    value: i64,
}

/// Encodes a command in its binary form.
pub fn add(amount: i64) -> [u8; 9] {
    let mut command = [0; 9];
    command[1..].copy_from_slice(&amount.to_le_bytes());
    command
}

fn amount(command: &[u8]) -> Option<i64> {
    if let [0, number @ ..] = command {
        return number.try_into().ok().map(i64::from_le_bytes);
    }
    std::str::from_utf8(command).ok()?.trim().parse().ok()
}

fn validate(command: &[u8]) -> Result<(), Refused> {
    match amount(command) {
        Some(_) => Ok(()),
        None => Err(Refused(
            "a command of the counter is a whole number as text, such as 5 or -3".into(),
        )),
    }
}

impl StateMachine for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn place(&self) -> Place {
        Place::Inline
    }

    fn validator(&self) -> Validator {
        Arc::new(|_, command| validate(command))
    }

    fn growth(&self) -> Growth {
        Arc::new(|_, _| false)
    }

    fn apply(&mut self, _: Version, batch: &[Command<'_>], _: &mut Effects) -> Vec<Vec<u8>> {
        let mut replies = Vec::with_capacity(batch.len());
        for command in batch {
            self.value = self
                .value
                .wrapping_add(amount(command.bytes).unwrap_or_default());
            replies.push(self.value.to_string().into_bytes());
        }
        replies
    }

    fn read(&self, _query: &[u8]) -> Result<Vec<u8>, Refused> {
        Ok(self.value.to_string().into_bytes())
    }

    fn snapshot(&self) -> Box<dyn View> {
        Box::new(BytesView::new(self.value.to_le_bytes().to_vec()))
    }

    fn restore(&mut self, _: Version, reader: &mut dyn Read) -> Result<(), RestoreError> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        let Ok(value) = bytes.as_slice().try_into().map(i64::from_le_bytes) else {
            let length = bytes.len();
            return Err(RestoreError(format!("a counter has 8 bytes, not {length}")));
        };
        self.value = value;
        Ok(())
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::LogId;

    use super::*;

    fn write(counter: &mut Counter, bytes: &[u8]) -> String {
        let id = LogId::default();
        let reply = counter
            .apply(1, &[Command { id, bytes }], &mut Effects::default())
            .remove(0);
        String::from_utf8(reply).expect("text")
    }

    #[test]
    fn adds_text_and_bytes() {
        let mut counter = Counter::default();
        assert_eq!(write(&mut counter, b"5"), "5");
        assert_eq!(write(&mut counter, b"-7"), "-2");
        assert_eq!(write(&mut counter, &add(44)), "42");
        assert_eq!(counter.read(b"").expect("any query"), b"42");
    }

    #[test]
    fn refuses_what_is_no_number_and_survives_it() {
        let mut counter = Counter::default();
        for bad in [&b"five"[..], b"", b"\x00123", b"99999999999999999999"] {
            assert!(validate(bad).is_err(), "{bad:?}");
            assert_eq!(write(&mut counter, bad), "0");
        }
    }

    #[test]
    fn a_snapshot_holds_the_value_and_nothing_else_is_one() {
        let mut counter = Counter::default();
        write(&mut counter, b"-42");
        let mut bytes = Vec::new();
        while counter.snapshot().write(&mut bytes, 100) {}
        let mut other = Counter::default();
        other.restore(1, &mut &bytes[..]).expect("restored");
        assert_eq!(other.read(b"").expect("any query"), b"-42");
        for bad in [&bytes[..7], b"", b"123456789"] {
            assert!(other.restore(1, &mut &*bad).is_err());
            assert_eq!(other.read(b"").expect("any query"), b"-42");
        }
    }

    #[test]
    fn wraps_around() {
        let mut counter = Counter::default();
        write(&mut counter, &add(i64::MAX));
        assert_eq!(write(&mut counter, b"1"), i64::MIN.to_string());
    }
}
