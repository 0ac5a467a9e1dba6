//! One server, looked at closely, or ended.

use futures::future::join_all;
use serde_json::{Map, Value, json};

use kontiki_client::Admin;
use kontiki_client::proto::v1::{
    EntryKind, InspectRequest, InspectResponse, LogEntry, StopServerRequest,
};

use super::admin::{chosen, configuration_value, own_id, role, server_value};
use super::arguments::{Inspect, StopServer};
use super::bytes::{escape, set};
use super::failure::Failure;
use super::shown::{Shown, table};
use super::status::status_value;

pub async fn inspect(admin: &Admin, asked: Inspect) -> Result<Shown, Failure> {
    let endpoint = chosen(admin, asked.server.as_deref(), "is to be inspected").await?;
    let mut request = InspectRequest {
        server_id: asked.server.unwrap_or_default(),
        first_index: asked.from,
        payload_bytes_max: asked.bytes,
        ..InspectRequest::default()
    };
    let mut seen = admin.inspect(&endpoint, request.clone()).await?;
    let limit = match asked.limit {
        0 => usize::MAX,
        limit => limit,
    };
    while seen.next_index != 0 && seen.entries.len() < limit {
        request.first_index = seen.next_index;
        let page = admin.inspect(&endpoint, request.clone()).await?;
        seen.next_index = page.next_index;
        seen.entries.extend(page.entries);
    }
    if let Some(more) = seen.entries.get(limit) {
        seen.next_index = more.index;
        seen.entries.truncate(limit);
    }
    Ok(show_inspection(endpoint.as_str(), &seen))
}

pub async fn ping(admin: &Admin) -> Result<Shown, Failure> {
    let pings = admin.endpoints().iter();
    let pings = pings.map(async |endpoint| (endpoint, admin.ping(endpoint).await));
    let (mut rows, mut values, mut failure) = (Vec::new(), Vec::new(), None);
    for (endpoint, pong) in join_all(pings).await {
        match pong {
            Ok(pong) => {
                let server = pong.server.unwrap_or_default();
                rows.push([
                    endpoint.to_string(),
                    server.server_id.clone(),
                    server.node.clone(),
                    "pong".to_owned(),
                ]);
                values.push(json!({
                    "endpoint": endpoint.as_str(),
                    "cluster_id": pong.cluster_id,
                    "server": server_value(&server),
                }));
            }
            Err(error) => {
                let text = error.to_string();
                values.push(json!({ "endpoint": endpoint.as_str(), "error": text }));
                rows.push([endpoint.to_string(), String::new(), String::new(), text]);
                failure = Some(Failure::Client(error));
            }
        }
    }
    let text = table(["ENDPOINT", "SERVER", "NODE", "ANSWER"], rows);
    let mut shown = Shown::new(json!({ "servers": values }), text);
    shown.verdict = failure;
    Ok(shown)
}

pub async fn stop_server(admin: &Admin, stop: StopServer) -> Result<Shown, Failure> {
    let endpoint = chosen(admin, stop.server.as_deref(), "is to be stopped").await?;
    let request = StopServerRequest {
        server_id: stop.server.unwrap_or_default(),
        reason: stop.reason,
        graceful: stop.graceful,
        ..StopServerRequest::default()
    };
    admin.stop_server(&endpoint, request).await?;
    let text = format!("{endpoint} stops");
    Ok(Shown::new(json!({ "endpoint": endpoint.as_str() }), text))
}

fn show_inspection(endpoint: &str, seen: &InspectResponse) -> Shown {
    let status = seen.status.clone().unwrap_or_default();
    let configuration = status.configuration.clone().unwrap_or_default();
    let leader = status
        .leader
        .as_ref()
        .map_or("-", |leader| &leader.server_id);
    let vote = match seen.voted_for.as_str() {
        "" => "-",
        vote => vote,
    };
    let mut text = format!(
        "server {}, {} in term {}, leader {leader}, vote {vote}\n\
         log {} to {}, committed {}, applied {}\n\
         configuration at index {}: {}\n\n",
        own_id(&status),
        role(&status),
        status.term,
        status.first_index,
        status.last_index,
        status.commit_index,
        status.applied_index,
        configuration.index,
        configuration.voters.join(" "),
    );
    let rows = seen.entries.iter().map(entry_row).collect();
    let header = ["INDEX", "TERM", "KIND", "COMMITTED", "BYTES", "COMMAND"];
    text.push_str(&table(header, rows));
    if seen.next_index != 0 {
        text.push_str(&format!("\n(more from --from {})", seen.next_index));
    }
    let mut value = status_value(&endpoint.parse().expect("it was asked"), &status);
    value["voted_for"] = (!seen.voted_for.is_empty())
        .then_some(&*seen.voted_for)
        .into();
    value["entries"] = seen.entries.iter().map(entry_value).collect();
    value["next_index"] = (seen.next_index != 0).then_some(seen.next_index).into();
    Shown::new(value, text)
}

