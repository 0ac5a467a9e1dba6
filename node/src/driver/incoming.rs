//! A snapshot that arrives: its pieces are taken in order, its header is read, and the rest of them goes to
//! the host as it comes. Whether the whole is undamaged shows once the last piece is there.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use kontiki_raft::{ServerId, SnapshotId, Term};

use super::piece::{CHECKSUM_BYTES, Header};

/// Pieces that the host was given and has not taken in. A leader sends as many before it waits for an
/// acknowledgement.
pub(super) const PIECES_WITH_HOST_MAX: usize = super::outgoing::WINDOW_MAX;

/// Which snapshot: two of the same name are the same, byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) from: ServerId,
    pub(super) term: Term,
    pub(super) id: SnapshotId,
}

/// The pieces so far.
///
/// Invariant: `taken <= received`; what is between them is with the host.
pub(super) struct Incoming {
    pub(super) name: Name,
    /// How the host knows it.
    pub(super) attempt: u64,
    /// The beginning of the header, until all of it is there.
    beginning: Vec<u8>,
    header: Option<Header>,
    received: u64,
    /// Of all that was received.
    checksum: u32,
    /// Taken in through here: that much is acknowledged.
    taken: u64,
    /// Where each piece ends that the host was given and has not taken in.
    with_host: VecDeque<u64>,
    /// Bytes that the host holds of it.
    held_by_host: usize,
}

/// What a piece came to.
#[derive(Debug)]
pub(super) enum Assembly {
    /// It is the next one. These bytes of it are for the host; there may be none.
    Next(Bytes),
    /// It is the last one, and all fit together. These bytes of it are for the host.
    Last(Bytes, Header),
    /// It was taken in before, or comes too early.
    Other,
    /// It is the next one, or on its way to the host. It will be acknowledged later, or sent again.
    Later,
    /// The pieces do not fit together; the text says why.
    Broken(&'static str),
}

impl Incoming {
    pub(super) fn new(name: Name, attempt: u64) -> Self {
        Self {
            name,
            attempt,
            beginning: Vec::new(),
            header: None,
            received: 0,
            checksum: 0,
            taken: 0,
            with_host: VecDeque::new(),
            held_by_host: 0,
        }
    }

    /// Bytes that came.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that were taken in: what a broken transfer goes on from.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes of memory that it takes, here and at the host.
    pub(super) fn held_bytes(&self) -> usize {
        let under_way = (self.received - self.taken) as usize;
        self.beginning.len() + under_way + self.held_by_host
    }

    /// Whether the host knows of it.
    pub(super) fn is_with_host(&self) -> bool {
        self.header.is_some()
    }

    /// Looks at a piece, and takes it if it is the next one.
    pub(super) fn take(
        &mut self,
        offset: u64,
        is_end: bool,
        mut piece: Bytes,
        bytes_max: u64,
    ) -> Assembly {
        if offset != self.received {
            return match (self.taken..self.received).contains(&offset) {
                true => Assembly::Later,
                false => Assembly::Other,
            };
        }
        let length = piece.len() as u64;
        if offset + length > bytes_max {
            return Assembly::Broken("it is larger than snapshot_bytes_max");
        }
        let data = match is_end {
            true => piece.len().checked_sub(CHECKSUM_BYTES),
            false => Some(piece.len()),
        };
        let Some(data) = data else {
            return Assembly::Broken("it ends without its checksum");
        };
        let checksum = piece.split_off(data);
        self.checksum = crc32c::crc32c_append(self.checksum, &piece);
        self.received += length;
        if self.header.is_none()
            && let Err(why) = self.read_header(&mut piece)
        {
            return Assembly::Broken(why);
        }
        if !is_end {
            return Assembly::Next(piece);
        }
        if self.checksum.to_le_bytes() != checksum[..] {
            return Assembly::Broken("its checksum is wrong");
        }
        match &self.header {
            Some(header) => Assembly::Last(piece, header.clone()),
            None => Assembly::Broken("it ends within its header"),
        }
    }

    /// Reads the header, if all of it is there. What follows it is left in `piece`.
    fn read_header(&mut self, piece: &mut Bytes) -> Result<(), &'static str> {
        let before = self.beginning.len();
        self.beginning.extend_from_slice(piece);
        match Header::read(&self.beginning) {
            Ok(Some((header, length))) if header.last == self.name.id.last => {
                piece.advance(length - before);
                self.beginning = Vec::new();
                self.header = Some(header);
                Ok(())
            }
            Ok(Some(_)) => Err("it is of another entry than its name says"),
            Ok(None) => {
                piece.clear();
                self.taken = self.received;
                Ok(())
            }
            Err(_) => Err("its header does not decode"),
        }
    }

