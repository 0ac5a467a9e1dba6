//! Pipelined writes against a scripted server.

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{failed, options};
use futures::future::join_all;
use kontiki_client::proto::v1::data_server::{Data, DataServer};
use kontiki_client::proto::v1::streamed_result::Result as Streamed;
use kontiki_client::proto::v1::*;
use kontiki_client::{Client, Error, Options};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};

/// Answers commands by their first byte: `l` not leader, `q` queue full, `u` unknown, `!` ends the
/// stream with an error, `.` ends it in order; anything else is written. Refuses streams if `refuses`.
#[derive(Debug, Clone, Default)]
struct Server {
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    messages: Arc<Mutex<u64>>,
    /// Session, sequence and acknowledged of commands that have them.
    places: Arc<Mutex<Vec<(u64, u64, u64)>>>,
    refuses: bool,
}

impl Server {
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(DataServer::new(self.clone()))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        address
    }
}

fn error(reason: &str, outcome: &str) -> Streamed {
    let metadata = HashMap::from([
        ("outcome".to_owned(), outcome.to_owned()),
        ("leader_address".to_owned(), "127.0.0.1:9".to_owned()),
    ]);
    Streamed::Error(StreamedError {
        code: 9,
        message: "scripted".into(),
        reason: reason.into(),
        metadata,
    })
}

#[tonic::async_trait]
impl Data for Server {
    async fn write(&self, _: Request<WriteRequest>) -> Result<Response<WriteResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn read(&self, _: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn open_session(
        &self,
        _: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        Ok(Response::new(OpenSessionResponse {
            session: 5,
            ttl_milliseconds: 1000,
            window_max: 10,
            cluster_id: "c1".to_owned(),
        }))
    }

    async fn close_session(
        &self,
        _: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    type WriteStreamStream = ReceiverStream<Result<WriteStreamResponse, Status>>;

    async fn write_stream(
        &self,
        request: Request<Streaming<WriteStreamRequest>>,
    ) -> Result<Response<Self::WriteStreamStream>, Status> {
        if self.refuses {
            return Err(failed(Code::FailedPrecondition, "NOT_A_MEMBER", None));
        }
        let mut commands = request.into_inner();
        let (answers, results) = tokio::sync::mpsc::channel(16);
        let server = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = commands.next().await {
                *server.messages.lock().unwrap() += 1;
                // Backwards: results come in any order.
                let mut results = Vec::new();
                for submitted in message.commands.into_iter().rev() {
                    let StreamedCommand {
                        id,
                        command,
                        in_session,
                    } = submitted;
                    let places = in_session.map(|at| (at.session, at.sequence, at.acknowledged));
                    server.places.lock().unwrap().extend(places);
                    server.seen.lock().unwrap().push(command.to_vec());
                    let result = match command[0] {
                        b'l' => error("NOT_LEADER", "FAILED"),
                        b'q' => error("QUEUE_FULL", "FAILED"),
                        b'u' => error("OUTCOME_UNKNOWN", "UNKNOWN"),
                        b'!' => {
                            let broken = Status::unavailable("going down");
                            let _ = answers.send(Err(broken)).await;
                            return;
                        }
                        b'.' => return,
                        _ => Streamed::Written(WriteResponse {
                            reply: command,
                            index: id,
                            term: 1,
                        }),
                    };
                    results.push(StreamedResult {
                        id,
                        result: Some(result),
                    });
                }
                if answers
                    .send(Ok(WriteStreamResponse { results }))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(results)))
    }
}

#[tokio::test]
async fn each_command_gets_its_own_result_and_commands_share_messages() {
    let server = Server::default();
    let client = Client::with_options([server.serve().await], options()).unwrap();
    let stream = client.write_stream(64).await.unwrap();
    let mut waiting = Vec::new();
    for n in 0..500 {
        waiting.push(tokio::spawn(
            stream.submit(format!("c{n}").into()).await.unwrap(),
        ));
    }
    for (n, result) in join_all(waiting).await.into_iter().enumerate() {
        assert_eq!(result.unwrap().unwrap().reply, format!("c{n}"));
    }
    assert_eq!(server.seen.lock().unwrap().len(), 500);
    let messages = *server.messages.lock().unwrap();
    assert!(messages < 500, "{messages} messages for 500 commands");
}

#[tokio::test]
async fn failed_and_unknown_results_are_told_apart_and_a_redirect_is_learned() {
    let client = Client::with_options([Server::default().serve().await], options()).unwrap();
    let stream = client.write_stream(8).await.unwrap();
    assert_eq!(
        stream.write("q").await.unwrap_err().reason(),
        Some("QUEUE_FULL")
    );
    assert!(stream.write("u").await.unwrap_err().is_unknown());
    assert_eq!(
        stream.write("l").await.unwrap_err().reason(),
        Some("NOT_LEADER")
    );
    assert_eq!(client.leader().unwrap().as_str(), "127.0.0.1:9");
    assert!(matches!(
        stream.write("").await.unwrap_err(),
        Error::Invalid { .. }
    ));
}

#[tokio::test]
async fn a_stream_that_ends_leaves_what_was_sent_unknown_and_fails_the_rest() {
    for end in ["!", "."] {
        let server = Server::default();
        let client = Client::with_options([server.serve().await], options()).unwrap();
        let stream = client.write_stream(8).await.unwrap();
        stream.write("fine").await.unwrap();
        let sent = stream.write(end).await.unwrap_err();
        assert!(sent.is_unknown(), "{end}: {sent}");
        let closed = async {
            while !stream.is_closed() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), closed)
            .await
            .expect("it closes");
        let later = stream.write("later").await.unwrap_err();
        assert_eq!(later.reason(), Some("UNREACHABLE"), "{end}: {later}");
        assert!(!server.seen.lock().unwrap().contains(&b"later".to_vec()));
    }
}

#[tokio::test]
async fn a_stream_that_is_refused_fails_its_commands() {
    let server = Server {
        refuses: true,
        ..Server::default()
    };
    let client = Client::with_options([server.serve().await], options()).unwrap();
    let stream = client.write_stream(8).await.unwrap();
    let error = stream.write("c").await.unwrap_err();
    assert_eq!(error.reason(), Some("NOT_A_MEMBER"), "{error}");
}

#[tokio::test]
async fn a_command_of_a_session_keeps_its_place_on_another_stream() {
    let server = Server::default();
    let options = Options {
        sessions: true,
        ..options()
    };
    let client = Client::with_options([server.serve().await], options).unwrap();
    let place = client.place().await.unwrap().expect("with sessions");
    let stream = client.write_stream(8).await.unwrap();
    let sent = stream.submit_in(&place, "!".into()).await.unwrap().await;
    assert!(sent.unwrap_err().is_unknown());
    let next = client.place().await.unwrap().expect("with sessions");
    let stream = client.write_stream(8).await.unwrap();
    for place in [&next, &place] {
        let sent = stream.submit_in(place, "c".into()).await.unwrap().await;
        sent.unwrap();
    }
    drop(place);
    stream
        .submit_in(&next, "c".into())
        .await
        .unwrap()
        .await
        .unwrap();
    let expected = [(5, 1, 0), (5, 2, 0), (5, 1, 0), (5, 2, 1)];
    assert_eq!(*server.places.lock().unwrap(), expected);
}
