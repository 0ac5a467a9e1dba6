//! A real driver, and everything else made of bytes: members that say anything, connections, time,
//! requests. It must not panic, must answer everyone once, and must stay within its bounds.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{
    AppendAck, AppendOutcome, BeatAck, ChangeRequest, HeartbeatAck, Index, Message, SnapshotAck,
    SnapshotOutcome, Time, VoteReply,
};

use super::fields::Fields;
use super::heap;
use super::members::{CLUSTER, ME, Speaker, VOTERS};
use crate::config::MachineKind;
use crate::driver::{
    CheckpointConfig, Driver, DriverConfig, Envelope, HostReport, Input, Loss, Output, ReadMode,
    SessionBounds, SnapshotSettings, Until,
};
use crate::host::{Host, Job, SessionId};
use crate::machine::StateMachine;

mod threaded;

/// Steps of one input, repeated ones among them; the rest is not looked at.
const STEPS_MAX: usize = 4000;
/// Inputs of one turn.
const INPUTS_MAX: usize = 16;

// Bounds of the server, small enough for an input to reach them.
const TAIL_BYTES: usize = 1 << 10;
const KEPT_BYTES_MAX: usize = 4 << 10;
const UNCOMMITTED_BYTES_MAX: usize = 4 << 10;
const UNAPPLIED_BYTES_MAX: usize = 4 << 10;
const SNAPSHOT_BYTES_MAX: u64 = 4 << 10;
const WRITES_MAX: usize = 8;
const READS_MAX: usize = 8;
/// Changes that wait, and transfers, are bounded by 64 each, in `driver::requests`.
const CHANGES_MAX: usize = 2 * 64;

/// Everyone who waits.
const WAITING_MAX: usize = WRITES_MAX + 2 * READS_MAX + CHANGES_MAX + crate::host::JOBS_MAX;
/// Encoded bytes of the log: what is kept for others and what is not committed, twice, since a batch
/// is taken whole; and what is not applied yet, likewise.
const LOG_BYTES_MAX: usize =
    KEPT_BYTES_MAX + 2 * (UNCOMMITTED_BYTES_MAX + UNAPPLIED_BYTES_MAX) + 3 * BATCH_BYTES_MAX;
/// The largest batch that `members` makes.
const BATCH_BYTES_MAX: usize = 64 << 10;
/// What all of a server may take, but for its log and the sessions, which are state: little more than
/// it takes at rest, so that a few bytes for each of a thousand messages are too many.
const HEAP_BYTES_MAX: usize = 64 << 10;
/// And for every encoded byte of the log: an entry of 25 is an offset, an end and a term beside it.
const HEAP_PER_LOG_BYTE_MAX: usize = 4;
/// And for every byte that sessions are accounted with.
const HEAP_PER_SESSION_BYTE_MAX: usize = 4;
/// What a turn says for every input it takes, at most: an answer to each server there can be.
const OUTPUTS_MAX: usize = 4096;

/// What a step is, by its first byte; others are nothing. With [`step::MORE`] the next step is taken
/// in the same turn.
pub(super) mod step {
    pub(in crate::fuzz) const SAY: u8 = 0;
    pub(in crate::fuzz) const TIME: u8 = 1;
    pub(in crate::fuzz) const ECHO: u8 = 2;
    pub(in crate::fuzz) const CONNECTED: u8 = 3;
    pub(in crate::fuzz) const DISCONNECTED: u8 = 4;
    pub(in crate::fuzz) const SNAPSHOTS_CONNECTED: u8 = 5;
    pub(in crate::fuzz) const WRITE: u8 = 6;
    pub(in crate::fuzz) const WRITE_IN_SESSION: u8 = 7;
    pub(in crate::fuzz) const OPEN_SESSION: u8 = 8;
    pub(in crate::fuzz) const CLOSE_SESSION: u8 = 9;
    pub(in crate::fuzz) const READ: u8 = 10;
    pub(in crate::fuzz) const BOOTSTRAP: u8 = 11;
    pub(in crate::fuzz) const ACTIVATE: u8 = 12;
    pub(in crate::fuzz) const CHANGE: u8 = 13;
    pub(in crate::fuzz) const TRANSFER: u8 = 14;
    pub(in crate::fuzz) const TRIGGER: u8 = 15;
    pub(in crate::fuzz) const INSPECT: u8 = 16;
    pub(in crate::fuzz) const RUNS: u8 = 17;
    pub(in crate::fuzz) const JOBS: u8 = 18;
    pub(in crate::fuzz) const REPEAT: u8 = 19;
    pub(in crate::fuzz) const MORE: u8 = 128;
}

pub(super) fn run(data: &[u8]) {
    drop(ran(data));
}

