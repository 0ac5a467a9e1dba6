//! A key of the map: short ones inline, without an allocation of their own.

use std::borrow::Borrow;
use std::cmp::Ordering;

/// Longest key that is kept inline; makes a [`Key`] 24 bytes.
const INLINE_MAX: usize = 22;

/// An owned key, ordered as its bytes.
#[derive(Clone, Debug)]
pub(super) enum Key {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Boxed(Box<[u8]>),
}

impl Key {
    pub(super) fn new(key: &[u8]) -> Self {
        if key.len() > INLINE_MAX {
            return Self::Boxed(key.into());
        }
        let mut bytes = [0; INLINE_MAX];
        bytes[..key.len()].copy_from_slice(key);
        Self::Inline {
            len: key.len() as u8,
            bytes,
        }
    }

    /// Bytes of the allocation that a key needs.
    pub(super) fn boxed_bytes(key: &[u8]) -> usize {
        if key.len() > INLINE_MAX { key.len() } else { 0 }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Boxed(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_small_and_ordered_as_bytes() {
        assert_eq!(size_of::<Key>(), 24);
        let long = [b'a'; INLINE_MAX + 1];
        assert!(matches!(Key::new(&long[1..]), Key::Inline { .. }));
        assert!(matches!(Key::new(&long), Key::Boxed(_)));
        assert!(Key::new(&long[1..]) < Key::new(&long));
        assert!(Key::new(&long) < Key::new(b"b"));
        assert!(Key::new(b"a") < Key::new(b"a\0"));
    }
}
