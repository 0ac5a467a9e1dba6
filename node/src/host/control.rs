//! Entries that are neither the engine's nor the machine's.

use kontiki_raft::Index;

use super::Digest;
use crate::machine::Version;

const ACTIVATE: u8 = 1;
const VERSION: u8 = 2;
const CHECKPOINT: u8 = 3;
const VERDICT: u8 = 4;

/// What a control entry says; its payload begins with a tag of one byte. Numbers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Client writes are accepted from here on. A version entry comes before it.
    Activate,
    /// Commands after this entry are applied under this version of the machine.
    Version(Version),
    /// Every server takes a digest of its state as it is here.
    Checkpoint,
    /// A majority of voters found this digest at the checkpoint that it names.
    Verdict(Digest),
}

impl Control {
    /// The payload of the entry.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Activate => vec![ACTIVATE],
            Self::Version(version) => tagged(VERSION, &[&version.to_le_bytes()]),
            Self::Checkpoint => vec![CHECKPOINT],
            Self::Verdict(Digest { index, value }) => {
                tagged(VERDICT, &[&index.0.to_le_bytes(), &value.to_le_bytes()])
            }
        }
    }

    /// Reads a payload back. `None` if this program knows no such entry.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let (tag, rest) = payload.split_first()?;
        Some(match (*tag, rest) {
            (ACTIVATE, []) => Self::Activate,
            (CHECKPOINT, []) => Self::Checkpoint,
            (VERSION, rest) => Self::Version(Version::from_le_bytes(rest.try_into().ok()?)),
            (VERDICT, rest) => {
                let (index, value) = rest.split_first_chunk::<8>()?;
                Self::Verdict(Digest {
                    index: Index(u64::from_le_bytes(*index)),
                    value: u64::from_le_bytes(value.try_into().ok()?),
                })
            }
            _ => return None,
        })
    }
}

fn tagged(tag: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![tag];
    fields
        .iter()
        .for_each(|field| payload.extend_from_slice(field));
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_comes_back_and_what_is_cut_does_not() {
        let digest = Digest {
            index: Index(1 << 40),
            value: 0x0123_4567_89ab_cdef,
        };
        for control in [
            Control::Activate,
            Control::Version(7),
            Control::Checkpoint,
            Control::Verdict(digest),
        ] {
            let payload = control.encode();
            assert_eq!(Control::decode(&payload), Some(control));
            for cut in 0..payload.len() {
                assert_eq!(Control::decode(&payload[..cut]), None, "{control:?}");
            }
            assert_eq!(Control::decode(&[&payload[..], b"x"].concat()), None);
        }
        assert_eq!(Control::decode(b"\xffof a later program"), None);
    }
}
