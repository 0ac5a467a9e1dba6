//! Sessions of another cluster: their ids are the same small numbers.

use bytes::Bytes;
use kontiki_raft::{ClusterId, ServerId};

use super::world::World;
use crate::driver::*;
use crate::host::{SessionId, Stamp};

/// The cluster of [`World`], and one that was lost before it.
const PRESENT: ClusterId = ClusterId(7);
const FORMER: ClusterId = ClusterId(6);

/// A write in a session, at this server.
fn write(
    world: &mut World,
    server: ServerId,
    cluster: ClusterId,
    (session, sequence, acknowledged): (SessionId, u64, u64),
) -> Result<Answer, Refusal> {
    let stamp = Stamp {
        session,
        sequence,
        acknowledged,
    };
    let command = Bytes::from_static(b"x");
    let id = world.ask(server, |reply| Input::WriteInSession {
        command,
        cluster,
        stamp,
        reply,
    });
    world.answer(id)
}

fn count(world: &World, server: ServerId) -> u64 {
    *world.servers[&server].count.lock().expect("unpoisoned")
}

#[test]
fn h1_a_write_of_a_former_cluster_takes_no_place_in_a_session_of_the_present_one() {
    let mut world = World::of(&[1..=1, 1..=1]);
    world.activate().expect("activated");
    let leader = world.lead();
    let id = world.ask(leader, |reply| Input::OpenSession { reply });
    let Ok(Answer::SessionOpened { cluster, session }) = world.answer(id) else {
        panic!("not opened");
    };
    assert_eq!(cluster, PRESENT);
    let place = |sequence, acknowledged| (session, sequence, acknowledged);
    for sequence in [1, 2] {
        write(&mut world, leader, PRESENT, place(sequence, 0)).expect("applied");
    }
    let last = world.status(leader.0).last;

    // A client of the former cluster had a session with the same id, and never heard of the loss.
    let refused = Err(Refusal::SessionOf {
        session,
        theirs: FORMER,
        mine: PRESENT,
    });
    for (sequence, acknowledged) in [(3, 2), (3, 0), (501, 500)] {
        let answer = write(&mut world, leader, FORMER, place(sequence, acknowledged));
        assert_eq!(answer, refused);
    }
    let id = world.ask(leader, |reply| Input::CloseSession {
        cluster: FORMER,
        session,
        reply,
    });
    assert_eq!(world.answer(id), refused);
    assert_eq!(count(&world, leader), 2);
    assert_eq!(
        world.status(leader.0).last,
        last,
        "nothing came into the log"
    );

    // The client whose session it is goes on: its third write is applied, and answered as its own.
    let third = write(&mut world, leader, PRESENT, place(3, 2)).expect("applied");
    let Answer::Written { id, .. } = &third else {
        panic!("{third:?}");
    };
    assert!(id.index > last.index, "{id} was there before");
    assert_eq!(count(&world, leader), 3);
    assert_eq!(write(&mut world, leader, PRESENT, place(3, 2)), Ok(third));
    assert_eq!(count(&world, leader), 3);

    // Who does not lead does not judge: it may be the one that is left over from a former cluster.
    let follower = ServerId(3 - leader.0);
    let answer = write(&mut world, follower, FORMER, place(4, 3));
    assert_eq!(answer, Err(Refusal::NotLeader(leader)));
}
