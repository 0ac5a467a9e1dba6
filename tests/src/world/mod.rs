//! The simulated world: places with processes, a heap of what happens when, one clock.
//!
//! All randomness is drawn from streams of one seed, one for each thing that draws: a place, a link, a
//! process, the operator, a stimulus; what draws again and again, from noise that depends on the moment
//! ([`crate::rng::Noise`]). So what is left out of a run ([`crate::script`]) changes what follows from
//! it, and not what is drawn elsewhere or later.

mod chaos;
mod clients;
mod clocks;
mod connections;
mod coverage;
mod forming;
mod inbox;
mod limits;
mod links;
mod machines;
mod margin;
mod messages;
mod mistakes;
mod operator;
mod places;
mod programs;
mod requests;
mod sessions;
mod turns;
mod verdict;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use kontiki_node::driver::{
    Answer, CheckpointConfig, Envelope, Loss, Refusal, SessionBounds, SnapshotSettings,
};
use kontiki_node::host::{Host, Job};
use kontiki_raft::{ChangeRequest, Config, ServerId};

use crate::invariants::{Checker, Invariant, Violation};
use crate::network::{Link, Network, Place, Weather};
use crate::profile::Profile;
use crate::rng::{Noise, Rng};
use crate::script::{CLIENTS, Deed, Run, Stimuli, Stimulus};
use crate::tally::Tally;
use crate::trace::Trace;

use clients::Client;
use clocks::Clocks;
pub use places::Process;
use {connections::Connections, forming::Formation, inbox::Queues, limits::StateLimits};
use {machines::Machines, operator::Operator, programs::Programs, requests::Request};

/// Most servers that are ever wanted.
const WANTED_MAX: usize = 7;
/// Places of a run: for those, and some to spare for whoever is added beside them.
const PLACES: usize = WANTED_MAX + 3;
/// A tail of this many bytes is never full in a run: nothing is compacted.
const WHOLE_LOG: usize = 1 << 30;

/// Something that will happen.
#[derive(Debug)]
enum Event {
    /// A server takes a turn, if this is still when it wants one.
    Turn(Place, ServerId),
    /// A message reaches the address that it was sent to.
    Arrival(Place, Envelope),
    /// A request reaches a server.
    Request(u64),
    /// Its answer reaches who asked.
    Answer(u64, Result<Answer, Refusal>),
    /// The operator looks.
    Operator,
    /// A server dials another.
    Dial(ServerId, ServerId),
    /// A dial succeeded.
    Connected(ServerId, ServerId),
    /// A connection was lost.
    Disconnected(ServerId, ServerId, Loss),
    /// A process starts in an empty place.
    Start(Place),
    /// The operator gives up a cluster that has lost its quorum.
    StartEmpty,
    /// A host that was away has done its job.
    Back(Place, ServerId, Box<Host>, Job<u64>),
    /// A clock that stood still is trusted again.
    Trust(ServerId),
    /// The thread of a machine has done a job.
    Worked(Place, ServerId),
    /// A process that stood still goes on.
    Resume(Place, ServerId),
    /// A link is cut, down for the given time, and so many times more; between them up for as long.
    Flap(Vec<Link>, Duration, u64),
    /// The trouble of some links is over.
    Mend(u64),
    /// A storm is over.
    Calm,
}

