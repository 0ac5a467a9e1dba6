//! What servers are configured with, as far as it has to fit what the others are configured with.
//!
//! A server says its settings with its answers to regular heartbeats; they never change while it runs.
//! The leader compares those of all members, and the time that a round trip to each takes, whenever
//! something of it changes. What does not fit is a warning: see [`super::warnings`].

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kontiki_raft::{Index, Message, Role, ServerId, Term};

use super::interface::Refusal;
use super::warnings::{Warning, compare};
use super::{Driver, DriverConfig};

/// A round trip is judged by the shortest of the last so many, once there are as many: one that took long
/// because a server stood still says nothing of the network.
const ROUND_TRIPS_MAX: usize = 8;
/// What was judged counts until it is wrong by a quarter, so that a warning does not change with every
/// heartbeat.
const DRIFT_MAX: f64 = 1.25;

/// Every server takes messages with commands of so many bytes, whatever it is configured with.
pub(crate) const COMMAND_BYTES_SAFE: usize = 1 << 20;

/// The round trips to another member, since this server leads.
#[derive(Debug, Default)]
struct RoundTrips {
    /// The last ones, oldest first.
    last: VecDeque<Duration>,
    judged: Option<Duration>,
}

impl RoundTrips {
    /// Whether something else is judged now.
    fn add(&mut self, took: Duration) -> bool {
        if self.last.len() >= ROUND_TRIPS_MAX {
            self.last.pop_front();
        }
        self.last.push_back(took);
        let shortest = self.last.iter().min().copied().unwrap_or_default();
        let is_right = |judged: Duration| {
            shortest <= judged.mul_f64(DRIFT_MAX) && judged <= shortest.mul_f64(DRIFT_MAX)
        };
        if self.last.len() < ROUND_TRIPS_MAX || self.judged.is_some_and(is_right) {
            return false;
        }
        self.judged = Some(shortest);
        true
    }
}

/// The settings of a server that have to fit those of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// See [`kontiki_raft::Config::heartbeat`].
    pub heartbeat: Duration,
    /// See [`kontiki_raft::Config::election_timeout_min`].
    pub election_timeout_min: Duration,
    /// See [`kontiki_raft::Config::election_timeout_max`].
    pub election_timeout_max: Duration,
    /// See [`kontiki_raft::Config::min_majority`].
    pub min_majority: u32,
    /// See [`kontiki_raft::Config::election_priority`].
    pub election_priority: u8,
    /// While this server leads, reads under a lease are on.
    pub lease_reads: bool,
    /// See [`kontiki_raft::Config::uncommitted_bytes_max`].
    pub uncommitted_bytes_max: u64,
    /// Bytes of the largest command that clients may write.
    pub command_bytes_max: u64,
    /// See [`DriverConfig::state_bytes_max`].
    pub state_bytes_max: Option<u64>,
    /// Bytes of the largest snapshot that is received.
    pub snapshot_bytes_max: u64,
}

impl Settings {
    pub(super) fn of(config: &DriverConfig) -> Self {
        let raft = &config.raft;
        Self {
            heartbeat: raft.heartbeat,
            election_timeout_min: raft.election_timeout_min,
            election_timeout_max: raft.election_timeout_max,
            min_majority: raft.min_majority.try_into().unwrap_or(u32::MAX),
            election_priority: raft.election_priority,
            lease_reads: config.lease_reads,
            uncommitted_bytes_max: raft.uncommitted_bytes_max as u64,
            command_bytes_max: config.command_bytes_max as u64,
            state_bytes_max: config.state_bytes_max,
            snapshot_bytes_max: config.snapshots.bytes_max,
        }
    }
}

/// What is known of the settings of the members, and what does not fit.
#[derive(Debug)]
pub(super) struct Comparison {
    mine: Settings,
    /// Of other members that have said theirs.
    others: BTreeMap<ServerId, Settings>,
    round_trips: BTreeMap<ServerId, RoundTrips>,
    /// Something was learnt since they were compared.
    is_new: bool,
    /// What they were compared for: whether this server led, its term, and the configuration.
    compared: Option<(bool, Term, Index)>,
    warnings: Vec<Warning>,
}

