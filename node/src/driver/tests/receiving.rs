//! A snapshot that is being received: when it is given up, nothing of it is kept.

use bytes::Bytes;
use kontiki_raft::{
    Append, Config, Configuration, EntryKind, Heartbeat, Index, LogId, Message, ServerId,
    SnapshotChunk, SnapshotId, Term,
};

use super::bounds::Stuck;
use super::lies::{Lone, ME, id};
use crate::config::MachineKind;
use crate::driver::piece::{Header, seal};
use crate::driver::*;
use crate::entry;
use crate::host::{Done, Host, Job};
use crate::machine::View;

/// The beginning of a snapshot through entry 50: its header, and some of its state.
fn beginning() -> Vec<u8> {
    let mut host = Host::new(MachineKind::Counter.build());
    let Done::Snapshot { mut view, .. } = host.run::<u64>(Job::Snapshot { to: ME }) else {
        unreachable!("a view is what was asked for");
    };
    let header = Header {
        last: id(2, 50),
        configuration: (Index(1), Configuration::of((1..=3).map(ServerId))),
    };
    let mut bytes = header.encode();
    while view.write(&mut bytes, 4096) {}
    bytes
}

/// A piece of it, which is not the last.
fn chunk(offset: u64) -> Message {
    Message::SnapshotChunk(SnapshotChunk {
        term: Term(2),
        id: SnapshotId {
            number: 1,
            last: id(2, 50),
        },
        offset,
        is_end: false,
    })
}

/// A follower of server 2 in term 2 that has received the first piece of its snapshot through entry 50.
fn receiving() -> Lone {
    let mut lone = Lone::of(Config::default());
    let piece = beginning();
    lone.hear(2, chunk(0), seal(&piece));
    assert!(held(&lone) > 0, "what it says is kept");
    assert_eq!(lone.driver.status().receiving, Some(piece.len() as u64));
    lone
}

fn held(lone: &Lone) -> u64 {
    lone.driver.status().state_bytes.receiving
}

#[track_caller]
fn assert_nothing_is_held(lone: &Lone) {
    assert_eq!(held(lone), 0, "it is freed");
    assert_eq!(lone.driver.status().receiving, None);
}

fn heartbeat(term: u64) -> Message {
    Message::Heartbeat(Heartbeat {
        term: Term(term),
        commit: Index(1),
        round: 1,
        beat: None,
    })
}

#[test]
fn h11_what_was_received_is_freed_when_the_term_of_its_leader_is_over() {
    let mut lone = receiving();
    lone.hear(2, heartbeat(2), Bytes::new());
    assert!(held(&lone) > 0, "that leader may go on");
    lone.hear(3, heartbeat(3), Bytes::new());
    assert_nothing_is_held(&lone);
}

#[test]
fn h11_what_was_received_is_freed_when_the_log_has_overtaken_it() {
    let mut lone = receiving();
    let mut batch = Vec::new();
    for index in 2..=50 {
        entry::encode(id(2, index), &EntryKind::Noop, &[], &mut batch);
    }
    let mut append = Append {
        term: Term(2),
        prev: LogId {
            term: Term(1),
            index: Index(1),
        },
        last: Index(50),
        commit: Index(49),
    };
    let batch = Bytes::from(batch);
    lone.hear(2, Message::Append(append), batch.clone());
    assert!(held(&lone) > 0, "entry 50 is not committed");
    append.commit = Index(50);
    lone.hear(2, Message::Append(append), batch);
    assert_eq!(lone.driver.status().commit, Index(50));
    assert_nothing_is_held(&lone);
}

#[test]
fn h11_what_was_received_is_freed_when_the_server_is_quarantined() {
    let mut lone = receiving();
    // As a candidate it knows no leader; somebody found that the quorum is lost.
    lone.turn(Input::TriggerElection { reply: 1 });
    lone.turn(Input::Quarantine {
        why: "the quorum is lost".into(),
        reply: 2,
    });
    assert!(lone.driver.status().quarantine.is_some());
    assert_nothing_is_held(&lone);
}

#[test]
fn a_machine_that_is_slow_is_given_a_few_pieces_and_no_more() {
    let mut lone = Lone::with(Config::default(), Box::new(Stuck));
    let (mut offset, mut given) = (0, 0);
    for _ in 0..100 {
        let piece = beginning();
        let outputs = lone.hear(2, chunk(offset), seal(&piece));
        for output in &outputs {
            given += usize::from(matches!(output, Output::Job(Job::Receive { .. })));
            let is_acknowledged = matches!(
                output,
                Output::Send(envelope) if matches!(envelope.message, Message::SnapshotAck(_))
            );
            assert!(!is_acknowledged, "it is acknowledged once it is taken in");
        }
        offset = lone.driver.status().receiving.expect("it is receiving");
    }
    assert_eq!(given, 4);
}
