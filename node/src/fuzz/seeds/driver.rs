//! Sequences of inputs to a driver: each kind of message, requests, crowds.

use super::{Seeds, named};
use crate::fuzz::driver::step;
use crate::fuzz::fields::Writer;
use crate::fuzz::members::kind as said;

/// A follower that is led by server 2 in the next term: the head of a message.
fn says(kind: u8) -> Writer {
    said_by_2(kind, 0, 1)
}

/// The head of a message of server 2, `step` away from the term.
fn said_by_2(kind: u8, flags: u8, step: u8) -> Writer {
    Writer::default()
        .byte(step::SAY)
        .byte(kind)
        .byte(2)
        .byte(flags)
        .near(1, 0, step)
}

/// After the last entry, in its term.
fn at_the_end(writer: Writer) -> Writer {
    writer.near(4, 0, 0).near(2, 0, 0)
}

pub(in crate::fuzz) fn driver() -> Seeds {
    let follower = Writer::default().byte(0);
    let elect = [
        step::TIME,
        255,
        step::ECHO,
        step::ECHO,
        step::ECHO,
        step::ACTIVATE,
        step::ECHO,
        step::ECHO,
    ];
    let leader = Writer([&[0], &elect[..]].concat());
    let threaded = Writer([&[1], &elect[..], &[step::JOBS]].concat());
    let with = |start: &Writer, steps: &[&[u8]]| [&start.0, &steps.concat()[..]].concat();
    let entries = at_the_end(says(said::APPEND)).near(4, 0, 1).byte(3);
    let entries = entries.near(2, 0, 0).byte(3).byte(1).small(1);
    let entries = entries.near(2, 0, 0).byte(3).byte(0);
    let entries = entries.near(2, 0, 0).byte(1).bytes(b"7").byte(0).0;
    let configured = at_the_end(says(said::APPEND)).near(4, 0, 1).byte(1);
    let configured = configured
        .near(2, 0, 0)
        .byte(2)
        .byte(0b1111)
        .byte(0)
        .byte(0b1_0000);
    let configured = configured.byte(1).byte(0).0;
    // The second piece is of the term that the first began.
    let snapshot = |cut: u8| {
        let head = Writer::default().byte(step::SAY).byte(said::SNAPSHOT_CHUNK);
        let head = head.byte(2).byte(0).near(1, 0, u8::from(cut < 2));
        let named = head.small(1).near(4, 0, 3).near(2, 0, 0);
        let cut = named.byte(cut).byte(0).near(4, 0, 0);
        cut.byte(0b111).byte(0).byte(0).byte(0).0
    };
    let write = Writer::default().byte(step::WRITE).bytes(b"7").0;
    // Taken in one turn, more than may wait.
    let many = Writer::default()
        .byte(step::WRITE | step::MORE)
        .bytes(b"7")
        .0;
    let session = Writer::default().byte(step::WRITE_IN_SESSION).near(4, 0, 0);
    let session = session.small(1).small(0).bytes(b"7").0;
    let read = Writer::default()
        .byte(step::READ)
        .byte(0)
        .byte(0)
        .bytes(b"")
        .0;
    let change = [step::CHANGE, 0b1000, 1, 0, 0, 1];
    let echo = [step::ECHO];
    let vote = at_the_end(says(said::VOTE)).0;
    let heartbeat = says(said::HEARTBEAT).near(4, 0, 0).small(1).0;
    let timeout_now = at_the_end(says(said::TIMEOUT_NOW)).0;
    let asks_index = said_by_2(said::READ_INDEX, 0, 0).small(1).0;
    let read_forwarded = Writer::default()
        .byte(step::READ)
        .byte(0)
        .byte(1)
        .bytes(b"")
        .0;
    let index_told = said_by_2(said::READ_INDEX_REPLY, 0, 0)
        .small(1)
        .near(4, 0, 0)
        .0;
    let index_refused = said_by_2(said::READ_INDEX_REPLY, 128, 0).small(1).0;
    let asked_under_lease = said_by_2(said::HEARTBEAT, 128, 1).near(4, 0, 0).small(1);
    let asked_under_lease = asked_under_lease
        .small(1)
        .near(1, 0, 0)
        .small(1)
        .near(4, 0, 0)
        .0;
    let promised = said_by_2(said::HEARTBEAT_ACK, 128, 0).small(1);
    let promised = promised.small(1).small(1).near(1, 0, 0).0;
    let released = at_the_end(said_by_2(said::VOTE, 128, 1)).near(1, 0, 0).0;
    let read_as = |mode: u8| {
        Writer::default()
            .byte(step::READ)
            .byte(mode)
            .byte(0)
            .bytes(b"")
            .0
    };
    let (read_leased, read_bounded) = (read_as(2), read_as(3));
    // From a server that there is not, another each time, in the term of a candidate that only a
    // quorum could help: the first byte of a server that is a number is 255.
    let from_anyone = |kind: u8, flags: u8, step: u8| {
        let said = Writer::default().byte(step::SAY).byte(kind).byte(255);
        said.byte(255).bytes8(1000).byte(flags).near(1, 0, step)
    };
    let refused_by_anyone = from_anyone(said::VOTE_REPLY, 1, 0).0;
    let heard_from_anyone = from_anyone(said::HEARTBEAT_ACK, 0, 0).small(1).0;
    let index_asked_by_anyone = from_anyone(said::READ_INDEX, 0, 0).near(1, 0, 0).0;
    let asked_by_anyone = at_the_end(from_anyone(said::VOTE, 1, 0)).0;
    let often = [[step::REPEAT, 255]; 15].concat();
    // A version, over and over: an entry that is committed at once.
    let version = at_the_end(says(said::APPEND)).near(4, 0, 1).byte(1);
    let version = version.near(2, 1, 0).byte(3).byte(1).small(1).byte(0).0;
    // Entries that are never committed, as fast as they come.
    let tail = at_the_end(says(said::APPEND)).small(0).byte(1);
    let tail = tail.near(2, 1, 0).byte(5).byte(255).byte(0).0;
    named(
        [
            ("vote", with(&follower, &[&vote])),
            ("heartbeat", with(&follower, &[&heartbeat])),
            ("entries", with(&follower, &[&entries, &heartbeat])),
            ("configured", with(&follower, &[&configured, &entries])),
            ("snapshot", with(&follower, &[&snapshot(0), &[step::JOBS]])),
            (
                "snapshot-in-two",
                with(&follower, &[&snapshot(1), &snapshot(2), &[step::JOBS]]),
            ),
            ("timeout-now", with(&follower, &[&heartbeat, &timeout_now])),
            ("write", with(&leader, &[&write, &echo, &echo])),
            ("threaded", with(&threaded, &[&write, &echo, &[step::JOBS]])),
            ("read", with(&leader, &[&read, &echo])),
            (
                "session",
                with(
                    &leader,
                    &[
                        &[step::OPEN_SESSION],
                        &echo,
                        &session,
                        &echo,
                        &session,
                        &echo,
                    ],
                ),
            ),
            (
                "change",
                with(&leader, &[&change, &echo, &echo, &echo, &echo]),
            ),
            ("transfer", with(&leader, &[&[step::TRANSFER, 2], &echo])),
            ("trigger", with(&follower, &[&[step::TRIGGER], &echo])),
            (
                "refused-by-a-crowd",
                with(&follower, &[&[step::TRIGGER], &refused_by_anyone, &often]),
            ),
            (
                "heard-from-a-crowd",
                with(&leader, &[&heard_from_anyone, &often]),
            ),
            (
                "asked-by-a-crowd",
                with(&follower, &[&asked_by_anyone, &often]),
            ),
            ("versions", with(&follower, &[&heartbeat, &version, &often])),
            (
                "versions-of-a-slow-machine",
                with(&Writer::default().byte(1), &[&heartbeat, &version, &often]),
            ),
            ("tail", with(&follower, &[&heartbeat, &tail, &often])),
            (
                "many-writes",
                with(&leader, &[&many, &[step::REPEAT, 14], &write, &echo, &echo]),
            ),
            ("read-index", with(&leader, &[&asks_index, &echo])),
            (
                "forwarded-read",
                with(&follower, &[&heartbeat, &read_forwarded, &index_told]),
            ),
            (
                "forwarded-in-vain",
                with(&follower, &[&heartbeat, &read_forwarded, &index_refused]),
            ),
            (
                "promise",
                with(&follower, &[&asked_under_lease, &released, &read_bounded]),
            ),
            ("lease", with(&leader, &[&promised, &read_leased, &echo])),
            (
                "indexes-for-a-crowd",
                with(&leader, &[&index_asked_by_anyone, &often]),
            ),
        ]
        .into_iter(),
    )
}
