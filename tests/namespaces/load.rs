//! Clients that put, get, delete and compare-and-set a few keys while faults are made, each with one
//! call in flight; and the history of what they saw.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use kontiki_client::{Client, Options};
use kontiki_tests::linearizability::history::{
    Call, Key, Moment, Open, Recorder, Reply, Revisions, Value,
};
use kontiki_tests::linearizability::staleness::BoundedRead;
use kontiki_tests::rng::Rng;
use tokio::task::{JoinHandle, JoinSet};

use crate::caller::{Answer, Caller, Direct, Question, Silence};
use crate::cluster::{CLIENT_PORT, DEADLINE, eventually};
use crate::network;
use crate::reading::Reading;

/// Few, so that clients meet.
pub const KEYS: Key = 5;
/// Of either kind: with a session, and without.
const ROUTED: usize = 2;
/// Between two calls of a client.
const PAUSE_MILLISECONDS: (u64, u64) = (2, 12);
/// Between two gets of a hammer...
const HAMMER_PAUSE: Duration = Duration::from_millis(4);
/// ...which gives up after so many.
const HAMMER_MAX: u64 = 4000;

/// A call at one server is given up after this long; a write is unknown then.
const DIRECT_TIMEOUT: Duration = Duration::from_secs(4);
/// A write without a session is unknown after this long.
const ROUTED_TIMEOUT: Duration = Duration::from_secs(4);
/// In a session it is sent again for so long...
const SESSION_TIMEOUT: Duration = Duration::from_secs(20);
/// ...each time after this.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);

/// What the clients share.
#[derive(Debug)]
struct Shared {
    recorder: Recorder,
    /// The next value that nobody has written.
    value: AtomicU64,
    /// Writes that were done.
    acknowledged: AtomicU64,
    /// Reads that may be old have a rule of their own, so they are not in the history.
    bounded: Mutex<Vec<BoundedRead>>,
    /// Clients only read.
    is_quiet: AtomicBool,
    stopped: AtomicBool,
}

impl Shared {
    /// Shows a key, and takes down what came of it.
    async fn get(&self, caller: &mut Caller, name: &str, key: Key, reading: Reading) -> Answer {
        let name: Arc<str> = format!("{name} ({reading})").into();
        let question = Question::Get(reading);
        let Some(staleness) = reading.staleness() else {
            let open = self.recorder.call(&name, key, Call::Get);
            let answer = caller.ask(key, question).await;
            settle(self, open, Call::Get, answer);
            return answer;
        };
        let called = self.recorder.now();
        let answer = caller.ask(key, question).await;
        if let Ok((_, revisions)) = answer {
            let read = BoundedRead {
                client: name,
                called,
                allowed: u64::try_from(staleness.as_nanos()).expect("a short time"),
                revision: revisions.store,
            };
            self.bounded
                .lock()
                .expect("nobody panics with it")
                .push(read);
        }
        answer
    }
}

/// The clients, at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    endpoints: Vec<String>,
}

/// What a client last saw in a key: the value, and the revision that wrote it.
type Seen = Option<(Option<Value>, u64)>;

impl Load {
    /// Two clients with sessions and two without, who know of all hosts; and one at each of the
    /// servers, which are on the first hosts.
    pub fn start(servers: usize, hosts: usize, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            recorder: Recorder::begin(),
            value: AtomicU64::new(1),
            acknowledged: AtomicU64::new(0),
            bounded: Mutex::default(),
            is_quiet: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let endpoints = (0..hosts).map(client_address).collect();
        let mut load = Self {
            shared,
            clients: JoinSet::new(),
            endpoints,
        };
        for number in 0..ROUTED {
            load.employ(seed, format!("session {number}"), load.routed(true));
            load.employ(seed, format!("routed {number}"), load.routed(false));
        }
        for place in 0..servers {
            let direct = Direct::new(&client_address(place), DIRECT_TIMEOUT);
            let name = format!("at {}", network::host_name(place));
            load.employ(seed, name, Caller::Direct(Box::new(direct)));
        }
        load
    }

    fn routed(&self, sessions: bool) -> Caller {
        let options = Options {
            timeout: if sessions {
                SESSION_TIMEOUT
            } else {
                ROUTED_TIMEOUT
            },
            attempt_timeout: ATTEMPT_TIMEOUT,
            sessions,
            ..Options::default()
        };
        Caller::Routed(Client::with_options(&self.endpoints, options).expect("addresses"))
    }

