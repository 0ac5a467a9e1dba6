//! Entries that are neither the engine's nor the machine's.

const ACTIVATE: u8 = 1;

/// What a control entry says; its payload begins with a tag of one byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Client writes are accepted from here on.
    Activate,
}

impl Control {
    /// The payload of the entry.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Activate => vec![ACTIVATE],
        }
    }

    /// Reads a payload back. `None` if this program knows no such entry.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        match payload {
            [ACTIVATE] => Some(Self::Activate),
            _ => None,
        }
    }
}
