//! A host and a machine that misbehaves on demand.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use kontiki_raft::{Configuration, Role, ServerId, Term};

use super::*;
use crate::machine::{BytesView, Refused, RestoreError, View};

/// Sums lengths of commands; panics at `panic`, and has an effect at `effect`.
#[derive(Default)]
struct Moody {
    sum: usize,
    calls: Arc<AtomicUsize>,
}

impl StateMachine for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn apply(&mut self, _: Version, batch: &[Command<'_>], effects: &mut Effects) -> Vec<Vec<u8>> {
        self.calls.fetch_add(1, Relaxed);
        let apply = |command: &Command<'_>| {
            self.sum += command.bytes.len();
            match command.bytes {
                b"panic" => panic!("bad mood"),
                b"effect" => effects.push(command.id, || Ok(())),
                _ => {}
            }
            self.sum.to_string().into_bytes()
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
        Box::new(BytesView::new(Vec::new()))
    }

    fn restore(&mut self, _: Version, _: &mut dyn Read) -> Result<(), RestoreError> {
        Ok(())
    }

    fn size(&self) -> usize {
        0
    }
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
    let mut host = Host::new(Box::<Moody>::default());
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
    let Done::Applied(batch) = host.run(entries(1, &batch)) else {
        panic!("not applied")
    };
    let outcomes: Vec<String> = batch
        .entries
        .iter()
        .map(|applied| match &applied.outcome {
            Outcome::Reply(reply) => String::from_utf8_lossy(reply).into_owned(),
            Outcome::Activated(index) => format!("activated {}", index.0),
            Outcome::Nothing => "-".into(),
        })
        .collect();
    let expected = ["-", "-", "2004", "activated 4", "2010", "-", "activated 4"];
    assert_eq!(outcomes, expected);
    assert_eq!(batch.effects.len(), 1);
    assert_eq!(batch.status.applied.index, Index(7));
    assert_eq!(read(&mut host, b"").as_deref(), Ok("2010"));
}

#[test]
fn a_machine_that_panics_is_never_called_again() {
    for in_read in [false, true] {
        let machine = Moody::default();
        let calls = machine.calls.clone();
        let mut host = Host::new(Box::new(machine));
        let done = host.run(entries(1, &[command(b"a"), command(b"b")]));
        assert!(matches!(done, Done::Applied(_)));
        let why = match in_read {
            true => match read(&mut host, b"panic") {
                Err(Refusal::Quarantined(why)) => why,
                other => panic!("{other:?}"),
            },
            false => match host.run(entries(3, &[command(b"c"), command(b"panic")])) {
                Done::Quarantined(why) => why,
                other => panic!("{other:?}"),
            },
        };
        assert!(why.contains("bad mood") && why.contains("2@1"), "{why}");
        // What was applied before is what is said to be applied.
        assert_eq!(host.status().applied.index, Index(2));
        let called = calls.load(Relaxed);
        assert!(matches!(
            host.run(entries(3, &[command(b"c")])),
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
