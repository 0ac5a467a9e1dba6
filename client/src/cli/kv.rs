//! Keys, values, opaque commands and queries.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use futures::TryStreamExt;
use serde_json::{Map, Value, json};

use kontiki_client::proto::kv::KeyValue;
use kontiki_client::{Client, Consistency, ReadMode};

use super::arguments::{Delete, Fresh, Get, Put, Range, Read, Write};
use super::bytes::{escape, from_hex, set, to_hex};
use super::failure::Failure;
use super::shown::{Shown, table};

/// Bytes that are read from stdin. The default bound of a command is 1 MiB; servers may allow more.
const STDIN_BYTES_MAX: u64 = 16 << 20;

pub async fn put(client: &Client, put: Put) -> Result<Shown, Failure> {
    let key = put.key.into_vec();
    let value = argument_or_stdin(put.value)?;
    let wanted = match put.if_absent {
        true => Some(0),
        false => put.if_revision,
    };
    let answer = match wanted {
        None => client.put(key.clone(), value).await?,
        Some(wanted) => client.put_if(key.clone(), value, wanted).await?,
    };
    close_session(client).await;
    let revision = answer.revision;
    if answer.mismatch {
        let wanted = wanted.unwrap_or_default();
        return Ok(mismatch(&key, wanted, answer.current, revision));
    }
    Ok(Shown::new(
        json!({ "revision": revision }),
        format!("revision {revision}"),
    ))
}

/// The answer to a write that named another revision than the key's.
fn mismatch(key: &[u8], wanted: u64, current: Option<KeyValue>, revision: u64) -> Shown {
    let mut value = json!({ "mismatch": true, "revision": revision });
    if let Some(current) = &current {
        value["current"] = Value::Object(key_value(current));
    }
    let mut shown = Shown::new(value, "");
    shown.verdict = Some(Failure::Mismatch {
        key: escape(key),
        wanted,
        current: current.map(|current| current.mod_revision),
    });
    shown
}

pub async fn get(client: &Client, get: Get) -> Result<Shown, Failure> {
    let key = get.key.into_vec();
    let answer = client.get(key.clone(), read_mode(&get.fresh)).await?;
    let Some(found) = answer.kv.filter(|_| answer.found) else {
        return Err(Failure::NotFound { key: escape(&key) });
    };
    if get.raw {
        return Ok(Shown::raw(found.value.to_vec()));
    }
    let mut value = key_value(&found);
    value.insert("revision".to_owned(), answer.revision.into());
    Ok(Shown::new(Value::Object(value), escape(&found.value)))
}

pub async fn delete(client: &Client, delete: Delete) -> Result<Shown, Failure> {
    let key = delete.key.into_vec();
    let answer = match delete.if_revision {
        None => client.delete(key.clone()).await?,
        Some(wanted) => client.delete_if(key.clone(), wanted).await?,
    };
    close_session(client).await;
    let revision = answer.revision;
    if answer.mismatch {
        let wanted = delete.if_revision.unwrap_or_default();
        return Ok(mismatch(&key, wanted, answer.current, revision));
    }
    let text = if answer.deleted {
        "deleted"
    } else {
        "was not there"
    };
    let value = json!({ "deleted": answer.deleted, "revision": revision });
    Ok(Shown::new(value, format!("{text}, revision {revision}")))
}

pub async fn range(client: &Client, range: Range) -> Result<Shown, Failure> {
    let mode = read_mode(&range.fresh);
    let keys = match (range.prefix, range.continuation) {
        (Some(prefix), _) => kontiki_client::Range::prefix(prefix.into_vec()),
        (None, Some(token)) => {
            kontiki_client::Range::rest(from_hex(token.as_bytes(), "--continue")?)
        }
        (None, None) => kontiki_client::Range {
            start: range.start.unwrap_or_default().into_vec().into(),
            end: range.end.unwrap_or_default().into_vec().into(),
            ..kontiki_client::Range::all()
        },
    };
    let asked = kontiki_client::Range {
        limit: range.limit,
        ..keys
    };
    let mut pages = client.range(asked, mode);
    let (mut rows, mut kvs, mut revision) = (Vec::new(), Vec::new(), 0);
    let mut continuation = String::new();
    while let Some(page) = pages.try_next().await? {
        revision = page.revision;
        continuation = to_hex(&page.continuation);
        for kv in page.kvs {
            rows.push([
                escape(&kv.key),
                escape(&kv.value),
                kv.mod_revision.to_string(),
            ]);
            kvs.push(Value::Object(key_value(&kv)));
        }
    }
    let mut text = table(["KEY", "VALUE", "REVISION"], rows);
    let mut value = json!({ "kvs": kvs, "revision": revision });
    if !continuation.is_empty() {
        text.push_str(&format!("\n\nthere is more: --continue {continuation}"));
        value["continuation"] = continuation.into();
    }
    Ok(Shown::new(value, text))
}

