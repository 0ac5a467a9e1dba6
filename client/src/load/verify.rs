//! Is everything that was acknowledged still there, for the cluster and on every server?

use std::collections::BTreeMap;
use std::time::Duration;

use futures::TryStreamExt;
use prost::bytes::Bytes;
use tokio::time::Instant;

use kontiki_proto::kv::KeyValue;

use super::writers::Acknowledged;
use crate::backoff::Backoff;
use crate::{Address, Client, Consistency, Error, Options, Range};

/// How to verify.
#[derive(Debug, Clone)]
pub struct Verify {
    /// Servers (HOST:PORT of client ports) of which each has to have every key. Empty: the endpoints
    /// given to [`verify`].
    pub servers: Vec<String>,
    /// How long a server may take to catch up with what was acknowledged.
    pub catch_up_timeout: Duration,
    /// Of the client that reads.
    pub client: Options,
}

impl Default for Verify {
    fn default() -> Self {
        Verify {
            servers: Vec::new(),
            catch_up_timeout: Duration::from_secs(30),
            client: Options::default(),
        }
    }
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Verification {
    /// Keys that were looked for.
    pub keys: usize,
    /// Servers that were read, beside the linearizable read of the cluster.
    pub servers: Vec<Address>,
    /// What is not as it was acknowledged.
    pub missing: Vec<Missing>,
}

impl Verification {
    /// Whether every key was there, everywhere.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

/// A key that is not as it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The server that was read; `None` for the linearizable read.
    pub server: Option<Address>,
    /// What was acknowledged.
    pub expected: Acknowledged,
    /// What is there instead; `None`: nothing.
    pub found: Option<Acknowledged>,
}

/// Reads every acknowledged key linearizably, and then with a stale read on each server once that
/// has applied the last of them. Keys are read in pages over the range that they span.
///
/// # Errors
/// [`Error::Invalid`] for a bad endpoint; [`Error::Failed`] if a server did not answer, or did not
/// catch up within [`Verify::catch_up_timeout`].
pub async fn verify<S: AsRef<str>>(
    endpoints: impl IntoIterator<Item = S>,
    acknowledged: &[Acknowledged],
    options: Verify,
) -> Result<Verification, Error> {
    let client = Client::with_options(endpoints, options.client)?;
    let servers = match options.servers.as_slice() {
        [] => client.endpoints().to_vec(),
        servers => Address::parse_all(servers)?,
    };
    let mut verification = Verification {
        keys: acknowledged.len(),
        servers: servers.clone(),
        missing: Vec::new(),
    };
    let expected: BTreeMap<&Bytes, &Acknowledged> = acknowledged
        .iter()
        .map(|written| (&written.key, written))
        .collect();
    let Some(range) = span(&expected) else {
        return Ok(verification);
    };
    let revision = acknowledged
        .iter()
        .map(|written| written.revision)
        .max()
        .unwrap_or(0);

    let linearizable = client.range(range.clone(), Consistency::Linearizable);
    verification
        .missing
        .extend(compare(None, &expected, linearizable).await?);
    for server in servers {
        let deadline = Instant::now() + options.catch_up_timeout;
        await_revision(&client, &server, &range.start, revision, deadline).await?;
        let stale = client.range_at(&server, range.clone(), Consistency::Stale);
        verification
            .missing
            .extend(compare(Some(&server), &expected, stale).await?);
    }
    Ok(verification)
}

/// The range from the first expected key to the last.
fn span(expected: &BTreeMap<&Bytes, &Acknowledged>) -> Option<Range> {
    let (first, _) = expected.first_key_value()?;
    let (last, _) = expected.last_key_value()?;
    let end: Vec<u8> = last.iter().copied().chain([0]).collect();
    Some(Range {
        start: (*first).clone(),
        end: end.into(),
        ..Range::all()
    })
}

/// Waits until a server has applied a revision.
async fn await_revision(
    client: &Client,
    server: &Address,
    key: &Bytes,
    revision: u64,
    deadline: Instant,
) -> Result<(), Error> {
    let mut backoff = Backoff::new();
    loop {
        let seen = client
            .get_at(server, key.clone(), Consistency::Stale)
            .await?
            .revision;
        if seen >= revision {
            return Ok(());
        }
        let pause = backoff.pause();
        if Instant::now() + pause >= deadline {
            return Err(Error::Failed {
                reason: kontiki_proto::reason::TIMED_OUT.to_owned(),
                message: format!("has applied revision {seen} and not yet {revision}"),
                endpoint: server.to_string(),
                attempts: 1,
            });
        }
        tokio::time::sleep(pause).await;
    }
}

/// What the pages do not have as expected.
async fn compare(
    server: Option<&Address>,
    expected: &BTreeMap<&Bytes, &Acknowledged>,
    mut pages: crate::Pages,
) -> Result<Vec<Missing>, Error> {
    let mut left = expected.clone();
    let mut missing = Vec::new();
    while let Some(page) = pages.try_next().await? {
        for KeyValue {
            key,
            value,
            mod_revision,
            ..
        } in page.kvs
        {
            let Some(expected) = left.remove(&key) else {
                continue;
            };
            let found = Acknowledged {
                key,
                value,
                revision: mod_revision,
            };
            if found != *expected {
                let (server, expected) = (server.cloned(), expected.clone());
                missing.push(Missing {
                    server,
                    expected,
                    found: Some(found),
                });
            }
        }
    }
    missing.extend(left.into_values().map(|expected| Missing {
        server: server.cloned(),
        expected: expected.clone(),
        found: None,
    }));
    Ok(missing)
}
