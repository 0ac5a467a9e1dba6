//! Pipelined writes: many commands in flight on one stream, each with a result of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use prost::bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use kontiki_proto::v1::streamed_result;
use kontiki_proto::v1::{
    InSession, StreamedCommand, StreamedError, StreamedResult, WriteResponse, WriteStreamRequest,
    WriteStreamResponse,
};
use kontiki_proto::{metadata, reason};

use crate::client::{check_command, data};
use crate::connections::Connection;
use crate::error::{Leader, Verdict, judge};
use crate::router::Router;
use crate::session::Place;
use crate::{Address, Error};

/// Commands of one message.
const BATCH_COMMANDS_MAX: usize = 256;
/// Bytes of commands after which a message is closed; one command more may exceed it.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Messages that wait for the transport.
const MESSAGES_MAX: usize = 4;

/// What a command was answered with.
pub type Written = WriteResponse;

/// An open stream of writes to one server. Nothing is sent again: a command that failed with
/// `NOT_LEADER` has taught the client where the leader is, so open another stream and write it there.
#[derive(Debug)]
pub struct WriteStream {
    commands: mpsc::Sender<Submitted>,
    window: Arc<Semaphore>,
    endpoint: Address,
}

/// A command on its way, and who waits for it. Dropping it unsent fails the command.
#[derive(Debug)]
struct Submitted {
    command: Bytes,
    in_session: Option<InSession>,
    waiter: Waiter,
}

#[derive(Debug)]
struct Waiter {
    result: oneshot::Sender<Result<Written, Error>>,
    /// Held until the result is there: the window.
    _permit: OwnedSemaphorePermit,
}

/// Commands that were sent and have no result yet. `None` once the stream has ended.
type InFlight = Arc<Mutex<Option<HashMap<u64, Waiter>>>>;

impl WriteStream {
    pub(crate) async fn open(router: Arc<Router>, in_flight_max: usize) -> Result<Self, Error> {
        if in_flight_max == 0 || in_flight_max > Semaphore::MAX_PERMITS {
            return Err(Error::invalid(
                "a write stream needs a window of at least 1 command",
            ));
        }
        let endpoint = router.target();
        let connection = match router.connect(&endpoint).await {
            Ok(connection) => connection,
            Err(error) => {
                router.forget_leader(&endpoint);
                return Err(error);
            }
        };
        let (commands, submitted) = mpsc::channel(in_flight_max.min(BATCH_COMMANDS_MAX));
        let stream = Arc::new(Open {
            router,
            endpoint: endpoint.clone(),
            connection,
        });
        tokio::spawn(stream.run(submitted));
        Ok(WriteStream {
            commands,
            window: Arc::new(Semaphore::new(in_flight_max)),
            endpoint,
        })
    }

    /// The server that it writes to.
    pub fn endpoint(&self) -> &Address {
        &self.endpoint
    }

    /// Whether the stream has ended, so that further commands fail.
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Submits a command, waiting for room in the window; the returned future waits for its result.
    /// Commands of one stream reach the leader in the order in which they were submitted.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty command; [`Error::Failed`] if the stream has ended. The
    /// future: [`Error::Failed`], or [`Error::Unknown`] if the stream ended without a result.
    pub async fn submit(
        &self,
        command: Bytes,
    ) -> Result<impl Future<Output = Result<Written, Error>> + Send + use<>, Error> {
        self.submit_somewhere(command, None).await
    }

    /// As [`WriteStream::submit`], in a place of the client's session that
    /// [`Client::place`](crate::Client::place) gave out. A command whose outcome is unknown may be
    /// submitted again in the same place, to a stream of whoever leads then: it is applied once.
    ///
    /// # Errors
    /// As [`WriteStream::submit`]. Once the outcome in a place was unknown, a later failure in it
    /// does not say that nothing was applied: only a result does.
    pub async fn submit_in(
        &self,
        place: &Place,
        command: Bytes,
    ) -> Result<impl Future<Output = Result<Written, Error>> + Send + use<>, Error> {
        self.submit_somewhere(command, Some(place.in_session()))
            .await
    }