pub async fn write(client: &Client, write: Write) -> Result<Shown, Failure> {
    let answer = client
        .write(command_bytes(write.command, write.hex)?)
        .await?;
    close_session(client).await;
    let mut value = reply(&answer.reply, write.hex);
    value.insert("index".to_owned(), answer.index.into());
    value.insert("term".to_owned(), answer.term.into());
    Ok(Shown::new(
        Value::Object(value),
        reply_text(&answer.reply, write.hex),
    ))
}

pub async fn read(client: &Client, read: Read) -> Result<Shown, Failure> {
    let query = command_bytes(read.query, read.hex)?;
    let answer = client.read(query, read_mode(&read.fresh)).await?;
    let mut value = reply(&answer.reply, read.hex);
    value.insert("applied".to_owned(), answer.applied.into());
    Ok(Shown::new(
        Value::Object(value),
        reply_text(&answer.reply, read.hex),
    ))
}

/// The write is done, whatever becomes of its session: left open, it expires.
async fn close_session(client: &Client) {
    let _ = client.close_session().await;
}

fn read_mode(fresh: &Fresh) -> ReadMode {
    let mode = match fresh.max_staleness {
        Some(milliseconds) => ReadMode::bounded(Duration::from_millis(milliseconds.into())),
        None if fresh.stale => Consistency::Stale.into(),
        None if fresh.lease => Consistency::Lease.into(),
        None => Consistency::Linearizable.into(),
    };
    match fresh.any_server {
        true => mode.by_any_server(),
        false => mode,
    }
}

pub(super) fn key_value(kv: &KeyValue) -> Map<String, Value> {
    let mut map = Map::new();
    set(&mut map, "key", &kv.key);
    set(&mut map, "value", &kv.value);
    map.insert("create_revision".to_owned(), kv.create_revision.into());
    map.insert("mod_revision".to_owned(), kv.mod_revision.into());
    map
}

fn reply(bytes: &[u8], hex: bool) -> Map<String, Value> {
    let mut map = Map::new();
    if hex {
        map.insert("reply_hex".to_owned(), to_hex(bytes).into());
    } else {
        set(&mut map, "reply", bytes);
    }
    map
}

fn reply_text(bytes: &[u8], hex: bool) -> String {
    if hex { to_hex(bytes) } else { escape(bytes) }
}

fn command_bytes(argument: OsString, hex: bool) -> Result<Vec<u8>, Failure> {
    let bytes = argument_or_stdin(argument)?;
    if hex {
        from_hex(bytes.trim_ascii(), "--hex")
    } else {
        Ok(bytes)
    }
}

/// The argument's bytes, or all of stdin for `-`.
fn argument_or_stdin(argument: OsString) -> Result<Vec<u8>, Failure> {
    if argument != "-" {
        return Ok(argument.into_vec());
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin()
        .lock()
        .take(STDIN_BYTES_MAX + 1)
        .read_to_end(&mut bytes);
    match read {
        Err(error) => Err(Failure::Local {
            message: format!("cannot read stdin: {error}"),
        }),
        Ok(_) if bytes.len() as u64 > STDIN_BYTES_MAX => Err(Failure::Usage {
            message: format!("stdin has more than {STDIN_BYTES_MAX} bytes, the most that is read"),
        }),
        Ok(_) => Ok(bytes),
    }
}
