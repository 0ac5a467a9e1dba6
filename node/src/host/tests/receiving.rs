//! A snapshot is taken in piece by piece, beside the state that is in use.

use bytes::Bytes;

use super::*;
use crate::machine::kv::{Kv, KvCommand, KvQuery, KvReply};

const VALUE: usize = 100;

/// A store with so many keys, of which each has a value of this byte.
fn store(keys: u64, value: u8) -> Host {
    let mut host = Host::new(Box::<Kv>::default());
    let version = Control::Version(1).encode();
    host.run(entries(1, &[(EntryKind::Control, &version)]));
    for key in 0..keys {
        let command = KvCommand::Put {
            key: &key.to_be_bytes(),
            value: &[value; VALUE],
            if_mod_revision: None,
        };
        host.run(entries(2 + key, &[command_of(&command.encode())]));
    }
    host
}

fn command_of(bytes: &[u8]) -> (EntryKind, &[u8]) {
    (EntryKind::Command, bytes)
}

/// The first byte of the value of key 0.
fn value(host: &mut Host) -> u8 {
    let query = KvQuery::Get {
        key: &0_u64.to_be_bytes(),
    };
    let query = query.encode();
    let Done::Read {
        result: Ok(Answer::Read { reply, .. }),
        ..
    } = host.run(Job::Read {
        query,
        reply: 7_u64,
    })
    else {
        panic!("not read");
    };
    match KvReply::decode(reply.into()) {
        Some(KvReply::Get {
            record: Some(record),
            ..
        }) => record.value[0],
        other => panic!("{other:?}"),
    }
}

fn receive(host: &mut Host, attempt: u64, piece: &[u8]) -> Result<usize, String> {
    let piece = Bytes::copy_from_slice(piece);
    match host.run(Job::<u64>::Receive { attempt, piece }) {
        Done::Received { result, .. } => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn h15_a_state_is_built_as_its_pieces_come_and_used_once_it_is_whole() {
    let (mut source, mut host) = (store(100, b'n'), store(10, b'o'));
    let (last, bytes) = written(&mut source);
    let before = host.status();
    let mut held = Vec::new();
    for piece in bytes.chunks(1000) {
        held.push(receive(&mut host, 1, piece).expect("taken in"));
        assert_eq!(host.status(), before, "the old state is in use");
        assert_eq!(value(&mut host), b'o');
    }
    // It is decoded as it comes: what is held is what the new state will take.
    let size = source.status().machine_bytes;
    let decoded = held.iter().filter(|held| **held > size / 2).count();
    assert!(decoded >= held.len() / 3, "{held:?} of {size}");
    assert!(*held.last().expect("some") >= size, "{held:?} of {size}");
    let done = host.run(Job::<u64>::Restore { last });
    assert!(matches!(done, Done::Restored(Ok(_))), "{done:?}");
    assert_eq!(host.status().machine_bytes, size);
    assert_eq!(
        (value(&mut host), written(&mut host)),
        (b'n', (last, bytes))
    );
}

#[test]
fn h15_a_snapshot_that_is_damaged_or_given_up_changes_nothing() {
    let (mut source, mut host) = (store(100, b'n'), store(10, b'o'));
    let (last, bytes) = written(&mut source);
    let before = written(&mut host);
    // Its end is missing.
    receive(&mut host, 1, &bytes[..bytes.len() - 1]).expect("taken in");
    let done = host.run(Job::<u64>::Restore { last });
    assert!(matches!(done, Done::Restored(Err(_))), "{done:?}");
    assert_eq!(written(&mut host), before);
    // Something in its middle is wrong: that shows at once, and the reason stays.
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    receive(&mut host, 2, first).expect("taken in");
    let why = receive(&mut host, 2, &[0xff; 300]).expect_err("no record");
    assert_eq!(receive(&mut host, 2, rest), Err(why.clone()));
    let done = host.run(Job::<u64>::Restore { last });
    assert!(
        matches!(&done, Done::Restored(Err(shown)) if *shown == why),
        "{done:?}"
    );
    assert_eq!(written(&mut host), before);
    // It is given up.
    receive(&mut host, 3, first).expect("taken in");
    assert!(matches!(host.run(Job::<u64>::GiveUp), Done::GaveUp(_)));
    let done = host.run(Job::<u64>::Restore { last });
    assert!(matches!(done, Done::Restored(Err(_))), "{done:?}");
    assert_eq!(written(&mut host), before);
}

#[test]
fn h15_pieces_of_two_snapshots_are_not_mixed() {
    let (mut source, mut host) = (store(100, b'n'), store(10, b'o'));
    let (last, bytes) = written(&mut source);
    let (first, _) = bytes.split_at(bytes.len() / 2);
    receive(&mut host, 1, first).expect("taken in");
    receive(&mut host, 2, &bytes).expect("taken in");
    let done = host.run(Job::<u64>::Restore { last });
    assert!(matches!(done, Done::Restored(Ok(_))), "{done:?}");
    assert_eq!(written(&mut host), (last, bytes));
}
