//! Sessions in a host: repeats, and what becomes of them in snapshots and digests.

use super::*;

fn in_session(sequence: u64, acknowledged: u64, command: &[u8]) -> Vec<u8> {
    let stamp = Stamp {
        session: SessionId(2),
        sequence,
        acknowledged,
    };
    Control::InSession {
        time: 0,
        stamp,
        command,
    }
    .encode()
}

fn opening() -> Vec<u8> {
    Control::OpenSession(Opening {
        time: 0,
        sessions_max: 1,
        window_max: 2,
        reply_bytes_max: 100,
    })
    .encode()
}

fn controls(payloads: &[Vec<u8>]) -> Vec<(EntryKind, &[u8])> {
    let each = payloads.iter();
    each.map(|payload| (EntryKind::Control, &payload[..]))
        .collect()
}

/// What the last entry of a batch came to.
fn last_outcome(done: Done<u64>) -> Outcome {
    let Done::Applied(mut batch) = done else {
        panic!("not applied: {done:?}")
    };
    batch.entries.pop().expect("not empty").outcome
}

#[test]
fn a_repeated_command_is_answered_and_the_machine_is_not_asked_in_batches_of_any_size() {
    let clock = Clock {
        time: 10,
        ttl: 10,
        bytes_max: 1 << 20,
    };
    let payloads = [
        opening(),
        in_session(2, 0, b"two"),
        in_session(1, 0, b"effect"),
        // In the same batch as its first, or not.
        in_session(2, 0, b"two"),
        in_session(3, 1, b"three"),
        in_session(1, 0, b"effect"),
        in_session(4, 1, b"four"),
        Control::Clock(clock).encode(),
        in_session(2, 0, b"two"),
    ];
    let expected = [
        "opened 2",
        "3",
        "9",
        "3 again of 3",
        "14",
        "refused",
        "refused",
        "-",
        "expired",
    ];
    for size in 1..=payloads.len() {
        let mut host = host(Moody::default());
        let (mut outcomes, mut effects) = (Vec::new(), 0);
        for (at, chunk) in payloads.chunks(size).enumerate() {
            let first = (at * size) as u64 + 2;
            let Done::Applied(batch) = host.run(entries(first, &controls(chunk))) else {
                panic!("not applied")
            };
            effects += batch.effects.len();
            outcomes.extend(batch.entries.iter().map(|applied| match &applied.outcome {
                Outcome::Reply(reply) => String::from_utf8_lossy(reply).into_owned(),
                Outcome::Repeated { reply, id } => {
                    format!("{} again of {}", String::from_utf8_lossy(reply), id.index.0)
                }
                Outcome::Refused(Refusal::Session(SessionRefusal::Expired(_))) => "expired".into(),
                Outcome::Refused(_) => "refused".into(),
                Outcome::SessionOpened(session) => format!("opened {}", session.0),
                Outcome::Nothing => "-".into(),
                Outcome::Activated(_) => panic!("{applied:?}"),
            }));
        }
        assert_eq!(outcomes, expected, "in batches of {size}");
        assert_eq!(effects, 1);
        assert_eq!(read(&mut host, b"").as_deref(), Ok("14"));
        assert_eq!(host.status().applied.index, Index(10));
    }
}

