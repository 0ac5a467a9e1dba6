//! The continuation token of a range: where the next page begins, and of which cluster.
//!
//! ```text
//! version:u8 = 1  cluster:u64  next_length:u16  next  end  crc32c:u32 of all before it
//! ```
//!
//! Numbers are little-endian. The checksum tells a token that was cut short or mixed up; it is no
//! seal: whoever makes one up gets a page that a `start` of their own would have given them too.

use bytes::{Buf, BufMut, Bytes};
use kontiki_raft::ClusterId;

use super::error::ApiError;
use crate::machine::kv::KEY_BYTES_MAX;

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// What is left of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Continuation {
    /// First key of the next page.
    pub(crate) next: Bytes,
    /// First key after the range; empty: to the end.
    pub(crate) end: Bytes,
}

impl Continuation {
    /// As a token of `cluster`.
    pub(crate) fn encode(&self, cluster: ClusterId) -> Bytes {
        let mut token = Vec::with_capacity(15 + self.next.len() + self.end.len());
        token.put_u8(VERSION);
        token.put_u64_le(cluster.0);
        token.put_u16_le(self.next.len() as u16);
        token.put_slice(&self.next);
        token.put_slice(&self.end);
        let checksum = crc32c::crc32c(&token);
        token.put_u32_le(checksum);
        token.into()
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`ApiError::BadContinuation`] if it is none, [`ApiError::ContinuationOf`] if it is one of
    /// another cluster than `mine`.
    pub(crate) fn decode(token: &Bytes, mine: ClusterId) -> Result<Self, ApiError> {
        let bad = |problem: &'static str| ApiError::BadContinuation { problem };
        let at = token.len().checked_sub(CHECKSUM_BYTES);
        let at = at.ok_or(bad("it is too short"))?;
        let (mut rest, mut checksum) = (token.slice(..at), &token[at..]);
        if crc32c::crc32c(&rest) != checksum.get_u32_le() {
            return Err(bad("its checksum is wrong"));
        }
        let version = rest.try_get_u8().map_err(|_| bad("it is too short"))?;
        if version != VERSION {
            return Err(bad("it is of a version that this server does not know"));
        }
        let cluster = rest.try_get_u64_le().map_err(|_| bad("it is too short"))?;
        if cluster != mine.0 {
            let theirs = ClusterId(cluster);
            return Err(ApiError::ContinuationOf { mine, theirs });
        }
        let length = rest.try_get_u16_le().map_err(|_| bad("it is too short"))?;
        if usize::from(length) > rest.len() {
            return Err(bad("it is too short"));
        }
        let next = rest.split_to(length.into());
        if next.len() > KEY_BYTES_MAX || rest.len() > KEY_BYTES_MAX {
            return Err(bad("it names a key that is too long"));
        }
        Ok(Self { next, end: rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: ClusterId = ClusterId(0xc1);

    fn token() -> (Continuation, Bytes) {
        let continuation = Continuation {
            next: Bytes::from_static(b"next"),
            end: Bytes::from_static(b"over"),
        };
        let token = continuation.encode(MINE);
        (continuation, token)
    }

    #[test]
    fn comes_back_at_any_length_of_key() {
        for (next, end) in [(1, 0), (KEY_BYTES_MAX, KEY_BYTES_MAX)] {
            let continuation = Continuation {
                next: vec![7; next].into(),
                end: vec![8; end].into(),
            };
            let token = continuation.encode(MINE);
            assert!(token.len() <= 8207, "{} bytes", token.len());
            assert_eq!(Continuation::decode(&token, MINE), Ok(continuation));
        }
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_seen() {
        let (_, token) = token();
        let mut damaged: Vec<Vec<u8>> = (0..token.len()).map(|at| token[..at].into()).collect();
        for bit in 0..token.len() * 8 {
            let mut token = token.to_vec();
            token[bit / 8] ^= 1 << (bit % 8);
            damaged.push(token);
        }
        for token in damaged {
            let error = Continuation::decode(&token.clone().into(), MINE).expect_err("damaged");
            assert!(
                matches!(error, ApiError::BadContinuation { .. }),
                "{token:?}: {error}"
            );
        }
    }

    #[test]
    fn what_is_made_up_is_refused_or_bounded() {
        let sealed = |mut bytes: Vec<u8>| {
            let checksum = crc32c::crc32c(&bytes);
            bytes.put_u32_le(checksum);
            Continuation::decode(&bytes.into(), MINE)
        };
        let head = |version: u8, length: u16| {
            let mut bytes = vec![version];
            bytes.put_u64_le(MINE.0);
            bytes.put_u16_le(length);
            bytes
        };
        let long = vec![0; KEY_BYTES_MAX + 1];
        for bytes in [
            vec![],
            vec![VERSION],
            vec![VERSION; 9],
            head(2, 0),
            head(VERSION, 1),
            [head(VERSION, long.len() as u16), long.clone()].concat(),
            [head(VERSION, 0), long].concat(),
        ] {
            assert!(sealed(bytes.clone()).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn another_cluster_is_named() {
        let (_, token) = token();
        let error = Continuation::decode(&token, ClusterId(2)).expect_err("another cluster");
        let wanted = ApiError::ContinuationOf {
            mine: ClusterId(2),
            theirs: MINE,
        };
        assert_eq!(error, wanted);
    }
}
