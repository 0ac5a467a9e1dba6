//! `kontiki.kv.v1.Kv`: the typed face of the `kv` machine.

use bytes::Bytes;
use kontiki_proto::kv::kv_server::Kv;
use kontiki_proto::kv::{
    DeleteRequest, DeleteResponse, GetRequest, GetResponse, KeyValue, PutRequest, PutResponse,
    RangeRequest, RangeResponse,
};
use tonic::{Request, Response, Status};

use super::bounds;
use super::data::{data_patience, finish, read, write};
use super::error::ApiError;
use crate::handle::Handle;
use crate::machine::kv::{KEY_BYTES_MAX, KvCommand, KvQuery, KvRecord, KvReply, PUT_OVERHEAD};
use crate::metrics::Method;

/// The service.
#[derive(Clone, Debug)]
pub struct KvService {
    handle: Handle,
}

impl KvService {
    /// A service in front of a node.
    pub fn new(handle: Handle) -> Self {
        Self { handle }
    }

    fn check_machine(&self) -> Result<(), ApiError> {
        match self.handle.machine {
            "kv" => Ok(()),
            other => Err(ApiError::WrongMachine(other)),
        }
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<PutResponse, ApiError> {
        self.check_machine()?;
        let wait = data_patience(&self.handle, &request);
        let PutRequest { key, value } = request.into_inner();
        bounds::key(&key)?;
        let max = self.handle.limits.command_bytes_max;
        bounds::at_most(
            "value",
            value.len(),
            max.saturating_sub(PUT_OVERHEAD + key.len()),
        )?;
        let command = KvCommand::Put {
            key: &key,
            value: &value,
        }
        .encode();
        // The receive buffer need not be held while the write is under way.
        drop((key, value));
        match decode(write(&self.handle, command, wait).await?.0)? {
            KvReply::Put { revision } => Ok(PutResponse { revision }),
            _ => Err(ApiError::BadAnswer("a put's")),
        }
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<DeleteResponse, ApiError> {
        self.check_machine()?;
        let wait = data_patience(&self.handle, &request);
        let DeleteRequest { key } = request.into_inner();
        bounds::key(&key)?;
        let command = KvCommand::Delete { key: &key }.encode();
        match decode(write(&self.handle, command, wait).await?.0)? {
            KvReply::Delete { deleted, revision } => Ok(DeleteResponse { deleted, revision }),
            _ => Err(ApiError::BadAnswer("a delete's")),
        }
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<GetResponse, ApiError> {
        self.check_machine()?;
        let wait = data_patience(&self.handle, &request);
        let GetRequest { key, consistency } = request.into_inner();
        bounds::key(&key)?;
        let query = KvQuery::Get { key: &key }.encode();
        let (reply, _) = read(&self.handle, query, consistency, wait).await?;
        match decode(reply)? {
            KvReply::Get { revision, record } => Ok(GetResponse {
                found: record.is_some(),
                kv: record.map(|record| key_value(KvRecord { key, ..record })),
                revision,
            }),
            _ => Err(ApiError::BadAnswer("a get's")),
        }
    }

    async fn range(&self, request: Request<RangeRequest>) -> Result<RangeResponse, ApiError> {
        self.check_machine()?;
        let wait = data_patience(&self.handle, &request);
        let request = request.into_inner();
        bounds::at_most("start", request.start.len(), KEY_BYTES_MAX)?;
        bounds::at_most("end", request.end.len(), KEY_BYTES_MAX)?;
        let query = KvQuery::Range {
            start: &request.start,
            end: &request.end,
            limit: request.limit,
        }
        .encode();
        let (reply, _) = read(&self.handle, query, request.consistency, wait).await?;
        match decode(reply)? {
            KvReply::Range {
                revision,
                next,
                records,
            } => Ok(RangeResponse {
                kvs: records.into_iter().map(key_value).collect(),
                next,
                revision,
            }),
            _ => Err(ApiError::BadAnswer("a range's")),
        }
    }
}

fn decode(reply: Vec<u8>) -> Result<KvReply, ApiError> {
    KvReply::decode(Bytes::from(reply)).ok_or(ApiError::BadAnswer("the kv machine's"))
}

fn key_value(record: KvRecord) -> KeyValue {
    KeyValue {
        key: record.key,
        value: record.value,
        create_revision: record.create_revision,
        mod_revision: record.mod_revision,
    }
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        finish(&self.handle, Method::Put, self.put(request).await)
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        finish(&self.handle, Method::Get, self.get(request).await)
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        finish(&self.handle, Method::Delete, self.delete(request).await)
    }

    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        finish(&self.handle, Method::Range, self.range(request).await)
    }
}
