//! `Watch`: what changes, from a revision on, in the order of the revisions.
//!
//! A watch has no buffer: it is a place in the history that its server keeps anyway, and the next
//! message is made when the connection has room for it. Who reads too slowly finds their place gone.

use futures::stream::{BoxStream, StreamExt, unfold};
use kontiki_proto::kv::event::Kind;
use kontiki_proto::kv::{Event, KeyValue, WatchRequest, WatchResponse};
use kontiki_raft::ClusterId;
use tokio::time::Instant;
use tonic::Status;

use super::error::{ApiError, status};
use super::{bounds, text};
use crate::driver::Refusal;
use crate::handle::{Failure, Handle};
use crate::machine::history::{self, Change, Compacted, KeyRange, ReadBounds};
use crate::machine::kv::KEY_BYTES_MAX;
use crate::metrics::Method;
use crate::watching::Watcher;

/// What a watch looks at before others have their turn, and the size of a message.
const READ: ReadBounds = ReadBounds {
    revisions_max: 4096,
    bytes_max: 1 << 20,
};
/// So many times in a history a watcher whose keys do not change is told how far it has come, lest it
/// be found compacted when it resumes.
const PROGRESS_SHARE: u64 = 8;

/// What a watcher gets.
pub(super) type Responses = BoxStream<'static, Result<WatchResponse, Status>>;

/// One watch.
#[derive(Debug)]
pub(super) struct Watch {
    handle: Handle,
    cluster: ClusterId,
    watcher: Watcher,
    range: KeyRange,
    /// The revision that it goes on with. Invariant: all before it, from the first on, was sent.
    next: u64,
    /// What the client knows of that; `None`: it was told nothing yet.
    told: Option<u64>,
    /// When it may be told again although no key of its own changed.
    progress_due: Instant,
    /// When the patience with having no leader ends.
    leaderless_until: Option<Instant>,
}

impl Watch {
    /// Checks a request, and takes a place among the watchers.
    ///
    /// # Errors
    /// A field is out of its bounds, another cluster is meant, or there is no room.
    pub(super) fn open(
        handle: Handle,
        cluster: ClusterId,
        request: WatchRequest,
    ) -> Result<Self, ApiError> {
        let WatchRequest {
            start,
            end,
            start_revision,
            cluster_id,
        } = request;
        bounds::at_most("start", start.len(), KEY_BYTES_MAX)?;
        bounds::at_most("end", end.len(), KEY_BYTES_MAX)?;
        if !end.is_empty() && end <= start {
            return Err(ApiError::Invalid {
                field: "end",
                problem: "is not after `start`".into(),
                right: "after it, or empty: to the end".into(),
            });
        }
        if start_revision == u64::MAX {
            return Err(ApiError::Invalid {
                field: "start_revision",
                problem: format!("is {start_revision}"),
                right: format!("at most {}", u64::MAX - 1),
            });
        }
        let mine = Some(cluster);
        if !cluster_id.is_empty() {
            let asked = text::cluster_id("cluster_id", &cluster_id)?;
            if asked != cluster {
                return Err(ApiError::WrongCluster { mine, asked });
            }
        }
        if handle.stopping() {
            return Err(ApiError::Read(Failure::Stopping));
        }
        let refused = |refusal| ApiError::Read(Failure::Refused(refusal));
        let watcher = handle.watching.join().map_err(refused)?;
        let next = match start_revision {
            0 => handle.watching.history().revision() + 1,
            given => given,
        };
        Ok(Self {
            cluster,
            watcher,
            // Copies: a watch must not hold on to the receive buffer.
            range: KeyRange {
                start: start.to_vec().into(),
                end: end.to_vec().into(),
            },
            next,
            told: None,
            progress_due: Instant::now(),
            leaderless_until: None,
            handle,
        })
    }

    /// The stream; it ends after its first error.
    pub(super) fn run(self) -> Responses {
        unfold(Some(self), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(response) => Some((Ok(response), Some(watch))),
                Err(error) => {
                    let status = status(&error, &watch.handle.book);
                    watch
                        .handle
                        .metrics
                        .count_call(Method::Watch, status.code());
                    Some((Err(status), None))
                }
            }
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<WatchResponse, ApiError> {
        loop {
            self.check()?;
            // Before the look, so that nothing is missed in between.
            self.watcher.revision.borrow_and_update();
            let next = self.next;
            let compacted = |Compacted { oldest }| ApiError::Compacted { next, oldest };
            let history = self.handle.watching.history();
            let read = history.read(next, &self.range, READ).map_err(compacted)?;
            self.next = read.next;
            if !read.events.is_empty() || self.owes_progress() {
                return Ok(self.response(read.events));
            }
            match read.more {
                true => tokio::task::yield_now().await,
                false => self.wait().await,
            }
        }
    }

    /// Whether this server may go on serving it.
    fn check(&mut self) -> Result<(), ApiError> {
        let complete = self.next - 1;
        let ended = |why| Err(ApiError::WatchEnded { complete, why });
        if self.handle.stopping() || self.handle.ending.is_told() {
            return ended(Failure::Stopping);
        }
        if let Some(why) = &*self.watcher.quarantine.borrow_and_update() {
            return ended(Failure::Refused(Refusal::Quarantined(why.clone())));
        }
        if self.watcher.standing.borrow_and_update().leader.is_some() {
            self.leaderless_until = None;
            return Ok(());
        }
        let now = Instant::now();
        let patience = self.handle.watching.settings().leaderless_max();
        if now >= *self.leaderless_until.get_or_insert(now + patience) {
            return ended(Failure::Refused(Refusal::NoLeader));
        }
        Ok(())
    }

    fn owes_progress(&self) -> bool {
        let Some(told) = self.told else {
            return true;
        };
        let untold = self.next - 1 - told;
        let many = self.handle.watching.settings().history_events_max as u64 / PROGRESS_SHARE;
        untold > many || (untold > 0 && Instant::now() >= self.progress_due)
    }

    fn response(&mut self, events: Vec<history::Event>) -> WatchResponse {
        let revision = self.next - 1;
        self.told = Some(revision);
        self.progress_due = Instant::now() + self.handle.watching.settings().progress();
        self.handle.metrics.count_watch_events(events.len());
        WatchResponse {
            cluster_id: self.cluster.to_string(),
            revision,
            events: events.into_iter().map(wire_event).collect(),
        }
    }

    /// Until there may be something to say.
    async fn wait(&mut self) {
        let untold = self.told.is_some_and(|told| told < self.next - 1);
        let due = untold.then_some(self.progress_due);
        let due = [due, self.leaderless_until].into_iter().flatten().min();
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let ending = &self.handle.ending;
        // What woke it is found out by looking at everything.
        tokio::select! {
            _ = self.watcher.revision.changed() => {}
            _ = self.watcher.quarantine.changed() => {}
            _ = self.watcher.standing.changed() => {}
            () = ending.stopped() => {}
            () = ending.killed() => {}
            () = timer => {}
        }
    }
}

fn wire_event(event: history::Event) -> Event {
    let (kind, create_revision, value) = match event.change {
        Change::Put {
            create_revision,
            value,
        } => (Kind::Put, create_revision, value),
        Change::Delete => (Kind::Delete, 0, Default::default()),
    };
    Event {
        kind: kind.into(),
        kv: Some(KeyValue {
            key: event.key,
            value,
            create_revision,
            mod_revision: event.revision,
        }),
    }
}
