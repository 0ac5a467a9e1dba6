//! `kontiki.raft.v1.Peer`: streams that other servers dial.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kontiki_proto::raft::PeerMessage;
use kontiki_proto::raft::peer_server::Peer;
use kontiki_proto::reason;
use kontiki_raft::{SERVERS_MAX, ServerId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status, Streaming};

use super::outbox::outbox;
use super::{Lane, LinkEvent, hello, wire};
use crate::address_book::ServerRef;
use crate::api::{ApiError, status};
use crate::driver::{Input, Refusal};
use crate::handle::{Failure, Handle};
use crate::listen::{Remote, clear, of_library};
use crate::metrics::{Dropped, Face, Reason};

/// How long a dialler may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams that have not said hello yet.
const HELLOS_MAX: usize = 256;
/// Streams of servers of the configuration: two for each lane of each, one of which is broken and
/// does not know it yet.
const MEMBER_STREAMS_MAX: usize = 6 * SERVERS_MAX;
/// Streams of others. A server that belongs to no configuration yet takes everyone for one.
const STRANGER_STREAMS_MAX: usize = 64;
/// Bytes of the name of a node, and of an address: of a host's name, a port and some room.
const TEXT_BYTES_MAX: usize = 300;

/// The service.
#[derive(Clone, Debug)]
pub struct PeerService {
    handle: Handle,
    events: mpsc::Sender<LinkEvent>,
    streams: Arc<AtomicU64>,
    hellos: Arc<Semaphore>,
    members: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl PeerService {
    /// A service in front of a node, which tells `events` of the streams that come and go.
    pub fn new(handle: Handle, events: mpsc::Sender<LinkEvent>) -> Self {
        Self {
            handle,
            events,
            streams: Arc::default(),
            hellos: Arc::new(Semaphore::new(HELLOS_MAX)),
            members: Arc::new(Semaphore::new(MEMBER_STREAMS_MAX)),
            strangers: Arc::new(Semaphore::new(STRANGER_STREAMS_MAX)),
        }
    }

    /// Refuses a stream: counted, logged, and said why.
    fn refuse(&self, remote: IpAddr, why: Reason, code: Code, text: &str, name: &str) -> Status {
        self.handle.refuse(Face::Peer, why, remote, &text);
        clear(code, text, name)
    }

    /// The first message of a stream.
    async fn hello(
        &self,
        remote: IpAddr,
        requests: &mut Streaming<PeerMessage>,
    ) -> Result<PeerMessage, Status> {
        let Ok(_place) = self.hellos.try_acquire() else {
            let text = format!("{HELLOS_MAX} streams have not said hello yet");
            let code = Code::ResourceExhausted;
            return Err(self.refuse(remote, Reason::TooMany, code, &text, reason::QUEUE_FULL));
        };
        let malformed = |text: &str| {
            let code = Code::InvalidArgument;
            self.refuse(remote, Reason::Malformed, code, text, reason::MALFORMED)
        };
        match timeout(HELLO_TIMEOUT, requests.message()).await {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(malformed("the first message is a Hello")),
            // Counted with all that the library refuses.
            Ok(Err(status)) => Err(status),
            Err(_) => {
                let code = Code::DeadlineExceeded;
                let text = "no Hello within 5 s";
                Err(self.refuse(remote, Reason::Late, code, text, reason::TIMED_OUT))
            }
        }
    }

    /// Room for one more stream; it is free again once that ends.
    fn room(&self, peer: ServerId, remote: IpAddr) -> Result<OwnedSemaphorePermit, Status> {
        let (room, max, of) = match self.handle.book.is_member(peer) {
            true => (&self.members, MEMBER_STREAMS_MAX, "of members"),
            false => (
                &self.strangers,
                STRANGER_STREAMS_MAX,
                "of others than members",
            ),
        };
        room.clone().try_acquire_owned().map_err(|_| {
            let text = format!("{max} streams {of} are open");
            let code = Code::ResourceExhausted;
            self.refuse(remote, Reason::TooMany, code, &text, reason::QUEUE_FULL)
        })
    }

    async fn accept(
        &self,
        lane: Lane,
        request: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<Answers>, Status> {
        // Whoever did not come by a port is this process.
        let remote = request.extensions().get::<Remote>();
        let remote = remote.map_or(IpAddr::from([127, 0, 0, 1]), |remote| remote.0);
        let mut requests = request.into_inner();
        let hello = self.hello(remote, &mut requests).await?;
        let dialler = self.verify(&hello, remote)?;
        let peer = dialler.id;
        let room = self.room(peer, remote)?;
        self.learn(hello.cluster, dialler);
        let limits = self.handle.limits;
        let (outbox, queue) = outbox(limits.peer_queue_messages_max, limits.peer_queue_bytes_max);
        outbox.push(hello::encode(
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
            pump(&handle, peer, Some(remote), requests).await;
            // Nobody listens any more once the node has ended.
            let _ = events.send(LinkEvent::Closed(peer, lane, stream)).await;
            drop(room);
        });
        Ok(Response::new(queue.map(Ok).boxed()))
    }

    /// Checks who dials and whom.
    fn verify(&self, hello: &PeerMessage, remote: IpAddr) -> Result<ServerRef, Status> {
        let malformed = |text: &str| {
            self.handle.metrics.count_drop(Dropped::Malformed);
            let code = Code::InvalidArgument;
            self.refuse(remote, Reason::Malformed, code, text, reason::MALFORMED)
        };
        let Some(peer) = hello::greeted(hello) else {
            return Err(malformed(
                "the first message is a Hello with its sender's id",
            ));
        };
        for text in [&peer.name, &peer.peer_address, &peer.client_address] {
            if text.len() > TEXT_BYTES_MAX {
                return Err(malformed("a name or an address in the Hello is too long"));
            }
        }
        let me = self.handle.server;
        if hello.to != me.0 {
            self.handle.metrics.count_drop(Dropped::WrongServer);
            let text = format!("it dials server {}", ServerId(hello.to));
            self.handle
                .refuse(Face::Peer, Reason::WrongServer, remote, &text);
            let refusal = Failure::Refused(Refusal::WrongServer(me));
            return Err(status(&ApiError::Admin(refusal), &self.handle.book));
        }
        Ok(peer)
    }

    /// Remembers where the dialler is. Servers of other clusters are let in, so that the driver counts what it drops; where they
    /// are is of no interest.
    fn learn(&self, cluster: u64, peer: ServerRef) {
        let mine = self.handle.cluster().map_or(0, |cluster| cluster.0);
        if cluster == 0 || mine == 0 || cluster == mine {
            self.handle.book.learn(peer);
        }
    }
}

/// Hands every message of a stream to the driver until it ends. `remote`: who dialled it, if that was
/// not this server.
pub(super) async fn pump(
    handle: &Handle,
    peer: ServerId,
    remote: Option<IpAddr>,
    mut stream: Streaming<PeerMessage>,
) {
    let complain = |reason, problem: &dyn std::fmt::Display| match remote {
        Some(remote) => handle.refuse(Face::Peer, reason, remote, problem),
        None => handle.metrics.count_refused(Face::Peer, reason),
    };
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(status) => {
                if let Some((reason, ..)) = of_library(&status) {
                    complain(reason, &status.message());
                }
                return;
            }
        };
        if message.from != peer.0 {
            handle.metrics.count_drop(Dropped::WrongSender);
            complain(
                Reason::WrongSender,
                &"the sender of a message is not who said hello",
            );
            continue;
        }
        // The driver looks again, and drops what is not meant for it.
        let mine = handle
            .cluster()
            .map_or(message.cluster, |cluster| cluster.0);
        if message.cluster != mine {
            complain(Reason::WrongCluster, &"a message for another cluster");
        } else if message.to != handle.server.0 {
            complain(Reason::WrongServer, &"a message for another incarnation");
        }
        match wire::decode(message) {
            Ok(envelope) => {
                if !handle.submit_from_peer(Input::Peer(envelope)).await {
                    return;
                }
            }
            Err(malformed) => {
                handle.metrics.count_drop(Dropped::Malformed);
                complain(Reason::Malformed, &malformed);
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
        self.accept(Lane::Liveness, request).await
    }

    type EntriesStream = Answers;

    async fn entries(
        &self,
        request: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<Answers>, Status> {
        self.accept(Lane::Entries, request).await
    }

    type SnapshotsStream = Answers;

    async fn snapshots(
        &self,
        request: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<Answers>, Status> {
        self.accept(Lane::Snapshots, request).await
    }
}
