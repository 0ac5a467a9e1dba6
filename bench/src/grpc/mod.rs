//! Unary gRPC calls over `h2` without a gRPC client: 5 bytes of prefix, one message, trailers. A
//! tonic client costs about 30 us an operation, more than some of the servers it would measure.

mod connection;
mod frame;

pub use connection::{Connection, Method};
pub use frame::{decode, encode};

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server answered with another status than OK.
    #[error("{} ({:?})", .0.message(), .0.code())]
    Status(Box<tonic::Status>),
    /// The connection or the stream broke.
    #[error("connection: {0}")]
    Transport(#[source] h2::Error),
    /// The answer is no gRPC, or not what the caller can decode.
    #[error("answer: {0}")]
    Malformed(String),
}
