//! `Kv` and `Data`, on the client port.

mod in_session;

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt, try_unfold};
use prost::bytes::Bytes;
use tonic::transport::Channel;
use tonic::{Response, Status};

use kontiki_proto::kv::kv_client::KvClient;
use kontiki_proto::kv::{
    DeleteRequest, DeleteResponse, GetRequest, GetResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse,
};
use kontiki_proto::v1::data_client::DataClient;
use kontiki_proto::v1::{ReadRequest, ReadResponse, WriteRequest, WriteResponse};

use crate::range::{Range, rest_after};
use crate::read_mode::ReadMode;
use crate::revision::Revision;
use crate::router::{Kind, Port, Router};
use crate::session::Sessions;
use crate::watch::Watch;
use crate::write_stream::WriteStream;
use crate::{Address, Error, Options};
use in_session::Meant;

/// Bounds of the `kv` machine, checked here so that bad input is named before it is sent.
const KEY_BYTES_MAX: usize = 4096;
/// A response may be this large: a page of a range is 1 MiB and one record.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A client of the `Kv` and `Data` services. Cheap to clone; clones share connections, what is known
/// of the leader, and the session.
#[derive(Debug, Clone)]
pub struct Client {
    router: Arc<Router>,
    /// `None`: it goes without.
    sessions: Option<Arc<Sessions>>,
}

/// The pages of a range, in key order.
pub type Pages = BoxStream<'static, Result<RangeResponse, Error>>;

impl Client {
    /// A client of the servers behind these endpoints (HOST:PORT of client ports), any of which
    /// leads to the others' leader. Nothing is dialled yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no endpoint or one of them is no HOST:PORT.
    pub fn new<S: AsRef<str>>(endpoints: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        Client::with_options(endpoints, Options::default())
    }

