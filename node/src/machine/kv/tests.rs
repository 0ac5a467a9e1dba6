//! The map against a slow version of itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_raft::LogId;
use proptest::prelude::*;

use super::*;
use crate::machine::history::{HistoryBounds, KeyRange, ReadBounds};

fn write(kv: &mut Kv, command: KvCommand<'_>) -> KvReply {
    let bytes = command.encode();
    let id = LogId::default();
    let command = Command { id, bytes: &bytes };
    let reply = kv.apply(1, &[command], &mut Effects::default()).remove(0);
    KvReply::decode(reply.into()).expect("a reply")
}

fn ask(kv: &Kv, query: KvQuery<'_>) -> KvReply {
    let reply = kv.read(&query.encode()).expect("a query");
    KvReply::decode(reply.into()).expect("a reply")
}

/// All records of a range, page by page.
fn pages(kv: &Kv, start: &[u8], end: &[u8], limit: u32) -> (Vec<KvRecord>, usize) {
    let (mut all, mut from, mut count) = (Vec::new(), start.to_vec(), 0);
    loop {
        let query = KvQuery::Range {
            start: &from,
            end,
            limit,
        };
        let KvReply::Range { next, records, .. } = ask(kv, query) else {
            panic!("not the reply to a range");
        };
        count += 1;
        assert!(limit == 0 || records.len() <= limit as usize);
        all.extend(records);
        if next.is_empty() {
            return (all, count);
        }
        from = next.to_vec();
    }
}

/// A command without a revision.
fn put<'a>(key: &'a [u8], value: &'a [u8]) -> KvCommand<'a> {
    KvCommand::Put {
        key,
        value,
        if_mod_revision: None,
    }
}

/// Which revision a command names, as seen from the key that it meets.
#[derive(Clone, Copy, Debug)]
enum Named {
    None,
    /// The key's own; 0 if it is not there.
    Right,
    /// Another.
    Wrong,
}

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u8>, Vec<u8>, Named),
    Delete(Vec<u8>, Named),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    // Few distinct keys, so that they meet; around the length at which they leave the tree.
    prop_oneof![
        prop::collection::vec(0u8..3, 1..4),
        (20usize..26).prop_map(|length| vec![7; length])
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let named = || prop_oneof![Just(Named::None), Just(Named::Right), Just(Named::Wrong)];
    let value = prop::collection::vec(any::<u8>(), 0..8);
    let put = (key(), value, named()).prop_map(|(k, v, n)| Op::Put(k, v, n));
    let delete = (key(), named()).prop_map(|(k, n)| Op::Delete(k, n));
    prop::collection::vec(prop_oneof![3 => put, 1 => delete], 0..80)
}

