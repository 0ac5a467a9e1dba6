//! A state frozen at one index, to be written out piece by piece.

/// The state of a machine at one index. Two machines of equal state write equal bytes: their digest
/// is taken over them.
///
/// ```
/// use kontiki_node::machine::View;
///
/// /// Counts down.
/// struct Countdown(u8);
///
/// impl View for Countdown {
///     fn write(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
///         for _ in 0..bytes_max.max(1).min(self.0.into()) {
///             out.push(self.0);
///             self.0 -= 1;
///         }
///         self.0 > 0
///     }
/// }
///
/// let (mut view, mut out) = (Countdown(5), Vec::new());
/// while view.write(&mut out, 2) {}
/// assert_eq!(out, [5, 4, 3, 2, 1]);
/// ```
pub trait View: Send {
    /// Appends the next piece to `out`, about `bytes_max` long, and says whether there is more. Called
    /// until it says no.
    fn write(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool;
}

/// A state that is encoded already.
///
/// ```
/// use kontiki_node::machine::{BytesView, View};
///
/// let (mut view, mut out) = (BytesView::new(b"state".to_vec()), Vec::new());
/// while view.write(&mut out, 2) {}
/// assert_eq!(out, b"state");
/// ```
#[derive(Debug)]
pub struct BytesView {
    bytes: Vec<u8>,
    written: usize,
}

impl BytesView {
    /// A view that writes these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, written: 0 }
    }
}

impl View for BytesView {
    fn write(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        let end = self.bytes.len().min(self.written + bytes_max.max(1));
        out.extend_from_slice(&self.bytes[self.written..end]);
        self.written = end;
        end < self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_whole_whatever_the_size_of_a_piece() {
        for length in [0, 1, 7, 8, 100] {
            for piece in [1, 7, 8, 200] {
                let bytes: Vec<u8> = (0..length).collect();
                let mut view = BytesView::new(bytes.clone());
                let mut out = Vec::new();
                let mut calls = 1;
                while view.write(&mut out, piece) {
                    calls += 1;
                    assert!(calls <= 100, "it ends");
                }
                assert_eq!(out, bytes);
            }
        }
    }
}
