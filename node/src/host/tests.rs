//! A host and a machine that misbehaves on demand.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kontiki_raft::{Configuration, Role, ServerId, Term};

use super::*;
use crate::machine::{BytesView, Refused, RestoreError, View};

mod receiving;
mod sessions;

/// Sums lengths of commands; panics at `panic`, and has an effect at `effect`.
struct Moody {
    sum: usize,
    calls: Arc<AtomicUsize>,
    /// The version of each command applied.
    applied_under: Arc<Mutex<Vec<Version>>>,
    newest: Version,
    /// Appended to every reply.
    tone: &'static str,
}

impl Default for Moody {
    fn default() -> Self {
        Self {
            sum: 0,
            calls: Arc::default(),
            applied_under: Arc::default(),
            newest: 3,
            tone: "",
        }
    }
}

impl StateMachine for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn versions(&self) -> RangeInclusive<Version> {
        1..=self.newest
    }

    fn apply(
        &mut self,
        version: Version,
        batch: &[Command<'_>],
        effects: &mut Effects,
    ) -> Vec<Vec<u8>> {
        self.calls.fetch_add(1, Relaxed);
        let versions = std::iter::repeat_n(version, batch.len());
        self.applied_under
            .lock()
            .expect("unpoisoned")
            .extend(versions);
        let apply = |command: &Command<'_>| {
            self.sum += command.bytes.len();
            match command.bytes {
                b"panic" => panic!("bad mood"),
                b"effect" => effects.push(command.id, || Ok(())),
                _ => {}
            }
            format!("{}{}", self.sum, self.tone).into_bytes()
        };
        batch.iter().map(apply).collect()
    }

    fn read(&self, query: &[u8]) -> Result<Vec<u8>, Refused> {
        self.calls.fetch_add(1, Relaxed);
        match query {
            b"panic" => panic!("bad mood"),
            _ => Ok(self.sum.to_string().into_bytes()),
        }
    }

    fn on_configuration(&mut self, id: LogId, configuration: &Configuration, _: &mut Effects) {
        assert!(id.index > Index(0));
        self.sum += 1000 * configuration.voters.len();
    }

    fn snapshot(&self) -> Box<dyn View> {
        Box::new(BytesView::new(self.sum.to_le_bytes().to_vec()))
    }

    fn restore(&mut self, _: Version, reader: &mut dyn Read) -> Result<(), RestoreError> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        self.sum = 0;
        assert_ne!(bytes, b"panic");
        let sum = bytes.try_into();
        self.sum = usize::from_le_bytes(sum.map_err(|_| RestoreError("not a sum".into()))?);
        Ok(())
    }

    fn size(&self) -> usize {
        0
    }
}

/// A host under version 1 of the machine, by its first entry.
fn host(machine: Moody) -> Host {
    let mut host = Host::new(Box::new(machine));
    let version = Control::Version(1).encode();
    let done = host.run(entries(1, &[(EntryKind::Control, &version)]));
    assert!(matches!(done, Done::Applied(_)));
    host
}

fn entries(first: u64, entries: &[(EntryKind, &[u8])]) -> Job<u64> {
    let mut batch = Vec::new();
    for (at, (kind, payload)) in entries.iter().enumerate() {
        let id = LogId {
            term: Term(1),
            index: Index(first + at as u64),
        };
        entry::encode(id, kind, payload, &mut batch);
    }
    Job::Apply {
        batch: Bytes::from(batch),
        count: entries.len(),
    }
}

fn command(bytes: &[u8]) -> (EntryKind, &[u8]) {
    (EntryKind::Command, bytes)
}

