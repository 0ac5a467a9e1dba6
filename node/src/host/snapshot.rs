//! The replicated state as a whole: taken at one entry, and put in place of what there was.
//!
//! ```text
//! u32 length of this part | u32 version, 0: none | u64 entry of Activate, 0: none
//! | u32 rolling hash | u8 1: reads under a lease are on, 0: off | name of the machine
//! | u64 length of this part | the sessions | the machine's state
//! ```
//! All little-endian.

use std::fmt;
use std::io::Read;

use kontiki_raft::{Index, LogId};

use super::Host;
use super::digest::{Digests, Rolling};
use super::receiving::{Begun, MachineState, Receiving};
use super::sessions::{Sessions, SessionsView};
use crate::driver::Pieces;
use crate::machine::{RestoreError, Version, View};

/// Bytes of the first part before the name.
const HEAD_BYTES: u32 = 17;
/// Bytes of the first part; far above any that there can be.
const HEAD_BYTES_MAX: u32 = 4 << 10;
/// Bytes of a piece when the own state is put back.
const PIECE_BYTES: usize = 256 << 10;

/// The state of a host, frozen at one entry.
pub struct HostView {
    /// The last entry applied.
    pub applied: LogId,
    head: Vec<u8>,
    state: BothViews,
}

impl fmt::Debug for HostView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostView at {}", self.applied)
    }
}

impl View for HostView {
    fn write(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        if !self.head.is_empty() {
            out.append(&mut self.head);
            return true;
        }
        self.state.write(out, bytes_max)
    }
}

/// The sessions, and then the machine.
pub(super) struct BothViews {
    sessions: SessionsView,
    sessions_are_written: bool,
    machine: Box<dyn View>,
}

impl BothViews {
    pub(super) fn new(sessions: Sessions, machine: Box<dyn View>) -> Self {
        Self {
            sessions: SessionsView::new(sessions),
            sessions_are_written: false,
            machine,
        }
    }
}

impl View for BothViews {
    fn write(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        if self.sessions_are_written {
            return self.machine.write(out, bytes_max);
        }
        self.sessions_are_written = !self.sessions.write(out, bytes_max);
        true
    }
}

pub(super) struct Head {
    version: Version,
    activated: Option<Index>,
    lease_reads: bool,
    rolling: Rolling,
}

impl Host {
    pub(super) fn view(&self) -> HostView {
        let name = self.machine.name().as_bytes();
        let mut head = Vec::new();
        head.extend_from_slice(&(HEAD_BYTES + name.len() as u32).to_le_bytes());
        head.extend_from_slice(&self.version.to_le_bytes());
        head.extend_from_slice(&self.activated.map_or(0, |index| index.0).to_le_bytes());
        head.extend_from_slice(&self.digests.rolling.encode());
        head.push(u8::from(self.lease_reads));
        head.extend_from_slice(name);
        HostView {
            applied: self.applied,
            head,
            state: BothViews::new(self.sessions.clone(), self.machine.snapshot()),
        }
    }

    /// Takes in a piece of what a view wrote. Answers how much is held of it.
    pub(super) fn receive(&mut self, attempt: u64, piece: &[u8]) -> Result<usize, String> {
        let known = self.receiving.take();
        let known = known.filter(|receiving| receiving.attempt == attempt);
        let mut receiving = known.unwrap_or_else(|| Receiving::new(attempt));
        let result = receiving.take(piece, |prefix| self.begin(prefix));
        self.receiving = Some(receiving);
        result
    }

    /// Reads what comes before the machine's state.
    fn begin(&self, mut prefix: &[u8]) -> Result<Begun, RestoreError> {
        let head = self.read_head(&mut prefix)?;
        let sessions = read_sessions(&mut prefix)?;
        let machine = match self.machine.restoring(head.version) {
            Some(restoring) => MachineState::Restoring(restoring),
            None => MachineState::Bytes(Pieces::default()),
        };
        Ok(Begun {
            head,
            sessions,
            machine,
        })
    }

