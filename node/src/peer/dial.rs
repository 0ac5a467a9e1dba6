//! The lane that this server dials: connect, say hello, pump answers in, and again.

use std::error::Error;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kontiki_proto::raft::PeerMessage;
use kontiki_proto::raft::peer_client::PeerClient;
use kontiki_proto::reason;
use kontiki_raft::ServerId;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};
use tonic_types::StatusExt;

use super::inbound::pump;
use super::outbox::OutboxStream;
use super::{Lane, LinkEvent, hello, message_bytes_max};
use crate::driver::Loss;
use crate::handle::Handle;
use crate::peer::outbox::outbox;

/// How long a connection attempt may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after the first failure, doubled up to [`BACKOFF_MAX`]. Short: a process that is being killed may
/// reset a connection before it stops listening, and that it is gone is known by the next one.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that was up this long is redialled without a pause.
const STABLE_AFTER: Duration = Duration::from_millis(100);

/// What a dialler needs.
pub(super) struct Dialler {
    pub(super) handle: Handle,
    pub(super) peer: ServerId,
    pub(super) lane: Lane,
    pub(super) events: mpsc::Sender<LinkEvent>,
    /// Dial now, whatever the pause.
    pub(super) hurry: Arc<Notify>,
}

/// How an attempt, or the connection that came of it, ended.
struct Ended {
    /// How long it was up, if it was.
    up: Option<Duration>,
    gone: bool,
}

/// An endpoint with the settings that all connections between nodes share.
///
/// # Errors
/// The address is not HOST:PORT.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(DIAL_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(3))
        .keep_alive_while_idle(true))
}

impl Dialler {
    /// Dials until it is aborted, or the node ends.
    pub(super) async fn run(self, mut queue: OutboxStream) {
        let limits = self.handle.limits;
        let mut backoff = BACKOFF_MIN;
        let mut worst = None;
        loop {
            while self.handle.book.find(self.peer).peer_address.is_empty() {
                // Nobody has told yet where it is; somebody will.
                let _ = timeout(BACKOFF_MIN, self.hurry.notified()).await;
            }
            let ended = self.attempt(queue).await;
            let loss = loss(&ended);
            if ended.up.is_some() {
                worst = None;
            }
            let news = (loss > worst).then_some(loss).flatten();
            worst = worst.max(loss);
            // Whatever the ended stream had queued is lost with it: Raft sends again.
            let (outbox, next) =
                outbox(limits.peer_queue_messages_max, limits.peer_queue_bytes_max);
            queue = next;
            let event = LinkEvent::Down(self.peer, self.lane, news.map(Severity::loss), outbox);
            if self.events.send(event).await.is_err() {
                return;
            }
            if ended.up.is_some_and(|up| up >= STABLE_AFTER) {
                backoff = BACKOFF_MIN;
                continue;
            }
            let _ = timeout(backoff, self.hurry.notified()).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn attempt(&self, queue: OutboxStream) -> Ended {
        let unreachable = |gone| Ended { up: None, gone };
        let address = self.handle.book.find(self.peer).peer_address;
        let Ok(endpoint) = endpoint(&address) else {
            return unreachable(false);
        };
        let channel = match timeout(DIAL_TIMEOUT, endpoint.connect()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return unreachable(is_refusal(&error)),
            Err(_) => return unreachable(false),
        };
        let mut answers = match timeout(DIAL_TIMEOUT, self.open(channel, queue)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return unreachable(is_other_server(&status)),
            Err(_) => return unreachable(false),
        };
        match timeout(DIAL_TIMEOUT, answers.message()).await {
            Ok(Ok(Some(hello))) => match hello::greeted(&hello) {
                Some(server) if server.id == self.peer => self.handle.book.learn(server),
                Some(_) => return unreachable(true),
                None => return unreachable(false),
            },
            _ => return unreachable(false),
        }
        if self
            .events
            .send(LinkEvent::Up(self.peer, self.lane))
            .await
            .is_err()
        {
            return unreachable(false);
        }
        let since = Instant::now();
        pump(&self.handle, self.peer, None, answers).await;
        Ended {
            up: Some(since.elapsed()),
            gone: false,
        }
    }

    /// Opens the stream; the first message on it is our Hello.
    async fn open(
        &self,
        channel: Channel,
        queue: OutboxStream,
    ) -> Result<Response<Streaming<PeerMessage>>, Status> {
        let bytes_max = message_bytes_max(self.handle.limits.command_bytes_max);
        let mut client = PeerClient::new(channel)
            .max_decoding_message_size(bytes_max)
            .max_encoding_message_size(bytes_max);
        let hello = hello::encode(self.handle.cluster(), self.handle.book.me(), self.peer);
        let requests = futures::stream::iter([hello]).chain(queue);
        match self.lane {
            Lane::Liveness => client.liveness(requests).await,
            Lane::Entries => client.entries(requests).await,
            Lane::Snapshots => client.snapshots(requests).await,
        }
    }
}

/// Losses in order of what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Broken,
    Gone,
}

impl Severity {
    fn loss(self) -> Loss {
        match self {
            Self::Broken => Loss::Broken,
            Self::Gone => Loss::Gone,
        }
    }
}

fn loss(ended: &Ended) -> Option<Severity> {
    match (ended.gone, ended.up) {
        (true, _) => Some(Severity::Gone),
        (false, Some(_)) => Some(Severity::Broken),
        // It was down before as well.
        (false, None) => None,
    }
}

/// Whether nobody listens at the address: the process there is gone.
fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}

/// Whether another incarnation answered.
fn is_other_server(status: &Status) -> bool {
    let details = status.get_error_details();
    details
        .error_info()
        .is_some_and(|info| info.reason == reason::WRONG_SERVER)
}
