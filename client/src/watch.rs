//! Watches: what changes in a range of keys, across whatever befalls the servers that tell.

use std::collections::HashSet;
use std::sync::Arc;

use kontiki_proto::kv::{WatchRequest, WatchResponse};
use kontiki_proto::{ERROR_DOMAIN, metadata, reason};
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tonic_types::StatusExt;

use crate::backoff::Backoff;
use crate::client::kv;
use crate::connections::Connection;
use crate::error::{Verdict, is_retryable, judge};
use crate::router::{Router, is_final};
use crate::{Address, Error, Range, local_reason};

/// A watch. Whatever its server comes to, it goes on at another, from the revision after the last that
/// it was complete through: every change comes once, in order, none left out.
#[derive(Debug)]
pub struct Watch {
    router: Arc<Router>,
    range: Range,
    /// As the caller or a response said; empty before that.
    cluster_id: String,
    /// `None`: whatever comes next, until a server has said where that is.
    complete: Option<u64>,
    open: Option<Open>,
    /// Servers that have dropped the revision that is wanted next.
    compacted: HashSet<Address>,
    backoff: Backoff,
}

/// A stream of one server.
#[derive(Debug)]
struct Open {
    responses: Streaming<WatchResponse>,
    endpoint: Address,
    connection: Connection,
}

/// How a stream, or an attempt to open one, ended.
enum Ended {
    /// Another server, or another moment, may do better.
    Again(Error),
    /// For good.
    Final(Error),
}

impl Watch {
    pub(crate) fn new(router: Arc<Router>, range: Range, start_revision: u64) -> Self {
        Watch {
            router,
            range,
            cluster_id: String::new(),
            complete: start_revision.checked_sub(1),
            open: None,
            compacted: HashSet::new(),
            backoff: Backoff::new(),
        }
    }

    /// From a revision of this cluster, as an answer said it (`cluster_id`). Another cluster has other changes
    /// at the same revisions: it refuses the watch (`WRONG_CLUSTER`). Without it the first server that
    /// answers says which cluster is watched.
    #[must_use]
    pub fn in_cluster(mut self, cluster_id: impl Into<String>) -> Self {
        self.cluster_id = cluster_id.into();
        self
    }

    /// Complete through this revision, as far as is known: to go on in another process, watch from the
    /// next one.
    pub fn complete(&self) -> Option<u64> {
        self.complete
    }

    /// The cluster that the revisions are of; empty before the first response.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// What comes next: changes, or, without any, how far the watch has come. Waits as long as it
    /// takes while a server serves it; without one, for [`Options::timeout`](crate::Options::timeout).
    ///
    /// Cancel safe. After an error it may be called again, and tries again.
    ///
    /// # Errors
    /// [`Error::Failed`]: no server could be reached in time, or for good: reason `COMPACTED`, if every
    /// endpoint has dropped what is next (read the keys anew, and begin another watch), `WRONG_CLUSTER`
    /// if there is another cluster now, or the request itself is refused.
    pub async fn next(&mut self) -> Result<WatchResponse, Error> {
        // Of the time without a server that serves it.
        let (mut attempts, mut deadline) = (0, None);
        loop {
            let ended = match &mut self.open {
                Some(open) => match open.responses.message().await {
                    Ok(Some(response)) => {
                        (attempts, deadline) = (0, None);
                        match self.take(response) {
                            Some(response) => return Ok(response),
                            None => continue,
                        }
                    }
                    Ok(None) => self.on_end(&Status::unavailable("the stream ended"), attempts),
                    Err(status) => self.on_end(&status, attempts),
                },
                None => {
                    let timeout = self.router.options().timeout;
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + timeout);
                    attempts += 1;
                    match self.connect(deadline, attempts).await {
                        Ok(()) => continue,
                        Err(ended) => ended,
                    }
                }
            };
            let error = match ended {
                Ended::Final(error) => return Err(error),
                Ended::Again(error) => error,
            };
            let pause = self.backoff.pause();
            if deadline.is_some_and(|deadline| Instant::now() + pause >= deadline) {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Takes a response in. `None`: it says nothing new.
    fn take(&mut self, response: WatchResponse) -> Option<WatchResponse> {
        self.backoff = Backoff::new();
        self.compacted.clear();
        self.cluster_id.clone_from(&response.cluster_id);
        let before = self.complete.replace(response.revision);
        let says_something = !response.events.is_empty() || before != Some(response.revision);
        says_something.then_some(response)
    }

    /// Opens a stream at the next endpoint.
    async fn connect(&mut self, deadline: Instant, attempts: u32) -> Result<(), Ended> {
        let endpoint = self.router.next_endpoint();
        let connection = self.router.connect(&endpoint).await.map_err(Ended::Again)?;
        let request = WatchRequest {
            start: self.range.start.clone(),
            end: self.range.end.clone(),
            start_revision: self.complete.map_or(0, |complete| complete + 1),
            cluster_id: self.cluster_id.clone(),
        };
        let mut client = kv(connection.channel.clone());
        let until = deadline.min(Instant::now() + self.router.options().attempt_timeout);
        let opened = tokio::time::timeout_at(until, client.watch(request)).await;
        match opened.unwrap_or_else(|_| Err(Status::unavailable("no answer"))) {
            Ok(response) => {
                self.open = Some(Open {
                    responses: response.into_inner(),
                    endpoint,
                    connection,
                });
                Ok(())
            }
            Err(status) => Err(self.judge(&endpoint, &connection, &status, attempts)),
        }
    }

    /// The open stream ended.
    fn on_end(&mut self, status: &Status, attempts: u32) -> Ended {
        let open = self.open.take().expect("it was open");
        // Said after everything through there was sent, so it was received as well.
        if !self.cluster_id.is_empty() {
            self.complete = self.complete.max(complete_revision(status));
        }
        self.judge(&open.endpoint, &open.connection, status, attempts)
    }

    fn judge(
        &mut self,
        endpoint: &Address,
        connection: &Connection,
        status: &Status,
        attempts: u32,
    ) -> Ended {
        let verdict = judge(status);
        if verdict.casts_doubt_on_connection() {
            self.router.disconnect(endpoint, connection);
        }
        let (reason, message, is_final) = match verdict {
            Verdict::Failed {
                reason, message, ..
            } => {
                let elsewhere = matches!(reason.as_str(), reason::QUARANTINED | reason::COMPACTED);
                let is_final = !elsewhere && !is_retryable(&reason);
                (reason, message, is_final)
            }
            // A watch changes nothing: whatever broke, it is begun again.
            Verdict::Unknown { code, message } => {
                (local_reason::NO_ANSWER.to_owned(), message, is_final(code))
            }
        };
        let is_compacted = reason == reason::COMPACTED;
        let error = Error::Failed {
            reason,
            message,
            endpoint: endpoint.to_string(),
            attempts,
        };
        if is_compacted {
            self.compacted.insert(endpoint.clone());
            let mut all = self.router.endpoints().iter();
            if all.all(|one| self.compacted.contains(one)) {
                self.compacted.clear();
                return Ended::Final(error);
            }
        }
        match is_final {
            true => Ended::Final(error),
            false => Ended::Again(error),
        }
    }
}

/// The revision through which a watch was complete, if the status that ended it says so.
fn complete_revision(status: &Status) -> Option<u64> {
    let info = status.get_details_error_info()?;
    let revision = info.metadata.get(metadata::COMPLETE_REVISION)?;
    revision
        .parse()
        .ok()
        .filter(|_| info.domain == ERROR_DOMAIN)
}
