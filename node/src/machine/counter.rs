//! The `counter` machine: one signed number.
//!
//! A command is what to add: decimal text (`5`, `-3`, `+7`) or exactly `\0` and eight bytes, an
//! `i64` in little-endian order. The reply, and the answer to any query, is the value as decimal
//! text. The sum wraps around at the bounds of `i64`. A command that is neither adds nothing.

use super::{Command, Refused, StateMachine};

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

impl StateMachine for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn validate(&self, command: &[u8]) -> Result<(), Refused> {
        match amount(command) {
            Some(_) => Ok(()),
            None => Err(Refused(
                "a command of the counter is a whole number as text, such as 5 or -3".into(),
            )),
        }
    }

    fn apply(&mut self, batch: &[Command<'_>]) -> Vec<Vec<u8>> {
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
}

#[cfg(test)]
mod tests {
    use kontiki_raft::LogId;

    use super::*;

    fn write(counter: &mut Counter, bytes: &[u8]) -> String {
        let id = LogId::default();
        let reply = counter.apply(&[Command { id, bytes }]).remove(0);
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
            assert!(counter.validate(bad).is_err(), "{bad:?}");
            assert_eq!(write(&mut counter, bad), "0");
        }
    }

    #[test]
    fn wraps_around() {
        let mut counter = Counter::default();
        write(&mut counter, &add(i64::MAX));
        assert_eq!(write(&mut counter, b"1"), i64::MIN.to_string());
    }
}
