//! Bytes read as fields, and written as fields for seeds.

/// Tags of a number: `near` something, a little below u64::MAX, a power of two, or any.
const NEAR_TAGS: u8 = 200;
const SMALL_TAGS: u8 = 20;
const LARGE_TAGS: u8 = 16;
const POWER_TAGS: u8 = 16;

/// What is left of an input. Past its end everything is 0.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// So many bytes, or what is left.
    pub(super) fn take(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// A length of one byte, and so many bytes.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let length = self.byte();
        self.take(length.into())
    }

    /// A length of two bytes, and so many bytes.
    pub(super) fn long_bytes(&mut self) -> &'a [u8] {
        let length = u16::from_le_bytes([self.byte(), self.byte()]);
        self.take(length.into())
    }

    /// A number, likely one of `near` or next to it.
    pub(super) fn number(&mut self, near: &[u64]) -> u64 {
        let tag = self.byte();
        if tag < NEAR_TAGS {
            let tag = usize::from(tag);
            let close = near[tag % near.len()];
            // 0, +1, -1, +2, -2
            return match tag / near.len() % 5 {
                0 => close,
                1 => close.wrapping_add(1),
                2 => close.wrapping_sub(1),
                3 => close.wrapping_add(2),
                _ => close.wrapping_sub(2),
            };
        }
        let tag = tag - NEAR_TAGS;
        if tag < SMALL_TAGS {
            return tag.into();
        }
        let tag = tag - SMALL_TAGS;
        if tag < LARGE_TAGS {
            return u64::MAX - u64::from(tag);
        }
        let tag = tag - LARGE_TAGS;
        if tag < POWER_TAGS {
            return 1 << (4 * tag);
        }
        let mut raw = [0; 8];
        let taken = self.take(8);
        raw[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(raw)
    }
}

/// Fields of a seed.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.push(bytes.len() as u8);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn long_bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend((bytes.len() as u16).to_le_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// The `at`-th of what the number may be near, and `step` further along 0, +1, -1, +2, -2.
    pub(super) fn near(self, count: u8, at: u8, step: u8) -> Self {
        self.byte(at + count * step)
    }

    /// Any number, after the tag that says so.
    pub(super) fn bytes8(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    /// A number below 20.
    pub(super) fn small(self, number: u8) -> Self {
        self.byte(NEAR_TAGS + number)
    }
}
