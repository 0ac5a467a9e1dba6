//! Its state machine: the same machine that our host has.
//!
//! A snapshot is what allows it to cut its log. It costs nothing here: it has no content, because
//! nobody needs one as long as all follow closely, and a run in which one is sent fails.

use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kontiki_node::machine::{Command, Effects, StateMachine};
use kontiki_raft::{Index, Term};
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{Entry, EntryPayload, LogId, OptionalSend, SnapshotMeta, StoredMembership};

use super::{StorageError, Types};
use crate::driver::machine::{Counted, Replica, state_of};

/// Clones share one state.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    has_sent_snapshot: AtomicBool,
}

struct State {
    machine: Counted,
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, ()>,
    snapshot: Option<SnapshotMeta<u64, ()>>,
}

impl Store {
    pub fn new(machine: Counted) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                machine,
                applied: None,
                membership: StoredMembership::default(),
                snapshot: None,
            }),
            has_sent_snapshot: AtomicBool::new(false),
        }))
    }

    pub fn replica(&self) -> Replica {
        self.lock().machine.replica()
    }

    pub fn state(&self) -> Vec<u8> {
        state_of(&self.lock().machine)
    }

    pub fn has_sent_snapshot(&self) -> bool {
        self.0.has_sent_snapshot.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn snapshot(meta: SnapshotMeta<u64, ()>) -> Snapshot<Types> {
    Snapshot {
        meta,
        snapshot: Box::new(Cursor::new(Vec::new())),
    }
}

impl State {
    fn apply(&mut self, entries: impl Iterator<Item = Entry<Types>>) -> Vec<Vec<u8>> {
        let entries: Vec<Entry<Types>> = entries.collect();
        let mut commands = Vec::with_capacity(entries.len());
        let mut is_command = Vec::with_capacity(entries.len());
        for entry in &entries {
            if let EntryPayload::Normal(bytes) = &entry.payload {
                let id = kontiki_raft::LogId {
                    term: Term(entry.log_id.leader_id.term),
                    index: Index(entry.log_id.index),
                };
                commands.push(Command { id, bytes });
            }
            if let EntryPayload::Membership(membership) = &entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
            }
            is_command.push(matches!(entry.payload, EntryPayload::Normal(_)));
            self.applied = Some(entry.log_id);
        }
        let replies = self.machine.apply(1, &commands, &mut Effects::default());
        if replies.len() == entries.len() {
            return replies;
        }
        let mut replies = replies.into_iter();
        let reply = |is_command| match is_command {
            true => replies.next().unwrap_or_default(),
            false => Vec::new(),
        };
        is_command.into_iter().map(reply).collect()
    }
}

impl RaftSnapshotBuilder<Types> for Store {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let mut state = self.lock();
        let meta = SnapshotMeta {
            last_log_id: state.applied,
            last_membership: state.membership.clone(),
            snapshot_id: state.applied.map_or(0, |applied| applied.index).to_string(),
        };
        state.snapshot = Some(meta.clone());
        Ok(snapshot(meta))
    }
}

impl RaftStateMachine<Types> for Store {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, ()>), StorageError> {
        let state = self.lock();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<u8>>, StorageError>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        Ok(self.lock().apply(entries.into_iter()))
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        self.0.has_sent_snapshot.store(true, Relaxed);
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        _: &SnapshotMeta<u64, ()>,
        _: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        self.0.has_sent_snapshot.store(true, Relaxed);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        Ok(self.lock().snapshot.clone().map(snapshot))
    }
}