    /// As [`Client::new`], with bounds of one's own.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_options<S: AsRef<str>>(
        endpoints: impl IntoIterator<Item = S>,
        options: Options,
    ) -> Result<Self, Error> {
        let endpoints = Address::parse_all(endpoints)?;
        let sessions = options.sessions.then(Arc::default);
        Ok(Client {
            sessions,
            router: Arc::new(Router::new(endpoints, Port::Client, options)),
        })
    }

    /// The endpoints it was built from.
    pub fn endpoints(&self) -> &[Address] {
        self.router.endpoints()
    }

    /// The server that is believed to lead: the one that last answered as a leader does.
    pub fn leader(&self) -> Option<Address> {
        self.router.leader()
    }

    /// Stores a value under a key of 1 to 4096 bytes.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<PutResponse, Error> {
        self.send_put(key.into(), value.into(), None).await
    }

    /// As [`Client::put`], if the key was last written at this revision; 0: if it is not there.
    /// Otherwise nothing is changed, and the answer has `mismatch` and the key as it is. Give it the
    /// answer to a get (`&got`) rather than a number: then no other cluster than that one takes it.
    ///
    /// After [`Error::Unknown`] the same call may be made again: of all copies at most one is done
    /// (for revision 0: as long as nobody deletes the key).
    ///
    /// # Errors
    /// Any of [`Error`]; reason `WRONG_CLUSTER` if the revision is of another cluster.
    pub async fn put_if(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        at: impl Into<Revision>,
    ) -> Result<PutResponse, Error> {
        self.send_put(key.into(), value.into(), Some(at.into()))
            .await
    }

    async fn send_put(
        &self,
        key: Bytes,
        value: Bytes,
        at: Option<Revision>,
    ) -> Result<PutResponse, Error> {
        let request = PutRequest {
            key: check_key(key)?,
            value,
            if_mod_revision: at.as_ref().map(|at| at.revision),
            cluster_id: at
                .as_ref()
                .map_or_else(String::new, |at| at.cluster_id.clone()),
            in_session: None,
        };
        self.send_write(Meant::by(at), |channel, in_session| {
            let request = PutRequest {
                in_session,
                ..request.clone()
            };
            async move { kv(channel).put(request).await }
        })
        .await
    }

    /// Removes a key; one that is not there is no error.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<DeleteResponse, Error> {
        self.send_delete(key.into(), None).await
    }

    /// As [`Client::delete`], if the key was last written at this revision. Otherwise nothing is
    /// changed, and the answer has `mismatch` and the key as it is.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn delete_if(
        &self,
        key: impl Into<Bytes>,
        at: impl Into<Revision>,
    ) -> Result<DeleteResponse, Error> {
        self.send_delete(key.into(), Some(at.into())).await
    }

    async fn send_delete(&self, key: Bytes, at: Option<Revision>) -> Result<DeleteResponse, Error> {
        let request = DeleteRequest {
            key: check_key(key)?,
            if_mod_revision: at.as_ref().map(|at| at.revision),
            cluster_id: at
                .as_ref()
                .map_or_else(String::new, |at| at.cluster_id.clone()),
            in_session: None,
        };
        self.send_write(Meant::by(at), |channel, in_session| {
            let request = DeleteRequest {
                in_session,
                ..request.clone()
            };
            async move { kv(channel).delete(request).await }
        })
        .await
    }

    /// Reads a key; one that is not there is no error. What any server may answer goes to the
    /// endpoints in turn.
    ///
    /// # Errors
    /// [`Error::Failed`] or [`Error::Invalid`]: a read changes nothing.
    pub async fn get(
        &self,
        key: impl Into<Bytes>,
        mode: impl Into<ReadMode>,
    ) -> Result<GetResponse, Error> {
        let mode = mode.into();
        let request = GetRequest {
            key: check_key(key.into())?,
            consistency: i32::from(mode.consistency),
            staleness_milliseconds: mode.staleness_milliseconds,
            forward: mode.forward,
        };
        let send = |channel| {
            let request = request.clone();
            async move { kv(channel).get(request).await }
        };
        self.ask(mode, send).await
    }

    /// As [`Client::get`], from this server only.
    ///
    /// # Errors
    /// As [`Client::get`]; reason `NOT_LEADER` if a linearizable read is asked of a follower.
    pub async fn get_at(
        &self,
        endpoint: &Address,
        key: impl Into<Bytes>,
        mode: impl Into<ReadMode>,
    ) -> Result<GetResponse, Error> {
        let mode = mode.into();
        let request = GetRequest {
            key: check_key(key.into())?,
            consistency: i32::from(mode.consistency),
            staleness_milliseconds: mode.staleness_milliseconds,
            forward: mode.forward,
        };
        self.router
            .call_at(endpoint, Kind::Read, |channel| {
                let request = request.clone();
                async move { kv(channel).get(request).await }
            })
            .await
    }

    /// Reads a range, page by page. Each page is as fresh as `mode` says when it is read; the
    /// pages together are no snapshot, unless all have the same revision. If `limit` ends the listing
    /// before the range does, the last page has the `continuation` for [`Range::rest`].
    pub fn range(&self, range: Range, mode: impl Into<ReadMode>) -> Pages {
        self.pages(None, range, mode.into())
    }

    /// As [`Client::range`], from this server only.
    pub fn range_at(&self, endpoint: &Address, range: Range, mode: impl Into<ReadMode>) -> Pages {
        self.pages(Some(endpoint.clone()), range, mode.into())
    }

    fn pages(&self, at: Option<Address>, range: Range, mode: ReadMode) -> Pages {
        let client = self.clone();
        try_unfold(Some(range), move |rest| {
            let (client, at) = (client.clone(), at.clone());
            async move {
                let Some(rest) = rest else { return Ok(None) };
                let page = client.page(at.as_ref(), &rest, mode).await?;
                let next = rest_after(rest, &page);
                Ok(Some((page, next)))
            }
        })
        .boxed()
    }

    async fn page(
        &self,
        at: Option<&Address>,
        range: &Range,
        mode: ReadMode,
    ) -> Result<RangeResponse, Error> {
        let request = RangeRequest {
            start: range.start.clone(),
            end: range.end.clone(),
            limit: u32::try_from(range.limit).unwrap_or(0),
            consistency: i32::from(mode.consistency),
            continuation: range.continuation.clone(),
            staleness_milliseconds: mode.staleness_milliseconds,
            forward: mode.forward,
        };
        let send = |channel| {
            let request = request.clone();
            async move { kv(channel).range(request).await }
        };
        match at {
            Some(at) => self.router.call_at(at, Kind::Read, send).await,
            None => self.ask(mode, send).await,
        }
    }

    /// Asks the leader, or whoever may answer.
    async fn ask<T, F, Fut>(&self, mode: ReadMode, send: F) -> Result<T, Error>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let timeout = self.router.options().timeout;
        match mode.is_free() {
            true => self.router.call_any(timeout, Kind::Read, send).await,
            false => self.router.call(Kind::Read, send).await,
        }
    }

    /// Watches a range from a revision on, at any server and across their failures: every change once,
    /// in the order of revisions, none left out. 0: from whatever comes next. To follow a state, read
    /// it, and watch from the revision of the answer plus one. Nothing is sent before
    /// [`Watch::next`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for a range with a `limit` or a `continuation`.
    pub fn watch(&self, range: Range, start_revision: u64) -> Result<Watch, Error> {
        if range.limit != 0 || !range.continuation.is_empty() {
            return Err(Error::invalid(
                "a watch has no limit and no continuation: name its keys by start and end",
            ));
        }
        Ok(Watch::new(Arc::clone(&self.router), range, start_revision))
    }

    /// Replicates an opaque command of at least one byte and answers with the machine's reply.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn write(&self, command: impl Into<Bytes>) -> Result<WriteResponse, Error> {
        let request = WriteRequest {
            command: check_command(command.into())?,
            in_session: None,
        };
        self.send_write(Meant::AnyCluster, |channel, in_session| {
            let request = WriteRequest {
                in_session,
                ..request.clone()
            };
            async move { data(channel).write(request).await }
        })
        .await
    }

    /// Asks the machine an opaque query. What any server may answer goes to the endpoints in turn.
    ///
    /// # Errors
    /// [`Error::Failed`]: a read changes nothing.
    pub async fn read(
        &self,
        query: impl Into<Bytes>,
        mode: impl Into<ReadMode>,
    ) -> Result<ReadResponse, Error> {
        let mode = mode.into();
        let request = ReadRequest {
            query: query.into(),
            consistency: i32::from(mode.consistency),
            staleness_milliseconds: mode.staleness_milliseconds,
            forward: mode.forward,
        };
        let send = |channel| {
            let request = request.clone();
            async move { data(channel).read(request).await }
        };
        self.ask(mode, send).await
    }

    /// As [`Client::read`], from this server only.
    ///
    /// # Errors
    /// As [`Client::read`]; reason `NOT_LEADER` if a linearizable read is asked of a follower.
    pub async fn read_at(
        &self,
        endpoint: &Address,
        query: impl Into<Bytes>,
        mode: impl Into<ReadMode>,
    ) -> Result<ReadResponse, Error> {
        let mode = mode.into();
        let request = ReadRequest {
            query: query.into(),
            consistency: i32::from(mode.consistency),
            staleness_milliseconds: mode.staleness_milliseconds,
            forward: mode.forward,
        };
        self.router
            .call_at(endpoint, Kind::Read, |channel| {
                let request = request.clone();
                async move { data(channel).read(request).await }
            })
            .await
    }

    /// Opens a pipelined stream of writes to the server that is believed to lead, with at most
    /// `in_flight_max` commands without a result.
    ///
    /// # Errors
    /// [`Error::Failed`] if no connection could be made.
    pub async fn write_stream(&self, in_flight_max: usize) -> Result<WriteStream, Error> {
        WriteStream::open(Arc::clone(&self.router), in_flight_max).await
    }
}

fn check_key(key: Bytes) -> Result<Bytes, Error> {
    match key.len() {
        0 => Err(Error::invalid(
            "the key is empty; a key has 1 to 4096 bytes",
        )),
        1..=KEY_BYTES_MAX => Ok(key),
        bytes => Err(Error::invalid(format!(
            "the key has {bytes} bytes; a key has 1 to {KEY_BYTES_MAX}"
        ))),
    }
}

pub(crate) fn check_command(command: Bytes) -> Result<Bytes, Error> {
    if command.is_empty() {
        return Err(Error::invalid(
            "the command is empty; a command has at least 1 byte",
        ));
    }
    Ok(command)
}

pub(crate) fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

pub(crate) fn data(channel: Channel) -> DataClient<Channel> {
    DataClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}