#[derive(Debug)]
struct Scheduled {
    at: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The world of one run.
pub struct World {
    /// Time of the simulation, in nanoseconds.
    pub now: u64,
    /// Turns taken so far by all servers.
    pub step: u64,
    /// What happened.
    pub tally: Tally,
    /// In order.
    pub trace: Trace,
    /// What must hold.
    pub checker: Checker,
    /// What was done to it and had an effect, in order.
    pub done: Vec<Stimulus>,
    /// What each of those did, in words, if they are wanted.
    pub story: Option<Vec<String>>,
    profile: &'static Profile,
    seed: u64,
    stimuli: Stimuli,
    /// For what happens at a place: when its process runs, when it dials.
    noises: Vec<Noise>,
    /// Processes that were ever started in each place.
    started: Vec<u64>,
    events: BinaryHeap<Reverse<Scheduled>>,
    event_number: u64,
    network: Network,
    connections: Connections,
    raft: Config,
    snapshots: SnapshotSettings,
    pending_writes_max: usize,
    lease_reads: bool,
    session_bounds: SessionBounds,
    places: Vec<Option<Process>>,
    /// Address of every server that ever was.
    address: BTreeMap<ServerId, Place>,
    requests: BTreeMap<u64, Request>,
    /// Changes that somebody asked for and a server that lives may yet begin.
    changes: BTreeMap<u64, (ServerId, ChangeRequest)>,
    /// What will happen when a leader appends a configuration.
    ambush: Option<Rng>,
    /// How late a leader will hear of everything once it has told another to campaign.
    handover: Option<(Duration, Rng)>,
    request_next: u64,
    clients: Vec<Client>,
    operator: Operator,
    programs: Programs,
    machines: Machines,
    limits: StateLimits,
    queues: Queues,
    clocks: Clocks,
    checkpoint: CheckpointConfig,
    formation: Formation,
    /// Sentences to check beside those that every run is held to.
    pub invariants: fn() -> Vec<Box<dyn Invariant>>,
    /// Clients go on.
    clients_work: bool,
    /// Faults go on.
    chaos: bool,
}

impl World {
    /// A world in which nothing has happened.
    pub fn new(run: &Run, stimuli: Stimuli, print: bool) -> Self {
        let Run { seed, profile, .. } = *run;
        let noise = run.noise_seed();
        let mut rng = Rng::stream(seed, "settings", 0);
        let network = Network::new(noise, weather(&mut rng), rng.chance(500));
        let mut raft = raft_config(&mut rng);
        let mut snapshots = snapshot_settings(&mut rng);
        let pending_writes_max = match rng.chance(150) {
            true => rng.within(1, 3) as usize,
            false => {
                kontiki_node::Config::default()
                    .driver(false)
                    .pending_writes_max
            }
        };
        let lease_reads = rng.chance(700);
        let mut session_bounds = sessions::bounds(&mut rng);
        let mut limited = Rng::stream(seed, "limits", 0);
        let mut refills = Rng::stream(seed, "refills", 0);
        raft.snapshot_stall_max = Duration::from_millis(refills.within(1000, 4000));
        raft.snapshot_restore_max = Duration::from_millis(refills.within(2000, 15_000));
        let limits = StateLimits::new(profile.are_limits_small, &mut limited);
        limits.lower(&mut raft, &mut session_bounds);
        limits.widen(&mut snapshots, &mut limited);
        let operator = Operator::new(noise, &mut rng);
        let programs = Programs::new(&mut rng);
        let checkpoint = programs::checkpoints(&mut rng);
        let mut world = Self {
            now: 0,
            step: 0,
            tally: Tally::default(),
            trace: Trace::new(print),
            checker: Checker::default(),
            done: Vec::new(),
            story: None,
            profile,
            seed,
            stimuli,
            noises: (0..PLACES as u64)
                .map(|place| Noise::new(noise, "place", place))
                .collect(),
            started: vec![0; PLACES],
            events: BinaryHeap::new(),
            event_number: 0,
            network,
            connections: Connections::default(),
            raft,
            snapshots,
            pending_writes_max,
            lease_reads,
            session_bounds,
            places: std::iter::repeat_with(|| None).take(PLACES).collect(),
            address: BTreeMap::new(),
            requests: BTreeMap::new(),
            changes: BTreeMap::new(),
            ambush: None,
            handover: None,
            request_next: 0,
            clients: (0..CLIENTS).map(Client::new).collect(),
            operator,
            programs,
            limits,
            queues: Queues::new(&mut Rng::stream(seed, "queues", 0)),
            clocks: Clocks::new(&mut Rng::stream(seed, "clocks", 0)),
            machines: Machines::new(
                profile.are_limits_small,
                &mut Rng::stream(seed, "machines", 0),
            ),
            checkpoint,
            formation: Formation::new(&mut Rng::stream(seed, "formation", 0)),
            invariants: Vec::new,
            clients_work: true,
            chaos: true,
        };
        for place in 0..world.operator.wanted {
            world.start(place);
        }
        world.after(Duration::from_millis(10), Event::Operator);
        world
    }

    /// Lets things happen until `deadline`.
    pub fn run_until(&mut self, deadline: u64) -> Result<(), Violation> {
        loop {
            let event_at = self.events.peek().map(|Reverse(next)| next.at);
            let stimulus_at = self.stimuli.next_at();
            let next_at = event_at.map_or(stimulus_at, |at| at.min(stimulus_at));
            if next_at > deadline {
                break;
            }
            self.now = next_at;
            if stimulus_at == next_at {
                let stimulus = self.stimuli.take();
                self.act(stimulus);
            } else if let Some(Reverse(next)) = self.events.pop() {
                self.happen(next.event)?;
            }
        }
        self.now = self.now.max(deadline);
        Ok(())
    }