    /// The host was given what was taken last.
    pub(super) fn on_given(&mut self) {
        self.with_host.push_back(self.received);
    }

    /// The host has taken in the next piece, and holds so much now.
    pub(super) fn on_taken(&mut self, held: usize) {
        self.held_by_host = held;
        if let Some(end) = self.with_host.pop_front() {
            self.taken = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::{Configuration, Index, LogId, Time};

    use super::*;
    use crate::driver::outgoing::{Outgoing, Piece};
    use crate::driver::piece::open;
    use crate::machine::BytesView;

    fn id() -> SnapshotId {
        let last = LogId {
            term: Term(2),
            index: Index(9),
        };
        SnapshotId { number: 1, last }
    }

    fn incoming() -> Incoming {
        let name = Name {
            from: ServerId(1),
            term: Term(3),
            id: id(),
        };
        Incoming::new(name, 1)
    }

    fn sent(state: &[u8], piece_bytes: usize) -> Vec<Piece> {
        let header = Header {
            last: id().last,
            configuration: (Index(4), Configuration::of([ServerId(1)])),
        };
        let view = Box::new(BytesView::new(state.to_vec()));
        let mut outgoing = Outgoing::new(id(), &header, view, piece_bytes, Time(0));
        let mut pieces = Vec::new();
        while let Some(piece) = outgoing.next(Time(0)) {
            outgoing.on_received(u64::MAX, Time(0));
            pieces.push(piece);
        }
        pieces
    }

    fn take(incoming: &mut Incoming, piece: &Piece) -> Assembly {
        let bytes = open(&piece.sealed).expect("sealed");
        let bytes = Bytes::copy_from_slice(bytes);
        incoming.take(piece.offset, piece.is_end, bytes, 1 << 20)
    }

    #[test]
    fn what_is_sent_is_what_the_host_is_given() {
        for length in [0, 1, 9, 10, 11, 1000] {
            for piece_bytes in [1, 10, 64, 4096] {
                let state: Vec<u8> = (0..length).map(|at| at as u8).collect();
                let (mut incoming, mut given) = (incoming(), Vec::new());
                let pieces = sent(&state, piece_bytes);
                let (end, before) = pieces.split_last().expect("at least one");
                for piece in before {
                    let Assembly::Next(bytes) = take(&mut incoming, piece) else {
                        panic!("not taken");
                    };
                    given.extend_from_slice(&bytes);
                    if incoming.is_with_host() {
                        incoming.on_given();
                        // While it is with the host the leader is not told to send it again.
                        let again = take(&mut incoming, piece);
                        assert!(matches!(again, Assembly::Later), "{again:?}");
                        incoming.on_taken(given.len());
                    }
                    assert_eq!(incoming.taken(), incoming.received());
                    let again = take(&mut incoming, piece);
                    assert!(matches!(again, Assembly::Other), "{again:?}");
                }
                let Assembly::Last(bytes, header) = take(&mut incoming, end) else {
                    panic!("not whole");
                };
                given.extend_from_slice(&bytes);
                assert_eq!(given, state);
                assert_eq!(header.configuration.0, Index(4));
            }
        }
    }

    #[test]
    fn a_piece_that_comes_too_early_is_not_taken() {
        let pieces = sent(&[1; 100], 64);
        let mut incoming = incoming();
        let early = take(&mut incoming, &pieces[1]);
        assert!(matches!(early, Assembly::Other), "{early:?}");
        assert_eq!((incoming.received(), incoming.held_bytes()), (0, 0));
    }

    #[test]
    fn pieces_that_do_not_fit_together_are_broken() {
        let pieces = sent(&[1; 100], 64);
        let others = sent(&[2; 100], 64);
        assert_eq!(pieces.len(), 3);
        let mut mixed = incoming();
        take(&mut mixed, &pieces[0]);
        take(&mut mixed, &others[1]);
        assert!(matches!(take(&mut mixed, &pieces[2]), Assembly::Broken(_)));
        let mut large = incoming();
        let bytes = Bytes::copy_from_slice(open(&pieces[0].sealed).expect("sealed"));
        assert!(matches!(
            large.take(0, false, bytes, 63),
            Assembly::Broken(_)
        ));
        let mut short = incoming();
        assert!(matches!(
            short.take(0, true, Bytes::from_static(b"abc"), 1 << 20),
            Assembly::Broken(_)
        ));
    }

    #[test]
    fn a_snapshot_of_another_entry_than_it_says_is_broken() {
        let mut incoming = incoming();
        incoming.name.id.last.index = Index(10);
        let pieces = sent(&[1; 10], 4096);
        assert!(matches!(
            take(&mut incoming, &pieces[0]),
            Assembly::Broken(_)
        ));
    }
}
