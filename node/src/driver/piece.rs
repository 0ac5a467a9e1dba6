//! How a snapshot travels: a header, the host's bytes, a checksum of all; cut into pieces, each with
//! a checksum of its own.
//!
//! ```text
//! u32 format | u64 term | u64 index | u64 entry of the configuration | u32 length | configuration
//! | the host's state | u32 CRC-32C of all before
//! ```
//! All little-endian.

use std::collections::VecDeque;
use std::io::Read;

use bytes::{Buf, Bytes};
use kontiki_raft::{Configuration, Index, LogId, Term};

use crate::entry::{decode_configuration, encode_configuration};

/// Layouts that this program writes and reads.
const FORMAT: u32 = 1;
/// Bytes of a checksum.
pub(super) const CHECKSUM_BYTES: usize = 4;
/// Bytes of a configuration in a header; far above any that there can be.
const CONFIGURATION_BYTES_MAX: u32 = 64 << 10;

/// What a snapshot says besides the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The last entry that it covers.
    pub(crate) last: LogId,
    /// In force there, with its entry.
    pub(crate) configuration: (Index, Configuration),
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut configuration = Vec::new();
        encode_configuration(&self.configuration.1, &mut configuration);
        let mut out = Vec::new();
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.last.term.0.to_le_bytes());
        out.extend_from_slice(&self.last.index.0.to_le_bytes());
        out.extend_from_slice(&self.configuration.0.0.to_le_bytes());
        out.extend_from_slice(&(configuration.len() as u32).to_le_bytes());
        out.extend_from_slice(&configuration);
        out
    }

    /// Reads the header with which a snapshot begins, and says how long it is. `None`: its end is still to
    /// come.
    ///
    /// # Errors
    /// These bytes begin no header.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadHeader> {
        let mut rest = bytes;
        let Ok(format) = rest.try_get_u32_le() else {
            return Ok(None);
        };
        if format != FORMAT {
            return Err(BadHeader);
        }
        let (Ok(term), Ok(index)) = (rest.try_get_u64_le(), rest.try_get_u64_le()) else {
            return Ok(None);
        };
        let (Ok(entry), Ok(length)) = (rest.try_get_u64_le(), rest.try_get_u32_le()) else {
            return Ok(None);
        };
        if length > CONFIGURATION_BYTES_MAX || entry > index {
            return Err(BadHeader);
        }
        let Some((configuration, rest)) = rest.split_at_checked(length as usize) else {
            return Ok(None);
        };
        let configuration = decode_configuration(configuration).ok_or(BadHeader)?;
        let header = Self {
            last: LogId {
                term: Term(term),
                index: Index(index),
            },
            configuration: (Index(entry), configuration),
        };
        Ok(Some((header, bytes.len() - rest.len())))
    }
}

/// A snapshot does not begin with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHeader;

/// For the wire: the checksum, and the bytes.
pub(crate) fn seal(bytes: &[u8]) -> Bytes {
    let mut sealed = Vec::with_capacity(CHECKSUM_BYTES + bytes.len());
    sealed.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    sealed.extend_from_slice(bytes);
    Bytes::from(sealed)
}

/// The bytes of a sealed piece; `None` if they are damaged.
pub(crate) fn open(sealed: &[u8]) -> Option<&[u8]> {
    let (checksum, bytes) = sealed.split_first_chunk::<CHECKSUM_BYTES>()?;
    (crc32c::crc32c(bytes) == u32::from_le_bytes(*checksum)).then_some(bytes)
}

/// Pieces in order, read as one; each is freed once it is read.
#[derive(Debug, Default)]
pub struct Pieces {
    pieces: VecDeque<Bytes>,
    /// Bytes in all of them.
    length: usize,
}

impl Pieces {
    /// Adds a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        self.length += piece.len();
        self.pieces.push_back(piece);
    }

    /// Bytes that are not read yet.
    pub fn length(&self) -> usize {
        self.length
    }
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while let Some(piece) = self.pieces.front_mut() {
            if piece.is_empty() {
                self.pieces.pop_front();
                continue;
            }
            let taken = piece.len().min(out.len());
            piece.copy_to_slice(&mut out[..taken]);
            self.length -= taken;
            return Ok(taken);
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::{Purpose, ServerId};

    use super::*;

    fn header() -> Header {
        let mut configuration = Configuration::of([ServerId(1), ServerId(2)]);
        configuration.learners.insert(ServerId(3), Purpose::Join);
        Header {
            last: LogId {
                term: Term(3),
                index: Index(70),
            },
            configuration: (Index(60), configuration),
        }
    }

    #[test]
    fn a_header_comes_back_and_what_follows_it_is_left() {
        let encoded = header().encode();
        let bytes = [&encoded[..], b"state"].concat();
        assert_eq!(Header::read(&bytes), Ok(Some((header(), encoded.len()))));
        for cut in 0..encoded.len() {
            assert_eq!(Header::read(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn a_header_of_another_format_is_refused() {
        let mut bytes = header().encode();
        bytes[0] = 2;
        assert_eq!(Header::read(&bytes), Err(BadHeader));
        assert_eq!(Header::read(&bytes[..4]), Err(BadHeader));
        let mut long = header().encode();
        long[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Header::read(&long), Err(BadHeader));
    }

    #[test]
    fn pieces_are_read_as_one() {
        for size in [1, 7, 1000] {
            let mut pieces = Pieces::default();
            for piece in b"some bytes".chunks(size) {
                pieces.push(Bytes::copy_from_slice(piece));
            }
            assert_eq!(pieces.length(), 10);
            let mut read = Vec::new();
            pieces.read_to_end(&mut read).expect("in memory");
            assert_eq!((&read[..], pieces.length()), (&b"some bytes"[..], 0));
        }
    }

    #[test]
    fn no_flipped_bit_of_a_piece_goes_unseen() {
        let sealed = seal(b"some bytes");
        assert_eq!(open(&sealed), Some(&b"some bytes"[..]));
        assert_eq!(open(&sealed[..3]), None);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&flipped), None, "bit {bit}");
        }
    }
}
