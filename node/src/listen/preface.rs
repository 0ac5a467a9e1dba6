//! The first bytes of a connection: HTTP/2 begins with 24 that are always the same.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::metrics::Reason;

/// How long they may take.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const TLS_HANDSHAKE: u8 = 0x16;
/// For whoever speaks HTTP/1.
const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
    connection: close\r\n\r\nThis port speaks gRPC: HTTP/2 without TLS, from the first byte on.\n";

/// How a connection began.
pub(super) enum Beginning {
    /// As it should; these bytes are read.
    Http2,
    /// It ended before it said anything, as those of a health check do.
    Closed,
    /// Otherwise.
    Refused(Reason, &'static str),
}

/// Reads the preface.
pub(super) async fn read(stream: &mut TcpStream) -> Beginning {
    let mut bytes = [0; PREFACE.len()];
    let mut length = 0;
    let reading = async {
        while length < bytes.len() {
            match stream.read(&mut bytes[length..]).await {
                Ok(0) | Err(_) => return Beginning::Closed,
                Ok(read) => length += read,
            }
            if bytes[..length] != PREFACE[..length] {
                return unknown(bytes[0]);
            }
        }
        Beginning::Http2
    };
    let late = Beginning::Refused(Reason::Late, "no HTTP/2 preface within 5 s");
    let beginning = timeout(PREFACE_TIMEOUT, reading).await.unwrap_or(late);
    if matches!(beginning, Beginning::Refused(Reason::NotHttp2, _)) {
        // As far as it fits into the socket's buffer: nobody is waited for.
        let _ = timeout(PREFACE_TIMEOUT, stream.write_all(ANSWER)).await;
    }
    beginning
}

fn unknown(first: u8) -> Beginning {
    let what = match first {
        TLS_HANDSHAKE => "it speaks TLS, which this port does not",
        b'A'..=b'Z' => "it speaks HTTP/1, or something else that is no HTTP/2",
        _ => "it speaks no HTTP/2",
    };
    Beginning::Refused(Reason::NotHttp2, what)
}
