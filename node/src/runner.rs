//! The node thread: client requests, the driver and the streams between servers on one runtime of
//! one thread, so that no step of a write crosses a thread.

mod away;
mod tick;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use kontiki_proto::kv::kv_server::KvServer;
use kontiki_proto::raft::peer_server::PeerServer;
use kontiki_proto::v1::admin_server::AdminServer;
use kontiki_proto::v1::data_server::DataServer;
use kontiki_raft::{Index, Role, Term, Time};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep};

use crate::address_book::{AddressBook, ServerRef};
use crate::api::{AdminService, DataService, KvService, probes};
use crate::bootstrap::bootstrap;
use crate::clock;
use crate::config::Config;
use crate::driver::{Answer, Counters, Driver, Input, Output, Stage, Standing, Warning};
use crate::effects::EffectThread;
use crate::ending::Ending;
use crate::handle::{Failure, Handle, HandleParts, Reply};
use crate::host::{Done, Worker};
use crate::listen::{ClientPort, PeerPort, Serving, Transport, serve};
use crate::machine::{StateMachine, StopReason};
use crate::metrics::Metrics;
use crate::peer::{LinkEvent, Links, PeerService, message_bytes_max};
use crate::shutdown::hand_over;
use crate::watching::Watching;

use away::{go_away, next_done};

/// Inputs of one turn; the rest is the next turn's.
const TURN_INPUTS_MAX: usize = 8192;
/// Events of streams that wait for a turn.
const LINK_EVENTS_MAX: usize = 1024;
/// How often metrics, readiness and connections are looked after.
const TICK: Duration = Duration::from_millis(100);
/// Room around a command in a request.
const REQUEST_ROOM: usize = 64 << 10;
/// How long connections may take to finish what is in flight when the node stops.
const DRAIN: Duration = Duration::from_secs(1);

/// What a node is made of.
pub struct NodeParts {
    /// Settings.
    pub config: Config,
    /// What is replicated.
    pub machine: Box<dyn StateMachine>,
    /// This incarnation and its addresses.
    pub me: ServerRef,
    /// Listens for servers and operators.
    pub peer: TcpListener,
    /// Listens for clients, if there are any.
    pub client: Option<TcpListener>,
    /// An embedded server bootstraps and activates itself; a daemon waits for its operator.
    pub embedded: Option<Vec<(String, String)>>,
}

/// A node that runs on a thread of its own. Dropped, it ends at once.
#[derive(Debug)]
pub struct Node {
    handle: Handle,
    /// Of its thread.
    runtime: tokio::runtime::Handle,
    thread: Option<thread::JoinHandle<()>>,
}

