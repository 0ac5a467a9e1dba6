//! Settings that do not fit together, or do not fit the network.
//!
//! None of it endangers data. What is refused at the start of a server is what it can never work with by
//! itself; what depends on others is a warning, because servers that are being restarted one by one with
//! other settings differ for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_raft::{Configuration, ServerId};

use super::settings::Settings;

/// An election timeout must be so many heartbeats of whoever may lead: with fewer, one that is lost makes
/// a voter campaign.
pub const HEARTBEATS_MIN: u32 = 3;
/// An election timeout must be so many round trips: two for the pre-votes and the votes, one for the first
/// heartbeat of the new leader and its answers, one for what may be late.
pub const ROUND_TRIPS_MIN: u32 = 4;
/// Settings that may differ a little differ too much from this factor on.
const FACTOR_MAX: u32 = 2;
/// Heartbeats for which voters promise their votes, of which one passes until the next promise is heard.
const LEASE_HEARTBEATS: u32 = 4;

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident $name:literal)*) => {
        /// What kind of warning it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum WarningReason { $($(#[$doc])* $reason),* }

        impl WarningReason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            /// As the API says it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$reason => $name),* }
            }
        }
    };
}

reasons! {
    /// A heartbeat is too slow for an election timeout.
    SlowHeartbeat "SLOW_HEARTBEAT"
    /// A round trip is too long for an election timeout.
    SlowRoundTrip "SLOW_ROUND_TRIP"
    /// A round trip is so long that no lease is ever held.
    NoLease "NO_LEASE"
    /// A server can never lead, because its quorum is larger than the number of voters.
    MinMajority "MIN_MAJORITY"
    /// No voter campaigns of its own accord.
    ElectionPriority "ELECTION_PRIORITY"
    /// Election timeouts differ.
    ElectionTimeouts "ELECTION_TIMEOUTS"
    /// Whether reads under a lease are on differs.
    LeaseReads "LEASE_READS"
    /// Bounds of what is not committed differ.
    UncommittedBytes "UNCOMMITTED_BYTES"
    /// Bounds of commands differ.
    CommandBytes "COMMAND_BYTES"
    /// State limits differ.
    StateLimits "STATE_LIMITS"
    /// A snapshot may be larger than what a server receives.
    SnapshotBytes "SNAPSHOT_BYTES"
}

/// One thing that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What kind.
    pub reason: WarningReason,
    /// The text, in pieces.
    text: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Server(ServerId),
    Text(String),
}

impl Warning {
    fn new(reason: WarningReason) -> Self {
        Self {
            reason,
            text: Vec::new(),
        }
    }

    fn server(mut self, server: ServerId) -> Self {
        self.text.push(Piece::Server(server));
        self
    }

    fn text(mut self, text: impl Into<String>) -> Self {
        self.text.push(Piece::Text(text.into()));
        self
    }

    /// For people, with the names of the servers.
    pub fn describe(&self, name: impl Fn(ServerId) -> String) -> String {
        let pieces = self.text.iter().map(|piece| match piece {
            Piece::Server(server) => name(*server),
            Piece::Text(text) => text.clone(),
        });
        pieces.collect()
    }

    /// The servers that it names.
    pub fn servers(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.text.iter().filter_map(|piece| match piece {
            Piece::Server(server) => Some(*server),
            Piece::Text(_) => None,
        })
    }
}

/// All that does not fit, each kind once, in the order of [`WarningReason`].
///
/// `members` are those of whom the settings are known, `me` among them.
pub(super) fn compare(
    me: ServerId,
    members: &BTreeMap<ServerId, &Settings>,
    configuration: &Configuration,
    round_trip: impl Fn(ServerId) -> Option<Duration>,
) -> Vec<Warning> {
    let voters: BTreeMap<ServerId, &Settings> = members
        .iter()
        .filter(|(server, _)| configuration.is_voter(**server) || **server == me)
        .map(|(server, settings)| (*server, *settings))
        .collect();
    let all_voters = configuration.voters.len();
    [
        slow_heartbeat(&voters),
        slow_round_trip(&voters, &round_trip),
        no_lease(me, &voters, &round_trip),
        min_majority(&voters, all_voters),
        election_priority(&voters, all_voters),
        election_timeouts(&voters),
        lease_reads(&voters),
        uncommitted_bytes(members),
        command_bytes(members),
        state_limits(members),
        snapshot_bytes(members),
    ]
    .into_iter()
    .flatten()
    .collect()
}

