//! One connection per endpoint, dialled explicitly, so that "nothing was sent" is known.
//!
//! A tonic channel would dial again by itself, without a bound and without a trace. These are handed
//! a connector that dials once; when the connection is gone, every later request on the channel ends
//! with a `ConnectError` at once, and the caller dials anew.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::Address;

/// How connections are made and watched.
#[derive(Debug, Clone)]
pub struct ConnectionOptions {
    /// A dial is given up after this long.
    pub dial_timeout: Duration,
    /// A connection is asked for a sign of life this often, also when idle...
    pub keepalive_interval: Duration,
    /// ...and is closed if none comes for this long.
    pub keepalive_timeout: Duration,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        ConnectionOptions {
            dial_timeout: Duration::from_secs(1),
            keepalive_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(2),
        }
    }
}

/// Fixed flow-control windows: adaptive ones halved the throughput of batched streams.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The outcome of a dial, shared by all who waited for it.
type Dial = Shared<BoxFuture<'static, Result<Channel, Arc<str>>>>;

/// A channel, and the dial that it is known by.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub channel: Channel,
    dial: Dial,
}

/// The connections of a client, by endpoint.
#[derive(Debug)]
pub(crate) struct Connections {
    options: ConnectionOptions,
    dials: Mutex<HashMap<Address, Dial>>,
}

impl Connections {
    pub fn new(options: ConnectionOptions) -> Self {
        Connections {
            options,
            dials: Mutex::new(HashMap::new()),
        }
    }

    /// The connection to an endpoint; dials if there is none. An error says why the dial failed, and
    /// the next call dials again.
    pub async fn get(&self, address: &Address) -> Result<Connection, Arc<str>> {
        let dial = {
            let mut dials = self.dials.lock().expect("no holder panics");
            dials
                .entry(address.clone())
                .or_insert_with(|| dial(address.clone(), self.options.clone()).boxed().shared())
                .clone()
        };
        match dial.clone().await {
            Ok(channel) => Ok(Connection { channel, dial }),
            Err(message) => {
                self.forget_dial(address, &dial);
                Err(message)
            }
        }
    }

    /// Drops this connection, so that the next call dials; calls in flight on it go on. A connection
    /// that another caller has made since is kept.
    pub fn forget(&self, address: &Address, connection: &Connection) {
        self.forget_dial(address, &connection.dial);
    }

    fn forget_dial(&self, address: &Address, dial: &Dial) {
        let mut dials = self.dials.lock().expect("no holder panics");
        if dials
            .get(address)
            .is_some_and(|current| current.ptr_eq(dial))
        {
            dials.remove(address);
        }
    }
}

async fn dial(address: Address, options: ConnectionOptions) -> Result<Channel, Arc<str>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Arc::from(error.to_string()))?
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let connected = tokio::time::timeout(options.dial_timeout, async {
        let stream = TcpStream::connect(address.as_str()).await?;
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(stream)
    });
    let stream = match connected.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Arc::from(format!("cannot connect to {address}: {error}"))),
        Err(_) => {
            let after = options.dial_timeout.as_millis();
            return Err(Arc::from(format!(
                "cannot connect to {address}: no answer in {after} ms"
            )));
        }
    };
    let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_| {
        let stream = once.lock().expect("no holder panics").take();
        std::future::ready(stream.ok_or_else(|| io::Error::other("the connection is gone")))
    });
    let connecting = endpoint.connect_with_connector(connector);
    match tokio::time::timeout(options.dial_timeout, connecting).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(Arc::from(format!("cannot connect to {address}: {error}"))),
        Err(_) => Err(Arc::from(format!(
            "cannot connect to {address}: no HTTP/2 handshake"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Verdict, judge, local_reason};
    use kontiki_proto::kv::GetRequest;
    use kontiki_proto::kv::kv_client::KvClient;
    use tokio::net::TcpListener;

    /// Asks the operating system, without waiting.
    fn dials_waiting(listener: TcpListener) -> usize {
        let listener = listener.into_std().unwrap();
        std::iter::from_fn(|| listener.accept().ok()).count()
    }

    #[tokio::test]
    async fn a_connection_that_is_gone_says_that_nothing_was_sent_and_dials_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let connections = Connections::new(ConnectionOptions::default());
        let (connection, accepted) = tokio::join!(connections.get(&address), listener.accept());
        drop(accepted);
        let mut client = KvClient::new(connection.unwrap().channel);
        // The first requests may still be sent before the loss is noticed.
        let gone = async {
            loop {
                let status = client.get(GetRequest::default()).await.unwrap_err();
                if let Verdict::Failed {
                    reason, message, ..
                } = judge(&status)
                {
                    return (reason, message);
                }
                tokio::task::yield_now().await;
            }
        };
        let (reason, message) = tokio::time::timeout(Duration::from_secs(30), gone)
            .await
            .expect("it is noticed");
        assert_eq!(reason, local_reason::UNREACHABLE);
        assert!(message.contains("the connection is gone"), "{message}");
        assert_eq!(dials_waiting(listener), 0, "it was dialled again");
    }

    #[tokio::test]
    async fn callers_at_the_same_time_share_a_dial() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let connections = Connections::new(ConnectionOptions::default());
        let (one, other) = tokio::join!(connections.get(&address), connections.get(&address));
        assert!(one.unwrap().dial.ptr_eq(&other.unwrap().dial));
        assert_eq!(dials_waiting(listener), 1);
    }
}