proptest! {
    #[test]
    fn behaves_as_a_map_with_revisions(ops in ops(), start in key(), end in key(), limit in 0u32..5) {
        let mut kv = Kv::default();
        let mut model: BTreeMap<Vec<u8>, (Vec<u8>, u64, u64)> = BTreeMap::new();
        let mut revision = 0;
        for op in &ops {
            let (Op::Put(key, _, named) | Op::Delete(key, named)) = op;
            let modified = model.get(key).map_or(0, |entry| entry.2);
            let if_mod_revision = match named {
                Named::None => None,
                Named::Right => Some(modified),
                Named::Wrong => Some(modified + 1),
            };
            let command = match op {
                Op::Put(key, value, _) => KvCommand::Put { key, value, if_mod_revision },
                Op::Delete(key, _) => KvCommand::Delete { key, if_mod_revision },
            };
            let reply = write(&mut kv, command);
            if matches!(named, Named::Wrong) {
                let KvReply::Mismatch { revision: still, record } = reply else {
                    panic!("{op:?} got {reply:?}");
                };
                let seen = record.map(|r| (r.value.to_vec(), r.create_revision, r.mod_revision));
                prop_assert_eq!((still, seen.as_ref()), (revision, model.get(key)));
                continue;
            }
            revision += 1;
            match op {
                Op::Put(key, value, _) => {
                    prop_assert_eq!(reply, KvReply::Put { revision });
                    let entry = model.entry(key.clone()).or_insert((vec![], revision, revision));
                    (entry.0, entry.2) = (value.clone(), revision);
                }
                Op::Delete(key, _) => {
                    let deleted = model.remove(key).is_some();
                    prop_assert_eq!(reply, KvReply::Delete { deleted, revision });
                }
            }
        }
        for (key, (value, create, modified)) in &model {
            let KvReply::Get { record: Some(record), revision: read } = ask(&kv, KvQuery::Get { key })
            else {
                panic!("{key:?} is missing");
            };
            prop_assert_eq!(read, revision);
            prop_assert_eq!(&record.value[..], &value[..]);
            prop_assert_eq!((record.create_revision, record.mod_revision), (*create, *modified));
        }
        for (start, end) in [(&start[..], &end[..]), (b"", b""), (&start, b""), (b"", &end)] {
            let expected: Vec<_> = model
                .iter()
                .filter(|(key, _)| &key[..] >= start && (end.is_empty() || &key[..] < end))
                .map(|(key, (value, ..))| (key.clone(), value.clone()))
                .collect();
            let (records, _) = pages(&kv, start, end, limit);
            let seen: Vec<_> =
                records.iter().map(|r| (r.key.to_vec(), r.value.to_vec())).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}

#[test]
fn a_page_ends_at_its_bytes_and_a_large_record_is_a_page_by_itself() {
    let mut kv = Kv::default();
    let value = vec![0; RANGE_BYTES_MAX * 2 / 3];
    let huge = vec![0; RANGE_BYTES_MAX + 1];
    for (key, value) in [(b"a", &value), (b"b", &huge), (b"c", &value)] {
        write(&mut kv, put(key, value));
    }
    let (records, count) = pages(&kv, b"", b"", 0);
    assert_eq!((records.len(), count), (3, 3));
}

/// What clients rely on when they send a compare-and-set again after an unknown outcome.
#[test]
fn of_two_copies_of_a_compare_and_set_one_is_done() {
    let mut kv = Kv::default();
    for (name, if_mod_revision) in [("create", 0), ("replace", 1)] {
        let copy = KvCommand::Put {
            key: b"k",
            value: name.as_bytes(),
            if_mod_revision: Some(if_mod_revision),
        };
        let revision = if_mod_revision + 1;
        assert_eq!(write(&mut kv, copy), KvReply::Put { revision });
        let KvReply::Mismatch {
            record: Some(record),
            ..
        } = write(&mut kv, copy)
        else {
            panic!("the second copy was done too");
        };
        assert_eq!(&record.value[..], name.as_bytes(), "the first copy's");
        assert_eq!(record.mod_revision, revision);
    }
}

#[test]
fn a_command_that_does_not_decode_changes_nothing() {
    let mut kv = Kv::default();
    let id = LogId::default();
    for bytes in [
        &b""[..],
        b"\x01",
        b"\x02",
        b"\x03k",
        b"\x09x",
        b"\x01\xff\xffk",
    ] {
        assert!(validate(bytes).is_err(), "{bytes:?}");
        let reply = kv
            .apply(1, &[Command { id, bytes }], &mut Effects::default())
            .remove(0);
        assert!(matches!(
            KvReply::decode(reply.into()),
            Some(KvReply::Unknown(_))
        ));
    }
    assert_eq!(kv.revision, 0);
}

#[test]
fn a_missing_key_is_no_error() {
    let kv = Kv::default();
    let missing = KvReply::Get {
        revision: 0,
        record: None,
    };
    assert_eq!(ask(&kv, KvQuery::Get { key: b"k" }), missing);
}

/// What a watcher of all keys gets from a revision on: (revision, key, created, value; deleted if none).
fn watched(history: &History, from: u64) -> Vec<(u64, Bytes, u64, Option<Bytes>)> {
    let bounds = ReadBounds {
        revisions_max: usize::MAX,
        bytes_max: usize::MAX,
    };
    let read = history.read(from, &KeyRange::default(), bounds);
    let events = read.expect("kept").events.into_iter();
    events
        .map(|event| match event.change {
            Change::Put {
                create_revision,
                value,
            } => (event.revision, event.key, create_revision, Some(value)),
            Change::Delete => (event.revision, event.key, 0, None),
        })
        .collect()
}

#[test]
fn watchers_are_told_what_was_changed_and_nothing_else() {
    let history = History::new(HistoryBounds {
        events_max: 100,
        bytes_max: 1 << 20,
    });
    let mut kv = Kv::default();
    kv.observe(history.clone());
    write(&mut kv, put(b"a", b"1"));
    let wrong = KvCommand::Put {
        key: b"a",
        value: b"no",
        if_mod_revision: Some(7),
    };
    assert!(matches!(write(&mut kv, wrong), KvReply::Mismatch { .. }));
    write(&mut kv, put(b"a", b"2"));
    for _ in 0..2 {
        let delete = KvCommand::Delete {
            key: b"a",
            if_mod_revision: None,
        };
        // The second finds nothing: a revision without an event.
        write(&mut kv, delete);
    }
    write(&mut kv, put(b"a", b"3"));
    let told = [
        (1, "a".into(), 1, Some("1".into())),
        (2, "a".into(), 1, Some("2".into())),
        (3, "a".into(), 0, None),
        (5, "a".into(), 5, Some("3".into())),
    ];
    assert_eq!(watched(&history, 1), told);
    assert_eq!(history.revision(), kv.revision);

    // A snapshot that is no snapshot leaves the history as it is; one that is one ends it.
    let broken = kv.restore(1, &mut &b"\0\0"[..]);
    broken.expect_err("too short");
    write(&mut kv, put(b"b", b"4"));
    assert_eq!(watched(&history, 1).len(), 5);
    let mut state = Vec::new();
    assert!(!kv.snapshot().write(&mut state, usize::MAX));
    kv.restore(1, &mut &state[..]).expect("its own state");
    assert_eq!(history.bytes(), 0);
    write(&mut kv, put(b"c", b"5"));
    assert_eq!(watched(&history, 7), [(7, "c".into(), 7, Some("5".into()))]);
}
