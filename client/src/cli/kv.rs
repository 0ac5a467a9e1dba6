//! Keys, values, opaque commands and queries.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt;

use futures::TryStreamExt;
use serde_json::{Map, Value, json};

use kontiki_client::proto::kv::KeyValue;
use kontiki_client::{Client, Consistency, prefix_end};

use super::arguments::{Delete, Get, Put, Range, Read, Write};
use super::bytes::{escape, from_hex, set, to_hex};
use super::failure::Failure;
use super::shown::{Shown, table};

/// Bytes that are read from stdin. The default bound of a command is 1 MiB; servers may allow more.
const STDIN_BYTES_MAX: u64 = 16 << 20;

pub async fn put(client: &Client, put: Put) -> Result<Shown, Failure> {
    let answer = client
        .put(put.key.into_vec(), argument_or_stdin(put.value)?)
        .await?;
    let revision = answer.revision;
    Ok(Shown::new(
        json!({ "revision": revision }),
        format!("revision {revision}"),
    ))
}

pub async fn get(client: &Client, get: Get) -> Result<Shown, Failure> {
    let key = get.key.into_vec();
    let answer = client.get(key.clone(), consistency(get.stale)).await?;
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
    let answer = client.delete(delete.key.into_vec()).await?;
    let text = if answer.deleted {
        "deleted"
    } else {
        "was not there"
    };
    let value = json!({ "deleted": answer.deleted, "revision": answer.revision });
    Ok(Shown::new(
        value,
        format!("{text}, revision {}", answer.revision),
    ))
}

pub async fn range(client: &Client, range: Range) -> Result<Shown, Failure> {
    let consistency = consistency(range.stale);
    let asked = match range.prefix {
        Some(prefix) => {
            let start = prefix.into_vec();
            let end = prefix_end(&start);
            kontiki_client::Range {
                start: start.into(),
                end,
                limit: range.limit,
            }
        }
        None => kontiki_client::Range {
            start: range.start.unwrap_or_default().into_vec().into(),
            end: range.end.unwrap_or_default().into_vec().into(),
            limit: range.limit,
        },
    };
    let mut pages = client.range(asked, consistency);
    let (mut rows, mut kvs, mut revision) = (Vec::new(), Vec::new(), 0);
    while let Some(page) = pages.try_next().await? {
        revision = page.revision;
        for kv in page.kvs {
            rows.push([
                escape(&kv.key),
                escape(&kv.value),
                kv.mod_revision.to_string(),
            ]);
            kvs.push(Value::Object(key_value(&kv)));
        }
    }
    let text = table(["KEY", "VALUE", "REVISION"], rows);
    Ok(Shown::new(
        json!({ "kvs": kvs, "revision": revision }),
        text,
    ))
}

pub async fn write(client: &Client, write: Write) -> Result<Shown, Failure> {
    let answer = client
        .write(command_bytes(write.command, write.hex)?)
        .await?;
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
    let answer = client.read(query, consistency(read.stale)).await?;
    let mut value = reply(&answer.reply, read.hex);
    value.insert("applied".to_owned(), answer.applied.into());
    Ok(Shown::new(
        Value::Object(value),
        reply_text(&answer.reply, read.hex),
    ))
}

fn consistency(stale: bool) -> Consistency {
    if stale {
        Consistency::Stale
    } else {
        Consistency::Linearizable
    }
}

fn key_value(kv: &KeyValue) -> Map<String, Value> {
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
        from_hex(bytes.trim_ascii())
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
