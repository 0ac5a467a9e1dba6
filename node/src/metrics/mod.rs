//! What a node counts. Base units, prefix `kontiki_`, bounded labels only.

mod labels;
mod machine;
mod settings;
mod snapshots;
mod state_bytes;
mod watches;

use std::time::Duration;

use kontiki_raft::{Configuration, Role};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use tonic::Code;

use crate::address_book::ServerRef;
use crate::driver::{Counters, Stage, Status};
use crate::peer::Lane;
use crate::watching::Watching;

use machine::MachineMetrics;
use settings::SettingsMetrics;
use snapshots::SnapshotMetrics;
use state_bytes::StateMetrics;
use watches::WatchMetrics;

use labels::{DROPPED, EFFECTED, ROLES, STAGES, code_name};
pub use labels::{Dropped, Effected, Face, Method, Reason};

/// All metrics of a node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: IntCounterVec,
    /// Of `calls`, those with code OK: looked up once.
    calls_ok: Vec<IntCounter>,
    dropped: Vec<IntCounter>,
    /// By face, then by reason.
    refused: Vec<Vec<IntCounter>>,
    effects: Vec<IntCounter>,
    sent: [IntCounter; 3],
    stages: Vec<prometheus::Histogram>,
    standing: StandingGauges,
    totals: Totals,
    machine: MachineMetrics,
    settings: SettingsMetrics,
    snapshots: SnapshotMetrics,
    watches: WatchMetrics,
    state: StateMetrics,
    pending: IntGauge,
    committed: IntCounter,
    failed: IntCounter,
}

#[derive(Debug)]
struct StandingGauges {
    is_leader: IntGauge,
    has_leader: IntGauge,
    ready: IntGauge,
    activated: IntGauge,
    role: IntGaugeVec,
    term: IntGauge,
    first: IntGauge,
    last: IntGauge,
    commit: IntGauge,
    applied: IntGauge,
    sessions: IntGauge,
    session_bytes: IntGauge,
    configuration: IntGauge,
    voters: IntGauge,
    learners: IntGauge,
    margin: Gauge,
}

#[derive(Debug)]
struct Totals {
    proposed: IntCounter,
    applied: IntCounter,
    repeated: IntCounter,
    leased_reads: IntCounter,
    refused: IntCounter,
    campaigns: IntCounter,
    elected: IntCounter,
    turns: IntCounter,
}

/// Registers metrics; a name that is taken or malformed is a mistake in this file.
struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn add<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        collector: prometheus::Result<C>,
    ) -> C {
        let collector = collector.expect("a well-formed name");
        self.0
            .register(Box::new(collector.clone()))
            .expect("a name of its own");
        collector
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }
}

/// Writes that wait for their outcome. Dropped, they wait no more.
#[derive(Debug)]
pub struct Pending {
    gauge: IntGauge,
    count: i64,
}

impl Pending {
    /// One more.
    pub fn add(&mut self) {
        self.count += 1;
        self.gauge.inc();
    }

    /// One has its outcome.
    pub fn remove(&mut self) {
        self.count -= 1;
        self.gauge.dec();
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count as usize
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.gauge.sub(self.count);
    }
}

