//! The commands of a script. Servers are named by their numbers.
//!
//! ```text
//! start 1 2 3 [min_majority=2]   fresh servers          bootstrap 1 2 3      all know each other
//! timeout 1        time passes until 1 is due           advance 100          milliseconds, for all
//! deliver [1 2]    the first message (from 1 to 2)      settle               all messages
//! run 1000         milliseconds, with all that is said
//! drop 1 2         messages from 1 to 2                 cut 1 2 / heal       both ways / all
//! crash 1          its memory is gone                   gone 2 1             2 sees 1's process gone
//! broken 2 1       2's connection to 1 broke            elect 1              trigger and settle
//! propose 1        a command                            read 1 7             read number 7
//! trigger 1        campaign at once                     transfer 1 [2]       hand over
//! change 1 [add 4 join|stay|replace 3]... [remove 2]... [seen 5]
//! state            all servers                          quietly COMMAND      without its output
//! ```

use std::time::Duration;

use kontiki_raft::{ChangeRequest, Configuration, Index, Purpose, Raft, ReadId, Refused, ServerId};

use crate::world::World;

pub fn run(world: &mut World, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["quietly", ..] => {
            run(world, command.trim_start_matches("quietly").trim());
            world.take_events();
        }
        ["start", ..] => start(world, &words[1..]),
        ["bootstrap", ..] => {
            let voters: Vec<ServerId> = words[1..].iter().map(|word| server(word)).collect();
            for id in &voters {
                let configuration = Configuration::of(voters.iter().copied());
                world.turn(*id, |raft, now| {
                    assert!(raft.bootstrap(now, configuration), "bootstraps once");
                    None
                });
            }
        }
        ["timeout", id] => world.time_out(server(id)),
        ["elect", id] => {
            ask(world, id, |raft, now| raft.trigger_election(now));
            world.settle();
        }
        ["run", milliseconds] => {
            for _ in 0..number(milliseconds) / 50 {
                world.advance(Duration::from_millis(50));
                world.settle();
            }
        }
        ["advance", milliseconds] => world.advance(Duration::from_millis(number(milliseconds))),
        ["deliver"] => deliver(world, None),
        ["deliver", from, to] => deliver(world, Some((server(from), server(to)))),
        ["settle"] => world.settle(),
        ["drop", from, to] => {
            let count = world.drop_letters(server(from), server(to));
            world.say(format!("dropped {count}"));
        }
        ["cut", a, b] => {
            world.cut(server(a), server(b));
            world.cut(server(b), server(a));
        }
        ["heal"] => world.heal(),
        ["crash", id] => world.crash(server(id)),
        ["gone", id, peer] => lose(world, server(id), server(peer), true),
        ["broken", id, peer] => lose(world, server(id), server(peer), false),
        ["propose", id] => world.propose(server(id)),
        ["read", id, read] => {
            let read = ReadId(number(read));
            ask(world, id, |raft, now| raft.read(now, read));
        }
        ["trigger", id] => ask(world, id, |raft, now| raft.trigger_election(now)),
        ["transfer", id] => ask(world, id, |raft, now| raft.transfer(now, None)),
        ["transfer", id, to] => ask(world, id, |raft, now| raft.transfer(now, Some(server(to)))),
        ["change", id, ..] => {
            let request = change(&words[2..]);
            ask(world, id, |raft, now| raft.change(now, &request));
        }
        ["state"] => {
            let states: Vec<String> = world.servers.values().map(|it| it.describe()).collect();
            states.into_iter().for_each(|state| world.say(state));
        }
        _ => panic!("no such command: {command}"),
    }
}

fn number(word: &str) -> u64 {
    word.parse()
        .unwrap_or_else(|_| panic!("{word} is no number"))
}

fn server(word: &str) -> ServerId {
    ServerId(number(word))
}

fn start(world: &mut World, words: &[&str]) {
    let min_majority = words
        .iter()
        .find_map(|word| word.strip_prefix("min_majority="));
    for word in words.iter().filter(|word| !word.contains('=')) {
        world.start(
            server(word),
            min_majority.map_or(1, |word| number(word) as usize),
        );
    }
}

fn deliver(world: &mut World, way: Option<(ServerId, ServerId)>) {
    if !world.deliver(way) {
        world.say("nothing on its way");
    }
}

fn lose(world: &mut World, id: ServerId, peer: ServerId, is_gone: bool) {
    world.turn(id, |raft, now| {
        raft.disconnected(now, peer, is_gone);
        None
    });
}

fn ask(
    world: &mut World,
    id: &str,
    call: impl FnOnce(&mut Raft, kontiki_raft::Time) -> Result<(), Refused>,
) {
    world.turn(server(id), |raft, now| {
        call(raft, now)
            .err()
            .map(|refused| format!("{id}: refused, {refused:?}"))
    });
}

fn change(words: &[&str]) -> ChangeRequest {
    let mut request = ChangeRequest::default();
    let mut rest = words;
    while !rest.is_empty() {
        rest = match rest {
            ["add", id, "join", rest @ ..] => {
                request.add.push((server(id), Purpose::Join));
                rest
            }
            ["add", id, "stay", rest @ ..] => {
                request.add.push((server(id), Purpose::Stay));
                rest
            }
            ["add", id, "replace", lost, rest @ ..] => {
                request
                    .add
                    .push((server(id), Purpose::Replace(server(lost))));
                rest
            }
            ["remove", id, rest @ ..] => {
                request.remove.push(server(id));
                rest
            }
            ["seen", index, rest @ ..] => {
                request.seen = Some(Index(number(index)));
                rest
            }
            _ => panic!("no such change: {rest:?}"),
        };
    }
    request
}
