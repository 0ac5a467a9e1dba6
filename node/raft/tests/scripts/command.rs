//! The commands of a script. Servers are named by their numbers.
//!
//! ```text
//! start 1 2 3 [min_majority=2]   fresh servers, with settings of `Config` (see `set`)
//! bootstrap 1 2 3  all know each other
//! timeout 1        time passes until 1 is due           advance 100          milliseconds, for all
//! deliver [1 2]    the first message (from 1 to 2)      settle               all messages
//! run 1000         milliseconds, with all that is said
//! drop 1 2         messages from 1 to 2                 cut 1 2 / heal       both ways / all
//! block 1 2        from 1 to 2 only                     delay 1 2            the first from 1 to 2...
//! late 1 2         ... arrives now                      repeat 1 2           ... comes twice
//! crash 1          its memory is gone                   gone 2 1             2 sees 1's process gone
//! pause 1          stands still                         resume 1             and goes on
//! slow 1           writes take until `persist`          persist 1 [newest]   the oldest write is done
//! broken 2 1       2's connection to 1 broke            connected 2 1        it is up again
//! elect 1          trigger and settle
//! compact 1 5      1's log is compacted through 5
//! refusing 4 / hanging 4 / restoring 4   what 4's machine does with a snapshot
//! propose 1        a command                            read 1 7             read number 7
//! leases 1 2 3     all know that reads under a lease are on
//! leased 1 7       read number 7, by lease if there is one
//! through 2 7      read number 7 of a server that asks the leader
//! age 2            how old what it has committed is at most
//! hold 2           was started with durable state: holds its vote
//! trigger 1        campaign at once                     transfer 1 [2]       hand over
//! retire 1         it never leads again
//! change 1 [add 4 join|stay|replace 3]... [remove 2]... [seen 5]
//! state            all servers                          quietly COMMAND      without its output
//! ```

use std::time::Duration;

use kontiki_raft::{
    ChangeRequest, Config, Configuration, Index, Purpose, Raft, ReadId, Refused, ServerId,
};

use crate::world::{Restores, World};

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
                    let is_done = raft.bootstrap(now, configuration);
                    (!is_done).then(|| format!("{}: has a log, is not bootstrapped", id.0))
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
        ["block", from, to] => world.cut(server(from), server(to)),
        ["heal"] => world.heal(),
        ["delay", from, to] => world.delay(server(from), server(to)),
        ["late", from, to] => world.deliver_late(server(from), server(to)),
        ["repeat", from, to] => world.repeat(server(from), server(to)),
        ["pause", id] => world.pause(server(id)),
        ["resume", id] => world.resume(server(id)),
        ["slow", id] => world.slow(server(id)),
        ["persist", id] => world.persist(server(id), false),
        ["persist", id, "newest"] => world.persist(server(id), true),
        ["crash", id] => world.crash(server(id)),
        ["gone", id, peer] => lose(world, server(id), server(peer), true),
        ["broken", id, peer] => lose(world, server(id), server(peer), false),
        ["connected", id, peer] => world.turn(server(id), |raft, _| {
            raft.connected(server(peer));
            None
        }),
        ["propose", id] => world.propose(server(id)),
        ["read", id, read] => {
            let read = ReadId(number(read));
            ask(world, id, |raft, now| raft.read(now, read));
        }
        ["leases", ..] => {
            for id in &words[1..] {
                world.turn(server(id), |raft, _| {
                    raft.set_lease_reads(true);
                    None
                });
            }
        }
        ["leased", id, read] => {
            let read = ReadId(number(read));
            ask(world, id, |raft, now| raft.read_leased(now, read));
        }
        ["through", id, read] => {
            let read = ReadId(number(read));
            ask(world, id, |raft, now| raft.read_through_leader(now, read));
        }
        ["age", id] => world.turn(server(id), |raft, now| {
            Some(match raft.age(now) {
                Some((age, index)) => {
                    format!("{id}: at most {} ms old at {}", age.as_millis(), index.0)
                }
                None => format!("{id}: does not know how old it is"),
            })
        }),
        ["hold", id] => world.turn(server(id), |raft, now| {
            raft.hold_votes(now);
            None
        }),
        ["trigger", id] => ask(world, id, |raft, now| raft.trigger_election(now)),
        ["transfer", id] => ask(world, id, |raft, now| raft.transfer(now, None)),
        ["transfer", id, to] => ask(world, id, |raft, now| raft.transfer(now, Some(server(to)))),
        ["change", id, ..] => {
            let request = change(&words[2..]);
            ask(world, id, |raft, now| raft.change(now, &request));
        }
        ["retire", id] => world.turn(server(id), |raft, now| {
            raft.retire(now);
            None
        }),
        ["compact", id, through] => world.compact(server(id), Index(number(through))),
        ["refusing", id] => restores(world, server(id), Restores::Not),
        ["hanging", id] => restores(world, server(id), Restores::ForEver),
        ["restoring", id] => restores(world, server(id), Restores::Well),
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
    let mut config = Config {
        seed: 7,
        log_tail_entries_min: 1,
        ..Config::default()
    };
    for (name, value) in words.iter().filter_map(|word| word.split_once('=')) {
        set(&mut config, name, number(value) as usize);
    }
    for word in words.iter().filter(|word| !word.contains('=')) {
        let compacts = words.iter().any(|word| word.starts_with("log_tail_bytes="));
        world.start(server(word), config.clone());
        if let Some(server) = world.servers.get_mut(&server(word)) {
            server.compacts = compacts;
        }
    }
}

fn restores(world: &mut World, id: ServerId, how: Restores) {
    if let Some(server) = world.servers.get_mut(&id) {
        server.restores = how;
    }
}

fn set(config: &mut Config, name: &str, value: usize) {
    match name {
        "min_majority" => config.min_majority = value,
        "election_priority" => config.election_priority = value as u8,
        "uncommitted_bytes_max" => config.uncommitted_bytes_max = value,
        "inherited_bytes_max" => config.inherited_bytes_max = value,
        "catch_up_rounds_max" => config.catch_up_rounds_max = value as u32,
        "log_tail_bytes" => config.log_tail_bytes = value,
        "log_kept_bytes_max" => config.log_kept_bytes_max = value,
        "inflight_bytes_max" => config.inflight_bytes_max = value,
        "snapshots_max" => config.snapshots_max = value,
        "append_entries_max" => config.append_entries_max = value,
        _ => panic!("no such setting: {name}"),
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
