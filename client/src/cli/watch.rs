//! Changes as they happen, one after the other.

use std::os::unix::ffi::OsStringExt;

use serde_json::Value;

use kontiki_client::proto::kv::Event;
use kontiki_client::proto::kv::event::Kind;
use kontiki_client::{Client, Range};

use super::arguments::Watch;
use super::bytes::escape;
use super::failure::Failure;
use super::kv::key_value;
use super::print_more;
use super::shown::{Output, Shown};

/// Prints until there were enough, nobody reads any more, or the watch fails.
pub async fn run(client: &Client, asked: Watch, output: Output) -> Result<Shown, Failure> {
    let range = Range::prefix(asked.prefix.unwrap_or_default().into_vec());
    let mut watch = client.watch(range, asked.from.unwrap_or(0))?;
    let mut left = asked.count.unwrap_or(u64::MAX);
    while left > 0 {
        let response = watch.next().await.map_err(|error| Failure::Watch {
            error,
            complete: watch.complete(),
        })?;
        let count = usize::try_from(left).unwrap_or(usize::MAX);
        let events = response.events.iter().take(count);
        let text: String = events.map(|event| line(event, output)).collect();
        left = left.saturating_sub(response.events.len() as u64);
        if !text.is_empty() && !print_more(text.as_bytes())? {
            break;
        }
    }
    Ok(Shown::raw(Vec::new()))
}

fn line(event: &Event, output: Output) -> String {
    let kv = event.kv.clone().unwrap_or_default();
    let is_delete = event.kind() == Kind::Delete;
    let kind = if is_delete { "delete" } else { "put" };
    if output == Output::Table {
        let (revision, key) = (kv.mod_revision, escape(&kv.key));
        return match is_delete {
            true => format!("{revision}\t{kind}\t{key}\n"),
            false => format!("{revision}\t{kind}\t{key}\t{}\n", escape(&kv.value)),
        };
    }
    let mut fields = key_value(&kv);
    if is_delete {
        fields.remove("value");
        fields.remove("create_revision");
    }
    fields.insert("kind".to_owned(), kind.into());
    let value = Value::Object(fields);
    match output {
        Output::Yaml => format!(
            "---\n{}",
            serde_yaml::to_string(&value).expect("a JSON value is YAML")
        ),
        Output::Json | Output::Table => format!("{value}\n"),
    }
}
