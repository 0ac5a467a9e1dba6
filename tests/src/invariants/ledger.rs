//! What has been seen of every server that ever was: the material that invariants judge.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use kontiki_node::driver::{Answer, Driver, Output, Refusal, Status, Until};
use kontiki_node::host::Stamp;
use kontiki_node::machine::StateMachine;
use kontiki_raft::{ChangeRequest, Index, LogId, Message, Role, ServerId, Term, Time};

use crate::register::Applied;
use crate::trace::hash_of;

/// The whole log of a server is compared with what was seen of it after this many of its turns;
/// after each turn only its end is.
const WHOLE_LOG_EVERY: u64 = 64;

/// An entry as a log holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: LogId,
    /// Hash of its payload.
    pub hash: u64,
}

/// A request, as the checker remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A write of a unique value; in a session, it may be asked for again.
    Write {
        key: u8,
        value: u64,
        stamp: Option<Stamp>,
    },
    /// A linearizable read.
    Read { key: u8 },
    /// A read of bounded staleness.
    Bounded { key: u8, limit: Duration },
    /// A stale read.
    Stale { key: u8 },
    /// A change of the configuration.
    Change { change: ChangeRequest, until: Until },
    /// A transfer of leadership, to anybody or to this server.
    Transfer { target: Option<ServerId> },
    /// Something else of the operator's.
    Administration,
}

/// One turn, as seen from outside.
pub struct Turn<'a> {
    /// Number of the turn in the run.
    pub step: u64,
    /// Time of the simulation.
    pub now: u64,
    /// Time as the clock of the server shows it.
    pub local: Time,
    /// What the clocks of the servers that live show now.
    pub clocks: &'a dyn Fn(ServerId) -> Option<Time>,
    /// Whose turn.
    pub server: ServerId,
    /// Raises its quorum.
    pub min_majority: usize,
    /// The driver, after it.
    pub driver: &'a Driver<u64>,
    /// Its status, after it.
    pub status: &'a Status,
    /// Requests that went in.
    pub asked: &'a [(u64, Asked)],
    /// Votes that went in, correctly addressed: voter and term.
    pub votes: &'a [(ServerId, Term)],
    /// Acknowledgements of anything that went in, correctly addressed: follower and its term.
    pub acknowledgements: &'a [(ServerId, Term)],
    /// Messages that went in and were meant for another server or cluster.
    pub misaddressed: u64,
    /// What came out.
    pub outputs: &'a [Output<u64>],
    /// Commands that were applied.
    pub applied: &'a [Applied],
    /// Its machine, and how far that has applied, which may be more than the driver has heard of;
    /// `None` while it is away.
    pub machine: Option<(Index, &'a dyn StateMachine)>,
    /// Entries whose effects were run since its last turn.
    pub ran: &'a [LogId],
    /// How it was before; of an earlier turn of the same server.
    pub before: Observed,
    /// Entries that were in its log before and are not any more.
    pub truncated: usize,
    /// Where entries were added, as positions in its log.
    pub appended: Range<usize>,
}

impl Turn<'_> {
    /// The answers that came out.
    pub fn replies(&self) -> impl Iterator<Item = (u64, &Result<Answer, Refusal>)> {
        self.outputs.iter().filter_map(|output| match output {
            Output::Reply(id, result) => Some((*id, result)),
            _ => None,
        })
    }

    /// Whether it leads after the turn.
    pub fn leads(&self) -> bool {
        self.status.standing.role == Role::Leader
    }

    /// Whether it led the same term before the turn.
    pub fn led(&self) -> bool {
        self.before.leads() && self.before.term == self.status.standing.term
    }

    /// Terms that the server led during the turn: also one that it won and lost again within it, which
    /// shows in what it sent.
    pub fn terms_led(&self) -> impl Iterator<Item = Term> {
        let sent = self.outputs.iter().filter_map(|output| match output {
            Output::Send(envelope) => match &envelope.message {
                Message::Append(append) => Some(append.term),
                Message::Heartbeat(heartbeat) => Some(heartbeat.term),
                _ => None,
            },
            _ => None,
        });
        let leads = self.leads().then_some(self.status.standing.term);
        leads.into_iter().chain(sent)
    }
}

