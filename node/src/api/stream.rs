//! `WriteStream`: lists of commands in, lists of results out, whatever is ready in one message.

use std::net::IpAddr;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, unfold};
use kontiki_proto::v1::streamed_result::Result as StreamResult;
use kontiki_proto::v1::{
    StreamedCommand, StreamedError, StreamedResult, WriteResponse, WriteStreamRequest,
    WriteStreamResponse,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use super::bounds;
use super::data::write_input;
use super::error::{ApiError, Parts};
use crate::driver::Answer;
use crate::handle::{Failure, Handle, Outcome, Reply};
use crate::listen::{clear, of_library, of_reason};
use crate::metrics::{Face, Method, Pending};

/// One stream. Invariant: `in_flight.count() <= limits.stream_commands_max`, the capacity of the channel of
/// answers.
#[derive(Debug)]
pub(super) struct WriteStream {
    handle: Handle,
    /// Who sends it.
    remote: IpAddr,
    answers: mpsc::Receiver<(u64, Outcome)>,
    reply_to: mpsc::Sender<(u64, Outcome)>,
    in_flight: Pending,
    /// Of the message being taken in: what did not fit into the bound yet.
    waiting: std::vec::IntoIter<StreamedCommand>,
    /// Refused at the door.
    results: Vec<StreamedResult>,
    client_done: bool,
    received: Vec<(u64, Outcome)>,
}

impl WriteStream {
    pub(super) fn new(handle: Handle, remote: IpAddr) -> Self {
        let (reply_to, answers) = mpsc::channel(handle.limits.stream_commands_max);
        Self {
            in_flight: handle.metrics.pending(),
            handle,
            remote,
            answers,
            reply_to,
            waiting: Vec::new().into_iter(),
            results: Vec::new(),
            client_done: false,
            received: Vec::new(),
        }
    }

    fn full(&self) -> bool {
        self.in_flight.count() >= self.handle.limits.stream_commands_max
    }

    /// Submits what waits, as far as the bound allows.
    fn submit(&mut self) {
        while !self.full()
            && let Some(command) = self.waiting.next()
        {
            match self.submit_one(&command) {
                Ok(()) => self.in_flight.add(),
                Err(error) => self.refuse(command.id, &error),
            }
        }
    }

    fn submit_one(&self, submitted: &StreamedCommand) -> Result<(), ApiError> {
        let command = &submitted.command;
        bounds::command(command, self.handle.limits.command_bytes_max)?;
        let place = bounds::place(submitted.in_session.as_ref())?;
        // A copy: what is kept must not hold on to the receive buffer.
        let command = Bytes::copy_from_slice(command);
        let reply = Reply::Streamed(submitted.id, self.reply_to.clone());
        let input = write_input(command, place, reply);
        self.handle.submit(input).map_err(ApiError::Write)
    }

    fn refuse(&mut self, id: u64, error: &ApiError) {
        let Parts {
            code,
            message,
            reason,
            metadata,
        } = error.parts(&self.handle.book);
        self.handle.metrics.count_call(Method::WriteStream, code);
        if let Some(why) = of_reason(reason) {
            self.handle.refuse(Face::Client, why, self.remote, &message);
        }
        let error = StreamedError {
            code: code as i32,
            message,
            reason: reason.into(),
            metadata,
        };
        self.results.push(StreamedResult {
            id,
            result: Some(StreamResult::Error(error)),
        });
    }

    /// A message that the library does not take ends the stream.
    fn refuse_message(&self, status: Status) -> Status {
        let Some((reason, code, name)) = of_library(&status) else {
            return status;
        };
        self.handle
            .refuse(Face::Client, reason, self.remote, &status.message());
        // What was taken in before has had no result: of it, and so of the stream, nobody knows more.
        match self.in_flight.count() {
            0 => clear(code, status.message(), name),
            _ => status,
        }
    }

    fn on_answer(&mut self, id: u64, outcome: Outcome) {
        self.in_flight.remove();
        match outcome {
            Ok(Answer::Written { reply, id: entry }) => {
                self.handle
                    .metrics
                    .count_call(Method::WriteStream, Code::Ok);
                let written = WriteResponse {
                    reply: reply.into(),
                    index: entry.index.0,
                    term: entry.term.0,
                };
                self.results.push(StreamedResult {
                    id,
                    result: Some(StreamResult::Written(written)),
                });
            }
            Ok(_) => self.refuse(id, &ApiError::BadAnswer("a write's")),
            Err(refusal) => self.refuse(id, &ApiError::Write(Failure::Refused(refusal))),
        }
    }

    /// The next message for the client: all results that are ready. `None`: the client is done, and
    /// so is its last command.
    async fn next(
        &mut self,
        requests: &mut Streaming<WriteStreamRequest>,
    ) -> Option<Result<WriteStreamResponse, Status>> {
        let milliseconds = self.handle.limits.write_timeout_milliseconds;
        let patience = std::time::Duration::from_millis(milliseconds);
        let mut deadline = Instant::now() + patience;
        loop {
            self.submit();
            if !self.results.is_empty() {
                let results = std::mem::take(&mut self.results);
                return Some(Ok(WriteStreamResponse { results }));
            }
            if self.client_done && self.in_flight.count() == 0 {
                return None;
            }
            let reading = !self.client_done && !self.full();
            let answers_max = self.handle.limits.stream_commands_max;
            tokio::select! {
                _ = self.answers.recv_many(&mut self.received, answers_max) => {
                    let mut received = std::mem::take(&mut self.received);
                    received.drain(..).for_each(|(id, outcome)| self.on_answer(id, outcome));
                    self.received = received;
                }
                message = requests.message(), if reading => match message {
                    Ok(Some(request)) => self.waiting = request.commands.into_iter(),
                    Ok(None) => self.client_done = true,
                    Err(status) => return Some(Err(self.refuse_message(status))),
                },
                () = tokio::time::sleep_until(deadline) => {
                    if self.in_flight.count() > 0 {
                        // Commands without a result are of unknown fate: so is the stream's end.
                        let error = ApiError::Write(Failure::TimedOut(patience));
                        return Some(Err(super::status(&error, &self.handle.book)));
                    }
                    deadline = Instant::now() + patience;
                }
            }
        }
    }
}

/// Runs a stream; it ends after its first error.
pub(super) fn run(
    stream: WriteStream,
    requests: Streaming<WriteStreamRequest>,
) -> BoxStream<'static, Result<WriteStreamResponse, Status>> {
    unfold(Some((stream, requests)), |state| async {
        let (mut stream, mut requests) = state?;
        let message = stream.next(&mut requests).await?;
        let state = message.is_ok().then_some((stream, requests));
        Some((message, state))
    })
    .boxed()
}