impl Comparison {
    pub(super) fn new(mine: Settings) -> Self {
        Self {
            mine,
            others: BTreeMap::new(),
            round_trips: BTreeMap::new(),
            is_new: false,
            compared: None,
            warnings: Vec::new(),
        }
    }

    pub(super) fn mine(&self) -> &Settings {
        &self.mine
    }

    pub(super) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn round_trip(&self, server: ServerId) -> Option<Duration> {
        self.round_trips.get(&server)?.judged
    }
}

impl<R> Driver<R> {
    /// A server said its settings. Those of members only are kept, which bounds them.
    pub(super) fn learn_settings(&mut self, server: ServerId, settings: &Settings) {
        let comparison = &mut self.comparison;
        if comparison.others.get(&server) != Some(settings)
            && self.raft.configuration().1.contains(server)
        {
            comparison.others.insert(server, settings.clone());
            comparison.is_new = true;
        }
    }

    /// Measures how long the answer to a regular heartbeat has taken.
    pub(super) fn measure_round_trip(&mut self, from: ServerId, message: &Message) {
        let Message::HeartbeatAck(ack) = message else {
            return;
        };
        let is_mine = ack.term == self.raft.term() && self.raft.role() == Role::Leader;
        if let Some(beat) = ack.beat.filter(|beat| is_mine && beat.sent <= self.now)
            && self.raft.configuration().1.contains(from)
        {
            let took = self.now.since(beat.sent);
            let comparison = &mut self.comparison;
            comparison.is_new |= comparison.round_trips.entry(from).or_default().add(took);
        }
    }

    /// Compares the settings of the members, if this server leads, and those of this server by
    /// themselves otherwise.
    pub(super) fn compare_settings(&mut self) {
        let leads = self.raft.role() == Role::Leader;
        let (index, configuration) = self.raft.configuration();
        let basis = (leads, self.raft.term(), index);
        let comparison = &mut self.comparison;
        let is_same = comparison.compared.replace(basis) == Some(basis);
        if is_same && !(leads && std::mem::take(&mut comparison.is_new)) {
            return;
        }
        if !is_same {
            comparison.round_trips.clear();
            let members = configuration.servers();
            comparison
                .others
                .retain(|server, _| members.contains(server));
        }
        let mut members = BTreeMap::from([(self.raft.id(), &comparison.mine)]);
        if leads {
            members.extend(comparison.others.iter().map(|(server, its)| (*server, its)));
        }
        let round_trip = |server| comparison.round_trip(server);
        comparison.warnings = compare(self.raft.id(), &members, configuration, round_trip);
    }

    /// A command that is larger than what every server takes goes into the log only once a quorum is known
    /// to take it, and nobody to refuse it: the entry could never be committed otherwise.
    pub(super) fn check_command_bytes(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes <= COMMAND_BYTES_SAFE {
            return Ok(());
        }
        let comparison = &self.comparison;
        let smallest = comparison.others.iter();
        let smallest = smallest
            .map(|(server, its)| (its.command_bytes_max, *server))
            .min();
        if let Some((max, server)) = smallest.filter(|(max, _)| *max < bytes as u64) {
            let max = max.max(COMMAND_BYTES_SAFE as u64);
            return Err(Refusal::CommandTooLarge { bytes, server, max });
        }
        let is_known =
            |voter: &ServerId| *voter == self.raft.id() || comparison.others.contains_key(voter);
        let min_majority = self.raft.config().min_majority;
        let mut halves = self.raft.configuration().1.halves();
        let is_quorum_known = halves.all(|half| {
            half.iter().filter(|voter| is_known(voter)).count()
                >= (half.len() / 2 + 1).max(min_majority)
        });
        match is_quorum_known {
            true => Ok(()),
            // At the beginning of a term, until the first heartbeats are answered.
            false => Err(Refusal::NoCommit),
        }
    }

    /// The longest of the shortest round trips to the others, if this server leads and has measured any.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        let comparison = &self.comparison;
        let servers = comparison.round_trips.keys();
        servers
            .filter_map(|server| comparison.round_trip(*server))
            .max()
    }
}