impl Metrics {
    /// Fresh metrics of a server.
    pub fn new(me: &ServerRef, machine: &str) -> Self {
        let registry = Registry::new();
        let add = Registrar(&registry);
        let info = Opts::new("kontiki_build_info", "1; the labels say what runs.");
        let info: IntGaugeVec = add.add(IntGaugeVec::new(info, &["version"]));
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let server = Opts::new("kontiki_server_info", "1; the labels say who this is.");
        let server = add.add(IntGaugeVec::new(server, &["server_id", "node", "machine"]));
        server
            .with_label_values(&[&me.id.to_string(), &me.name, machine])
            .set(1);
        let process = ProcessCollector::for_self();
        registry
            .register(Box::new(process))
            .expect("names of its own");
        let calls = Opts::new(
            "kontiki_grpc_requests_total",
            "Calls answered; of WriteStream commands.",
        );
        let calls: IntCounterVec = add.add(IntCounterVec::new(calls, &["method", "code"]));
        let calls_ok = Method::ALL
            .iter()
            .map(|method| calls.with_label_values(&[method.name(), code_name(Code::Ok)]))
            .collect();
        let dropped = Opts::new("kontiki_peer_messages_dropped_total", "Messages dropped.");
        let dropped: IntCounterVec = add.add(IntCounterVec::new(dropped, &["reason"]));
        let dropped = DROPPED.map(|(_, name)| dropped.with_label_values(&[name]));
        let refused = Opts::new(
            "kontiki_refused_total",
            "Connections, streams, requests and messages refused as bad input.",
        );
        let refused: IntCounterVec = add.add(IntCounterVec::new(refused, &["face", "reason"]));
        let reasons = |face: &Face| {
            let of = |reason: &Reason| refused.with_label_values(&[face.name(), reason.name()]);
            Reason::ALL.iter().map(of).collect()
        };
        let refused = Face::ALL.iter().map(reasons).collect();
        let effects = Opts::new(
            "kontiki_effects_total",
            "Effects of the machine, by outcome.",
        );
        let effects: IntCounterVec = add.add(IntCounterVec::new(effects, &["outcome"]));
        let effects = EFFECTED.map(|(_, name)| effects.with_label_values(&[name]));
        let sent = Opts::new(
            "kontiki_peer_messages_sent_total",
            "Messages queued to peers.",
        );
        let sent: IntCounterVec = add.add(IntCounterVec::new(sent, &["lane"]));
        let stages = HistogramOpts::new(
            "kontiki_write_stage_seconds",
            "Time that a write took from the stage before to this one; sampled.",
        )
        .buckets(prometheus::exponential_buckets(10e-6, 2.0, 20).expect("well-formed"));
        let stages: HistogramVec = add.add(HistogramVec::new(stages, &["stage"]));
        Self {
            calls_ok,
            calls,
            dropped: dropped.into(),
            refused,
            effects: effects.into(),
            sent: Lane::ALL.map(|lane| sent.with_label_values(&[lane.name()])),
            stages: STAGES
                .map(|(_, name)| stages.with_label_values(&[name]))
                .into(),
            standing: StandingGauges::new(&add),
            totals: Totals::new(&add),
            machine: MachineMetrics::new(&add),
            settings: SettingsMetrics::new(&add),
            snapshots: SnapshotMetrics::new(&add),
            watches: WatchMetrics::new(&add),
            state: StateMetrics::new(&add),
            pending: add.gauge(
                "kontiki_proposals_pending",
                "Writes that wait for their outcome.",
            ),
            committed: add.counter(
                "kontiki_proposals_committed_total",
                "Writes answered with their outcome.",
            ),
            failed: add.counter(
                "kontiki_proposals_failed_total",
                "Writes refused, or answered as unknown.",
            ),
            registry,
        }
    }

    /// Counts an answered call.
    pub fn count_call(&self, method: Method, code: Code) {
        match code {
            Code::Ok => self.calls_ok[method as usize].inc(),
            code => self
                .calls
                .with_label_values(&[method.name(), code_name(code)])
                .inc(),
        }
        if method.is_write() {
            match code {
                Code::Ok => self.committed.inc(),
                _ => self.failed.inc(),
            }
        }
    }

    /// Counts writes that wait for their outcome; none yet.
    pub fn pending(&self) -> Pending {
        Pending {
            gauge: self.pending.clone(),
            count: 0,
        }
    }

    /// Counts an effect of the machine.
    pub fn count_effect(&self, outcome: Effected) {
        self.effects[outcome as usize].inc();
    }

