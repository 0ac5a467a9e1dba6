//! How a client calls: through the Rust client, which finds the leader by itself, or at one server
//! and no other, whoever leads.

use std::time::Duration;

use kontiki_client::{Client, Error};
use kontiki_proto::ERROR_DOMAIN;
use kontiki_proto::kv::kv_client::KvClient;
use kontiki_proto::kv::{
    DeleteRequest, DeleteResponse, GetRequest, GetResponse, KeyValue, PutRequest, PutResponse,
};
use kontiki_proto::metadata;
use kontiki_tests::linearizability::history::{Key, Reply, Revisions, Value};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt;

use crate::reading::Reading;

/// A dial takes no longer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// What is asked of the store.
#[derive(Clone, Copy, Debug)]
pub enum Question {
    Get(Reading),
    Put {
        value: Value,
        if_mod_revision: Option<u64>,
    },
    Delete {
        if_mod_revision: Option<u64>,
    },
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It was not done, and never will be.
    Failed,
    /// Nobody knows.
    Unknown,
}

pub type Answer = Result<(Reply, Revisions), Silence>;

/// A way to the store.
pub enum Caller {
    Routed(Client),
    Direct(Box<Direct>),
}

impl Caller {
    pub async fn ask(&mut self, key: Key, question: Question) -> Answer {
        match self {
            Self::Routed(client) => routed(client, key, question).await,
            Self::Direct(direct) => direct.ask(key, question).await,
        }
    }
}

fn key_bytes(key: Key) -> Vec<u8> {
    format!("key-{key}").into_bytes()
}

fn value_bytes(value: Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The value in a record. One that nobody can have written stands for what cannot be read.
fn value_of(record: &KeyValue) -> Value {
    let text = std::str::from_utf8(&record.value);
    text.ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(Value::MAX)
}

fn seen(record: Option<&KeyValue>, store: u64) -> (Option<Value>, Revisions) {
    let revisions = Revisions {
        store,
        of_value: record.map_or(0, |record| record.mod_revision),
    };
    (record.map(value_of), revisions)
}

fn of_get(response: &GetResponse) -> (Reply, Revisions) {
    let record = response.kv.as_ref().filter(|_| response.found);
    let (value, revisions) = seen(record, response.revision);
    (Reply::Got(value), revisions)
}

fn of_put(response: &PutResponse) -> (Reply, Revisions) {
    let (value, revisions) = seen(response.current.as_ref(), response.revision);
    match response.mismatch {
        true => (Reply::Mismatch(value), revisions),
        false => (Reply::Done, revisions),
    }
}

fn of_delete(response: &DeleteResponse, conditional: bool) -> (Reply, Revisions) {
    let (value, revisions) = seen(response.current.as_ref(), response.revision);
    match (response.mismatch, conditional) {
        (true, _) => (Reply::Mismatch(value), revisions),
        (false, true) => (Reply::Done, revisions),
        (false, false) => (Reply::Deleted(response.deleted), revisions),
    }
}

async fn routed(client: &Client, key: Key, question: Question) -> Answer {
    let key = key_bytes(key);
    let result = match question {
        Question::Get(reading) => {
            let answer = client.get(key, reading.mode()).await;
            answer.map(|response| of_get(&response))
        }
        Question::Put {
            value,
            if_mod_revision,
        } => {
            let value = value_bytes(value);
            let answer = match if_mod_revision {
                None => client.put(key, value).await,
                Some(revision) => client.put_if(key, value, revision).await,
            };
            answer.map(|response| of_put(&response))
        }
        Question::Delete { if_mod_revision } => {
            let answer = match if_mod_revision {
                None => client.delete(key).await,
                Some(revision) => client.delete_if(key, revision).await,
            };
            answer.map(|response| of_delete(&response, if_mod_revision.is_some()))
        }
    };
    result.map_err(|error| match error {
        Error::Failed { .. } => Silence::Failed,
        Error::Unknown { .. } => Silence::Unknown,
        Error::Invalid { message } => panic!("the tests ask nothing invalid: {message}"),
    })
}

/// One server; copies share its connection. Nothing is sent twice, and only the server's own word, or a dial that failed, says that
/// something failed.
#[derive(Clone)]
pub struct Direct {
    endpoint: Endpoint,
    connection: Option<KvClient<Channel>>,
    timeout: Duration,
}

impl Direct {
    /// At the client port of a server; what takes longer than `timeout` is given up.
    pub fn new(address: &str, timeout: Duration) -> Self {
        let endpoint = Endpoint::try_from(format!("http://{address}")).expect("an address");
        Self {
            endpoint: endpoint.connect_timeout(DIAL_TIMEOUT),
            connection: None,
            timeout,
        }
    }

    /// Connects, if it is not connected; `None` if that fails.
    pub async fn dial(&mut self) -> Option<KvClient<Channel>> {
        if self.connection.is_none() {
            let dialled = tokio::time::timeout(DIAL_TIMEOUT, self.endpoint.connect()).await;
            self.connection = Some(KvClient::new(dialled.ok()?.ok()?));
        }
        self.connection.clone()
    }

    pub async fn ask(&mut self, key: Key, question: Question) -> Answer {
        let Some(mut kv) = self.dial().await else {
            return Err(Silence::Failed);
        };
        let answer = tokio::time::timeout(self.timeout, call(&mut kv, key, question)).await;
        let silence = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => judge(&status),
            Err(_) => Silence::Unknown,
        };
        if silence == Silence::Unknown {
            self.connection = None;
        }
        Err(silence)
    }
}

async fn call(
    kv: &mut KvClient<Channel>,
    key: Key,
    question: Question,
) -> Result<(Reply, Revisions), Status> {
    let key = key_bytes(key).into();
    match question {
        Question::Get(reading) => {
            let request = GetRequest {
                key,
                consistency: reading.consistency().into(),
                staleness_milliseconds: reading.staleness_milliseconds(),
                forward: reading.forwards(),
            };
            let response = kv.get(Request::new(request)).await?;
            Ok(of_get(response.get_ref()))
        }
        Question::Put {
            value,
            if_mod_revision,
        } => {
            let request = PutRequest {
                key,
                value: value_bytes(value).into(),
                if_mod_revision,
                ..PutRequest::default()
            };
            let response = kv.put(Request::new(request)).await?;
            Ok(of_put(response.get_ref()))
        }
        Question::Delete { if_mod_revision } => {
            let request = DeleteRequest {
                key,
                if_mod_revision,
                ..DeleteRequest::default()
            };
            let response = kv.delete(Request::new(request)).await?;
            Ok(of_delete(response.get_ref(), if_mod_revision.is_some()))
        }
    }
}

fn judge(status: &Status) -> Silence {
    let details = status.get_details_error_info();
    let says_failed = details.is_some_and(|info| {
        info.domain == ERROR_DOMAIN
            && info.metadata.get(metadata::OUTCOME).map(String::as_str) == Some("FAILED")
    });
    match says_failed {
        true => Silence::Failed,
        false => Silence::Unknown,
    }
}
