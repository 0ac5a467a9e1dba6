//! A snapshot on its way to one server: written piece by piece, a few pieces ahead of what is
//! acknowledged.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{SnapshotId, Time};

use super::piece::{self, Header};
use crate::machine::View;

/// Pieces sent and not acknowledged; they are kept to be sent again.
pub(super) const WINDOW_MAX: usize = 4;
/// Doublings of the time after which silence is taken for a loss: over a slow link a piece takes longer
/// than five heartbeats, and pieces that are sent again would only hold it up.
const PATIENCE_DOUBLINGS_MAX: u32 = 3;

/// Invariant: the window is contiguous, begins at what is acknowledged, and `sent` of it are sent.
pub(super) struct Outgoing {
    pub(super) id: SnapshotId,
    /// The frozen state, until all of it is written.
    view: Option<Box<dyn View>>,
    piece_bytes: usize,
    /// Written and not yet cut.
    written: Vec<u8>,
    /// Of all that is written.
    checksum: u32,
    window: VecDeque<Piece>,
    sent: usize,
    /// Where the next piece is cut.
    offset: u64,
    /// When something was last acknowledged, or sent again.
    moved: Time,
    /// A piece arrived before the one that is missing: that one is lost, or late.
    has_gap: bool,
    /// How often silence was taken for a loss, less what was acknowledged since.
    doublings: u32,
    is_delivered: bool,
}

/// A piece that is not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) is_end: bool,
    pub(super) sealed: Bytes,
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + (self.sealed.len() - piece::CHECKSUM_BYTES) as u64
    }
}

impl Outgoing {
    pub(super) fn new(
        id: SnapshotId,
        header: &Header,
        view: Box<dyn View>,
        piece_bytes: usize,
        now: Time,
    ) -> Self {
        let written = header.encode();
        Self {
            id,
            view: Some(view),
            piece_bytes: piece_bytes.max(1),
            checksum: crc32c::crc32c(&written),
            written,
            window: VecDeque::new(),
            sent: 0,
            offset: 0,
            moved: now,
            has_gap: false,
            doublings: 0,
            is_delivered: false,
        }
    }

    /// Everything is acknowledged; what is left to do is the receiver's.
    pub(super) fn is_delivered(&self) -> bool {
        self.is_delivered
    }

    /// Bytes that are written and not acknowledged.
    pub(super) fn held_bytes(&self) -> usize {
        let window = self.window.iter().map(|piece| piece.sealed.len());
        self.written.len() + window.sum::<usize>()
    }

    /// Bytes sent, or about to be, and not acknowledged.
    pub(super) fn window_bytes(&self) -> usize {
        self.window.iter().map(|piece| piece.sealed.len()).sum()
    }

    /// Whether there is something to send now.
    pub(super) fn is_ready(&self) -> bool {
        let is_cut = self.window.back().is_some_and(|last| last.is_end);
        self.sent < self.window.len() || (self.window.len() < WINDOW_MAX && !is_cut)
    }

    /// The next piece to send: again, or newly written.
    pub(super) fn next(&mut self, now: Time) -> Option<Piece> {
        if !self.is_ready() {
            return None;
        }
        if self.sent == self.window.len() {
            if self.window.is_empty() {
                self.moved = now; // nothing was to be acknowledged
            }
            let piece = self.cut();
            self.window.push_back(piece);
        }
        self.sent += 1;
        self.window.get(self.sent - 1).cloned()
    }

    fn cut(&mut self) -> Piece {
        while self.written.len() < self.piece_bytes
            && let Some(view) = &mut self.view
        {
            let before = self.written.len();
            let room = self.piece_bytes - before;
            if !view.write(&mut self.written, room) {
                self.view = None;
            }
            self.checksum = crc32c::crc32c_append(self.checksum, &self.written[before..]);
        }
        let is_end = self.view.is_none() && self.written.len() <= self.piece_bytes;
        let length = self.written.len().min(self.piece_bytes);
        let rest = self.written.split_off(length);
        let mut bytes = std::mem::replace(&mut self.written, rest);
        if is_end {
            bytes.extend_from_slice(&self.checksum.to_le_bytes());
        }
        let piece = Piece {
            offset: self.offset,
            is_end,
            sealed: piece::seal(&bytes),
        };
        self.offset = piece.end();
        piece
    }

    /// Where what was cut so far ends.
    pub(super) fn written_through(&self) -> u64 {
        self.offset
    }

    /// The other side holds everything up to `offset`.
    pub(super) fn on_received(&mut self, offset: u64, now: Time) {
        let missing = self.window.front().map(|piece| piece.offset);
        self.has_gap = self.sent > 1 && missing == Some(offset);
        while self
            .window
            .front()
            .is_some_and(|piece| piece.end() <= offset && !piece.is_end)
        {
            self.window.pop_front();
            self.sent = self.sent.saturating_sub(1);
            self.moved = now;
            self.doublings = self.doublings.saturating_sub(1);
        }
        let end = self.window.front().filter(|piece| piece.is_end);
        self.is_delivered |= end.is_some_and(|end| end.end() <= offset);
    }