fn kind(entry: &LogEntry) -> &'static str {
    match entry.kind() {
        EntryKind::Unspecified => "unknown",
        EntryKind::Noop => "noop",
        EntryKind::Configuration => "configuration",
        EntryKind::Command => "command",
        EntryKind::Control => "control",
    }
}

fn entry_row(entry: &LogEntry) -> [String; 6] {
    let shown = match &entry.configuration {
        Some(configuration) => configuration.voters.join(" "),
        None => {
            let cut = entry.payload_bytes > entry.payload.len() as u64;
            escape(&entry.payload) + if cut { "..." } else { "" }
        }
    };
    [
        entry.index.to_string(),
        entry.term.to_string(),
        kind(entry).to_owned(),
        if entry.committed { "yes" } else { "no" }.to_owned(),
        entry.payload_bytes.to_string(),
        shown,
    ]
}

fn entry_value(entry: &LogEntry) -> Value {
    let mut map = Map::new();
    map.insert("index".to_owned(), entry.index.into());
    map.insert("term".to_owned(), entry.term.into());
    map.insert("kind".to_owned(), kind(entry).into());
    map.insert("committed".to_owned(), entry.committed.into());
    map.insert("payload_bytes".to_owned(), entry.payload_bytes.into());
    match &entry.configuration {
        Some(configuration) => {
            let configuration = configuration_value(configuration);
            map.insert("configuration".to_owned(), configuration);
        }
        None => set(&mut map, "payload", &entry.payload),
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::shown::Output;
    use kontiki_client::proto::v1::{Configuration, StatusResponse};

    #[test]
    fn context_and_log_as_a_table_and_as_json() {
        let entry = |index, kind: EntryKind, payload: &'static [u8], payload_bytes| LogEntry {
            index,
            term: 2,
            kind: kind.into(),
            committed: index < 4,
            payload: payload.into(),
            payload_bytes,
            configuration: (kind == EntryKind::Configuration).then(|| Configuration {
                voters: vec!["a".to_owned(), "b".to_owned()],
                ..Configuration::default()
            }),
        };
        let seen = InspectResponse {
            status: Some(StatusResponse {
                term: 2,
                last_index: 4,
                commit_index: 3,
                ..StatusResponse::default()
            }),
            voted_for: String::new(),
            entries: vec![
                entry(1, EntryKind::Configuration, b"", 0),
                entry(2, EntryKind::Noop, b"", 0),
                entry(3, EntryKind::Command, b"a\n", 2),
                entry(4, EntryKind::Command, b"\xff", 9),
            ],
            next_index: 5,
        };
        let shown = show_inspection("a:1", &seen);
        let text = String::from_utf8(shown.render(Output::Table)).unwrap();
        let (_, log) = text.split_once("\n\n").unwrap();
        let golden = "\
INDEX  TERM  KIND           COMMITTED  BYTES  COMMAND
1      2     configuration  yes        0      a b
2      2     noop           yes        0
3      2     command        yes        2      a\\n
4      2     command        no         9      \\xff...
(more from --from 5)
";
        assert_eq!(log, golden);
        let value: Value = serde_json::from_slice(&shown.render(Output::Json)).unwrap();
        assert_eq!(value["entries"][0]["configuration"]["voters"][1], "b");
        assert_eq!(value["entries"][3]["payload_hex"], "ff");
        assert_eq!(
            (&value["voted_for"], &value["next_index"]),
            (&Value::Null, &5.into())
        );
    }
}
