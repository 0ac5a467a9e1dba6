//! Ranges of keys, and what is left of one after a page.

use kontiki_proto::kv::RangeResponse;
use prost::bytes::Bytes;

/// Keys of a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    /// First key; empty: from the beginning.
    pub start: Bytes,
    /// First key after the range; empty: to the end.
    pub end: Bytes,
    /// At most this many keys in all; 0: no bound.
    pub limit: u64,
    /// The [`RangeResponse::continuation`] of the last page of an earlier listing, which ended at its
    /// limit: the rest of its range. `start` and `end` must be empty then.
    pub continuation: Bytes,
}

impl Range {
    /// All keys.
    pub fn all() -> Self {
        Range::default()
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        Range {
            end: prefix_end(&start),
            start,
            ..Range::default()
        }
    }

    /// What an earlier listing left of its range.
    pub fn rest(continuation: impl Into<Bytes>) -> Self {
        Range {
            continuation: continuation.into(),
            ..Range::default()
        }
    }
}

/// The first key after all that begin with `prefix`; empty (to the end) if there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let kept = prefix
        .iter()
        .rposition(|byte| *byte != 0xff)
        .map_or(0, |last| last + 1);
    let mut end = prefix[..kept].to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// What is left of a range after a page; nothing after the last.
pub(crate) fn rest_after(range: Range, page: &RangeResponse) -> Option<Range> {
    if page.continuation.is_empty() {
        return None;
    }
    let limit = match range.limit {
        0 => 0,
        limit => match limit.saturating_sub(page.kvs.len() as u64) {
            0 => return None,
            left => left,
        },
    };
    Some(Range {
        limit,
        ..Range::rest(page.continuation.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(prefix_end(b"a"), &b"b"[..]);
        assert_eq!(prefix_end(b"a\xff"), &b"b"[..]);
        assert_eq!(prefix_end(b"\xff\xff"), &b""[..]);
        assert_eq!(prefix_end(b""), &b""[..]);
        assert_eq!(prefix_end(b"ab\xff\xff"), &b"ac"[..]);
    }
}