fn ran(data: &[u8]) -> World {
    let before = heap::live();
    let mut fields = Fields::new(data);
    let mut world = World::new(fields.byte(), before);
    let mut last = fields.clone();
    let (mut steps, mut repeats) = (0, 0);
    while !fields.is_over() && steps < STEPS_MAX {
        steps += 1;
        let here = fields.clone();
        let op = fields.byte();
        if op == step::REPEAT {
            for _ in 0..fields.byte() {
                steps += 1;
                repeats += 1;
                let mut again = last.clone();
                let op = again.byte();
                world.step(op, &mut again, repeats);
            }
            continue;
        }
        (last, repeats) = (here, 0);
        world.step(op, &mut fields, 0);
    }
    world
}

/// The driver, and what it waits for.
struct World {
    driver: Driver<u64>,
    /// The host on its thread, if the machine wants one, with its jobs.
    host: Option<Host>,
    jobs: VecDeque<Job<u64>>,
    /// The host that restores a snapshot.
    away: Option<(Box<Host>, Job<u64>)>,
    now: Time,
    inputs: Vec<Input<u64>>,
    /// What was sent in the last turn.
    sent: Vec<Envelope>,
    asked: u64,
    waiting: BTreeSet<u64>,
    heap_before: isize,
}

impl World {
    /// Bit 0 of `kind`: the machine lives on a thread. Bit 1: the server is a joiner.
    fn new(kind: u8, heap_before: isize) -> Self {
        let machine: Box<dyn StateMachine> = match kind & 1 {
            0 => MachineKind::Counter.build(),
            _ => Box::new(threaded::Threaded(MachineKind::Counter.build())),
        };
        let raft = kontiki_raft::Config {
            log_tail_bytes: TAIL_BYTES,
            log_kept_bytes_max: KEPT_BYTES_MAX,
            uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
            inherited_bytes_max: 2 * UNCOMMITTED_BYTES_MAX,
            reads_max: READS_MAX,
            ..kontiki_raft::Config::default()
        };
        let config = DriverConfig {
            raft,
            activate: false,
            pending_writes_max: WRITES_MAX,
            change_wait_max: Duration::from_secs(10),
            unapplied_bytes_max: UNAPPLIED_BYTES_MAX,
            state_bytes_max: None,
            command_bytes_max: 1 << 20,
            dirty_read: true,
            lease_reads: true,
            snapshots: SnapshotSettings {
                piece_bytes: 64,
                bytes_max: SNAPSHOT_BYTES_MAX,
                bytes_per_second: 0,
            },
            checkpoint: CheckpointConfig {
                entries_max: 4,
                interval: Duration::from_secs(1),
            },
            sessions: SessionBounds {
                ttl: Duration::from_secs(10),
                sessions_max: 4,
                window_max: 4,
                reply_bytes_max: 64,
                bytes_max: 4 << 10,
            },
        };
        let now = Time(0);
        let (driver, host) = Driver::new(ME, config, machine, now);
        let mut world = Self {
            driver,
            host,
            jobs: VecDeque::new(),
            away: None,
            now,
            inputs: Vec::new(),
            sent: Vec::new(),
            asked: 0,
            waiting: BTreeSet::new(),
            heap_before,
        };
        if kind & 2 == 0 {
            let reply = world.ask();
            world.inputs.push(Input::Bootstrap {
                cluster: CLUSTER,
                voters: VOTERS.into(),
                reply,
            });
            world.turn();
        }
        world
    }

    fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.waiting.insert(self.asked);
        self.asked
    }

    fn step(&mut self, op: u8, fields: &mut Fields<'_>, repeats: u64) {
        match op & !step::MORE {
            step::TIME => {
                let milliseconds = u64::from(fields.byte()) * 16;
                self.now = self.now + Duration::from_millis(milliseconds);
            }
            step::ECHO => self.echo(),
            step::JOBS => self.do_jobs(),
            other => {
                let status = self.driver.status();
                let mut speaker = Speaker {
                    fields,
                    status: &status,
                    repeats,
                };
                let input = self.input(other, &mut speaker);
                self.inputs.extend(input);
            }
        }
        if op & step::MORE == 0 || self.inputs.len() >= INPUTS_MAX {
            self.turn();
        }
    }

    fn input(&mut self, op: u8, speaker: &mut Speaker<'_, '_>) -> Option<Input<u64>> {
        Some(match op {
            step::SAY => Input::Peer(speaker.envelope()?),
            step::CONNECTED => Input::Connected(speaker.server()),
            step::SNAPSHOTS_CONNECTED => Input::SnapshotsConnected(speaker.server()),
            step::DISCONNECTED => {
                let loss = match speaker.fields.byte() & 1 {
                    0 => Loss::Broken,
                    _ => Loss::Gone,
                };
                Input::Disconnected(speaker.server(), loss)
            }
            step::WRITE => Input::Write {
                command: Bytes::copy_from_slice(speaker.fields.bytes()),
                reply: self.ask(),
            },
            step::WRITE_IN_SESSION => Input::WriteInSession {
                cluster: CLUSTER,
                stamp: speaker.stamp(),
                command: Bytes::copy_from_slice(speaker.fields.bytes()),
                reply: self.ask(),
            },
            step::OPEN_SESSION => Input::OpenSession { reply: self.ask() },
            step::CLOSE_SESSION => Input::CloseSession {
                cluster: CLUSTER,
                session: SessionId(speaker.index().0),
                reply: self.ask(),
            },
            step::READ => Input::Read {
                mode: read_mode(speaker.fields.byte()),
                forward: speaker.fields.byte() & 1 != 0,
                query: Bytes::copy_from_slice(speaker.fields.bytes()),
                reply: self.ask(),
            },
            step::BOOTSTRAP => Input::Bootstrap {
                cluster: CLUSTER,
                voters: speaker.servers(),
                reply: self.ask(),
            },
            step::ACTIVATE => Input::Activate { reply: self.ask() },
            step::CHANGE => {
                let add = speaker.servers().into_iter();
                let add = add.map(|server| (server, speaker.purpose())).collect();
                let remove = speaker.servers();
                let seen = match speaker.fields.byte() & 1 {
                    0 => None,
                    _ => Some(speaker.index()),
                };
                let until = match speaker.fields.byte() & 1 {
                    0 => Until::Committed,
                    _ => Until::Effective,
                };
                Input::Change {
                    change: ChangeRequest { add, remove, seen },
                    until,
                    reply: self.ask(),
                }
            }
            step::TRANSFER => {
                let target = speaker.server();
                Input::Transfer {
                    target: (target.0 != 0).then_some(target),
                    reply: self.ask(),
                }
            }
            step::TRIGGER => Input::TriggerElection { reply: self.ask() },
            step::INSPECT => Input::Inspect {
                first: speaker.index(),
                payload_bytes_max: speaker.fields.byte().into(),
                reply: self.ask(),
            },
            step::RUNS => {
                let server = speaker.server();
                let low = speaker.fields.number(&[1]) as u32;
                let high = speaker.fields.number(&[1]) as u32;
                let versions = low.max(1)..=high.max(low).max(1);
                Input::Runs { server, versions }
            }
            _ => return None,
        })
    }

    /// The members do what was asked of them in the last turn.
    fn echo(&mut self) {
        let digest = self.driver.status().digest;
        for sent in std::mem::take(&mut self.sent) {
            let message = match sent.message {
                Message::Vote(vote) => Message::VoteReply(VoteReply {
                    term: vote.term,
                    granted: true,
                    pre: vote.pre,
                }),
                Message::Append(append) => Message::AppendAck(AppendAck {
                    term: append.term,
                    outcome: AppendOutcome::Accepted(append.last),
                }),
                Message::Heartbeat(heartbeat) => Message::HeartbeatAck(HeartbeatAck {
                    term: heartbeat.term,
                    round: heartbeat.round,
                    beat: heartbeat.beat.map(|beat| BeatAck {
                        sent: beat.sent,
                        at: beat.sent,
                        promise: beat.lease,
                    }),
                }),
                Message::SnapshotChunk(chunk) => {
                    let bytes = sent.batch.len() as u64;
                    Message::SnapshotAck(SnapshotAck {
                        term: chunk.term,
                        id: chunk.id,
                        outcome: SnapshotOutcome::Received(chunk.offset.saturating_add(bytes)),
                    })
                }
                _ => continue,
            };
            self.inputs.push(Input::Peer(Envelope {
                cluster: sent.cluster,
                from: sent.to,
                to: sent.from,
                message,
                batch: Bytes::new(),
                host: HostReport {
                    versions: Some(1..=1),
                    digest,
                    is_quarantined: false,
                    ..HostReport::default()
                },
            }));
        }
    }

    /// The host does what it has to do.
    fn do_jobs(&mut self) {
        if let Some((mut host, job)) = self.away.take() {
            let done = host.run(job);
            self.inputs.push(Input::Back(host, done));
        }
        if let Some(host) = &mut self.host {
            let done = self.jobs.drain(..).map(|job| host.run(job));
            self.inputs.extend(done.map(Input::Done));
        }
    }

    fn turn(&mut self) {
        let mut outputs = Vec::new();
        self.sent.clear();
        self.driver.turn(self.now, &mut self.inputs, &mut outputs);
        assert!(outputs.len() <= OUTPUTS_MAX, "{} outputs", outputs.len());
        for output in outputs {
            match output {
                Output::Send(envelope) => self.sent.push(envelope),
                Output::Reply(id, _) => {
                    assert!(self.waiting.remove(&id), "request {id} is answered twice");
                }
                Output::Job(job) => self.jobs.push_back(job),
                Output::Away(host, job) => {
                    assert!(self.away.is_none(), "one snapshot at a time");
                    self.away = Some((host, job));
                }
                Output::Standing(_) | Output::Effect(_) | Output::Discard(_) => {}
            }
        }
        self.check();
    }

    fn check(&self) {
        let status = self.driver.status();
        // Whoever restored what its log contradicts is quarantined with it.
        let may_be_ahead =
            self.away.is_some() || self.host.is_some() || status.quarantine.is_some();
        assert!(status.applied <= status.commit || may_be_ahead);
        assert!(status.commit <= status.last.index);
        assert!(status.first <= Index(status.last.index.0 + 1));
        let bytes = status.log_bytes;
        assert!(bytes <= LOG_BYTES_MAX, "{bytes} bytes of log");
        let receiving = status.receiving.unwrap_or(0);
        assert!(
            receiving <= SNAPSHOT_BYTES_MAX,
            "{receiving} bytes of a snapshot"
        );
        let waiting = self.waiting.len();
        assert!(waiting <= WAITING_MAX, "{waiting} wait");
        assert!(
            self.jobs.len() <= crate::host::JOBS_MAX,
            "{} jobs",
            self.jobs.len()
        );
        let heap = (heap::live() - self.heap_before).max(0) as usize;
        let max = HEAP_BYTES_MAX
            + HEAP_PER_LOG_BYTE_MAX * bytes
            + HEAP_PER_SESSION_BYTE_MAX * status.sessions.bytes;
        assert!(heap <= max, "{heap} bytes of memory, {max} are allowed");
    }
}