fn read(host: &mut Host, query: &'static [u8]) -> Result<String, Refusal> {
    let query = Bytes::from_static(query);
    match host.run(Job::Read { query, reply: 7 }) {
        Done::Read {
            reply: 7, result, ..
        } => result.map(|answer| match answer {
            Answer::Read { reply, .. } => String::from_utf8(reply).expect("text"),
            other => panic!("{other:?}"),
        }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn entries_of_every_kind_are_applied_in_order() {
    let mut host = host(Moody::default());
    let configuration = Configuration::of([ServerId(1), ServerId(2)]);
    let activate = Control::Activate.encode();
    let batch = [
        (EntryKind::Configuration(Box::new(configuration)), &b""[..]),
        (EntryKind::Noop, b""),
        command(b"four"),
        (EntryKind::Control, &activate),
        command(b"effect"),
        (EntryKind::Control, b"\xffof a later program"),
        (EntryKind::Control, &activate),
    ];
    let Done::Applied(batch) = host.run(entries(2, &batch)) else {
        panic!("not applied")
    };
    let outcomes: Vec<String> = batch
        .entries
        .iter()
        .map(|applied| match &applied.outcome {
            Outcome::Reply(reply) => String::from_utf8_lossy(reply).into_owned(),
            Outcome::Activated(index) => format!("activated {}", index.0),
            Outcome::Repeated { .. } | Outcome::Refused(_) | Outcome::SessionOpened(_) => {
                panic!("{applied:?}")
            }
            Outcome::Nothing => "-".into(),
        })
        .collect();
    let expected = ["-", "-", "2004", "activated 5", "2010", "-", "activated 5"];
    assert_eq!(outcomes, expected);
    assert_eq!(batch.effects.len(), 1);
    assert_eq!(batch.status.applied.index, Index(8));
    assert_eq!(read(&mut host, b"").as_deref(), Ok("2010"));
}

#[test]
fn a_machine_that_panics_is_never_called_again() {
    for in_read in [false, true] {
        let machine = Moody::default();
        let calls = machine.calls.clone();
        let mut host = host(machine);
        let done = host.run(entries(2, &[command(b"a"), command(b"b")]));
        assert!(matches!(done, Done::Applied(_)));
        let why = match in_read {
            true => match read(&mut host, b"panic") {
                Err(Refusal::Quarantined(why)) => why,
                other => panic!("{other:?}"),
            },
            false => match host.run(entries(4, &[command(b"c"), command(b"panic")])) {
                Done::Quarantined(why) => why,
                other => panic!("{other:?}"),
            },
        };
        assert!(why.contains("bad mood") && why.contains("3@1"), "{why}");
        // What was applied before is what is said to be applied.
        assert_eq!(host.status().applied.index, Index(3));
        let called = calls.load(Relaxed);
        assert!(matches!(
            host.run(entries(4, &[command(b"c")])),
            Done::Quarantined(_)
        ));
        assert!(matches!(
            host.run(Job::<u64>::Role(Role::Leader)),
            Done::Quarantined(_)
        ));
        assert_eq!(read(&mut host, b""), Err(Refusal::Quarantined(why)));
        assert_eq!(calls.load(Relaxed), called);
    }
}

#[test]
fn a_version_entry_switches_at_exactly_its_index() {
    let controls: Vec<_> = [2, 3, 2].map(|to| Control::Version(to).encode()).into();
    let all = [
        command(b"a"),
        (EntryKind::Control, &controls[0][..]),
        command(b"b"),
        command(b"c"),
        (EntryKind::Control, &controls[1]),
        // Never lowered.
        (EntryKind::Control, &controls[2]),
        command(b"d"),
    ];
    // However the entries are cut into batches.
    for cut in 0..all.len() {
        let machine = Moody::default();
        let applied_under = machine.applied_under.clone();
        let mut host = host(machine);
        for (first, part) in [(0, &all[..cut]), (cut, &all[cut..])] {
            let done = host.run(entries(first as u64 + 2, part));
            assert!(matches!(done, Done::Applied(_)));
        }
        assert_eq!(*applied_under.lock().expect("unpoisoned"), [1, 2, 2, 3]);
        assert_eq!(host.status().version, 3);
    }
}

#[test]
fn a_command_under_a_version_that_is_not_run_here_is_not_applied() {
    let machine = Moody {
        newest: 1,
        ..Moody::default()
    };
    let applied_under = machine.applied_under.clone();
    let mut raised = host(machine);
    let to_two = Control::Version(2).encode();
    let batch = [command(b"a"), (EntryKind::Control, &to_two), command(b"b")];
    let done = raised.run(entries(2, &batch));
    let why = quarantined(&done).expect("not applied");
    // What came before it is, and is answered.
    assert!(matches!(done, Done::Applied(batch) if batch.entries.len() == 2));
    assert_eq!(raised.status().applied.index, Index(3));
    assert!(
        why.contains("version 2") && why.contains("runs 1 to 1"),
        "{why}"
    );
    assert_eq!(*applied_under.lock().expect("unpoisoned"), [1]);
    assert_eq!(read(&mut raised, b""), Err(Refusal::Quarantined(why)));
    // Nor before any is in force.
    let mut none = Host::new(Box::<Moody>::default());
    let done = none.run(entries(1, &[command(b"a")]));
    assert!(quarantined(&done).is_some_and(|why| why.contains("version 0")));
}

fn quarantined(done: &Done<u64>) -> Option<String> {
    match done {
        Done::Quarantined(why) => Some(why.clone()),
        Done::Applied(batch) => batch.quarantine.clone(),
        _ => None,
    }
}

/// Hashes the state to the end.
fn hashed(host: &mut Host) -> Done<u64> {
    let mut done = host.run(Job::Digest);
    while matches!(&done, Done::Digested(status) if status.hashing) {
        done = host.run(Job::Digest);
    }
    done
}

fn digest_of(host: &mut Host) -> Digest {
    match hashed(host) {
        Done::Digested(status) => status.digest.expect("hashed"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn hosts_that_applied_the_same_have_one_digest_and_others_have_another() {
    let payload = Control::Checkpoint.encode();
    let checkpoint = || (EntryKind::Control, &payload[..]);
    let all = [command(b"a"), command(b"bc"), checkpoint(), command(b"d")];
    let run = |cut: usize, tone| {
        let mut host = host(Moody {
            tone,
            ..Moody::default()
        });
        host.run(entries(2, &all[..cut]));
        host.run(entries(2 + cut as u64, &all[cut..]));
        digest_of(&mut host)
    };
    let whole = run(0, "");
    assert_eq!(whole.index, Index(4));
    for cut in 1..=all.len() {
        assert_eq!(
            run(cut, ""),
            whole,
            "what comes after the checkpoint does not count"
        );
    }
    // The replies differ, and the state does not; and the other way round.
    let other = run(0, "!");
    assert_ne!(other, whole);
    assert_eq!(
        other.value as u32, whole.value as u32,
        "the state is the same"
    );
    let mut silent = [
        host(Moody::default()),
        host(Moody {
            sum: 1,
            ..Moody::default()
        }),
    ];
    let digests = silent.each_mut().map(|host| {
        host.run(entries(2, &[checkpoint()]));
        digest_of(host)
    });
    assert_ne!(digests[0], digests[1]);
    assert_eq!(
        digests[0].value >> 32,
        digests[1].value >> 32,
        "no reply differs"
    );
}

#[test]
fn who_is_contradicted_by_a_verdict_is_quarantined() {
    let checkpoint = Control::Checkpoint.encode();
    let prepared = || {
        let mut host = host(Moody::default());
        let batch = [command(b"a"), (EntryKind::Control, &checkpoint)];
        host.run(entries(2, &batch));
        host
    };
    let mine = digest_of(&mut prepared());
    let other = Digest {
        value: mine.value ^ 1,
        ..mine
    };
    for hashed_first in [true, false] {
        for (verdict, is_right) in [(mine, true), (other, false)] {
            let mut host = prepared();
            if hashed_first {
                digest_of(&mut host);
            }
            let payload = Control::Verdict(verdict).encode();
            let applied = host.run(entries(4, &[(EntryKind::Control, &payload)]));
            let last = match hashed_first {
                true => applied,
                false => hashed(&mut host),
            };
            let why = quarantined(&last);
            assert_eq!(why.is_none(), is_right, "{last:?}");
            if let Some(why) = why {
                assert!(why.contains("at entry 3"), "{why}");
                assert_eq!(read(&mut host, b""), Err(Refusal::Quarantined(why)));
            }
        }
    }
    // A server without a digest of that checkpoint is not concerned.
    let mut fresh = host(Moody::default());
    let payload = Control::Verdict(other).encode();
    let done = fresh.run(entries(2, &[(EntryKind::Control, &payload)]));
    assert_eq!(quarantined(&done), None);
}

/// What a host writes of itself, at its last entry.
fn written(host: &mut Host) -> (LogId, Vec<u8>) {
    let Done::Snapshot { mut view, .. } = host.run(Job::<u64>::Snapshot { to: ServerId(2) }) else {
        panic!("no snapshot");
    };
    let mut out = Vec::new();
    while view.write(&mut out, 5) {}
    (view.applied, out)
}

fn restore(host: &mut Host, last: LogId, bytes: &[u8]) -> Done<u64> {
    let attempt = last.index.0;
    for piece in bytes.chunks(3) {
        let piece = Bytes::copy_from_slice(piece);
        host.run(Job::<u64>::Receive { attempt, piece });
    }
    host.run(Job::Restore { last })
}

#[test]
fn a_state_moves_from_host_to_host_with_all_that_the_log_decided() {
    let mut first = host(Moody::default());
    let activate = Control::Activate.encode();
    first.run(entries(
        2,
        &[(EntryKind::Control, &activate[..]), command(b"four")],
    ));
    let (last, bytes) = written(&mut first);
    let mut second = host(Moody::default());
    let Done::Restored(Ok(status)) = restore(&mut second, last, &bytes) else {
        panic!("not restored");
    };
    assert_eq!((status.applied, status.version), (last, 1));
    assert_eq!(status.activated, Some(Index(2)));
    assert_eq!(read(&mut second, b"").as_deref(), Ok("4"));
    // It goes on from there.
    let done = second.run(entries(4, &[command(b"a")]));
    assert!(matches!(done, Done::Applied(_)));
    assert_eq!(read(&mut second, b"").as_deref(), Ok("5"));
    // With the same digest as one that was there from the beginning.
    first.run(entries(4, &[command(b"a")]));
    let payload = Control::Checkpoint.encode();
    let digests = [&mut first, &mut second].map(|host| {
        host.run(entries(5, &[(EntryKind::Control, &payload[..])]));
        digest_of(host)
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_state_that_is_refused_leaves_the_own_one_in_place() {
    let mut host = host(Moody::default());
    host.run(entries(2, &[command(b"four")]));
    let (_, whole) = written(&mut host);
    let before = host.status();
    let later = LogId {
        term: Term(1),
        index: Index(9),
    };
    let mut of_another = whole.clone();
    of_another[21] ^= 1; // a letter of the machine's name
    let mut of_a_later_version = whole.clone();
    of_a_later_version[4] = 9;
    let cuts = (0..whole.len()).map(|cut| whole[..cut].to_vec());
    for bad in cuts.chain([of_another, of_a_later_version]) {
        let done = restore(&mut host, later, &bad);
        assert!(matches!(done, Done::Restored(Err(_))), "{bad:?}: {done:?}");
        assert_eq!(host.status(), before);
        assert_eq!(read(&mut host, b"").as_deref(), Ok("4"));
    }
}

#[test]
fn a_machine_that_panics_while_it_restores_is_in_quarantine() {
    let mut host = host(Moody::default());
    let (last, mut bytes) = written(&mut host);
    bytes.truncate(bytes.len() - 8);
    bytes.extend_from_slice(b"panic");
    let done = restore(&mut host, last, &bytes);
    assert!(matches!(done, Done::Quarantined(_)), "{done:?}");
    assert!(matches!(
        host.run(Job::<u64>::Snapshot { to: ServerId(2) }),
        Done::Quarantined(_)
    ));
}
