//! Ids and descriptions between `kontiki.v1` and the inside.

use kontiki_proto::v1;
use kontiki_raft::{ClusterId, EntryKind, Index, Purpose, Role, ServerId, Time};

use super::bounds::at_most;
use super::error::ApiError;
use crate::address_book::{AddressBook, ServerRef};
use crate::clock;
use crate::config::is_address;
use crate::driver::{
    ConfigurationStatus, Inspection, LogEntry, PeerStatus, Settings, StateBytes, Status, Warning,
};

/// Bytes of the name of a node.
const NAME_BYTES_MAX: usize = 253;
const RIGHT_ID: &str = "1 to 16 hexadecimal digits, not all 0";

/// An id that must be there.
pub(super) fn server_id(field: &'static str, text: &str) -> Result<ServerId, ApiError> {
    match text.parse() {
        Ok(ServerId(0)) | Err(_) => Err(invalid(field, text, RIGHT_ID)),
        Ok(id) => Ok(id),
    }
}

/// An id that must be there.
pub(super) fn cluster_id(field: &'static str, text: &str) -> Result<ClusterId, ApiError> {
    match text.parse() {
        Ok(ClusterId(0)) | Err(_) => Err(invalid(field, text, RIGHT_ID)),
        Ok(id) => Ok(id),
    }
}

/// A server that is told about; addresses may be left out.
pub(super) fn server(field: &'static str, server: v1::Server) -> Result<ServerRef, ApiError> {
    at_most("node", server.node.len(), NAME_BYTES_MAX)?;
    for address in [&server.peer_address, &server.client_address] {
        if !address.is_empty() && !is_address(address) {
            return Err(invalid(field, address, "an address HOST:PORT"));
        }
    }
    Ok(ServerRef {
        id: server_id(field, &server.server_id)?,
        name: server.node,
        peer_address: server.peer_address,
        client_address: server.client_address,
    })
}

/// A list of servers, 1 to 9.
pub(super) fn servers(
    field: &'static str,
    list: Vec<v1::Server>,
) -> Result<Vec<ServerRef>, ApiError> {
    if !(1..=9).contains(&list.len()) {
        return Err(invalid(
            field,
            &format!("{} servers", list.len()),
            "1 to 9 servers",
        ));
    }
    list.into_iter().map(|one| server(field, one)).collect()
}

pub(super) fn invalid(field: &'static str, value: &str, right: &str) -> ApiError {
    ApiError::Invalid {
        field,
        problem: format!("is {value:?}"),
        right: right.into(),
    }
}

/// On the wire.
pub(super) fn wire_server(server: ServerRef) -> v1::Server {
    v1::Server {
        server_id: server.id.to_string(),
        node: server.name,
        peer_address: server.peer_address,
        client_address: server.client_address,
    }
}

pub(super) fn wire_role(role: Role) -> v1::Role {
    match role {
        Role::Joiner => v1::Role::Joiner,
        Role::Learner => v1::Role::Learner,
        Role::Follower => v1::Role::Follower,
        Role::PreCandidate => v1::Role::PreCandidate,
        Role::Candidate => v1::Role::Candidate,
        Role::Leader => v1::Role::Leader,
    }
}

pub(super) fn wire_configuration(status: &ConfigurationStatus) -> v1::Configuration {
    let text = |ids: &std::collections::BTreeSet<ServerId>| -> Vec<String> {
        ids.iter().map(ServerId::to_string).collect()
    };
    let configuration = &status.configuration;
    v1::Configuration {
        index: status.index.0,
        committed: status.committed,
        voters: text(&configuration.voters),
        outgoing: configuration
            .outgoing
            .as_ref()
            .map(text)
            .unwrap_or_default(),
        learners: configuration.learners.iter().map(wire_learner).collect(),
    }
}

fn wire_learner((id, purpose): (&ServerId, &Purpose)) -> v1::Learner {
    let (purpose, replaces) = match purpose {
        Purpose::Stay => ("stay", String::new()),
        Purpose::Join => ("join", String::new()),
        Purpose::Replace(lost) => ("replace", lost.to_string()),
    };
    v1::Learner {
        server_id: id.to_string(),
        purpose: purpose.into(),
        replaces,
    }
}

fn wire_progress(peer: &PeerStatus, now: Time) -> v1::Progress {
    let since = peer.heard.map(|heard| now.since(heard));
    let sending = peer.refill.and_then(|refill| refill.sending);
    v1::Progress {
        server_id: peer.server.to_string(),
        matched: peer.matched.0,
        last_heard_ms: since.map_or(0, |since| since.as_millis() as u64),
        heard: since.is_some(),
        reachable: peer.reachable,
        stalled: peer.stalled,
        needs_snapshot: peer.refill.is_some(),
        snapshot_index: sending.map_or(0, |id| id.last.index.0),
        snapshot_bytes: sending
            .and(peer.refill)
            .map_or(0, |refill| refill.delivered),
    }
}

