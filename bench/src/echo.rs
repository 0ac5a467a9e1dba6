//! An empty gRPC server with Kontiki's messages: what an operation costs before anything is stored.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use kontiki_proto::kv::kv_server::{Kv, KvServer};
use kontiki_proto::kv::{
    DeleteRequest, DeleteResponse, GetRequest, GetResponse, KeyValue, PutRequest, PutResponse,
    RangeRequest, RangeResponse, WatchRequest, WatchResponse,
};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// The revision in every answer.
pub const REVISION: u64 = 1;

/// The message of the status that other methods end with.
pub const ONLY_PUT_AND_GET: &str = "the echo server has only Put and Get";

static VALUE: [u8; 256] = [b'v'; 256];

/// Serves on `listen` until the process ends.
pub async fn serve(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listen on {listen}"))?;
    serve_on(listener).await
}

/// Serves on `listener` until the process ends.
pub async fn serve_on(listener: TcpListener) -> Result<()> {
    // With a listener of ours tonic leaves Nagle's algorithm on.
    let incoming = TcpListenerStream::new(listener).map(|stream| {
        let stream = stream?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(stream)
    });
    tonic::transport::Server::builder()
        .add_service(KvServer::new(Echo))
        .serve_with_incoming(incoming)
        .await
        .context("serve echo")
}

struct Echo;

#[tonic::async_trait]
impl Kv for Echo {
    async fn put(&self, _: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        Ok(Response::new(PutResponse {
            revision: REVISION,
            ..PutResponse::default()
        }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let kv = KeyValue {
            key: request.into_inner().key,
            value: Bytes::from_static(&VALUE),
            create_revision: REVISION,
            mod_revision: REVISION,
        };
        Ok(Response::new(GetResponse {
            found: true,
            kv: Some(kv),
            revision: REVISION,
            // As long as that of a cluster.
            cluster_id: "00000000000c1057".to_owned(),
        }))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        Err(Status::unimplemented(ONLY_PUT_AND_GET))
    }

    type WatchStream = tokio_stream::Empty<Result<WatchResponse, Status>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented(ONLY_PUT_AND_GET))
    }

    async fn range(&self, _: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        Err(Status::unimplemented(ONLY_PUT_AND_GET))
    }
}
