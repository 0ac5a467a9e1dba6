//! `kontiki.v1.Data`: opaque commands and queries.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use kontiki_proto::v1::data_server::Data;
use kontiki_proto::v1::{
    CloseSessionRequest, CloseSessionResponse, OpenSessionRequest, OpenSessionResponse,
    ReadRequest, ReadResponse, WriteRequest, WriteResponse, WriteStreamRequest,
    WriteStreamResponse,
};
use kontiki_raft::{Index, LogId};
use tonic::{Code, Request, Response, Status, Streaming};

use super::bounds::Place;
use super::error::{ApiError, status};
use super::stream::{WriteStream, run};
use super::{bounds, patience, text};
use crate::driver::{Answer, Input, ReadMode, Refusal};
use crate::handle::{Failure, Handle, Reply};
use crate::host::SessionId;
use crate::listen::Remote;
use crate::metrics::Method;

/// The service.
#[derive(Clone, Debug)]
pub struct DataService {
    handle: Handle,
}

impl DataService {
    /// A service in front of a node.
    pub fn new(handle: Handle) -> Self {
        Self { handle }
    }
}

/// Counts a call and turns its error into a status.
pub(super) fn finish<T>(
    handle: &Handle,
    method: Method,
    result: Result<T, ApiError>,
) -> Result<Response<T>, Status> {
    match result {
        Ok(response) => {
            handle.metrics.count_call(method, Code::Ok);
            Ok(Response::new(response))
        }
        Err(error) => {
            let status = status(&error, &handle.book);
            handle.metrics.count_call(method, status.code());
            Err(status)
        }
    }
}

/// The driver's input for a write, in a session or not.
pub(super) fn write_input(command: Bytes, place: Option<Place>, reply: Reply) -> Input<Reply> {
    match place {
        None => Input::Write { command, reply },
        Some((cluster, stamp)) => Input::WriteInSession {
            command,
            cluster,
            stamp,
            reply,
        },
    }
}

/// Replicates a command. `command` must be an allocation of its own: it is kept.
pub(super) async fn write(
    handle: &Handle,
    command: Bytes,
    place: Option<Place>,
    wait: Duration,
) -> Result<(Vec<u8>, LogId), ApiError> {
    let input = |reply| write_input(command, place, reply);
    let mut pending = handle.metrics.pending();
    pending.add();
    match handle.ask(wait, input).await {
        Ok(Answer::Written { reply, id }) => Ok((reply, id)),
        Ok(_) => Err(ApiError::BadAnswer("a write's")),
        Err(failure) => Err(ApiError::Write(failure)),
    }
}

/// Asks the machine; see [`Input::Read`] for `forward`.
pub(super) async fn read(
    handle: &Handle,
    query: Bytes,
    mode: ReadMode,
    forward: bool,
    wait: Duration,
) -> Result<(Vec<u8>, Index), ApiError> {
    let input = |reply| Input::Read {
        query,
        mode,
        forward,
        reply,
    };
    match handle.ask(wait, input).await {
        Ok(Answer::Read { reply, applied }) => Ok((reply, applied)),
        Ok(_) => Err(ApiError::BadAnswer("a read's")),
        // Whatever became of it, nothing was changed.
        Err(Failure::Refused(Refusal::OutcomeUnknown)) => {
            Err(ApiError::Read(Failure::Refused(Refusal::NoLeader)))
        }
        Err(failure) => Err(ApiError::Read(failure)),
    }
}

/// How long the outcome of a write or read is waited for.
///
/// # Errors
/// [`ApiError::TooLate`]: the caller does not wait at all.
pub(super) fn data_patience<T>(
    handle: &Handle,
    request: &Request<T>,
) -> Result<Duration, ApiError> {
    let limit = Duration::from_millis(handle.limits.write_timeout_milliseconds);
    patience(request.metadata(), limit)
}

#[tonic::async_trait]
impl Data for DataService {
    async fn write(
        &self,
        request: Request<WriteRequest>,
    ) -> Result<Response<WriteResponse>, Status> {
        let wait = data_patience(&self.handle, &request);
        let WriteRequest {
            command,
            in_session,
        } = request.into_inner();
        let result = async {
            bounds::command(&command, self.handle.limits.command_bytes_max)?;
            let place = bounds::place(in_session.as_ref())?;
            // A copy: what is kept must not hold on to the receive buffer.
            let command = Bytes::copy_from_slice(&command);
            let (reply, id) = write(&self.handle, command, place, wait?).await?;
            Ok(WriteResponse {
                reply: reply.into(),
                index: id.index.0,
                term: id.term.0,
            })
        };
        finish(&self.handle, Method::Write, result.await)
    }

    type WriteStreamStream =
        futures::stream::BoxStream<'static, Result<WriteStreamResponse, Status>>;

    async fn write_stream(
        &self,
        request: Request<Streaming<WriteStreamRequest>>,
    ) -> Result<Response<Self::WriteStreamStream>, Status> {
        // Whoever did not come by a port is this process.
        let remote = request.extensions().get::<Remote>();
        let remote = remote.map_or(IpAddr::from([127, 0, 0, 1]), |remote| remote.0);
        let stream = WriteStream::new(self.handle.clone(), remote);
        Ok(Response::new(run(stream, request.into_inner())))
    }

    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        let result = async {
            let wait = data_patience(&self.handle, &request)?;
            let input = |reply| Input::OpenSession { reply };
            match self.handle.ask(wait, input).await {
                Ok(Answer::SessionOpened { cluster, session }) => Ok(OpenSessionResponse {
                    session: session.0,
                    ttl_milliseconds: self.handle.sessions.ttl_milliseconds,
                    window_max: self.handle.sessions.window_max,
                    cluster_id: cluster.to_string(),
                }),
                Ok(_) => Err(ApiError::BadAnswer("an opened session's")),
                Err(failure) => Err(ApiError::Write(failure)),
            }
        };
        finish(&self.handle, Method::OpenSession, result.await)
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        let result = async {
            let wait = data_patience(&self.handle, &request)?;
            let request = request.into_inner();
            let cluster = text::cluster_id("cluster_id", &request.cluster_id)?;
            let session = SessionId(request.session);
            let input = |reply| Input::CloseSession {
                cluster,
                session,
                reply,
            };
            match self.handle.ask(wait, input).await {
                Ok(Answer::Done) => Ok(CloseSessionResponse {}),
                Ok(_) => Err(ApiError::BadAnswer("a closed session's")),
                Err(failure) => Err(ApiError::Write(failure)),
            }
        };
        finish(&self.handle, Method::CloseSession, result.await)
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        let wait = data_patience(&self.handle, &request);
        let ReadRequest {
            query,
            consistency,
            staleness_milliseconds,
            forward,
        } = request.into_inner();
        let result = async {
            let mode = bounds::read_mode(consistency, staleness_milliseconds)?;
            bounds::at_most("query", query.len(), self.handle.limits.command_bytes_max)?;
            let query = Bytes::copy_from_slice(&query);
            let (reply, applied) = read(&self.handle, query, mode, forward, wait?).await?;
            Ok(ReadResponse {
                reply: reply.into(),
                applied: applied.0,
            })
        };
        finish(&self.handle, Method::Read, result.await)
    }
}