    /// Counts a message that was dropped.
    pub fn count_drop(&self, reason: Dropped) {
        self.dropped[reason as usize].inc();
    }

    /// Counts something that was refused at the door.
    pub fn count_refused(&self, face: Face, reason: Reason) {
        self.refused[face as usize][reason as usize].inc();
    }

    /// Counts a message that was queued to a peer.
    pub fn count_sent(&self, lane: Lane) {
        self.sent[lane as usize].inc();
    }

    /// Takes over what the driver counted since `before`.
    pub fn add_counters(&self, before: &Counters, after: &Counters) {
        let totals = &self.totals;
        let dropped = |reason: Dropped| &self.dropped[reason as usize];
        for (counter, before, after) in [
            (&totals.proposed, before.proposed, after.proposed),
            (&totals.applied, before.applied, after.applied),
            (&totals.repeated, before.repeated, after.repeated),
            (
                &totals.leased_reads,
                before.leased_reads,
                after.leased_reads,
            ),
            (&totals.refused, before.refused, after.refused),
            (&totals.campaigns, before.campaigns, after.campaigns),
            (&totals.elected, before.elected, after.elected),
            (&totals.turns, before.turns, after.turns),
            (
                dropped(Dropped::WrongCluster),
                before.dropped_wrong_cluster,
                after.dropped_wrong_cluster,
            ),
            (
                dropped(Dropped::WrongOrigin),
                before.dropped_wrong_origin,
                after.dropped_wrong_origin,
            ),
            (
                dropped(Dropped::WrongServer),
                before.dropped_wrong_server,
                after.dropped_wrong_server,
            ),
            (
                dropped(Dropped::Malformed),
                before.dropped_malformed,
                after.dropped_malformed,
            ),
            (
                dropped(Dropped::Quarantined),
                before.dropped_quarantined,
                after.dropped_quarantined,
            ),
            (
                dropped(Dropped::Backlog),
                before.dropped_backlog,
                after.dropped_backlog,
            ),
        ] {
            counter.inc_by(after - before);
        }
        self.snapshots.add_counters(before, after);
        self.state.add_counters(before, after);
    }

    /// Takes over one sampled gap.
    pub fn observe_stage(&self, stage: Stage, gap: Duration) {
        let at = STAGES.iter().position(|(known, _)| *known == stage);
        if let Some(at) = at {
            self.stages[at].observe(gap.as_secs_f64());
        }
    }

    /// Takes over where the server stands. A voter that was `silent` for so long counts as dead.
    pub fn observe(&self, status: &Status, now: kontiki_raft::Time, silent: Duration) {
        self.machine.observe(status);
        self.settings.observe(status);
        self.snapshots.observe(status);
        self.state.observe(status);
        let gauges = &self.standing;
        let role = status.standing.role;
        for (known, name) in ROLES {
            gauges
                .role
                .with_label_values(&[name])
                .set(i64::from(known == role));
        }
        let configuration = &status.configuration;
        for (gauge, value) in [
            (&gauges.is_leader, u64::from(role == Role::Leader)),
            (
                &gauges.has_leader,
                u64::from(status.standing.leader.is_some()),
            ),
            (&gauges.ready, u64::from(status.ready)),
            (&gauges.activated, u64::from(status.activated)),
            (&gauges.term, status.standing.term.0),
            (&gauges.first, status.first.0),
            (&gauges.last, status.last.index.0),
            (&gauges.commit, status.commit.0),
            (&gauges.applied, status.applied.0),
            (&gauges.sessions, status.sessions.open as u64),
            (&gauges.session_bytes, status.sessions.bytes as u64),
            (&gauges.configuration, configuration.index.0),
            (
                &gauges.voters,
                configuration.configuration.voters.len() as u64,
            ),
            (
                &gauges.learners,
                configuration.configuration.learners.len() as u64,
            ),
        ] {
            gauge.set(value as i64);
        }
        gauges.margin.set(match role {
            Role::Leader => margin(status, &configuration.configuration, now, silent) as f64,
            _ => f64::NAN,
        });
    }

