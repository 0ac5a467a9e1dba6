//! `kontiki.kv.v1.Kv`: the typed face of the `kv` machine.

use bytes::Bytes;
use kontiki_proto::kv::kv_server::Kv;
use kontiki_proto::kv::{
    DeleteRequest, DeleteResponse, GetRequest, GetResponse, KeyValue, PutRequest, PutResponse,
    RangeRequest, RangeResponse, WatchRequest,
};
use kontiki_raft::ClusterId;
use tonic::{Request, Response, Status};

use super::bounds;
use super::continuation::Continuation;
use super::data::{data_patience, finish, read, write};
use super::error::ApiError;
use super::text;
use super::watch::{self, Watch};
use crate::driver::Refusal;
use crate::handle::{Failure, Handle};
use crate::machine::kv::{
    KEY_BYTES_MAX, KvCommand, KvQuery, KvRecord, KvReply, PUT_OVERHEAD, condition_overhead,
};
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
        let wait = data_patience(&self.handle, &request)?;
        let PutRequest {
            key,
            value,
            if_mod_revision,
            cluster_id,
            in_session,
        } = request.into_inner();
        bounds::key(&key)?;
        self.check_cluster(&cluster_id)?;
        let place = bounds::place(in_session.as_ref())?;
        let overhead = PUT_OVERHEAD + condition_overhead(if_mod_revision);
        let max = self.handle.limits.command_bytes_max;
        bounds::at_most(
            "value",
            value.len(),
            max.saturating_sub(overhead + key.len()),
        )?;
        let command = KvCommand::Put {
            key: &key,
            value: &value,
            if_mod_revision,
        }
        .encode();
        // The receive buffer need not be held while the write is under way, but for a key that a
        // mismatch will name.
        let key = if_mod_revision.map(|_| key);
        drop(value);
        match decode(write(&self.handle, command, place, wait).await?.0)? {
            KvReply::Put { revision } => Ok(PutResponse {
                revision,
                ..PutResponse::default()
            }),
            KvReply::Mismatch { revision, record } => Ok(PutResponse {
                revision,
                mismatch: true,
                current: named(record, key.unwrap_or_default()),
            }),
            _ => Err(ApiError::BadAnswer("a put's")),
        }
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<DeleteResponse, ApiError> {
        self.check_machine()?;
        let wait = data_patience(&self.handle, &request)?;
        let DeleteRequest {
            key,
            if_mod_revision,
            cluster_id,
            in_session,
        } = request.into_inner();
        bounds::key(&key)?;
        self.check_cluster(&cluster_id)?;
        let place = bounds::place(in_session.as_ref())?;
        let command = KvCommand::Delete {
            key: &key,
            if_mod_revision,
        }
        .encode();
        match decode(write(&self.handle, command, place, wait).await?.0)? {
            KvReply::Delete { deleted, revision } => Ok(DeleteResponse {
                deleted,
                revision,
                ..DeleteResponse::default()
            }),
            KvReply::Mismatch { revision, record } => Ok(DeleteResponse {
                deleted: false,
                revision,
                mismatch: true,
                current: named(record, key),
            }),
            _ => Err(ApiError::BadAnswer("a delete's")),
        }
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<GetResponse, ApiError> {
        self.check_machine()?;
        let wait = data_patience(&self.handle, &request)?;
        let GetRequest {
            key,
            consistency,
            staleness_milliseconds,
            forward,
        } = request.into_inner();
        bounds::key(&key)?;
        let mode = bounds::read_mode(consistency, staleness_milliseconds)?;
        let query = KvQuery::Get { key: &key }.encode();
        let (reply, _) = read(&self.handle, query, mode, forward, wait).await?;
        match decode(reply)? {
            KvReply::Get { revision, record } => Ok(GetResponse {
                found: record.is_some(),
                kv: named(record, key),
                revision,
                cluster_id: self.cluster()?.to_string(),
            }),
            _ => Err(ApiError::BadAnswer("a get's")),
        }
    }

    async fn range(&self, request: Request<RangeRequest>) -> Result<RangeResponse, ApiError> {
        self.check_machine()?;
        let wait = data_patience(&self.handle, &request)?;
        let RangeRequest {
            start,
            end,
            limit,
            consistency,
            continuation,
            staleness_milliseconds,
            forward,
        } = request.into_inner();
        let mode = bounds::read_mode(consistency, staleness_milliseconds)?;
        bounds::at_most("start", start.len(), KEY_BYTES_MAX)?;
        bounds::at_most("end", end.len(), KEY_BYTES_MAX)?;
        let (start, end) = match continuation.is_empty() {
            true => (start, end),
            false => self.rest(&start, &end, &continuation)?,
        };
        let query = KvQuery::Range {
            start: &start,
            end: &end,
            limit,
        }
        .encode();
        let (reply, _) = read(&self.handle, query, mode, forward, wait).await?;
        match decode(reply)? {
            KvReply::Range {
                revision,
                next,
                records,
            } => Ok(RangeResponse {
                kvs: records.into_iter().map(key_value).collect(),
                continuation: match next.is_empty() {
                    true => next,
                    false => Continuation { next, end }.encode(self.cluster()?),
                },
                revision,
                cluster_id: self.cluster()?.to_string(),
            }),
            _ => Err(ApiError::BadAnswer("a range's")),
        }
    }

    /// Start and end of what a continuation leaves of its range.
    fn rest(
        &self,
        start: &Bytes,
        end: &Bytes,
        continuation: &Bytes,
    ) -> Result<(Bytes, Bytes), ApiError> {
        for (field, bytes) in [("start", start), ("end", end)] {
            if !bytes.is_empty() {
                return Err(ApiError::Invalid {
                    field,
                    problem: "is given beside a continuation".into(),
                    right: "empty then: the continuation names the rest of its range".into(),
                });
            }
        }
        let Continuation { next, end } = Continuation::decode(continuation, self.cluster()?)?;
        Ok((next, end))
    }

    /// A write may name the only cluster that it is meant for.
    fn check_cluster(&self, asked: &str) -> Result<(), ApiError> {
        if asked.is_empty() {
            return Ok(());
        }
        let asked = text::cluster_id("cluster_id", asked)?;
        match self.handle.cluster() {
            Some(mine) if mine != asked => Err(ApiError::WrongCluster {
                mine: Some(mine),
                asked,
            }),
            // One that belongs to no cluster yet takes no write.
            _ => Ok(()),
        }
    }

    /// A server that belongs to no cluster yet cannot judge a token; another server can.
    fn cluster(&self) -> Result<ClusterId, ApiError> {
        let none = ApiError::Read(Failure::Refused(Refusal::NotAMember));
        self.handle.cluster().ok_or(none)
    }
}

fn decode(reply: Vec<u8>) -> Result<KvReply, ApiError> {
    KvReply::decode(Bytes::from(reply)).ok_or(ApiError::BadAnswer("the kv machine's"))
}

/// What is stored under `key`, if anything is.
fn named(record: Option<KvRecord>, key: Bytes) -> Option<KeyValue> {
    record.map(|record| key_value(KvRecord { key, ..record }))
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

    type WatchStream = watch::Responses;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let opened = self.check_machine().and_then(|()| {
            let cluster = self.cluster()?;
            Watch::open(self.handle.clone(), cluster, request.into_inner())
        });
        finish(&self.handle, Method::Watch, opened.map(Watch::run))
    }
}
