//! What a run writes, how fast, and for how long.

use std::time::Duration;

use prost::bytes::Bytes;

use crate::{Error, Options};

/// Writers of one run.
const WRITERS_MAX: usize = 10_000;
/// Bytes of a value.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// What to write, how fast, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Concurrent writers, 1 to 10000, each with one write in flight and a connection of its own.
    pub writers: usize,
    /// Writes per second of all writers together. A writer that is late writes at once, and its
    /// latency counts from when the write was due. `None`: each writes again as soon as it is
    /// answered.
    pub rate: Option<f64>,
    /// Keys are `PREFIX/WRITER/SEQUENCE`. It has to be new for each run; drawn at random by default.
    pub key_prefix: String,
    /// Bytes of a value, 0 to 1 MiB. Values are letters that follow from the key.
    pub value_bytes: usize,
    /// End after this long.
    pub duration: Option<Duration>,
    /// End after this many writes, whatever their outcome. Each is remembered, in 64 bytes.
    pub operations_max: u64,
    /// Of each writer's client, without sessions by default. A write fails or is unknown after
    /// `client.timeout`.
    pub client: Options,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            writers: 4,
            rate: None,
            key_prefix: format!("load-{:08x}", rand::random::<u32>()),
            value_bytes: 64,
            duration: None,
            operations_max: 10_000_000,
            client: Options {
                sessions: false,
                ..Options::default()
            },
        }
    }
}

impl Plan {
    pub(super) fn check(&self) -> Result<(), Error> {
        if !(1..=WRITERS_MAX).contains(&self.writers) {
            let writers = self.writers;
            return Err(Error::invalid(format!(
                "{writers} writers; give 1 to {WRITERS_MAX}"
            )));
        }
        if self.value_bytes > VALUE_BYTES_MAX {
            let bytes = self.value_bytes;
            return Err(Error::invalid(format!(
                "values of {bytes} bytes; at most 1 MiB"
            )));
        }
        if let Some(rate) = self.rate
            && !(rate.is_finite() && rate > 0.0)
        {
            return Err(Error::invalid(format!(
                "a rate of {rate} per second; give one above 0"
            )));
        }
        Ok(())
    }

    /// The key of a writer's write.
    pub(super) fn key(&self, writer: usize, sequence: u64) -> String {
        format!("{}/{writer:04}/{sequence:08}", self.key_prefix)
    }

    /// The value that belongs to a key: letters from a xorshift generator that the key seeds.
    pub(super) fn value(&self, key: &str) -> Bytes {
        let seed = |seed: u64, byte: u8| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let mut state = key.bytes().fold(0xcbf2_9ce4_8422_2325, seed) | 1;
        let mut value = Vec::with_capacity(self.value_bytes);
        while value.len() < self.value_bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            value.push(b'a' + (state >> 32) as u8 % 26);
        }
        value.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_the_writers_own() {
        let plan = Plan {
            key_prefix: "p".to_owned(),
            value_bytes: 40,
            ..Plan::default()
        };
        assert_eq!(plan.key(3, 17), "p/0003/00000017");
        let (one, other) = (plan.value("p/0003/00000017"), plan.value("p/0003/00000018"));
        assert_eq!(one.len(), 40);
        assert_ne!(one, other);
        assert_eq!(one, plan.value("p/0003/00000017"));
        assert!(one.iter().all(u8::is_ascii_lowercase));
    }

    #[test]
    fn a_bad_plan_is_named() {
        let bad = [
            Plan {
                writers: 0,
                ..Plan::default()
            },
            Plan {
                rate: Some(0.0),
                ..Plan::default()
            },
            Plan {
                rate: Some(f64::NAN),
                ..Plan::default()
            },
            Plan {
                value_bytes: VALUE_BYTES_MAX + 1,
                ..Plan::default()
            },
        ];
        for plan in bad {
            assert!(
                matches!(plan.check(), Err(Error::Invalid { .. })),
                "{plan:?}"
            );
        }
    }
}
