//! A snapshot that is being taken in, beside the state that is in use until it is complete.
//!
//! What comes before the machine's state is small and is gathered until it can be read as a whole. The
//! machine's own bytes go to the machine as they come, if it can take them in piece by piece
//! ([`StateMachine::restoring`]); else they are kept until all are there.

use std::fmt;

use bytes::Bytes;

use super::sessions::Sessions;
use super::snapshot::{Head, prefix_bytes};
use crate::driver::Pieces;
use crate::machine::{RestoreError, Restoring};

/// A state in the making.
pub(super) struct Receiving {
    /// Which snapshot it is, as the driver counts them.
    pub(super) attempt: u64,
    /// Why it cannot be completed. The bytes that come after that are ignored.
    failure: Option<String>,
    /// What came before the machine's state, until all of that is there.
    prefix: Vec<u8>,
    begun: Option<Begun>,
}

/// A snapshot whose first part, and whose sessions, were read.
pub(super) struct Begun {
    pub(super) head: Head,
    pub(super) sessions: Sessions,
    pub(super) machine: MachineState,
}

/// The state of the machine so far.
pub(super) enum MachineState {
    /// In the machine's own form.
    Restoring(Box<dyn Restoring>),
    /// As bytes, which [`crate::machine::StateMachine::restore`] will read.
    Bytes(Pieces),
}

impl Receiving {
    pub(super) fn new(attempt: u64) -> Self {
        Self {
            attempt,
            failure: None,
            prefix: Vec::new(),
            begun: None,
        }
    }

    /// Takes the next bytes. `begin` reads what comes before the machine's state, and makes room for that.
    pub(super) fn take(
        &mut self,
        piece: &[u8],
        begin: impl FnOnce(&[u8]) -> Result<Begun, RestoreError>,
    ) -> Result<usize, String> {
        if self.failure.is_none()
            && let Err(error) = self.try_take(piece, begin)
        {
            // What was built so far is of no use any more.
            (self.begun, self.prefix) = (None, Vec::new());
            self.failure = Some(error.0);
        }
        match &self.failure {
            Some(why) => Err(why.clone()),
            None => Ok(self.held_bytes()),
        }
    }

    fn try_take(
        &mut self,
        piece: &[u8],
        begin: impl FnOnce(&[u8]) -> Result<Begun, RestoreError>,
    ) -> Result<(), RestoreError> {
        if let Some(begun) = &mut self.begun {
            return begun.machine.take(piece);
        }
        self.prefix.extend_from_slice(piece);
        let Some(length) = prefix_bytes(&self.prefix)? else {
            return Ok(());
        };
        if self.prefix.len() < length {
            return Ok(());
        }
        let gathered = std::mem::take(&mut self.prefix);
        let (prefix, rest) = gathered.split_at(length);
        let begun = self.begun.insert(begin(prefix)?);
        begun.machine.take(rest)
    }

    /// Bytes of memory that it takes.
    fn held_bytes(&self) -> usize {
        let begun = self.begun.as_ref().map_or(0, |begun| {
            begun.sessions.status().bytes + begun.machine.held_bytes()
        });
        self.prefix.len() + begun
    }

    /// All bytes were taken.
    pub(super) fn finish(self) -> Result<Begun, RestoreError> {
        match (self.failure, self.begun) {
            (Some(why), _) => Err(RestoreError(why)),
            (None, Some(begun)) => Ok(begun),
            (None, None) => Err(RestoreError("cut short".into())),
        }
    }
}

impl MachineState {
    fn take(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        match self {
            Self::Restoring(restoring) => restoring.take(bytes),
            Self::Bytes(pieces) => {
                // A copy: a slice of a receive buffer would keep all of that alive.
                pieces.push(Bytes::copy_from_slice(bytes));
                Ok(())
            }
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Self::Restoring(restoring) => restoring.size(),
            Self::Bytes(pieces) => pieces.length(),
        }
    }
}

/// What is left of a snapshot that was given up. To drop it may take long, and may be done on any thread.
pub struct Discarded(#[expect(dead_code, reason = "it is only to be dropped")] Option<Receiving>);

impl Discarded {
    pub(super) fn new(receiving: Option<Receiving>) -> Self {
        Self(receiving)
    }
}

impl fmt::Debug for Discarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Discarded")
    }
}
