//! What an acknowledgement says of its sender's settings.

use std::time::Duration;

use kontiki_proto::raft;

use crate::driver::Settings;

pub(super) fn encode(settings: Settings) -> raft::Settings {
    let Settings {
        heartbeat,
        election_timeout_min,
        election_timeout_max,
        min_majority,
        election_priority,
        lease_reads,
        uncommitted_bytes_max,
        command_bytes_max,
        state_bytes_max,
        snapshot_bytes_max,
    } = settings;
    raft::Settings {
        heartbeat_milliseconds: milliseconds(heartbeat),
        election_timeout_milliseconds: milliseconds(election_timeout_min),
        election_timeout_max_milliseconds: milliseconds(election_timeout_max),
        min_majority,
        election_priority: election_priority.into(),
        lease_reads,
        uncommitted_bytes_max,
        command_bytes_max,
        state_bytes_max,
        snapshot_bytes_max,
    }
}

pub(super) fn decode(said: raft::Settings) -> Settings {
    let duration = |milliseconds: u32| Duration::from_millis(milliseconds.into());
    Settings {
        heartbeat: duration(said.heartbeat_milliseconds),
        election_timeout_min: duration(said.election_timeout_milliseconds),
        election_timeout_max: duration(said.election_timeout_max_milliseconds),
        min_majority: said.min_majority,
        election_priority: u8::try_from(said.election_priority).unwrap_or(u8::MAX),
        lease_reads: said.lease_reads,
        uncommitted_bytes_max: said.uncommitted_bytes_max,
        command_bytes_max: said.command_bytes_max,
        state_bytes_max: said.state_bytes_max,
        snapshot_bytes_max: said.snapshot_bytes_max,
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
