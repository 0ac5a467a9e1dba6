//! What a heartbeat and its acknowledgement carry for leases and for the age of reads.

use std::time::Duration;

use kontiki_proto::raft;
use kontiki_raft::{Beat, BeatAck, Freshness, Index, Time};

pub(super) fn encode(beat: Beat) -> raft::Beat {
    raft::Beat {
        sent: beat.sent.0,
        lease_milliseconds: milliseconds(beat.lease),
        fresh_as_of: beat.fresh.map_or(0, |fresh| fresh.as_of.0),
        fresh_index: beat.fresh.map_or(0, |fresh| fresh.index.0),
    }
}

pub(super) fn encode_ack(beat: BeatAck) -> raft::BeatAck {
    raft::BeatAck {
        sent: beat.sent.0,
        at: beat.at.0,
        promise_milliseconds: milliseconds(beat.promise),
    }
}

pub(super) fn decode(beat: raft::Beat) -> Beat {
    let fresh = Freshness {
        as_of: Time(beat.fresh_as_of),
        index: Index(beat.fresh_index),
    };
    Beat {
        sent: Time(beat.sent),
        lease: Duration::from_millis(beat.lease_milliseconds.into()),
        fresh: (beat.fresh_as_of != 0).then_some(fresh),
    }
}

pub(super) fn decode_ack(beat: raft::BeatAck) -> BeatAck {
    BeatAck {
        sent: Time(beat.sent),
        at: Time(beat.at),
        promise: Duration::from_millis(beat.promise_milliseconds.into()),
    }
}

/// Rounded down: of a promise, less is counted than is kept.
fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
