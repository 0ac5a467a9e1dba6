//! The trace of a run: always a hash, so that two runs can be compared; on request also lines.

use std::fmt;

/// Folds everything that happens into one number (FNV-1a, 64 bits).
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    print: bool,
}

const PRIME: u64 = 0x0000_0100_0000_01b3;

impl Trace {
    /// A trace that also prints its lines if `print`.
    pub fn new(print: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            print,
        }
    }

    /// Something happened.
    pub fn line(&mut self, now: u64, step: u64, what: fmt::Arguments<'_>) {
        self.word(now);
        self.word(step);
        let written = fmt::write(&mut Folder(self), what);
        debug_assert!(written.is_ok(), "folding does not fail");
        if self.print {
            println!("{:>12.6} {step:>6} {what}", now as f64 / 1e9);
        }
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    fn word(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(PRIME);
    }
}

struct Folder<'a>(&'a mut Trace);

impl fmt::Write for Folder<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0.word(u64::from(byte));
        }
        Ok(())
    }
}

/// The hash of some bytes, as the trace computes it.
pub fn hash_of(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold)
}