    async fn submit_somewhere(
        &self,
        command: Bytes,
        in_session: Option<InSession>,
    ) -> Result<impl Future<Output = Result<Written, Error>> + Send + use<>, Error> {
        let command = check_command(command)?;
        let permit = Arc::clone(&self.window)
            .acquire_owned()
            .await
            .expect("never closed");
        let (result, outcome) = oneshot::channel();
        let waiter = Waiter {
            result,
            _permit: permit,
        };
        let not_sent = not_sent(&self.endpoint);
        if self
            .commands
            .send(Submitted {
                command,
                in_session,
                waiter,
            })
            .await
            .is_err()
        {
            return Err(not_sent);
        }
        // A waiter that is dropped without a word was never handed to the transport.
        Ok(async move { outcome.await.unwrap_or(Err(not_sent)) })
    }

    /// Submits a command and waits for its result.
    ///
    /// # Errors
    /// As [`WriteStream::submit`].
    pub async fn write(&self, command: impl Into<Bytes>) -> Result<Written, Error> {
        self.submit(command.into()).await?.await
    }
}

fn not_sent(endpoint: &Address) -> Error {
    Error::Failed {
        reason: crate::local_reason::UNREACHABLE.to_owned(),
        message: "the stream ended before the command was sent; open another".to_owned(),
        endpoint: endpoint.to_string(),
        attempts: 1,
    }
}

/// How a stream ended.
enum Ended {
    /// The server answered the call with an error at once.
    Refused(Verdict),
    /// With an error after it had begun.
    Broken(String),
    /// The server closed it.
    InOrder,
}

/// The background half of a stream.
struct Open {
    router: Arc<Router>,
    endpoint: Address,
    connection: Connection,
}

impl Open {
    async fn run(self: Arc<Self>, submitted: mpsc::Receiver<Submitted>) {
        let in_flight: InFlight = Arc::new(Mutex::new(Some(HashMap::new())));
        let (messages, outgoing) = mpsc::channel(MESSAGES_MAX);
        let mut sending = tokio::spawn(send(submitted, messages, Arc::clone(&in_flight)));
        let mut client = data(self.connection.channel.clone());
        // Sending goes on beside this: servers may answer with headers only after a first message.
        let ended = match client.write_stream(ReceiverStream::new(outgoing)).await {
            Ok(response) => self.receive(response.into_inner(), &in_flight).await,
            Err(status) => Ended::Refused(judge(&status)),
        };
        if !matches!(ended, Ended::InOrder) {
            self.router.disconnect(&self.endpoint, &self.connection);
            self.router.forget_leader(&self.endpoint);
        }
        // From here on nothing is sent: what is taken from the map now is all there ever was.
        let left = in_flight
            .lock()
            .expect("no holder panics")
            .take()
            .unwrap_or_default();
        sending.abort();
        let _ = (&mut sending).await;
        for waiter in left.into_values() {
            let _ = waiter.result.send(Err(self.without_result(&ended)));
        }
    }

    /// Hands results to their waiters until the stream ends.
    async fn receive(
        &self,
        mut results: Streaming<WriteStreamResponse>,
        in_flight: &InFlight,
    ) -> Ended {
        while let Some(message) = results.next().await {
            let message = match message {
                Ok(message) => message,
                Err(status) => return Ended::Broken(status.message().to_owned()),
            };
            for StreamedResult { id, result } in message.results {
                let waiter = in_flight
                    .lock()
                    .expect("no holder panics")
                    .as_mut()
                    .and_then(|waiting| waiting.remove(&id));
                if let Some(waiter) = waiter {
                    let _ = waiter.result.send(self.outcome(result));
                }
            }
        }
        Ended::InOrder
    }

