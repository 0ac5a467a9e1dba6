//! What requests that are under way have sent: bounded for a port, so that no number of slow or large
//! ones takes all memory. A stream is not counted: what it sends is taken in a message at a time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tonic::Status;

/// Bytes of the bodies of requests of one port that are not answered yet; past it whoever sends more
/// is refused.
pub(super) const REQUEST_BYTES_MAX: usize = 256 << 20;

/// Shared by the requests of a port.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

/// The body of a request.
#[derive(Debug)]
pub struct Metered {
    body: Incoming,
    budget: Budget,
    is_stream: bool,
    taken: usize,
}

impl Budget {
    pub(super) fn meter(&self, body: Incoming, is_stream: bool) -> Metered {
        Metered {
            body,
            budget: self.clone(),
            is_stream,
            taken: 0,
        }
    }
}

impl Metered {
    fn take(&mut self, bytes: usize) -> Result<(), Status> {
        if self.is_stream {
            return Ok(());
        }
        self.taken += bytes;
        match self.budget.0.fetch_add(bytes, Relaxed) + bytes {
            all if all <= REQUEST_BYTES_MAX => Ok(()),
            _ => Err(Status::resource_exhausted(format!(
                "requests under way have sent {REQUEST_BYTES_MAX} bytes: send it again later"
            ))),
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.taken, Relaxed);
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        polled.map(|frame| {
            let frame = frame?.map_err(|error| Status::from_error(Box::new(error)));
            Some(frame.and_then(|frame| {
                self.take(frame.data_ref().map_or(0, Bytes::len))?;
                Ok(frame)
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
