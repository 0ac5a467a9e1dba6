//! Length-prefixed messages: one byte for compression, four for the length, big-endian.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::CallError;

const PREFIX_BYTES: usize = 5;

/// `message` with its prefix, uncompressed.
pub fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("messages of a benchmark are small"));
    message
        .encode(&mut frame)
        .expect("the buffer has the message's length");
    frame.freeze()
}

/// The one message of a unary answer.
///
/// # Errors
///
/// `Malformed` for anything else: compressed, short, several messages, not a `T`.
pub fn decode<T: Message + Default>(mut frame: Bytes) -> Result<T, CallError> {
    let Some((&[compressed, ref length @ ..], message)) = frame.split_first_chunk::<PREFIX_BYTES>()
    else {
        return Err(CallError::Malformed(format!(
            "{} bytes are no message",
            frame.len()
        )));
    };
    if compressed != 0 {
        return Err(CallError::Malformed(
            "compressed, though nobody offered that".into(),
        ));
    }
    let length = u32::from_be_bytes(*length) as usize;
    if length != message.len() {
        let got = message.len();
        return Err(CallError::Malformed(format!(
            "{length} bytes announced, {got} received"
        )));
    }
    T::decode(frame.split_off(PREFIX_BYTES)).map_err(|e| CallError::Malformed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use kontiki_proto::kv::PutRequest;

    use super::*;

    fn put() -> PutRequest {
        PutRequest {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"value"),
            ..PutRequest::default()
        }
    }

    #[test]
    fn a_message_comes_back() {
        let frame = encode(&put());
        assert_eq!(&frame[..5], [0, 0, 0, 0, 10]);
        assert_eq!(decode::<PutRequest>(frame).unwrap(), put());
    }

    #[test]
    fn frames_that_are_no_single_plain_message_are_refused() {
        let good = encode(&put());
        let cases = [
            ("empty", Bytes::new()),
            ("only a prefix", good.slice(..5)),
            ("cut short", good.slice(..good.len() - 1)),
            ("two messages", [&good[..], &good[..]].concat().into()),
            ("compressed", [&[1], &good[1..]].concat().into()),
            ("no PutRequest", Bytes::from_static(&[0, 0, 0, 0, 1, 0xff])),
        ];
        for (name, frame) in cases {
            assert!(
                matches!(decode::<PutRequest>(frame), Err(CallError::Malformed(_))),
                "{name}"
            );
        }
    }
}