/// How a server was when it was last seen.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Its status; `None` before its first turn.
    pub status: Option<Status>,
    /// Its term.
    pub term: Term,
    /// Its commit index.
    pub commit: Index,
    /// Its applied index.
    pub applied: Index,
    /// Length of its log.
    pub len: usize,
    /// Messages that it has dropped as meant for others.
    pub dropped: u64,
}

impl Observed {
    /// Whether it led.
    pub fn leads(&self) -> bool {
        let role = self.status.as_ref().map(|status| status.standing.role);
        role == Some(Role::Leader)
    }
}

/// A server that is or was.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its log, entry 1 first, as far as it was ever seen or is covered by a snapshot; kept when it
    /// is compacted, and when its process is gone.
    pub log: Vec<Entry>,
    /// How it was last.
    pub last: Observed,
    /// Its process is gone, and its memory with it.
    pub lost: bool,
    turns: u64,
}

impl Seen {
    /// Whether its log holds, or held at its end, this entry.
    pub fn holds(&self, id: LogId) -> bool {
        let position = (id.index.0 as usize).checked_sub(1);
        let entry = position.and_then(|position| self.log.get(position));
        entry.is_some_and(|entry| entry.id == id)
    }
}

/// An entry that some server counted as committed.
#[derive(Clone, Copy, Debug)]
pub struct CommittedEntry {
    /// The entry.
    pub entry: Entry,
    /// Term of the server that first did.
    pub by: Term,
}

/// All that was seen.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Every server that ever took a turn.
    pub servers: BTreeMap<ServerId, Seen>,
    /// What is committed, entry 1 first.
    pub committed: Vec<CommittedEntry>,
    /// Every command that some server applied, by index.
    pub applied: BTreeMap<Index, Applied>,
    /// Who was seen to lead each term.
    pub leaders: BTreeMap<Term, ServerId>,
    /// Servers whose memory was changed: what their machines answer is not judged.
    pub rotted: BTreeSet<ServerId>,
    /// Servers whose machines panicked, or will.
    pub panicked: BTreeSet<ServerId>,
    /// Servers whose clocks broke their contract, as long as that is felt: when they do what is not
    /// judged.
    pub odd_clocks: BTreeSet<ServerId>,
    /// Some clock has jumped, or gone too fast: what leaders say of time is not judged any more.
    pub clocks_are_wild: bool,
    /// Survivors of a total loss that were told to stop.
    pub told_to_stop: BTreeSet<ServerId>,
    /// Requests that wait for their answer, and where.
    pub open: BTreeMap<u64, (ServerId, Asked, u64)>,
}

impl Ledger {
    /// Brings the seen log of the server up to date and fills in what of `turn` follows from it.
    pub fn observe(&mut self, turn: &mut Turn<'_>) -> Result<(), String> {
        for (id, asked) in turn.asked {
            self.open
                .insert(*id, (turn.server, asked.clone(), turn.now));
        }
        for term in turn.terms_led() {
            self.leaders.entry(term).or_insert(turn.server);
        }
        let seen = self.servers.entry(turn.server).or_default();
        seen.turns += 1;
        turn.before = seen.last.clone();
        let base = turn.status.first.0 as usize - 1;
        let last = turn.status.last.index.0 as usize;
        let length = seen.log.len();
        let mut kept = length;
        if let Some(at) = covered_by_snapshot(seen, &self.committed, turn.driver, base)? {
            kept = at;
        }
        let common = common_prefix(&seen.log, turn.driver, base, last, seen.turns)?;
        turn.truncated = length - common.min(kept);
        seen.log.truncate(common);
        turn.appended = common.min(kept)..last;
        for position in common..last {
            seen.log.push(entry_at(turn.driver, position)?);
        }
        let end = seen.log.last().map(|entry| entry.id).unwrap_or_default();
        if end != turn.status.last {
            let shown = turn.status.last;
            return Err(format!(
                "the log ends with {end} and the status says {shown}"
            ));
        }
        let counters = turn.driver.counters();
        seen.last = Observed {
            status: Some(turn.status.clone()),
            term: turn.status.standing.term,
            commit: turn.status.commit,
            applied: turn.status.applied,
            len: last,
            dropped: counters.dropped_wrong_cluster + counters.dropped_wrong_server,
        };
        Ok(())
    }

