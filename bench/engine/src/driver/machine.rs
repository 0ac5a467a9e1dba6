//! What is replicated, the same code on both sides.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kontiki_node::machine::kv::{Kv, KvCommand};
use kontiki_node::machine::{
    BytesView, Command, Effects, Place, Refused, RestoreError, StateMachine, Validator, Version,
    View,
};

/// Bytes of a command of the empty machine, and of a value of the kv.
const PAYLOAD_BYTES: usize = 256;
/// Keys that are written.
const KEYS: usize = 10_000;
/// A prime above `KEYS`: a walk in such steps meets every key.
const STEP: usize = 1_000_003;
/// Pieces that a state is written in.
const PIECE_BYTES: usize = 1 << 20;

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// Does nothing, and answers nothing.
    Empty,
    /// The `kv` that nodes serve.
    Kv,
}

impl Machine {
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "no machine",
            Self::Kv => "kv",
        }
    }

    /// A machine for one server.
    pub fn make(self) -> Counted {
        let machine: Box<dyn StateMachine> = match self {
            Self::Empty => Box::new(Empty),
            Self::Kv => Box::new(Kv::default()),
        };
        Counted {
            machine,
            replica: Replica::default(),
        }
    }

    pub fn commands(self, caller: usize) -> Commands {
        Commands {
            machine: self,
            value: [0x5a; PAYLOAD_BYTES],
            position: caller * 39,
        }
    }

    /// Fails if the reply is not that to a write that was done.
    pub fn check_reply(self, reply: &[u8]) -> Result<()> {
        match self {
            Self::Empty => ensure!(reply.is_empty(), "nothing should be answered"),
            // A kind and a revision.
            Self::Kv => ensure!(
                reply.len() == 9 && reply[0] == 1,
                "a put answered {reply:?}"
            ),
        }
        Ok(())
    }

    /// Fails unless the state can be that after so many writes.
    pub fn check(self, state: &[u8], writes: u64) -> Result<()> {
        match self {
            Self::Empty => ensure!(state.is_empty(), "the empty machine has a state"),
            Self::Kv => {
                let mut kv = Kv::default();
                let mut reader = state;
                kv.restore(1, &mut reader).context("restore the state")?;
                let reply = kv.read(&[1, b'?']).context("read a key")?;
                let revision = reply.get(2..10).and_then(|bytes| bytes.first_chunk());
                let revision = revision.map(|bytes| u64::from_le_bytes(*bytes));
                ensure!(
                    revision == Some(writes),
                    "{writes} writes were answered, and the revision is {revision:?}"
                );
            }
        }
        Ok(())
    }
}

/// What a caller writes, one after the other.
pub struct Commands {
    machine: Machine,
    value: [u8; PAYLOAD_BYTES],
    position: usize,
}

impl Commands {
    /// In an allocation of its own, as it would come from a client.
    pub fn next(&mut self) -> Bytes {
        self.position = (self.position + STEP) % KEYS;
        match self.machine {
            Machine::Empty => Bytes::copy_from_slice(&self.value),
            Machine::Kv => {
                let key = format!("key-{:012}", self.position);
                let put = KvCommand::Put {
                    key: key.as_bytes(),
                    value: &self.value,
                    if_mod_revision: None,
                };
                put.encode()
            }
        }
    }
}

/// What one server has applied, seen from outside.
#[derive(Clone, Debug, Default)]
pub struct Replica(Arc<AtomicU64>);

impl Replica {
    /// Commands.
    pub fn applied(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A machine that counts the commands it is given.
pub struct Counted {
    machine: Box<dyn StateMachine>,
    replica: Replica,
}

impl Counted {
    pub fn replica(&self) -> Replica {
        self.replica.clone()
    }
}

/// The whole state of a machine.
pub fn state_of(machine: &dyn StateMachine) -> Vec<u8> {
    let (mut view, mut state) = (machine.snapshot(), Vec::new());
    while view.write(&mut state, PIECE_BYTES) {}
    state
}

impl StateMachine for Counted {
    fn name(&self) -> &'static str {
        self.machine.name()
    }

    fn place(&self) -> Place {
        self.machine.place()
    }

    fn validator(&self) -> Validator {
        self.machine.validator()
    }

    fn apply(
        &mut self,
        version: Version,
        batch: &[Command<'_>],
        effects: &mut Effects,
    ) -> Vec<Vec<u8>> {
        self.replica.0.fetch_add(batch.len() as u64, Relaxed);
        self.machine.apply(version, batch, effects)
    }

    fn read(&self, query: &[u8]) -> Result<Vec<u8>, Refused> {
        self.machine.read(query)
    }

    fn snapshot(&self) -> Box<dyn View> {
        self.machine.snapshot()
    }

    fn restore(&mut self, version: Version, reader: &mut dyn Read) -> Result<(), RestoreError> {
        self.machine.restore(version, reader)
    }

    fn size(&self) -> usize {
        self.machine.size()
    }
}

struct Empty;

impl StateMachine for Empty {
    fn name(&self) -> &'static str {
        "empty"
    }

    fn place(&self) -> Place {
        Place::Inline
    }

    fn apply(&mut self, _: Version, batch: &[Command<'_>], _: &mut Effects) -> Vec<Vec<u8>> {
        vec![Vec::new(); batch.len()]
    }

    fn read(&self, _: &[u8]) -> Result<Vec<u8>, Refused> {
        Ok(Vec::new())
    }

    fn snapshot(&self) -> Box<dyn View> {
        Box::new(BytesView::new(Vec::new()))
    }

    fn restore(&mut self, _: Version, _: &mut dyn Read) -> Result<(), RestoreError> {
        Ok(())
    }

    fn size(&self) -> usize {
        0
    }
}
