//! A snapshot that arrives: pieces in order, verified as a whole once the last is there.

use bytes::Bytes;
use kontiki_raft::{ServerId, SnapshotId, Term};

use super::piece::{CHECKSUM_BYTES, Header, Pieces};

/// Which snapshot: two of the same name are the same, byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) from: ServerId,
    pub(super) term: Term,
    pub(super) id: SnapshotId,
}

/// The pieces so far.
pub(super) struct Incoming {
    pub(super) name: Name,
    pieces: Pieces,
    received: u64,
    checksum: u32,
}

/// What a piece came to.
#[derive(Debug)]
pub(super) enum Assembly {
    /// More are needed; this much is there.
    Received(u64),
    /// All are there and fit together.
    Whole {
        bytes: u64,
        header: Header,
        /// The host's state.
        state: Pieces,
    },
    /// They do not fit together; the text says why.
    Broken(&'static str),
}

impl Incoming {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            pieces: Pieces::default(),
            received: 0,
            checksum: 0,
        }
    }

    /// Bytes that are there.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Takes a piece, if it is the next one. Copies it: a slice of a receive buffer would keep
    /// all of that alive. Whole or broken, nothing is left here.
    pub(super) fn take(
        &mut self,
        offset: u64,
        is_end: bool,
        piece: &[u8],
        bytes_max: u64,
    ) -> Assembly {
        if offset != self.received {
            return Assembly::Received(self.received);
        }
        if offset + piece.len() as u64 > bytes_max {
            return Assembly::Broken("it is larger than snapshot_bytes_max");
        }
        let data = match is_end {
            true => piece.len().checked_sub(CHECKSUM_BYTES),
            false => Some(piece.len()),
        };
        let Some(data) = data else {
            return Assembly::Broken("it ends without its checksum");
        };
        let (data, checksum) = piece.split_at(data);
        self.checksum = crc32c::crc32c_append(self.checksum, data);
        self.received += piece.len() as u64;
        self.pieces.push(Bytes::copy_from_slice(data));
        if !is_end {
            return Assembly::Received(self.received);
        }
        if self.checksum.to_le_bytes() != checksum {
            return Assembly::Broken("its checksum is wrong");
        }
        let mut state = std::mem::take(&mut self.pieces);
        match Header::read(&mut state) {
            Some(header) if header.last == self.name.id.last => Assembly::Whole {
                bytes: self.received,
                header,
                state,
            },
            Some(_) => Assembly::Broken("it is of another entry than its name says"),
            None => Assembly::Broken("its header does not decode"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

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
        Incoming::new(Name {
            from: ServerId(1),
            term: Term(3),
            id: id(),
        })
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
        incoming.take(piece.offset, piece.is_end, bytes, 1 << 20)
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        for length in [0, 1, 9, 10, 11, 1000] {
            for piece_bytes in [1, 10, 64, 4096] {
                let state: Vec<u8> = (0..length).map(|at| at as u8).collect();
                let mut incoming = incoming();
                let pieces = sent(&state, piece_bytes);
                let (end, before) = pieces.split_last().expect("at least one");
                for piece in before {
                    // Twice, and one that is too early: neither changes anything.
                    assert!(matches!(take(&mut incoming, piece), Assembly::Received(_)));
                    let received = incoming.received();
                    let again = take(&mut incoming, piece);
                    assert!(matches!(again, Assembly::Received(at) if at == received));
                }
                let Assembly::Whole {
                    header, mut state, ..
                } = take(&mut incoming, end)
                else {
                    panic!("not whole");
                };
                let mut read = Vec::new();
                state.read_to_end(&mut read).expect("in memory");
                assert_eq!(read.len(), length);
                assert_eq!(header.configuration.0, Index(4));
            }
        }
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
        let bytes = open(&pieces[0].sealed).expect("sealed");
        assert!(matches!(
            large.take(0, false, bytes, 63),
            Assembly::Broken(_)
        ));
        let mut short = incoming();
        assert!(matches!(
            short.take(0, true, b"abc", 1 << 20),
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