    /// Keeps what a checked turn proved: what is committed and applied, and what was answered.
    pub fn settle(&mut self, turn: &Turn<'_>) {
        let log = &self.servers[&turn.server].log;
        let by = turn.status.standing.term;
        let fresh = self.committed.len()..(turn.status.commit.0 as usize).min(log.len());
        for position in fresh {
            let entry = log[position];
            self.committed.push(CommittedEntry { entry, by });
        }
        for applied in turn.applied {
            if !self.rotted.contains(&turn.server) {
                self.applied.insert(applied.id.index, *applied);
            }
        }
        for (id, _) in turn.replies() {
            self.open.remove(&id);
        }
    }

    /// The process of a server is gone.
    pub fn lose(&mut self, server: ServerId) {
        if let Some(seen) = self.servers.get_mut(&server) {
            seen.lost = true;
        }
        self.open.retain(|_, (at, _, _)| *at != server);
    }

    /// The log of a server that has taken a turn.
    pub fn log(&self, server: ServerId) -> &[Entry] {
        &self.servers[&server].log
    }

    /// Whether any of these requests still waits.
    pub fn oldest_open(&self) -> Option<u64> {
        self.open.values().map(|(_, _, since)| *since).min()
    }
}

fn entry_at(driver: &Driver<u64>, position: usize) -> Result<Entry, String> {
    let index = Index(position as u64 + 1);
    let (id, payload) = driver
        .entry(index)
        .ok_or_else(|| format!("the log holds no entry {}", index.0))?;
    if id.index != index {
        return Err(format!("entry {} calls itself {id}", index.0));
    }
    Ok(Entry {
        id,
        hash: hash_of(payload),
    })
}

/// A log that begins after `base` without ever having been seen to hold that entry: a snapshot took its
/// place. It stands for what is committed up to there; anything else is a fault. Answers how much of
/// what was seen before is the same.
fn covered_by_snapshot(
    seen: &mut Seen,
    committed: &[CommittedEntry],
    driver: &Driver<u64>,
    base: usize,
) -> Result<Option<usize>, String> {
    let Some(position) = base.checked_sub(1) else {
        return Ok(None);
    };
    let id = driver.raft().id_at(Index(base as u64));
    let id = id.ok_or_else(|| format!("the log begins after {base} and does not know its term"))?;
    if seen.log.get(position).is_some_and(|entry| entry.id == id) {
        return Ok(None);
    }
    let covered = committed
        .get(..base)
        .filter(|covered| covered[position].entry.id == id);
    let covered =
        covered.ok_or_else(|| format!("a snapshot covers {id}, which is not committed"))?;
    let covered: Vec<Entry> = covered.iter().map(|committed| committed.entry).collect();
    let same = seen.log.iter().zip(&covered);
    let same = same.take_while(|(one, other)| one == other).count();
    seen.log = covered;
    Ok(Some(same))
}

/// Length of the common prefix of what was seen of a log and what it is, but for what is compacted.
/// Looks back from the end as far as names differ: that those before agree is what log matching says,
/// and what the look at the whole log confirms from time to time.
fn common_prefix(
    seen: &[Entry],
    driver: &Driver<u64>,
    base: usize,
    last: usize,
    turns: u64,
) -> Result<usize, String> {
    let mut common = seen.len().min(last);
    while common > base && entry_at(driver, common - 1)? != seen[common - 1] {
        common -= 1;
    }
    if turns.is_multiple_of(WHOLE_LOG_EVERY) {
        for (position, entry) in seen.iter().enumerate().take(common).skip(base) {
            let now = entry_at(driver, position)?;
            if now != *entry {
                return Err(format!("entry {} became {} in place", entry.id, now.id));
            }
        }
    }
    Ok(common)
}
