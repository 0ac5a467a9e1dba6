//! What may go wrong, and how often.

/// How a run ends, for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The process dies; what is in the page cache stays.
    Crash,
    /// The machine loses power; what is on the medium stays.
    PowerCut,
}

/// Errors and delays while they last, in a thousand operations of their kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Reads that fail.
    pub read: u64,
    /// Writes that fail after a beginning.
    pub write: u64,
    /// Syncs, also of folders, that fail.
    pub sync: u64,
    /// Operations that take up to seconds.
    pub slow: u64,
}

/// What kind of a disk it is.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A sector may be left half old and half new by a power cut.
    pub torn_sectors: bool,
    /// Bytes that fit.
    pub capacity: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            torn_sectors: false,
            capacity: u64::MAX,
        }
    }
}