pub(super) fn wire_status(status: &Status, book: &AddressBook) -> v1::StatusResponse {
    let now = clock::now();
    let find = |id| wire_server(book.find(id));
    let all = status.configuration.configuration.servers();
    v1::StatusResponse {
        cluster_id: status.cluster.map(|id| id.to_string()).unwrap_or_default(),
        server: Some(find(status.server)),
        role: wire_role(status.standing.role).into(),
        term: status.standing.term.0,
        leader: status.standing.leader.map(find),
        first_index: status.first.0,
        last_index: status.last.index.0,
        commit_index: status.commit.0,
        applied_index: status.applied.0,
        last_term: status.last.term.0,
        configuration: Some(wire_configuration(&status.configuration)),
        progress: status
            .progress
            .iter()
            .map(|peer| wire_progress(peer, now))
            .collect(),
        activated: status.activated,
        ready: status.ready,
        min_majority: status.min_majority as u32,
        election_priority: status.election_priority.into(),
        machine: status.machine.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        serving: status.serving,
        transferring: status.transferring,
        servers: all.into_iter().map(find).collect(),
        term_committed: status.term_committed,
        machine_version: status.version,
        machine_versions_min: *status.versions.start(),
        machine_versions_max: *status.versions.end(),
        quarantine: status.quarantine.clone().unwrap_or_default(),
        bootstrap_conflict: status
            .bootstrap_conflict
            .map(|id| id.to_string())
            .unwrap_or_default(),
        diverged: status.diverged.clone().unwrap_or_default(),
        receiving_snapshot_bytes: status.receiving.unwrap_or(0),
        snapshot_refusal: status.snapshot_refusal.clone().unwrap_or_default(),
        log_bytes: status.log_bytes as u64,
        state_bytes: Some(wire_state_bytes(&status.state_bytes)),
        state_bytes_max: status.state_bytes_max.unwrap_or(0),
        settings: Some(wire_settings(&status.settings)),
        settings_warnings: wire_warnings(&status.warnings, book),
        round_trip_microseconds: status.round_trip.map_or(0, |took| took.as_micros() as u64),
        standstill: status.standstill.clone().unwrap_or_default(),
    }
}

fn wire_settings(settings: &Settings) -> v1::Settings {
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
    } = *settings;
    v1::Settings {
        heartbeat_milliseconds: heartbeat.as_millis() as u64,
        election_timeout_milliseconds: election_timeout_min.as_millis() as u64,
        election_timeout_max_milliseconds: election_timeout_max.as_millis() as u64,
        min_majority,
        election_priority: election_priority.into(),
        lease_reads,
        uncommitted_bytes_max,
        command_bytes_max,
        state_bytes_max: state_bytes_max.unwrap_or(0),
        snapshot_bytes_max,
    }
}

fn wire_warnings(warnings: &[Warning], book: &AddressBook) -> Vec<v1::SettingsWarning> {
    let warnings = warnings.iter().map(|warning| v1::SettingsWarning {
        reason: warning.reason.name().into(),
        message: warning.describe(|server| book.find(server).to_string()),
    });
    warnings.collect()
}

fn wire_state_bytes(held: &StateBytes) -> v1::StateBytes {
    let StateBytes {
        machine,
        sessions,
        log,
        appends,
        sending,
        receiving,
    } = *held;
    v1::StateBytes {
        machine,
        sessions,
        log,
        appends,
        sending,
        receiving,
    }
}

pub(super) fn wire_inspection(seen: Inspection, book: &AddressBook) -> v1::InspectResponse {
    let commit = seen.status.commit;
    let entries = seen.entries.into_iter();
    v1::InspectResponse {
        status: Some(wire_status(&seen.status, book)),
        voted_for: seen.vote.map(|id| id.to_string()).unwrap_or_default(),
        entries: entries.map(|entry| wire_entry(entry, commit)).collect(),
        next_index: seen.next.map_or(0, |next| next.0),
    }
}

fn wire_entry(entry: LogEntry, commit: Index) -> v1::LogEntry {
    let committed = entry.id.index <= commit;
    let (kind, configuration) = match entry.kind {
        EntryKind::Noop => (v1::EntryKind::Noop, None),
        EntryKind::Command => (v1::EntryKind::Command, None),
        EntryKind::Control => (v1::EntryKind::Control, None),
        EntryKind::Configuration(configuration) => {
            let status = ConfigurationStatus {
                index: entry.id.index,
                committed,
                configuration: *configuration,
            };
            let wire = wire_configuration(&status);
            (v1::EntryKind::Configuration, Some(wire))
        }
    };
    v1::LogEntry {
        index: entry.id.index.0,
        term: entry.id.term.0,
        kind: kind.into(),
        committed,
        payload: entry.payload,
        payload_bytes: entry.payload_bytes as u64,
        configuration,
    }
}