    /// Takes over who watches, and what is kept for them.
    pub fn observe_watches(&self, watching: &Watching) {
        self.watches.observe(watching);
    }

    /// Counts changes sent to a watcher.
    pub fn count_watch_events(&self, count: usize) {
        self.watches.count_events(count);
    }

    /// All metrics in the text format of Prometheus.
    pub fn render(&self) -> String {
        let encoder = TextEncoder::new();
        encoder
            .encode_to_string(&self.registry.gather())
            .unwrap_or_else(|error| format!("# {error}\n"))
    }
}

/// Live voters minus quorum, the smaller of the two halves while joint.
fn margin(
    status: &Status,
    configuration: &Configuration,
    now: kontiki_raft::Time,
    silent: Duration,
) -> i64 {
    let live = |voter: &kontiki_raft::ServerId| {
        let heard = status.progress.iter().find(|peer| peer.server == *voter);
        let heard = heard.and_then(|peer| peer.heard);
        *voter == status.server || heard.is_some_and(|heard| now.since(heard) < silent)
    };
    let halves = configuration.halves().map(|half| {
        let quorum = (half.len() / 2 + 1).max(status.min_majority);
        half.iter().filter(|voter| live(voter)).count() as i64 - quorum as i64
    });
    halves.min().unwrap_or_default()
}

impl StandingGauges {
    fn new(add: &Registrar<'_>) -> Self {
        let role = Opts::new("kontiki_role", "1 for the role that the server has.");
        let margin = "Live voters minus quorum: how many more may be lost. NaN unless it leads.";
        Self {
            is_leader: add.gauge("kontiki_is_leader", "Whether this server leads."),
            has_leader: add.gauge("kontiki_has_leader", "Whether it knows a leader."),
            ready: add.gauge(
                "kontiki_ready",
                "An activated voter that has caught up once.",
            ),
            activated: add.gauge("kontiki_activated", "Whether client writes are accepted."),
            role: add.add(IntGaugeVec::new(role, &["role"])),
            term: add.gauge("kontiki_term", "Current term."),
            first: add.gauge("kontiki_log_first_index", "First entry still held."),
            last: add.gauge("kontiki_log_last_index", "Last entry of the log."),
            commit: add.gauge("kontiki_commit_index", "Committed through here."),
            applied: add.gauge("kontiki_applied_index", "Applied through here."),
            sessions: add.gauge("kontiki_sessions", "Open sessions."),
            session_bytes: add.gauge("kontiki_session_bytes", "Bytes of open sessions."),
            configuration: add.gauge("kontiki_configuration_index", "Configuration in force."),
            voters: add.gauge("kontiki_voters", "Voters of the configuration in force."),
            learners: add.gauge(
                "kontiki_learners",
                "Learners of the configuration in force.",
            ),
            margin: add.add(Gauge::new("kontiki_quorum_margin", margin)),
        }
    }
}

impl Totals {
    fn new(add: &Registrar<'_>) -> Self {
        Self {
            proposed: add.counter("kontiki_proposals_total", "Commands proposed here."),
            applied: add.counter("kontiki_entries_applied_total", "Entries applied here."),
            leased_reads: add.counter(
                "kontiki_leased_reads_total",
                "Reads answered under a lease, without asking the other voters.",
            ),
            repeated: add.counter(
                "kontiki_session_repeats_total",
                "Commands of sessions that were applied before, and not again.",
            ),
            refused: add.counter("kontiki_requests_refused_total", "Requests refused."),
            campaigns: add.counter("kontiki_elections_started_total", "Elections begun here."),
            elected: add.counter(
                "kontiki_elections_won_total",
                "Elections won by this server.",
            ),
            turns: add.counter("kontiki_driver_turns_total", "Turns of the driver."),
        }
    }
}
