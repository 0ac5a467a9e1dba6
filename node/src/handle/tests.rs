//! The channel into the driver is bounded in inputs and in bytes, and has room for peers.

use bytes::Bytes;
use futures::FutureExt;
use kontiki_raft::{LogId, Message, Role, Term, Time, TimeoutNow};

use super::*;
use crate::address_book::ServerRef;
use crate::config::WatchSettings;
use crate::driver::{Envelope, HostReport};

fn handle(limits: Limits) -> (Handle, mpsc::Receiver<Input<Reply>>) {
    let me = ServerRef::unknown(ServerId(1));
    let (inputs, taken) = mpsc::channel(limits.requests_max);
    let standing = Standing {
        role: Role::Leader,
        term: Term(1),
        leader: None,
    };
    let standing = watch::channel(standing).1;
    let handle = Handle::new(HandleParts {
        metrics: Arc::new(Metrics::new(&me, "kv")),
        book: AddressBook::new(me, 16),
        limits,
        sessions: SessionSettings::default(),
        machine: "kv",
        versions: 1..=1,
        initial_config: Vec::new(),
        watching: Watching::new(WatchSettings::default(), standing.clone()),
        standing,
        ending: Ending::default(),
        inputs,
    });
    (handle, taken)
}

fn write(bytes: usize) -> Input<Reply> {
    Input::Write {
        command: Bytes::from(vec![0; bytes]),
        reply: Reply::One(oneshot::channel().0),
    }
}

fn message(bytes: usize) -> Input<Reply> {
    Input::Peer(Envelope {
        cluster: ClusterId(1),
        from: ServerId(2),
        to: ServerId(1),
        message: Message::TimeoutNow(TimeoutNow {
            term: Term(1),
            last: LogId::default(),
            sent: Time(0),
        }),
        batch: Bytes::from(vec![0; bytes]),
        host: HostReport::default(),
    })
}

/// Submits until it is full; how many were taken, and of what it is full.
fn fill(handle: &Handle, bytes: usize) -> (usize, &'static str) {
    for taken in 0..1000 {
        match handle.submit(write(bytes)) {
            Ok(()) => {}
            Err(Failure::Refused(Refusal::QueueFull { what, .. })) => return (taken, what),
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("never full");
}

fn take_all(handle: &Handle, taken: &mut mpsc::Receiver<Input<Reply>>) -> usize {
    let inputs: Vec<_> = std::iter::from_fn(|| taken.try_recv().ok()).collect();
    handle.taken(&inputs);
    inputs.len()
}

#[test]
fn requests_that_wait_are_bounded_in_count_and_leave_room_for_peers() {
    let (handle, mut taken) = handle(Limits {
        requests_max: 16,
        ..Limits::default()
    });
    assert_eq!(fill(&handle, 10), (14, "request queue"));
    let sent = |bytes| handle.submit_from_peer(message(bytes)).now_or_never();
    assert_eq!(
        (sent(10), sent(10), sent(10)),
        (Some(true), Some(true), None)
    );
    assert_eq!(take_all(&handle, &mut taken), 16);
    assert_eq!(fill(&handle, 10), (14, "request queue"));
}

#[test]
fn requests_that_wait_are_bounded_in_bytes_and_leave_room_for_peers() {
    let (handle, mut taken) = handle(Limits {
        requests_bytes_max: 8000,
        ..Limits::default()
    });
    assert_eq!(fill(&handle, 1000), (7, "request queue in bytes"));
    handle
        .submit(write(0))
        .expect("what carries nothing takes no room");
    let sent = |bytes| handle.submit_from_peer(message(bytes)).now_or_never();
    assert_eq!((sent(1000), sent(1)), (Some(true), None));
    assert_eq!(take_all(&handle, &mut taken), 9);
    assert_eq!(fill(&handle, 1000), (7, "request queue in bytes"));
    take_all(&handle, &mut taken);
    // A peer that waited gave back what it held: all of the room is there.
    assert_eq!(
        sent(9000),
        Some(true),
        "one larger than all of it goes alone"
    );
    assert_eq!(sent(1), None);
    take_all(&handle, &mut taken);
    assert_eq!(fill(&handle, 1000), (7, "request queue in bytes"));
}