    /// Silence has lasted until [`Outgoing::lost_at`].
    pub(super) fn on_lost(&mut self, now: Time) {
        if !self.has_gap {
            self.doublings = (self.doublings + 1).min(PATIENCE_DOUBLINGS_MAX);
        }
        self.rewind(now);
    }

    /// What was sent and is not acknowledged is lost: sends it again.
    pub(super) fn rewind(&mut self, now: Time) {
        self.sent = 0;
        self.moved = now;
        self.has_gap = false;
    }

    /// When to take what was sent and is not acknowledged for lost: soon after a gap was seen.
    pub(super) fn lost_at(&self, heartbeat: Duration) -> Option<Time> {
        let patience = match self.has_gap {
            true => heartbeat / 4,
            false => 5 * heartbeat * (1 << self.doublings),
        };
        (self.sent > 0).then_some(self.moved + patience)
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::{Configuration, Index, LogId};

    use super::*;
    use crate::machine::BytesView;

    fn outgoing(state: usize, piece_bytes: usize) -> Outgoing {
        let id = SnapshotId {
            number: 1,
            last: LogId::default(),
        };
        let header = Header {
            last: id.last,
            configuration: (Index(0), Configuration::default()),
        };
        let view = Box::new(BytesView::new(vec![7; state]));
        Outgoing::new(id, &header, view, piece_bytes, Time(0))
    }

    #[test]
    fn only_a_window_is_ahead_of_what_is_acknowledged() {
        let mut outgoing = outgoing(1000, 10);
        let sent: Vec<u64> = std::iter::from_fn(|| outgoing.next(Time(1)))
            .map(|piece| piece.offset)
            .collect();
        assert_eq!(sent, [0, 10, 20, 30]);
        outgoing.on_received(25, Time(2));
        let next = outgoing.next(Time(2)).map(|piece| piece.offset);
        assert_eq!(next, Some(40), "what is held in part is not acknowledged");
    }

    #[test]
    fn after_a_loss_it_goes_on_from_what_is_acknowledged() {
        let mut outgoing = outgoing(1000, 10);
        while outgoing.next(Time(1)).is_some() {}
        outgoing.on_received(20, Time(2));
        outgoing.rewind(Time(3));
        let again: Vec<u64> = std::iter::from_fn(|| outgoing.next(Time(3)))
            .map(|piece| piece.offset)
            .collect();
        assert_eq!(again, [20, 30, 40, 50]);
    }

    #[test]
    fn a_gap_is_filled_sooner_than_silence_is_broken() {
        let heartbeat = Duration::from_nanos(4);
        let mut outgoing = outgoing(1000, 10);
        while outgoing.next(Time(1)).is_some() {}
        outgoing.on_received(10, Time(2));
        assert_eq!(outgoing.lost_at(heartbeat), Some(Time(22)));
        outgoing.on_received(10, Time(3));
        assert_eq!(outgoing.lost_at(heartbeat), Some(Time(3)));
        outgoing.on_received(20, Time(4));
        assert_eq!(outgoing.lost_at(heartbeat), Some(Time(24)));
    }

    #[test]
    fn silence_is_taken_for_a_loss_later_and_later_until_something_arrives() {
        let heartbeat = Duration::from_nanos(4);
        let mut outgoing = outgoing(1000, 10);
        let mut patience = Vec::new();
        for _ in 0..6 {
            while outgoing.next(Time(100)).is_some() {}
            patience.push(outgoing.lost_at(heartbeat).expect("sent").0 - 100);
            outgoing.on_lost(Time(100));
        }
        assert_eq!(patience, [20, 40, 80, 160, 160, 160]);
        while outgoing.next(Time(100)).is_some() {}
        outgoing.on_received(20, Time(200));
        assert_eq!(outgoing.lost_at(heartbeat), Some(Time(240)));
    }

    #[test]
    fn the_end_is_sent_until_the_transfer_is_over() {
        let mut outgoing = outgoing(0, 1000);
        let end = outgoing.next(Time(1)).expect("one piece");
        assert!(end.is_end && !outgoing.is_ready());
        outgoing.on_received(end.end() - 1, Time(1));
        assert!(!outgoing.is_delivered());
        outgoing.on_received(end.end(), Time(2));
        assert!(outgoing.is_delivered());
        let heartbeat = Duration::from_nanos(4);
        assert_eq!(outgoing.lost_at(heartbeat), Some(Time(21)));
        outgoing.rewind(Time(3));
        assert!(outgoing.next(Time(3)).is_some_and(|piece| piece.is_end));
    }
}
