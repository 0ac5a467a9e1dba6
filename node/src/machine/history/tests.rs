//! The history against a list of everything that ever changed.

use proptest::prelude::*;

use super::*;

const ALL: ReadBounds = ReadBounds {
    revisions_max: usize::MAX,
    bytes_max: usize::MAX,
};

fn history(events_max: usize, bytes_max: usize) -> History {
    History::new(HistoryBounds {
        events_max,
        bytes_max,
    })
}

fn put(history: &History, key: &[u8], value: &[u8]) {
    let change = Change::Put {
        create_revision: 1,
        value,
    };
    history.write().push(key, change);
}

#[test]
fn a_revision_to_come_is_waited_for_and_one_that_is_gone_is_named() {
    let history = history(2, 1 << 20);
    let all = KeyRange::default();
    let nothing = Read {
        events: Vec::new(),
        next: 7,
        more: false,
    };
    assert_eq!(history.read(7, &all, ALL), Ok(nothing));
    for key in [b"a", b"b", b"c"] {
        put(&history, key, b"");
    }
    let gone = Compacted { oldest: 2 };
    assert_eq!(history.read(1, &all, ALL), Err(gone));
    assert_eq!(history.read(2, &all, ALL).expect("kept").events.len(), 2);
    // A snapshot: whoever had all before it has missed what it covers.
    history.write().begin(10);
    assert_eq!(
        history.read(4, &all, ALL),
        Err(Compacted { oldest: 11 }),
        "4 to 10 are in the snapshot"
    );
    put(&history, b"d", b"");
    let read = history.read(11, &all, ALL).expect("kept");
    assert_eq!(
        (read.events[0].revision, read.next, read.more),
        (11, 12, false)
    );
}

#[test]
fn the_newest_change_is_kept_whatever_its_size() {
    let history = history(100, 100);
    put(&history, b"small", b"1");
    put(&history, b"large", &[7; 1000]);
    let read = history.read(2, &KeyRange::default(), ALL).expect("kept");
    let value = Bytes::from(vec![7; 1000]);
    let change = Change::Put {
        create_revision: 1,
        value,
    };
    assert_eq!(read.events[0].change, change);
    put(&history, b"small", b"2");
    assert_eq!(history.bytes(), 32 + 6, "the large one is gone");
}

/// One step of a history's life.
#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Nothing,
    /// A snapshot, so many revisions further.
    Begin(u64),
    /// This watcher reads, within these bounds.
    Read(usize, usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop::collection::vec(0..4_u8, 1..4);
    let value = prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        8 => (key(), value).prop_map(|(key, value)| Step::Put(key, value)),
        3 => key().prop_map(Step::Delete),
        1 => Just(Step::Nothing),
        1 => (0..3_u64).prop_map(Step::Begin),
        8 => (0..3_usize, 1..6_usize, 0..100_usize)
            .prop_map(|(who, revisions, bytes)| Step::Read(who, revisions, bytes)),
    ]
}

fn range() -> impl Strategy<Value = KeyRange> {
    let key = || prop::collection::vec(0..4_u8, 0..3);
    (key(), key()).prop_map(|(start, end)| KeyRange {
        start: start.into(),
        end: end.into(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Every watcher gets what a list of all changes says that it should, once and in order, or is told
    /// that what it wants next is gone, which is so only if the bounds or a snapshot say so.
    #[test]
    fn watchers_get_every_change_of_their_range_once_and_in_order(
        (events_max, bytes_max) in (1..12_usize, 40..600_usize),
        ranges in prop::collection::vec(range(), 3),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let history = history(events_max, bytes_max);
        // All events ever, and the sizes of the revisions since the last snapshot.
        let (mut events, mut sizes, mut revision) = (Vec::<Event>::new(), Vec::new(), 0);
        let mut nexts = [1; 3];
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    revision += 1;
                    sizes.push(32 + key.len() + value.len());
                    let change = Change::Put { create_revision: revision, value: &value[..] };
                    history.write().push(&key, change);
                    let value = value.into();
                    let change = Change::Put { create_revision: revision, value };
                    events.push(Event { revision, key: key.into(), change });
                }
                Step::Delete(key) => {
                    revision += 1;
                    sizes.push(32 + key.len());
                    history.write().push(&key, Change::Delete);
                    events.push(Event { revision, key: key.into(), change: Change::Delete });
                }
                Step::Nothing => {
                    revision += 1;
                    sizes.push(32);
                    history.write().push_nothing();
                }
                Step::Begin(further) => {
                    revision += further;
                    sizes.clear();
                    history.write().begin(revision);
                }
                Step::Read(who, revisions_max, bytes) => {
                    let bounds = ReadBounds { revisions_max, bytes_max: bytes };
                    // As many of the latest as fit, the newest always.
                    let mut sum = 0;
                    let kept = sizes.iter().rev().take(events_max).enumerate();
                    let kept = kept.take_while(|(at, size)| {
                        sum += **size;
                        *at == 0 || sum <= bytes_max
                    });
                    let oldest = revision + 1 - kept.count() as u64;
                    let from = nexts[who];
                    let read = match history.read(from, &ranges[who], bounds) {
                        Ok(read) => read,
                        Err(gone) => {
                            prop_assert_eq!(gone, Compacted { oldest });
                            prop_assert!(from < oldest);
                            nexts[who] = oldest;
                            continue;
                        }
                    };
                    prop_assert!(from >= oldest);
                    prop_assert!(read.next >= from && read.next <= from.max(revision + 1));
                    prop_assert_eq!(read.more, read.next <= revision);
                    prop_assert!(!read.more || read.next > from, "it gets ahead");
                    let due = events.iter().filter(|event| {
                        (from..read.next).contains(&event.revision)
                            && ranges[who].contains(&event.key)
                    });
                    let due: Vec<_> = due.cloned().collect();
                    let size: usize = due.iter().map(|event| event.key.len() + match &event.change {
                        Change::Put { value, .. } => value.len(),
                        Change::Delete => 0,
                    }).sum();
                    prop_assert!(due.len() <= 1 || size <= bytes);
                    prop_assert_eq!(read.events, due);
                    nexts[who] = read.next;
                }
            }
            let newest = sizes.last().copied().unwrap_or_default();
            prop_assert!(history.bytes() <= bytes_max.max(newest));
            prop_assert_eq!(history.revision(), revision);
        }
    }
}