impl Node {
    /// Starts a node. Its ports are served when this returns.
    ///
    /// # Errors
    /// The operating system refuses a thread, or a listener cannot be used.
    pub fn start(mut parts: NodeParts) -> std::io::Result<Self> {
        let (standing, standing_seen) = watch::channel(Standing {
            role: Role::Joiner,
            term: Term(0),
            leader: None,
        });
        let (inputs, inputs_taken) = mpsc::channel(parts.config.limits.requests_max);
        let machine = parts.machine.name();
        let limit = parts.config.limits.state_limit();
        let handle = Handle::new(HandleParts {
            metrics: Arc::new(Metrics::new(&parts.me, machine)),
            book: AddressBook::new(parts.me.clone(), parts.config.limits.address_book_max),
            limits: parts.config.limits.within_state_limit(),
            sessions: parts.config.sessions,
            watching: Watching::new(parts.config.watch.within(limit), standing_seen.clone()),
            machine,
            versions: parts.machine.versions(),
            initial_config: parts.embedded.clone().unwrap_or_default(),
            standing: standing_seen,
            ending: Ending::default(),
            inputs,
        });
        parts.machine.observe(handle.watching.history().clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Both ends before the thread runs, so that a listener that fails is an error of `start`.
        let services = {
            let _guard = runtime.enter();
            Services::start(&handle, &parts)
        };
        let services = match services {
            Ok(services) => services,
            Err(error) => {
                // The caller may be in a runtime, where another must not be dropped and waited for.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let seeds = (parts.config, parts.machine, parts.embedded);
        let mine = handle.clone();
        let runtime_handle = runtime.handle().clone();
        let body = move || {
            let handle = mine;
            let _ended = handle.ending.ended_guard();
            let over = handle.ending.over_guard();
            let (config, machine, embedded) = seeds;
            let driver = config.driver(embedded.is_some());
            let links = Links::new(handle.clone(), services.events.clone());
            let silent = driver.raft.election_timeout_max;
            let (mut driver, host) = Driver::new(handle.server, driver, machine, clock::now());
            driver.notice_abandoned(Reply::is_abandoned);
            let (worker, done) = match host.map(Worker::start).transpose() {
                Ok(worker) => worker.unzip(),
                Err(error) => {
                    tracing::error!(%error, "cannot start a thread for the machine");
                    return;
                }
            };
            let mut turning = Loop {
                silent,
                driver,
                worker,
                effects: EffectThread::new(handle.metrics.clone()),
                links,
                standing,
                counted: Counters::default(),
                described: config.log.debug.then(Described::default),
                introduced: (Term(0), Index(0)),
                warned: Vec::new(),
                inputs: Vec::new(),
                outputs: Vec::new(),
                handle: handle.clone(),
            };
            runtime.block_on(async {
                if let Some(initial) = embedded {
                    tokio::spawn(bootstrap(handle.clone(), initial, config.raft.min_majority));
                }
                let events = services.events_taken;
                let stopping = stop(&handle, services.client, services.peer);
                let reason = tokio::select! {
                    () = turning.run(inputs_taken, events, done) => None,
                    () = stopping => Some(StopReason::Graceful),
                    () = handle.ending.killed() => {
                        handle.ending.reason().map(|reason| StopReason::Told(reason.into()))
                    }
                };
                drop(over);
                if let Some(reason) = reason {
                    turning.stop(reason).await;
                }
            });
            // A name that is being resolved must not hold the end up.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("node".into()).spawn(body)?;
        Ok(Self {
            handle,
            runtime: runtime_handle,
            thread: Some(thread),
        })
    }

    /// The way in.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a future on the node thread, so that whoever waits for it needs no runtime of Tokio's.
    ///
    /// # Errors
    /// [`Failure::Ended`] if the node ends first.
    pub async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Failure> {
        let ran = self.runtime.spawn(future).await;
        ran.map_err(|_| self.handle.ended())
    }

    /// Ends when the node has.
    pub async fn ended(&self) {
        self.handle.ending.ended().await;
    }

    /// Hands leadership over, answers what is pending, and ends. Idempotent.
    pub async fn stop(&self) {
        self.handle.ending.stop(None);
        self.ended().await;
    }

    /// Ends at once: as in a crash, but that the machine, and whoever waits, is told why. Idempotent.
    /// A machine that is busy on its own thread is waited for, for
    /// `limits.stop_timeout_milliseconds` at most.
    pub async fn end(&self, reason: String) {
        self.handle.ending.end(reason);
        self.ended().await;
    }

    /// Waits for the thread. `false`: it panicked.
    pub fn join(mut self) -> bool {
        match self.thread.take() {
            Some(thread) => thread.join().is_ok(),
            None => true,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.handle.ending.abandon();
    }
}

/// The ports of a node.
struct Services {
    client: Option<Serving>,
    peer: Serving,
    events: mpsc::Sender<LinkEvent>,
    events_taken: mpsc::Receiver<LinkEvent>,
}

impl Services {
    fn start(handle: &Handle, parts: &NodeParts) -> std::io::Result<Self> {
        let probes = probes().map_err(std::io::Error::other)?;
        tokio::spawn(probes.follow(handle.clone()));
        let (events, events_taken) = mpsc::channel(LINK_EVENTS_MAX);
        let limits = parts.config.limits;
        let request_max = limits.command_bytes_max + REQUEST_ROOM;
        let message_max = message_bytes_max(limits.command_bytes_max);
        let peer = PeerService::new(handle.clone(), events.clone());
        let peer = PeerPort {
            peer: PeerServer::new(peer)
                .max_decoding_message_size(message_max)
                .max_encoding_message_size(message_max),
            rest: probes
                .routes
                .clone()
                .add_service(AdminServer::new(AdminService::new(handle.clone())))
                .prepare(),
        };
        let transport = Transport {
            requests_max: 1024,
            keep_alive: Duration::from_secs(5),
            keep_alive_timeout: Duration::from_secs(3),
            stream_window: 4 << 20,
            connection_window: 16 << 20,
        };
        let peer = serve(parts.peer.try_clone()?, peer, transport, handle.clone())?;
        let client = ClientPort {
            // A stream carries lists of commands in one message.
            data: DataServer::new(DataService::new(handle.clone()))
                .max_decoding_message_size(request_max.max(4 << 20)),
            kv: KvServer::new(KvService::new(handle.clone()))
                .max_decoding_message_size(request_max.max(4 << 20)),
            rest: probes.routes.prepare(),
        };
        let transport = Transport {
            requests_max: limits.connection_requests_max,
            keep_alive: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(10),
            stream_window: 1 << 20,
            connection_window: 4 << 20,
        };
        let client = match &parts.client {
            Some(listener) => Some(serve(
                listener.try_clone()?,
                client,
                transport,
                handle.clone(),
            )?),
            None => None,
        };
        Ok(Self {
            client,
            peer,
            events,
            events_taken,
        })
    }
}

/// Waits to be told, then takes the node down in order: health first, leadership, pending calls.
async fn stop(handle: &Handle, client: Option<Serving>, peer: Serving) {
    handle.ending.stopped().await;
    hand_over(handle).await;
    if let Some(client) = client {
        client.stop.cancel();
        client.drained(DRAIN).await;
    }
    peer.stop.cancel();
}

/// Standing and commit index.
type Described = Option<(Standing, Index)>;

/// Turns the driver whenever there is something for it.
struct Loop {
    driver: Driver<Reply>,
    /// The machine's thread, if it has one.
    worker: Option<Worker<Reply>>,
    effects: EffectThread,
    handle: Handle,
    links: Links,
    standing: watch::Sender<Standing>,
    counted: Counters,
    /// What was logged last, if this server describes itself (ExRaft's `debug`).
    described: Option<Described>,
    /// The configuration whose servers this one, as leader of a term, has introduced to each other.
    introduced: (Term, Index),
    /// What was warned of last.
    warned: Vec<Warning>,
    /// A voter that is silent for longer counts as dead in metrics.
    silent: Duration,
    inputs: Vec<Input<Reply>>,
    outputs: Vec<Output<Reply>>,
}

impl Loop {
    async fn run(
        &mut self,
        mut inputs: mpsc::Receiver<Input<Reply>>,
        mut events: mpsc::Receiver<LinkEvent>,
        mut done: Option<mpsc::Receiver<Done<Reply>>>,
    ) {
        let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut tick = clock::now();
        loop {
            tokio::select! {
                biased;
                _ = inputs.recv_many(&mut self.inputs, TURN_INPUTS_MAX) => {}
                Some(event) = events.recv() => self.on_event(event),
                Some(job) = next_done(&mut done) => self.inputs.push(Input::Done(job)),
                () = timer.as_mut() => {}
            }
            // A stream is known before what came by it is answered.
            while let Ok(event) = events.try_recv() {
                self.on_event(event);
            }
            while let Some(Ok(job)) = done.as_mut().map(mpsc::Receiver::try_recv) {
                self.inputs.push(Input::Done(job));
            }
            let now = clock::now();
            let deadline = self.turn(now);
            if now >= tick || self.handle.cluster().is_none() {
                self.tick(now);
                tick = now + TICK;
            }
            arm(timer.as_mut(), now, deadline.min(tick));
        }
    }

    fn on_event(&mut self, event: LinkEvent) {
        let leader = self.standing.borrow().leader;
        self.links.on_event(event, leader, &mut self.inputs);
    }

    /// One turn: everything that has come in, then everything that is to be done about it.
    fn turn(&mut self, now: Time) -> Time {
        let metrics = self.handle.metrics.clone();
        if let Some(handed_in) = self.handle.take_handed_in() {
            metrics.observe_stage(Stage::Proposed, now.since(handed_in));
        }
        self.handle.taken(&self.inputs);
        let deadline = self.driver.turn(now, &mut self.inputs, &mut self.outputs);
        if self.perform(now) {
            metrics.observe_stage(Stage::Replied, clock::now().since(now));
        }
        self.handle.turned.store(now.0, Relaxed);
        self.handle.watching.wake();
        self.describe();
        deadline
    }

    /// The server ends: the machine is told why, once it has done what it was given before.
    async fn stop(&mut self, reason: StopReason) {
        self.driver.stop(reason, &mut self.outputs);
        self.perform(clock::now());
        let Some(worker) = self.worker.take() else {
            return;
        };
        let wait = Duration::from_millis(self.handle.limits.stop_timeout_milliseconds);
        if tokio::time::timeout(wait, worker.finish()).await.is_err() {
            tracing::warn!("the machine is busy; the server ends without it");
        }
    }

    /// Logs the whole status whenever the standing or what is committed has changed.
    fn describe(&mut self) {
        let Some(described) = &mut self.described else {
            return;
        };
        let now = (self.driver.standing(), self.driver.raft().commit());
        if described.replace(now) != Some(now) {
            let (status, node) = (self.driver.status(), &self.handle.book.me().name);
            tracing::debug!(node, ?status, "changed");
        }
    }

    /// Carries out what the last turn wants done. `true`: a write was answered.
    fn perform(&mut self, now: Time) -> bool {
        let mut has_written = false;
        for output in self.outputs.drain(..) {
            match output {
                Output::Send(envelope) => self.links.send(envelope, now),
                Output::Reply(reply, outcome) => {
                    has_written |= matches!(outcome, Ok(Answer::Written { .. }));
                    reply.send(outcome);
                }
                Output::Standing(standing) => {
                    tracing::info!(
                        role = ?standing.role,
                        term = standing.term.0,
                        leader = standing.leader.map(tracing::field::display),
                        "standing"
                    );
                    self.standing.send_replace(standing);
                }
                Output::Job(job) => {
                    let given = self.worker.as_ref().is_some_and(|worker| worker.give(job));
                    assert!(
                        given,
                        "the driver keeps to the bound of jobs, and the thread lives"
                    );
                }
                Output::Away(host, job) => {
                    tokio::spawn(go_away(self.handle.clone(), host, job));
                }
                Output::Discard(rest) => drop(tokio::task::spawn_blocking(move || drop(rest))),
                Output::Effect(effect) => self.effects.run(effect),
            }
        }
        has_written
    }
}

/// Sets the timer, unless it goes off early enough anyway: an early turn does no harm, and setting it
/// costs more than the turn.
fn arm(timer: std::pin::Pin<&mut Sleep>, now: Time, deadline: Time) {
    let wanted = Instant::now() + deadline.since(now);
    if timer.is_elapsed() || wanted < timer.deadline() {
        timer.reset(wanted);
    }
}