    /// Does what is to be done from outside, if it is possible now.
    fn act(&mut self, stimulus: Stimulus) {
        let mut rng = Rng::new(stimulus.seed);
        let did = match stimulus.deed {
            Deed::Fault(fault) => self.make_trouble(fault, &mut rng),
            Deed::Client(client) => self.client(client, &mut rng),
        };
        if let Some(what) = did.filter(|_| self.chaos) {
            self.done.push(stimulus);
            if let Some(story) = &mut self.story {
                story.push(what);
            }
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Turn(place, server) => return self.turn(place, server),
            Event::Arrival(place, envelope) => self.arrive(place, envelope),
            Event::Request(id) => self.deliver_request(id),
            Event::Answer(id, result) => self.answer(id, result),
            Event::Operator => self.operate(),
            Event::Dial(from, to) => self.dial(from, to),
            Event::Connected(from, to) => self.connected(from, to),
            Event::Disconnected(from, to, loss) => self.disconnected(from, to, loss),
            Event::Start(place) => self.start(place),
            Event::StartEmpty => self.start_empty(),
            Event::Back(place, server, host, job) => self.come_back(place, server, host, job),
            Event::Trust(server) => self.trust(server),
            Event::Worked(place, server) => self.worked(place, server),
            Event::Resume(place, server) => self.resume(place, server),
            Event::Flap(links, period, more) => self.flap(links, period, more),
            Event::Mend(trouble) => self.network.lift(trouble),
            Event::Calm => self.network.calm_down(),
        }
        Ok(())
    }

    fn at(&mut self, at: u64, event: Event) {
        self.event_number += 1;
        let number = self.event_number;
        self.events.push(Reverse(Scheduled { at, number, event }));
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay.as_nanos() as u64, event);
    }

    /// Somewhere between the two from now, as it comes at a place.
    fn between(&mut self, place: Place, low: Duration, high: Duration, event: Event) {
        let delay = self.noises[place].at(self.now).duration(low, high);
        self.at(self.now + delay, event);
    }

    /// Somewhere between the two from now, as a stimulus draws it.
    fn soon(&mut self, rng: &mut Rng, low: Duration, high: Duration, event: Event) {
        let delay = rng.duration(low, high);
        self.at(self.now + delay, event);
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.line(self.now, self.step, what);
    }
}

/// A local network in most runs, a wide one in some.
fn weather(rng: &mut Rng) -> Weather {
    let (low, high) = match rng.below(4) {
        0 => (5_000, 30_000),
        1 => (500, 5_000),
        _ => (50, 800),
    };
    Weather {
        delay_min: Duration::from_micros(low),
        delay_max: Duration::from_micros(high),
        loss: 0,
        duplication: 0,
        spikes: 0,
        spike: Duration::ZERO,
    }
}

/// The default timers in half of the runs, others in the rest; small bounds in some, so that they
/// are reached.
fn raft_config(rng: &mut Rng) -> Config {
    let mut config = Config::default();
    if rng.chance(500) {
        let heartbeat = rng.within(30, 200);
        let election = heartbeat * rng.within(5, 10);
        config.heartbeat = Duration::from_millis(heartbeat);
        config.election_timeout_min = Duration::from_millis(election);
        config.election_timeout_max = Duration::from_millis(election * 2);
    }
    if rng.chance(300) {
        // Small, but not so small that a learner can never catch up with the clients' load.
        config.append_entries_max = rng.within(4, 8) as usize;
        config.append_bytes_max = rng.within(256, 1024) as usize;
        config.inflight_max = rng.within(1, 4) as usize;
    }
    if rng.chance(150) {
        config.uncommitted_bytes_max = rng.within(300, 4000) as usize;
    }
    if rng.chance(150) {
        config.reads_max = rng.within(1, 3) as usize;
    }
    if rng.chance(100) {
        config.min_majority = 2;
    }
    if rng.chance(300) {
        // The lowest of the run: every server draws its own from there up.
        config.election_priority = rng.within(1, 9) as u8;
    }
    config.catch_up_pause = Duration::from_secs(2);
    // In most runs a log of some ten to some hundred entries: servers fall behind it all the time.
    config.log_tail_bytes = match rng.chance(250) {
        true => WHOLE_LOG,
        false => rng.within(400, 6000) as usize,
    };
    config.log_tail_entries_min = rng.within(1, 16) as usize;
    // More than is written while a snapshot is on its way in calm weather: else none is ever over.
    config.log_kept_bytes_max = config.log_tail_bytes + rng.within(4000, 16000) as usize;
    config.snapshots_max = rng.within(1, 3) as usize;
    config.snapshot_silence_max = Duration::from_millis(rng.within(500, 5000));
    config
}

/// Snapshots of a few to some dozen pieces, some of them slow.
fn snapshot_settings(rng: &mut Rng) -> SnapshotSettings {
    SnapshotSettings {
        piece_bytes: rng.within(8, 200) as usize,
        bytes_per_second: match rng.chance(300) {
            true => rng.within(4000, 40_000),
            false => 0,
        },
        ..SnapshotSettings::default()
    }
}