    fn outcome(&self, result: Option<streamed_result::Result>) -> Result<Written, Error> {
        match result {
            Some(streamed_result::Result::Written(written)) => {
                self.router.remember_leader(&self.endpoint);
                Ok(written)
            }
            Some(streamed_result::Result::Error(error)) => Err(self.refused(error)),
            None => Err(Error::Unknown {
                message: "a result without an outcome".to_owned(),
                endpoint: self.endpoint.to_string(),
            }),
        }
    }

    fn refused(&self, error: StreamedError) -> Error {
        let endpoint = self.endpoint.to_string();
        let failed = error
            .metadata
            .get(metadata::OUTCOME)
            .is_some_and(|o| o == "FAILED");
        if !failed {
            return Error::Unknown {
                message: error.message,
                endpoint,
            };
        }
        match error.reason.as_str() {
            reason::NOT_LEADER => {
                let leader = Leader::from_metadata(&error.metadata);
                self.router.forget_leader(&self.endpoint);
                if let Some(leader) = self.router.redirect(&leader) {
                    self.router.remember_leader(&leader);
                }
            }
            reason::QUEUE_FULL
            | reason::STATE_LIMIT
            | reason::INVALID
            | reason::TOO_LARGE
            | reason::SESSION_EXPIRED
            | reason::WRONG_CLUSTER
            | reason::SEQUENCE_ALREADY_ACKNOWLEDGED
            | reason::SESSION_WINDOW_FULL => {}
            _ => self.router.forget_leader(&self.endpoint),
        }
        Error::Failed {
            reason: error.reason,
            message: error.message,
            endpoint,
            attempts: 1,
        }
    }

    /// What became of a command that was handed to the transport and has no result.
    fn without_result(&self, ended: &Ended) -> Error {
        let endpoint = self.endpoint.to_string();
        let message = match ended {
            // The whole call failed, by the server's word: none of its commands was proposed.
            Ended::Refused(Verdict::Failed {
                reason, message, ..
            }) => {
                let (reason, message) = (reason.clone(), message.clone());
                return Error::Failed {
                    reason,
                    message,
                    endpoint,
                    attempts: 1,
                };
            }
            Ended::Refused(Verdict::Unknown { message, .. }) | Ended::Broken(message) => message,
            Ended::InOrder => "the stream ended without a result for the command",
        };
        Error::Unknown {
            message: message.to_owned(),
            endpoint,
        }
    }
}

/// Gathers what was submitted into messages.
async fn send(
    mut submitted: mpsc::Receiver<Submitted>,
    messages: mpsc::Sender<WriteStreamRequest>,
    in_flight: InFlight,
) {
    let mut next_id = 0;
    let mut first = None;
    loop {
        // Room first, so that nothing is counted as sent that waits here.
        let Ok(room) = messages.reserve().await else {
            return;
        };
        let Some(head) = (match first.take() {
            Some(head) => Some(head),
            None => submitted.recv().await,
        }) else {
            return;
        };
        let mut batch: Vec<Submitted> = vec![head];
        let mut bytes = batch[0].command.len();
        while batch.len() < BATCH_COMMANDS_MAX
            && let Ok(next) = submitted.try_recv()
        {
            bytes += next.command.len();
            if bytes > BATCH_BYTES_MAX {
                first = Some(next);
                break;
            }
            batch.push(next);
        }
        let mut waiting = in_flight.lock().expect("no holder panics");
        let Some(waiting) = waiting.as_mut() else {
            return;
        };
        let mut commands = Vec::with_capacity(batch.len());
        for Submitted {
            command,
            in_session,
            waiter,
        } in batch
        {
            waiting.insert(next_id, waiter);
            commands.push(StreamedCommand {
                id: next_id,
                command,
                in_session,
            });
            next_id += 1;
        }
        room.send(WriteStreamRequest { commands });
    }
}
