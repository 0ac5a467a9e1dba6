//! Bytes go both ways, and anything may come in.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn commands_survive_encoding(key in prop::collection::vec(any::<u8>(), 1..64),
                               value in prop::collection::vec(any::<u8>(), 0..64),
                               if_mod_revision in any::<Option<u64>>()) {
        let (key, value) = (&key[..], &value[..]);
        for command in [
            KvCommand::Put { key, value, if_mod_revision },
            KvCommand::Delete { key, if_mod_revision },
        ] {
            let encoded = command.encode();
            prop_assert_eq!(KvCommand::decode(&encoded), Some(command));
        }
    }

    #[test]
    fn any_bytes_decode_to_something_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        // It must not panic; what it accepts, it writes the same way.
        if let Some(command) = KvCommand::decode(&bytes) {
            prop_assert_eq!(&command.encode()[..], &bytes[..]);
        }
        if let Some(query) = KvQuery::decode(&bytes) {
            prop_assert_eq!(&query.encode()[..], &bytes[..]);
        }
        let _ = KvReply::decode(bytes.into());
    }
}

#[test]
fn replies_survive_encoding() {
    let record = KvRecord {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        create_revision: 3,
        mod_revision: 4,
    };
    let anonymous = KvRecord {
        key: Bytes::new(),
        ..record.clone()
    };
    for reply in [
        KvReply::Put { revision: 7 },
        KvReply::Delete {
            deleted: true,
            revision: 8,
        },
        KvReply::Mismatch {
            revision: 9,
            record: Some(anonymous.clone()),
        },
        KvReply::Get {
            revision: 9,
            record: None,
        },
        KvReply::Get {
            revision: 9,
            record: Some(anonymous),
        },
        KvReply::Range {
            revision: 10,
            next: Bytes::from_static(b"n"),
            records: vec![record.clone(), record],
        },
        KvReply::Unknown("why".into()),
    ] {
        assert_eq!(KvReply::decode(reply.encode().into()), Some(reply));
    }
}

#[test]
fn logs_of_earlier_versions_decode() {
    let table: [(&[u8], KvCommand<'_>); 4] = [
        (
            b"\x01\x01\x00kv",
            KvCommand::Put {
                key: b"k",
                value: b"v",
                if_mod_revision: None,
            },
        ),
        (
            b"\x02k",
            KvCommand::Delete {
                key: b"k",
                if_mod_revision: None,
            },
        ),
        (
            b"\x03\x07\0\0\0\0\0\0\0\x01\x00kv",
            KvCommand::Put {
                key: b"k",
                value: b"v",
                if_mod_revision: Some(7),
            },
        ),
        (
            b"\x04\0\0\0\0\0\0\0\0k",
            KvCommand::Delete {
                key: b"k",
                if_mod_revision: Some(0),
            },
        ),
    ];
    for (bytes, command) in table {
        assert_eq!(KvCommand::decode(bytes), Some(command));
    }
}

#[test]
fn keys_out_of_bounds_are_no_commands() {
    let long = vec![0; KEY_BYTES_MAX + 1];
    for key in [&[][..], &long] {
        for if_mod_revision in [None, Some(1)] {
            for command in [
                KvCommand::Put {
                    key,
                    value: b"v",
                    if_mod_revision,
                },
                KvCommand::Delete {
                    key,
                    if_mod_revision,
                },
            ] {
                assert_eq!(KvCommand::decode(&command.encode()), None);
            }
        }
        assert_eq!(KvQuery::decode(&KvQuery::Get { key }.encode()), None);
    }
}
