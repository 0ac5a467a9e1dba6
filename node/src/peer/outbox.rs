//! A queue of messages to one stream, bounded in count and bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use futures::Stream;
use kontiki_proto::raft::PeerMessage;
use kontiki_proto::raft::peer_message::Body;
use tokio::sync::mpsc;

/// The end that takes messages.
#[derive(Clone, Debug)]
pub struct Outbox {
    queue: mpsc::Sender<PeerMessage>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// The end that the connection reads.
#[derive(Debug)]
pub struct OutboxStream {
    queue: mpsc::Receiver<PeerMessage>,
    bytes: Arc<AtomicUsize>,
}

/// Bytes that a message without a batch counts for.
const SMALL: usize = 64;

fn size(message: &PeerMessage) -> usize {
    match &message.body {
        Some(Body::Append(append)) => SMALL + append.batch.len(),
        Some(Body::SnapshotChunk(chunk)) => SMALL + chunk.bytes.len(),
        _ => SMALL,
    }
}

/// An empty queue. Holds at least one message, however large.
pub fn outbox(messages_max: usize, bytes_max: usize) -> (Outbox, OutboxStream) {
    let (sender, receiver) = mpsc::channel(messages_max);
    let bytes = Arc::new(AtomicUsize::new(0));
    let outbox = Outbox {
        queue: sender,
        bytes: bytes.clone(),
        bytes_max,
    };
    let stream = OutboxStream {
        queue: receiver,
        bytes,
    };
    (outbox, stream)
}

impl Outbox {
    /// Takes a message; `false` if the queue is full, or nobody reads it any more.
    pub fn push(&self, message: PeerMessage) -> bool {
        let size = size(&message);
        let queued = self.bytes.load(Relaxed);
        if queued > 0 && queued + size > self.bytes_max {
            return false;
        }
        if self.queue.try_send(message).is_err() {
            return false;
        }
        self.bytes.fetch_add(size, Relaxed);
        true
    }
}

impl Stream for OutboxStream {
    type Item = PeerMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PeerMessage>> {
        let message = ready!(self.queue.poll_recv(context));
        if let Some(message) = &message {
            self.bytes.fetch_sub(size(message), Relaxed);
        }
        Poll::Ready(message)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use kontiki_proto::raft::Append;

    use super::*;

    fn message(length: usize) -> PeerMessage {
        PeerMessage {
            body: Some(Body::Append(Append {
                batch: vec![0; length].into(),
                ..Append::default()
            })),
            ..PeerMessage::default()
        }
    }

    #[tokio::test]
    async fn is_bounded_in_count_and_bytes() {
        let (outbox, mut stream) = outbox(2, 1000);
        assert!(outbox.push(message(5000)), "one of any size");
        assert!(!outbox.push(message(0)), "too many bytes");
        stream.next().await.expect("the first");
        assert!(outbox.push(message(0)) && outbox.push(message(0)));
        assert!(!outbox.push(message(0)), "too many messages");
        drop(stream);
        assert!(!outbox.push(message(0)), "nobody reads");
    }
}