    fn employ(&mut self, seed: u64, name: String, caller: Caller) {
        let mut stream = Rng::new(seed ^ ((self.clients.len() as u64 + 1) << 32));
        let worker = Worker {
            shared: Arc::clone(&self.shared),
            name: name.into(),
            caller,
            rng: Rng::new(stream.bits()),
            seen: [None; KEYS as usize],
        };
        self.clients.spawn(worker.work());
    }

    /// What has been recorded so far.
    pub fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    /// The answers so far that may be old.
    pub fn bounded_reads(&self) -> Vec<BoundedRead> {
        self.shared
            .bounded
            .lock()
            .expect("nobody panics with it")
            .clone()
    }

    /// From now on clients only read; or write again.
    pub fn set_quiet(&self, is_quiet: bool) {
        self.shared.is_quiet.store(is_quiet, Relaxed);
    }

    /// Waits until so many more writes are done: the store is in service.
    ///
    /// # Errors
    /// They are not, in time.
    pub async fn go_on(&self, writes: u64) -> Result<()> {
        let wanted = self.shared.acknowledged.load(Relaxed) + writes;
        eventually("writes go on", async || {
            Ok((self.shared.acknowledged.load(Relaxed) >= wanted).then_some(()))
        })
        .await
    }

    /// Asks this server, and no other, to show keys, so many times at once; they wait for as long as
    /// it takes. A server that stands still finds them when it goes on.
    pub fn burst(&self, place: usize, reading: Reading, gets: u64) -> Burst {
        let one = |number: u64| {
            let shared = Arc::clone(&self.shared);
            let direct = Direct::new(&client_address(place), DEADLINE);
            let name = format!("burst at {}", network::host_name(place));
            tokio::spawn(async move {
                let mut caller = Caller::Direct(Box::new(direct));
                let answer = shared.get(&mut caller, &name, key_of(number), reading);
                answer.await.is_ok()
            })
        };
        Burst((0..gets).map(one).collect())
    }

    /// Asks this server, and no other, to show keys, again and again, whether or not it has answered
    /// what it was asked before. It has been dialled when this returns.
    ///
    /// # Errors
    /// It cannot be dialled.
    pub async fn hammer(&self, place: usize, reading: Reading) -> Result<Hammer> {
        let shared = Arc::clone(&self.shared);
        let mut direct = Direct::new(&client_address(place), DIRECT_TIMEOUT);
        ensure!(direct.dial().await.is_some(), "{place} cannot be dialled");
        let name: Arc<str> = format!("hammer at {}", network::host_name(place)).into();
        let rests = Arc::new(AtomicBool::new(false));
        let told_to_rest = Arc::clone(&rests);
        let answered = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&answered);
        let task = tokio::spawn(async move {
            let mut asked = Vec::new();
            let mut gets = JoinSet::new();
            for number in 0..HAMMER_MAX {
                if told_to_rest.load(Relaxed) {
                    break;
                }
                let (shared, name) = (Arc::clone(&shared), Arc::clone(&name));
                let counted = Arc::clone(&counted);
                asked.push(shared.recorder.now());
                let mut caller = Caller::Direct(Box::new(direct.clone()));
                gets.spawn(async move {
                    let answer = shared.get(&mut caller, &name, key_of(number), reading);
                    counted.fetch_add(usize::from(answer.await.is_ok()), Relaxed);
                });
                tokio::time::sleep(HAMMER_PAUSE).await;
            }
            gets.join_all().await;
            let answered = counted.load(Relaxed);
            Hammered { asked, answered }
        });
        Ok(Hammer {
            rests,
            answered,
            task,
        })
    }

    /// Lets every client end what it does, and reads every key once more.
    ///
    /// # Errors
    /// A client panicked, or a key cannot be read.
    pub async fn stop(&mut self) -> Result<()> {
        self.shared.stopped.store(true, Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client?;
        }
        let mut caller = self.routed(false);
        for key in 1..=KEYS {
            let get = self
                .shared
                .get(&mut caller, "the last reader", key, Reading::Leader);
            ensure!(get.await.is_ok(), "key {key} cannot be read in the end");
        }
        Ok(())
    }
}

fn key_of(number: u64) -> Key {
    1 + (number % u64::from(KEYS)) as Key
}

/// Gets that come one after the other, at one server.
#[derive(Debug)]
pub struct Hammer {
    rests: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    task: JoinHandle<Hammered>,
}

/// What came of them.
#[derive(Debug)]
pub struct Hammered {
    /// When each was asked.
    pub asked: Vec<Moment>,
    pub answered: usize,
}