    /// Puts the state that was taken in, of the entry `last`, in place of the one that is in use. A
    /// machine that cannot read it is given back what it had.
    ///
    /// # Errors
    /// The state is none of this machine's; nothing has changed. Panics if the machine does not even
    /// take its own state back.
    pub(super) fn restore(&mut self, last: LogId) -> Result<(), RestoreError> {
        let none = || RestoreError("nothing of it was taken in".into());
        let receiving = self.receiving.take().ok_or_else(none)?;
        let Begun {
            head,
            sessions,
            machine,
        } = receiving.finish()?;
        match machine {
            MachineState::Restoring(restoring) => self.machine = restoring.finish()?,
            MachineState::Bytes(mut bytes) => self.restore_machine(head.version, &mut bytes)?,
        }
        self.applied = last;
        self.version = head.version;
        self.activated = head.activated;
        self.lease_reads = head.lease_reads;
        self.sessions = sessions;
        // Digests of checkpoints before are of another past; without one it is not judged.
        self.digests = Digests::after(head.rolling);
        self.unchecked = 0;
        self.machine_bytes = self.machine.size();
        Ok(())
    }

    fn restore_machine(
        &mut self,
        version: Version,
        state: &mut dyn Read,
    ) -> Result<(), RestoreError> {
        let own = self.machine.snapshot();
        let Err(error) = self.machine.restore(version, state) else {
            return Ok(());
        };
        let mut own = ViewReader::new(own);
        let back = self.machine.restore(self.version, &mut own);
        back.expect("a machine takes its own state back");
        Err(error)
    }

    fn read_head(&self, state: &mut dyn Read) -> Result<Head, RestoreError> {
        let length = check_head_bytes(u32::from_le_bytes(read(state)?))?;
        let version = Version::from_le_bytes(read(state)?);
        let activated = u64::from_le_bytes(read(state)?);
        let rolling = Rolling::decode(read(state)?);
        let lease_reads = match read(state)? {
            [0] => false,
            [1] => true,
            [other] => return Err(RestoreError(format!("{other} says whether leases are on"))),
        };
        let mut name = vec![0; (length - HEAD_BYTES) as usize];
        state.read_exact(&mut name)?;
        let mine = self.machine.name();
        if name != mine.as_bytes() {
            let theirs = String::from_utf8_lossy(&name);
            return Err(RestoreError(format!(
                "the state of a machine called {theirs:?}, not {mine:?}"
            )));
        }
        if version != 0 && !self.versions.contains(&version) {
            return Err(RestoreError(format!(
                "version {version} is in force, which this program cannot run"
            )));
        }
        Ok(Head {
            version,
            activated: (activated != 0).then_some(Index(activated)),
            lease_reads,
            rolling,
        })
    }
}

/// Bytes of what comes before the machine's state; `None` if too little of it is there to tell.
pub(super) fn prefix_bytes(state: &[u8]) -> Result<Option<usize>, RestoreError> {
    let Some(length) = state.first_chunk() else {
        return Ok(None);
    };
    let head = 4 + check_head_bytes(u32::from_le_bytes(*length))? as usize;
    let Some(length) = state.get(head..).and_then(<[u8]>::first_chunk) else {
        return Ok(None);
    };
    let sessions = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    Ok(Some(sessions.saturating_add(head + 8)))
}

fn check_head_bytes(length: u32) -> Result<u32, RestoreError> {
    match (HEAD_BYTES..=HEAD_BYTES_MAX).contains(&length) {
        true => Ok(length),
        false => Err(RestoreError(format!("a head of {length} bytes"))),
    }
}

fn read_sessions(state: &mut dyn Read) -> Result<Sessions, RestoreError> {
    let length = u64::from_le_bytes(read(state)?);
    let mut bytes = Vec::new();
    // No more than there is, whatever the length says.
    state.take(length).read_to_end(&mut bytes)?;
    Sessions::decode(&bytes).map_err(|error| RestoreError(error.to_string()))
}

fn read<const N: usize>(state: &mut dyn Read) -> Result<[u8; N], RestoreError> {
    let mut bytes = [0; N];
    state.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads what a view writes.
struct ViewReader {
    view: Box<dyn View>,
    written: Vec<u8>,
    taken: usize,
    is_over: bool,
}

impl ViewReader {
    fn new(view: Box<dyn View>) -> Self {
        Self {
            view,
            written: Vec::new(),
            taken: 0,
            is_over: false,
        }
    }
}

impl Read for ViewReader {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.taken == self.written.len() && !self.is_over {
            self.written.clear();
            self.taken = 0;
            self.is_over = !self.view.write(&mut self.written, PIECE_BYTES);
        }
        let taken = (self.written.len() - self.taken).min(out.len());
        out[..taken].copy_from_slice(&self.written[self.taken..self.taken + taken]);
        self.taken += taken;
        Ok(taken)
    }
}