fn read_mode(byte: u8) -> ReadMode {
    match byte % 4 {
        0 => ReadMode::Linearizable,
        1 => ReadMode::Stale,
        2 => ReadMode::Leased,
        _ => ReadMode::Bounded(Duration::from_secs(1)),
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::Role;

    use super::super::seeds;
    use super::*;

    /// The server after the seed of that name.
    fn after(name: &str) -> World {
        let seeds = seeds::driver();
        let seed = seeds.iter().find(|(numbered, _)| numbered[3..] == *name);
        ran(&seed.expect("a seed").1)
    }

    #[test]
    fn seeds_come_to_what_they_are_called() {
        let voted = after("vote").sent.into_iter().any(|sent| {
            let granted = |reply: &VoteReply| reply.granted;
            matches!(&sent.message, Message::VoteReply(reply) if granted(reply))
        });
        let told_index = |name| {
            let sent = after(name).sent.into_iter();
            let indexes = sent.filter_map(|sent| match sent.message {
                Message::ReadIndexReply(reply) => reply.index,
                _ => None,
            });
            indexes.count() == 1
        };
        let nobody_waits = |name| after(name).waiting.is_empty();
        let status = |name| after(name).driver.status();
        let restored = |name| after(name).driver.counters().snapshots_restored == 1;
        let led =
            |name| status(name).standing.role == Role::Leader && status(name).applied > Index(4);
        let voters = status("configured").configuration.configuration.voters;
        let changed = status("change").configuration.configuration;
        let came = [
            ("vote", voted),
            ("entries", status("entries").last.index == Index(4)),
            ("configured", voters.len() == 4),
            ("snapshot", restored("snapshot")),
            ("snapshot-in-two", restored("snapshot-in-two")),
            ("write", led("write")),
            ("threaded", led("threaded")),
            ("many-writes", led("many-writes")),
            ("session", status("session").sessions.open == 1),
            ("change", changed.contains(kontiki_raft::ServerId(4))),
            (
                "refused-by-a-crowd",
                status("refused-by-a-crowd").standing.role == Role::Candidate,
            ),
            ("versions", status("versions").applied > Index(1000)),
            ("read-index", told_index("read-index")),
            ("forwarded-read", nobody_waits("forwarded-read")),
            ("forwarded-in-vain", nobody_waits("forwarded-in-vain")),
            ("lease", nobody_waits("lease")),
            ("tail", status("tail").log_bytes > 2 * UNCOMMITTED_BYTES_MAX),
        ];
        let others: Vec<_> = came.iter().filter(|(_, came)| !came).collect();
        assert!(others.is_empty(), "{others:?}");
    }
}
