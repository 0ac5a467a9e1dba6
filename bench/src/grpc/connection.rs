//! One HTTP/2 connection, shared by the clients that clone it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use tokio::net::TcpStream;

use super::{CallError, decode, encode};

/// Larger answers end the call: no answer of a benchmark comes near.
const ANSWER_BYTES_MAX: usize = 4 << 20;

const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A cheaply cloned handle; the connection closes with the last one.
#[derive(Clone)]
pub struct Connection {
    requests: SendRequest<Bytes>,
    address: SocketAddr,
}

/// The request line and headers of one method, built once.
#[derive(Clone)]
pub struct Method(Request<()>);

impl Connection {
    /// Dials and shakes hands within `timeout`. The connection lives in a task of the current runtime.
    pub async fn open(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let dial = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Builder::new()
                .initial_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .enable_push(false)
                .handshake::<_, Bytes>(stream)
                .await
                .map_err(io::Error::other)
        };
        let (requests, connection) = tokio::time::timeout(timeout, dial).await??;
        // Its error reaches every call that is in flight.
        tokio::spawn(connection);
        Ok(Connection { requests, address })
    }

    /// A method of the server at the other end, as `/package.Service/Name`.
    pub fn method(&self, path: &str) -> Method {
        let request = Request::post(format!("http://{}{path}", self.address))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(TE, HeaderValue::from_static("trailers"))
            .body(())
            .expect("an address and a method's path make a URI");
        Method(request)
    }

    /// One unary call: sends a frame, answers with the frame that came back.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. Without a status of the server the fate of the request is not known.
    pub async fn call(&mut self, method: &Method, frame: Bytes) -> Result<Bytes, CallError> {
        let mut requests = self
            .requests
            .clone()
            .ready()
            .await
            .map_err(CallError::Transport)?;
        let (response, mut body) = requests
            .send_request(method.0.clone(), false)
            .map_err(CallError::Transport)?;
        body.send_data(frame, true).map_err(CallError::Transport)?;
        let response = response.await.map_err(CallError::Transport)?;
        if response.status() != StatusCode::OK {
            return Err(CallError::Malformed(format!(
                "HTTP status {}",
                response.status()
            )));
        }
        let (head, mut body) = response.into_parts();
        if head.headers.contains_key("grpc-status") {
            // Headers only: an error, for an answer has a message.
            check_status(&head.headers)?;
        }
        let answer = read(&mut body).await?;
        let trailers = body.trailers().await.map_err(CallError::Transport)?;
        let trailers =
            trailers.ok_or_else(|| CallError::Malformed("it ends without a status".into()))?;
        check_status(&trailers)?;
        Ok(answer)
    }

    /// Whether the connection has ended, so that no further call can succeed.
    pub async fn is_broken(&self) -> bool {
        self.requests.clone().ready().await.is_err()
    }

    /// [`Connection::call`] with typed messages, for calls that are not measured.
    pub async fn unary<T: Message + Default>(
        &mut self,
        path: &str,
        request: &impl Message,
    ) -> Result<T, CallError> {
        let method = self.method(path);
        decode(self.call(&method, encode(request)).await?)
    }
}

/// The whole body; without a copy if it comes in one piece, as small answers do.
async fn read(body: &mut RecvStream) -> Result<Bytes, CallError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(CallError::Transport)?;
        // The window is given back at once: the bytes are ours now.
        body.flow_control()
            .release_capacity(piece.len())
            .map_err(CallError::Transport)?;
        if first.is_empty() {
            first = piece;
            continue;
        }
        rest.extend_from_slice(&piece);
        if first.len() + rest.len() > ANSWER_BYTES_MAX {
            return Err(CallError::Malformed(format!(
                "it is over {ANSWER_BYTES_MAX} bytes"
            )));
        }
    }
    if rest.is_empty() {
        Ok(first)
    } else {
        Ok([&first[..], &rest[..]].concat().into())
    }
}

fn check_status(headers: &HeaderMap) -> Result<(), CallError> {
    match headers.get("grpc-status").map(HeaderValue::as_bytes) {
        Some(b"0") => Ok(()),
        Some(_) => {
            let status = tonic::Status::from_header_map(headers);
            Err(CallError::Status(Box::new(
                status.expect("the header is there"),
            )))
        }
        None => Err(CallError::Malformed(
            "its trailers have no grpc-status".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use kontiki_proto::kv::{
        DeleteRequest, DeleteResponse, GetRequest, GetResponse, PutRequest, PutResponse,
    };
    use tokio::net::TcpListener;
    use tonic::Code;

    use crate::echo;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    async fn connected() -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(echo::serve_on(listener));
        Connection::open(address, DEADLINE).await.unwrap()
    }

    #[tokio::test]
    async fn a_tonic_server_understands_and_is_understood() {
        let mut connection = connected().await;
        let value = Bytes::from(vec![7; 256]);
        let request = PutRequest {
            key: Bytes::from_static(b"key"),
            value,
            ..PutRequest::default()
        };
        let put: PutResponse = connection
            .unary("/kontiki.kv.v1.Kv/Put", &request)
            .await
            .unwrap();
        assert_eq!(put.revision, echo::REVISION);
        let request = GetRequest {
            key: Bytes::from_static(b"key"),
            consistency: 1,
            ..GetRequest::default()
        };
        let got: GetResponse = connection
            .unary("/kontiki.kv.v1.Kv/Get", &request)
            .await
            .unwrap();
        assert_eq!(got.kv.unwrap().value.len(), 256);
    }

    #[tokio::test]
    async fn many_calls_share_a_connection_and_large_messages_pass_its_windows() {
        let connection = connected().await;
        let mut calls = tokio::task::JoinSet::new();
        // Three times the window that a server offers by default.
        for _ in 0..3 {
            let mut connection = connection.clone();
            calls.spawn(async move {
                let value = Bytes::from(vec![7; 1 << 20]);
                let request = PutRequest {
                    key: Bytes::from_static(b"key"),
                    value,
                    ..PutRequest::default()
                };
                connection
                    .unary::<PutResponse>("/kontiki.kv.v1.Kv/Put", &request)
                    .await
            });
        }
        for answer in calls.join_all().await {
            assert_eq!(answer.unwrap().revision, echo::REVISION);
        }
    }

    #[tokio::test]
    async fn a_status_comes_with_its_code_and_message() {
        let mut connection = connected().await;
        let request = DeleteRequest {
            key: Bytes::from_static(b"key"),
            ..DeleteRequest::default()
        };
        let error = connection
            .unary::<DeleteResponse>("/kontiki.kv.v1.Kv/Delete", &request)
            .await
            .unwrap_err();
        let CallError::Status(status) = error else {
            panic!("{error}")
        };
        assert_eq!(status.code(), Code::Unimplemented);
        assert_eq!(status.message(), echo::ONLY_PUT_AND_GET);
        let error = connection
            .unary::<DeleteResponse>("/no.such.Service/Method", &request)
            .await
            .unwrap_err();
        assert!(matches!(error, CallError::Status(s) if s.code() == Code::Unimplemented));
    }

    #[tokio::test]
    async fn a_closed_port_is_an_error_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = Connection::open(address, DEADLINE).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
