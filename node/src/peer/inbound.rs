//! `kontiki.raft.v1.Peer`: streams that other servers dial.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kontiki_proto::raft::PeerMessage;
use kontiki_proto::raft::peer_server::Peer;
use kontiki_raft::{ServerId, Time};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::outbox::outbox;
use super::{Lane, LinkEvent, wire};
use crate::address_book::ServerRef;
use crate::api::{ApiError, status};
use crate::clock;
use crate::driver::{Input, Refusal};
use crate::handle::{Failure, Handle};
use crate::metrics::Dropped;

/// How long a dialler may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer's nonsense is logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The service.
#[derive(Clone, Debug)]
pub struct PeerService {
    handle: Handle,
    events: mpsc::Sender<LinkEvent>,
    streams: Arc<AtomicU64>,
}

impl PeerService {
    /// A service in front of a node, which tells `events` of the streams that come and go.
    pub fn new(handle: Handle, events: mpsc::Sender<LinkEvent>) -> Self {
        Self {
            handle,
            events,
            streams: Arc::default(),
        }
    }

    async fn accept(
        &self,
        lane: Lane,
        mut requests: Streaming<PeerMessage>,
    ) -> Result<Response<Answers>, Status> {
        let hello = match timeout(HELLO_TIMEOUT, requests.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return Err(Status::invalid_argument("the first message is a Hello")),
            Ok(Err(status)) => return Err(status),
            Err(_) => return Err(Status::deadline_exceeded("no Hello within 5 s")),
        };
        let peer = self.verify(&hello)?;
        let limits = self.handle.limits;
        let (outbox, queue) = outbox(limits.peer_queue_messages_max, limits.peer_queue_bytes_max);
        outbox.push(wire::hello(
            self.handle.cluster(),
            self.handle.book.me(),
            peer,
        ));
        let stream = self.streams.fetch_add(1, Relaxed);
        let accepted = LinkEvent::Accepted(peer, lane, stream, outbox);
        if self.events.send(accepted).await.is_err() {
            return Err(status(
                &ApiError::Admin(Failure::Stopping),
                &self.handle.book,
            ));
        }
        let (handle, events) = (self.handle.clone(), self.events.clone());
        tokio::spawn(async move {
            pump(&handle, peer, requests).await;
            // Nobody listens any more once the node has ended.
            let _ = events.send(LinkEvent::Closed(peer, lane, stream)).await;
        });
        Ok(Response::new(queue.map(Ok).boxed()))
    }

    /// Checks who dials and whom, and remembers where the dialler is.
    fn verify(&self, hello: &PeerMessage) -> Result<ServerId, Status> {
        let Some(peer) = wire::greeted(hello) else {
            self.handle.metrics.count_drop(Dropped::Malformed);
            return Err(Status::invalid_argument(
                "the first message is a Hello with its sender's id",
            ));
        };
        let me = self.handle.server;
        if hello.to != me.0 {
            self.handle.metrics.count_drop(Dropped::WrongServer);
            let refusal = Failure::Refused(Refusal::WrongServer(me));
            return Err(status(&ApiError::Admin(refusal), &self.handle.book));
        }
        let id = peer.id;
        self.learn(hello.cluster, peer);
        Ok(id)
    }

    /// Servers of other clusters are let in, so that the driver counts what it drops; where they
    /// are is of no interest.
    fn learn(&self, cluster: u64, peer: ServerRef) {
        let mine = self.handle.cluster().map_or(0, |cluster| cluster.0);
        if cluster == 0 || mine == 0 || cluster == mine {
            self.handle.book.learn(peer);
        }
    }
}

/// Hands every message of a stream to the driver until it ends.
pub(super) async fn pump(handle: &Handle, peer: ServerId, mut stream: Streaming<PeerMessage>) {
    let mut logged: Option<Time> = None;
    let mut complain = |problem: &dyn std::fmt::Display| {
        let now = clock::now();
        if logged.is_none_or(|at| now.since(at) >= LOG_INTERVAL) {
            logged = Some(now);
            tracing::warn!(%peer, %problem, "dropped a message");
        }
    };
    while let Ok(Some(message)) = stream.message().await {
        if message.from != peer.0 {
            handle.metrics.count_drop(Dropped::WrongSender);
            complain(&"its sender is not who said hello");
            continue;
        }
        match wire::decode(message) {
            Ok(envelope) => {
                if !handle.submit_from_peer(Input::Peer(envelope)).await {
                    return;
                }
            }
            Err(malformed) => {
                handle.metrics.count_drop(Dropped::Malformed);
                complain(&malformed);
            }
        }
    }
}

type Answers = BoxStream<'static, Result<PeerMessage, Status>>;

#[tonic::async_trait]
impl Peer for PeerService {
    type LivenessStream = Answers;

    async fn liveness(
        &self,
        request: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<Answers>, Status> {
        self.accept(Lane::Liveness, request.into_inner()).await
    }

    type EntriesStream = Answers;

    async fn entries(
        &self,
        request: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<Answers>, Status> {
        self.accept(Lane::Entries, request.into_inner()).await
    }

    type SnapshotsStream = Answers;

    async fn snapshots(
        &self,
        request: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<Answers>, Status> {
        self.accept(Lane::Snapshots, request.into_inner()).await
    }
}
