//! Three of raft-rs's `RawNode` over its `MemStorage`. Its loop is that of its documentation.

use std::time::Duration;

use anyhow::{Context, Result};
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole, Storage};

use super::{
    APPEND_BYTES_MAX, APPENDS_MAX, Cluster, Delivered, HEARTBEAT, HELD_ENTRIES_MAX, KEPT_ENTRIES,
};

const LEADER: usize = 0;

pub struct RaftRs {
    servers: Vec<Server>,
    sent: Vec<Message>,
    ticks: u32,
}

struct Server {
    node: RawNode<MemStorage>,
    inbox: Vec<Message>,
    delivered: Delivered,
}

impl RaftRs {
    pub fn new() -> Result<Self> {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut servers = Vec::new();
        for id in 1..=3 {
            let config = Config {
                id,
                heartbeat_tick: 1,
                election_tick: 10,
                check_quorum: true,
                pre_vote: true,
                max_size_per_msg: APPEND_BYTES_MAX as u64,
                max_inflight_msgs: APPENDS_MAX,
                // Merges messages with entries to one server: with batches of 16 a tenth faster than
                // without, with larger ones the same.
                batch_append: true,
                ..Config::default()
            };
            let voters = ConfState::from((vec![1, 2, 3], vec![]));
            let storage = MemStorage::new_with_conf_state(voters);
            servers.push(Server {
                node: RawNode::new(&config, storage, &logger).context("make a node")?,
                inbox: Vec::new(),
                delivered: Delivered::default(),
            });
        }
        servers[LEADER].node.campaign().context("campaign")?;
        Ok(Self {
            servers,
            sent: Vec::new(),
            ticks: 0,
        })
    }
}

impl Cluster for RaftRs {
    /// One message for the batch, as a follower that forwards proposals would send it.
    fn propose(&mut self, batch: Vec<Vec<u8>>) -> Result<()> {
        let entry = |payload: Vec<u8>| Entry {
            data: payload.into(),
            ..Entry::default()
        };
        let entries: Vec<Entry> = batch.into_iter().map(entry).collect();
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = LEADER as u64 + 1;
        message.set_entries(entries.into());
        self.servers[LEADER].node.step(message).context("propose")
    }

    fn turn(&mut self, now: Duration) -> Result<()> {
        let ticks = (now.as_nanos() / HEARTBEAT.as_nanos()) as u32;
        for n in 0..self.servers.len() {
            for _ in self.ticks..ticks {
                self.servers[n].node.tick();
            }
            self.servers[n].turn(&mut self.sent)?;
            for message in self.sent.drain(..) {
                self.servers[message.to as usize - 1].inbox.push(message);
            }
        }
        self.ticks = ticks;
        Ok(())
    }

    fn is_led(&self) -> bool {
        let raft = &self.servers[LEADER].node.raft;
        raft.state == StateRole::Leader && raft.commit_to_current_term()
    }

    fn delivered(&self) -> [Delivered; 3] {
        [0, 1, 2].map(|n| self.servers[n].delivered)
    }
}

impl Server {
    fn turn(&mut self, sent: &mut Vec<Message>) -> Result<()> {
        for message in std::mem::take(&mut self.inbox) {
            self.node.step(message).context("step")?;
        }
        if !self.node.has_ready() {
            return Ok(());
        }
        let mut ready = self.node.ready();
        sent.append(&mut ready.take_messages());
        self.hand_over(&ready.take_committed_entries());
        let store = self.node.store().clone();
        store.wl().append(ready.entries()).context("append")?;
        if let Some(state) = ready.hs() {
            store.wl().set_hardstate(state.clone());
        }
        sent.append(&mut ready.take_persisted_messages());
        let mut light = self.node.advance(ready);
        if let Some(commit) = light.commit_index() {
            store.wl().mut_hard_state().set_commit(commit);
        }
        sent.append(&mut light.take_messages());
        self.hand_over(&light.take_committed_entries());
        self.node.advance_apply();
        self.compact()
    }

    fn hand_over(&mut self, entries: &[Entry]) {
        for entry in entries {
            if entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty() {
                self.delivered.take(&entry.data);
            }
        }
    }

    fn compact(&mut self) -> Result<()> {
        let store = self.node.store();
        let (first, last) = (store.first_index()?, store.last_index()?);
        if last + 1 - first < HELD_ENTRIES_MAX {
            return Ok(());
        }
        let through = (last - KEPT_ENTRIES).min(self.node.raft.raft_log.applied);
        store.wl().compact(through).context("compact")
    }
}
