//! Fuzz targets: what must hold whatever bytes come in. Built with the feature `fuzz` only.
//!
//! A target is a function of bytes that panics if something is wrong, and that includes taking more
//! memory than a named bound: [`heap`] counts it, if the program installs it. The same functions are
//! run by `node/tests/corpus.rs`, over the inputs committed in `node/fuzz/corpus` (a plain test), and
//! by the program in `node/fuzz`, which makes inputs up (`make fuzz`).
//!
//! | target | bytes are |
//! |---|---|
//! | `codecs` | one encoded thing: entry, piece of a snapshot, state of a machine, token, ... |
//! | `peer`, `client`, `admin` | requests as they come off HTTP/2, to the services in front of a real driver |
//! | `driver` | a sequence of inputs to a real driver: messages of members with any fields, time, requests |
//!
//! Inputs outlive the code: a tag that means nothing is skipped, fields that are missing are 0. So a
//! new kind of message takes a free tag, and the corpus still says what it said.

mod codecs;
mod driver;
mod faces;
mod fields;
pub mod heap;
mod members;
mod seeds;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The folder of its inputs.
    pub name: &'static str,
    /// Panics if the input finds something.
    pub run: fn(&[u8]),
    /// Valid inputs to begin with, each with a name.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
}

/// All targets.
pub const TARGETS: [Target; 5] = [
    Target {
        name: "codecs",
        run: codecs::run,
        seeds: seeds::codecs,
    },
    Target {
        name: "peer",
        run: faces::peer,
        seeds: seeds::peer,
    },
    Target {
        name: "client",
        run: faces::client,
        seeds: seeds::client,
    },
    Target {
        name: "admin",
        run: faces::admin,
        seeds: seeds::admin,
    },
    Target {
        name: "driver",
        run: driver::run,
        seeds: seeds::driver,
    },
];