impl Hammer {
    /// Waits for the first answer.
    ///
    /// # Errors
    /// None comes.
    pub async fn is_answered(&self) -> Result<()> {
        eventually("the leader answers a get", async || {
            Ok((self.answered.load(Relaxed) > 0).then_some(()))
        })
        .await
    }

    /// Asks no more, and waits until each is answered or refused.
    ///
    /// # Errors
    /// One panicked.
    pub async fn rest(self) -> Result<Hammered> {
        self.rests.store(true, Relaxed);
        Ok(self.task.await?)
    }
}

fn client_address(place: usize) -> String {
    format!("{}:{CLIENT_PORT}", network::address(place))
}

/// Gets that are under way.
pub struct Burst(Vec<JoinHandle<bool>>);

impl Burst {
    /// Waits until each is answered or refused; how many were answered.
    ///
    /// # Errors
    /// One panicked.
    pub async fn ended(self) -> Result<usize> {
        let mut answered = 0;
        for get in self.0 {
            answered += usize::from(get.await?);
        }
        Ok(answered)
    }
}

/// Takes down how a call ended.
fn settle(shared: &Shared, open: Open, call: Call, answer: Answer) {
    match answer {
        Ok((reply, revisions)) => {
            shared.recorder.reply(open, reply, revisions);
            if matches!(reply, Reply::Done | Reply::Deleted(_)) {
                shared.acknowledged.fetch_add(1, Relaxed);
            }
        }
        Err(Silence::Failed) => shared.recorder.fail(open),
        // Without an answer a get says nothing.
        Err(Silence::Unknown) if !call.is_write() => shared.recorder.fail(open),
        Err(Silence::Unknown) => {}
    }
}

struct Worker {
    shared: Arc<Shared>,
    name: Arc<str>,
    caller: Caller,
    rng: Rng,
    seen: [Seen; KEYS as usize],
}

impl Worker {
    async fn work(mut self) {
        while !self.shared.stopped.load(Relaxed) {
            let key = self.rng.within(1, u64::from(KEYS)) as Key;
            let (call, question) = self.draw(key);
            let answer = match question {
                Question::Get(reading) => {
                    let shared = &self.shared;
                    shared.get(&mut self.caller, &self.name, key, reading).await
                }
                Question::Put { .. } | Question::Delete { .. } => {
                    let open = self.shared.recorder.call(&self.name, key, call);
                    let answer = self.caller.ask(key, question).await;
                    settle(&self.shared, open, call, answer);
                    answer
                }
            };
            self.seen[usize::from(key) - 1] = saw(call, answer);
            let (least, most) = PAUSE_MILLISECONDS;
            let pause = Duration::from_millis(self.rng.within(least, most));
            tokio::time::sleep(pause).await;
        }
    }

    fn draw(&mut self, key: Key) -> (Call, Question) {
        let seen = self.seen[usize::from(key) - 1];
        if self.shared.is_quiet.load(Relaxed) {
            return (Call::Get, Question::Get(Reading::draw(&mut self.rng)));
        }
        let value = self.shared.value.fetch_add(1, Relaxed);
        match (self.rng.below(100), seen) {
            (0..45, _) | (75.., None) => (Call::Get, Question::Get(Reading::draw(&mut self.rng))),
            (45..70, _) => {
                let question = Question::Put {
                    value,
                    if_mod_revision: None,
                };
                (Call::Put(value), question)
            }
            (70..75, _) => {
                let question = Question::Delete {
                    if_mod_revision: None,
                };
                (Call::Delete, question)
            }
            (75..79, Some((expected, revision))) => {
                let call = Call::CompareAndSet {
                    expected,
                    new: None,
                };
                let if_mod_revision = Some(revision);
                (call, Question::Delete { if_mod_revision })
            }
            (79.., Some((expected, revision))) => {
                let call = Call::CompareAndSet {
                    expected,
                    new: Some(value),
                };
                let question = Question::Put {
                    value,
                    if_mod_revision: Some(revision),
                };
                (call, question)
            }
        }
    }
}

/// What a client knows of the key after this answer.
fn saw(call: Call, answer: Answer) -> Seen {
    let (reply, Revisions { store, of_value }) = answer.ok()?;
    Some(match (reply, call.stores()) {
        (Reply::Got(value) | Reply::Mismatch(value), _) => (value, of_value),
        (Reply::Done, Some(value)) => (Some(value), store),
        (Reply::Done | Reply::Deleted(_), _) => (None, 0),
    })
}