type Members<'a> = BTreeMap<ServerId, &'a Settings>;

/// The server with the smallest and the one with the largest of something.
fn extremes<T: Ord + Copy>(
    members: &Members<'_>,
    of: impl Fn(&Settings) -> T,
) -> Option<((ServerId, T), (ServerId, T))> {
    let values = || members.iter().map(|(server, its)| (*server, of(its)));
    let least = values().min_by_key(|(server, value)| (*value, *server))?;
    let most = values().max_by_key(|(server, value)| (*value, std::cmp::Reverse(*server)))?;
    Some((least, most))
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

/// Rounded up, so that what is recommended is enough.
fn at_least_milliseconds(duration: Duration) -> String {
    format!("{} ms", duration.as_nanos().div_ceil(1_000_000))
}

fn slow_heartbeat(voters: &Members<'_>) -> Option<Warning> {
    let (_, (sender, heartbeat)) = extremes(voters, |its| its.heartbeat)?;
    let ((voter, timeout), _) = extremes(voters, |its| its.election_timeout_min)?;
    let needed = heartbeat.saturating_mul(HEARTBEATS_MIN);
    (timeout < needed).then(|| {
        Warning::new(WarningReason::SlowHeartbeat)
            .server(sender)
            .text(format!(
                " sends a heartbeat every {} (raft.heartbeatMilliseconds), and ",
                milliseconds(heartbeat)
            ))
            .server(voter)
            .text(format!(
                " campaigns after {} without one (raft.electionTimeoutMilliseconds): that must be {} \
                 at least, {HEARTBEATS_MIN} heartbeats",
                milliseconds(timeout),
                milliseconds(needed),
            ))
    })
}

fn slow_round_trip(
    voters: &Members<'_>,
    round_trip: &impl Fn(ServerId) -> Option<Duration>,
) -> Option<Warning> {
    let measured = voters.keys().filter_map(|to| Some((round_trip(*to)?, *to)));
    let (took, to) = measured.max()?;
    let ((voter, timeout), _) = extremes(voters, |its| its.election_timeout_min)?;
    let needed = took.saturating_mul(ROUND_TRIPS_MIN);
    (timeout < needed).then(|| {
        Warning::new(WarningReason::SlowRoundTrip)
            .text("a round trip from the leader to ".to_owned())
            .server(to)
            .text(format!(" takes {}, and ", at_least_milliseconds(took)))
            .server(voter)
            .text(format!(
                " campaigns after {} (raft.electionTimeoutMilliseconds): that must be {} at least, \
                 {ROUND_TRIPS_MIN} round trips",
                milliseconds(timeout),
                at_least_milliseconds(needed),
            ))
    })
}

/// A promise counts from when it was asked for.
fn no_lease(
    me: ServerId,
    voters: &Members<'_>,
    round_trip: &impl Fn(ServerId) -> Option<Duration>,
) -> Option<Warning> {
    let mine = voters.get(&me).filter(|mine| mine.lease_reads)?;
    let measured = voters.keys().filter_map(|to| Some((round_trip(*to)?, *to)));
    let (took, to) = measured.max()?;
    let lasts = mine.heartbeat.saturating_mul(LEASE_HEARTBEATS);
    (took > lasts.min(mine.election_timeout_min)).then(|| {
        Warning::new(WarningReason::NoLease)
            .text("a round trip from the leader to ".to_owned())
            .server(to)
            .text(format!(
                " takes {}, which is longer than its promise for reads under a lease is good for \
                 ({LEASE_HEARTBEATS} heartbeats of {}): such reads ask the voters first; raise \
                 raft.heartbeatMilliseconds, or turn raft.leaseReads off",
                at_least_milliseconds(took),
                milliseconds(mine.heartbeat),
            ))
    })
}

fn min_majority(voters: &Members<'_>, all: usize) -> Option<Warning> {
    let (_, (server, most)) = extremes(voters, |its| its.min_majority)?;
    (all > 0 && most as usize > all).then(|| {
        Warning::new(WarningReason::MinMajority)
            .server(server)
            .text(format!(
                " needs {most} votes (raft.minMajority), and there are {all} voters: it can never lead"
            ))
    })
}

/// Only once all are known.
fn election_priority(voters: &Members<'_>, all: usize) -> Option<Warning> {
    let (_, (server, most)) = extremes(voters, |its| its.election_priority)?;
    (all > 0 && voters.len() >= all && most == 0).then(|| {
        Warning::new(WarningReason::ElectionPriority)
            .text("every voter has raft.electionPriority 0, ".to_owned())
            .server(server)
            .text(" as well: nobody campaigns unless nobody else can lead, or it is told to")
    })
}

fn election_timeouts(voters: &Members<'_>) -> Option<Warning> {
    let ((short, least), (long, most)) = extremes(voters, |its| its.election_timeout_min)?;
    (most > least.saturating_mul(FACTOR_MAX)).then(|| {
        let consequence = "the one always campaigns before the other, and a leader that one of them has \
                           given up the other still follows";
        differ(
            WarningReason::ElectionTimeouts,
            "raft.electionTimeoutMilliseconds",
            (short, milliseconds(least)),
            (long, milliseconds(most)),
            consequence,
        )
    })
}

fn lease_reads(voters: &Members<'_>) -> Option<Warning> {
    let ((off, least), (on, most)) = extremes(voters, |its| its.lease_reads)?;
    (least != most).then(|| {
        differ(
            WarningReason::LeaseReads,
            "raft.leaseReads",
            (off, least.to_string()),
            (on, most.to_string()),
            "who leads decides",
        )
    })
}

fn uncommitted_bytes(members: &Members<'_>) -> Option<Warning> {
    let ((few, least), (many, most)) = extremes(members, |its| its.uncommitted_bytes_max)?;
    (most > least.saturating_mul(FACTOR_MAX.into())).then(|| {
        differ(
            WarningReason::UncommittedBytes,
            "the bound of what is not committed (an eighth of limits.stateBytesMax)",
            (few, bytes(least)),
            (many, bytes(most)),
            "as followers they store at most twice their own, and hold a leader up that sends more",
        )
    })
}

fn command_bytes(members: &Members<'_>) -> Option<Warning> {
    let ((few, least), (many, most)) = extremes(members, |its| its.command_bytes_max)?;
    (least != most).then(|| {
        differ(
            WarningReason::CommandBytes,
            "limits.commandBytesMax",
            (few, bytes(least)),
            (many, bytes(most)),
            "which commands are too large depends on who leads",
        )
    })
}

fn state_limits(members: &Members<'_>) -> Option<Warning> {
    let limit = |its: &Settings| its.state_bytes_max.unwrap_or(u64::MAX);
    let ((few, least), (many, most)) = extremes(members, limit)?;
    (most > least.saturating_mul(FACTOR_MAX.into())).then(|| {
        differ(
            WarningReason::StateLimits,
            "the state limit (limits.stateBytesMax)",
            (few, limit_text(least)),
            (many, limit_text(most)),
            "a state that fills the larger one does not fit into a snapshot that the other takes in",
        )
    })
}

fn snapshot_bytes(members: &Members<'_>) -> Option<Warning> {
    let ((few, least), _) = extremes(members, |its| its.snapshot_bytes_max)?;
    let limited = members.iter();
    let limited = limited.filter_map(|(server, its)| Some((its.state_bytes_max?, *server)));
    let (most, many) = limited.max()?;
    (most > least).then(|| {
        Warning::new(WarningReason::SnapshotBytes)
            .server(few)
            .text(format!(
                " receives snapshots of at most {} (limits.snapshotBytesMax), and ",
                bytes(least)
            ))
            .server(many)
            .text(format!(
                " may hold a state of {}: a larger state could not be sent",
                bytes(most)
            ))
    })
}

fn bytes(count: u64) -> String {
    format!("{count} bytes")
}

fn limit_text(limit: u64) -> String {
    match limit {
        u64::MAX => "none".to_owned(),
        limit => bytes(limit),
    }
}

fn differ(
    reason: WarningReason,
    setting: &str,
    least: (ServerId, String),
    most: (ServerId, String),
    consequence: &str,
) -> Warning {
    Warning::new(reason)
        .text(format!("{setting} is {} at ", least.1))
        .server(least.0)
        .text(format!(" and {} at ", most.1))
        .server(most.0)
        .text(format!(": {consequence}"))
}

#[cfg(test)]
mod tests;