#[test]
fn a_session_moves_with_the_state_and_its_repeats_are_answered_there() {
    let mut first = host(Moody::default());
    let clock = Clock {
        time: 7,
        ttl: 10,
        bytes_max: 1 << 20,
    };
    let payloads = [
        opening(),
        in_session(1, 0, b"one"),
        in_session(2, 0, b"three"),
        Control::Clock(clock).encode(),
    ];
    first.run(entries(2, &controls(&payloads)));
    let (last, bytes) = written(&mut first);
    let mut second = host(Moody::default());
    let Done::Restored(Ok(status)) = restore(&mut second, last, &bytes) else {
        panic!("not restored");
    };
    assert_eq!(status.sessions, first.status().sessions);
    assert_eq!((status.sessions.open, status.sessions.time), (1, 7));
    let again = [in_session(1, 0, b"one")];
    let digests = [&mut first, &mut second].map(|host| {
        let done = host.run(entries(6, &controls(&again)));
        match last_outcome(done) {
            Outcome::Repeated { reply, id } => {
                assert_eq!((&reply[..], id.index), (&b"3"[..], Index(3)));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(read(host, b"").as_deref(), Ok("8"));
        host.run(entries(7, &controls(&[Control::Checkpoint.encode()])));
        digest_of(host)
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_damaged_table_of_sessions_is_refused_and_nothing_changes() {
    let mut host = host(Moody::default());
    let payloads = [opening(), in_session(1, 0, b"one")];
    host.run(entries(2, &controls(&payloads)));
    let (last, whole) = written(&mut host);
    let before = host.status();
    let table = 4 + 17 + "moody".len();
    let longer = [(table, 1), (table + 1, 1)];
    // More sessions than there are; a session from the future; a sequence past its window.
    let wrong = [
        (table + 16, 2),
        (table + 8 + 12 + 8, 1),
        (table + 8 + 12 + 36, 9),
    ];
    for (at, byte) in longer.into_iter().chain(wrong) {
        let mut bad = whole.clone();
        assert_ne!(bad[at], byte, "byte {at}");
        bad[at] = byte;
        let done = restore(&mut host, last, &bad);
        assert!(
            matches!(done, Done::Restored(Err(_))),
            "byte {at}: {done:?}"
        );
        assert_eq!(host.status(), before);
    }
    // A table that is whole, before a state that the machine refuses.
    let (_, mut refused) = written(&mut Host::new(Box::<Moody>::default()));
    refused.pop();
    let done = restore(&mut host, last, &refused);
    assert!(matches!(done, Done::Restored(Err(_))), "{done:?}");
    assert_eq!(host.status(), before);
    let done = host.run(entries(4, &controls(&[in_session(1, 0, b"one")])));
    assert!(matches!(last_outcome(done), Outcome::Repeated { .. }));
}

#[test]
fn a_digest_covers_repeats_refusals_and_the_table_in_batches_of_any_size() {
    let payloads = |last: Vec<u8>| {
        [
            opening(),
            in_session(1, 0, b"one"),
            in_session(1, 0, b"one"),
            in_session(2, 1, b"two"),
            in_session(1, 1, b"one"),
            last,
            Control::Checkpoint.encode(),
        ]
    };
    let run = |payloads: &[Vec<u8>], size: usize| {
        let mut host = host(Moody::default());
        for (at, chunk) in payloads.chunks(size).enumerate() {
            host.run(entries((at * size) as u64 + 2, &controls(chunk)));
        }
        assert_eq!(host.status().unchecked, 0);
        digest_of(&mut host)
    };
    let close = || Control::CloseSession(SessionId(2)).encode();
    let whole = run(&payloads(close()), 7);
    for size in 1..7 {
        assert_eq!(run(&payloads(close()), size), whole, "in batches of {size}");
    }
    // Only the table differs: what was replied is the same.
    let open = run(&payloads(b"\xffof a later program".to_vec()), 7);
    assert_eq!(open.value >> 32, whole.value >> 32);
    assert_ne!(open, whole);
    // And here only what was replied.
    let repeat = run(&payloads(in_session(2, 1, b"two")), 7);
    assert_eq!(repeat.value & 0xffff_ffff, open.value & 0xffff_ffff);
    assert_ne!(repeat, open);
}

#[test]
fn a_command_in_a_session_is_a_command_of_its_version() {
    let machine = Moody {
        newest: 1,
        ..Moody::default()
    };
    let mut host = host(machine);
    let payloads = [
        opening(),
        in_session(1, 0, b"one"),
        Control::Version(2).encode(),
        in_session(2, 0, b"two"),
    ];
    let done = host.run(entries(2, &controls(&payloads)));
    assert!(quarantined(&done).is_some_and(|why| why.contains("version 2")));
    assert!(matches!(done, Done::Applied(batch) if batch.entries.len() == 3));
    assert_eq!(host.status().unchecked, 1);
}
