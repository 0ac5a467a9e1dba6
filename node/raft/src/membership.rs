//! Membership: joint consensus (paper section 6) with learners (thesis section 4.2.1).
//!
//! Every change is one configuration entry, or two when voters change: the joint one, and once that
//! is committed the one that leaves it, which the leader appends by itself, also when another
//! leader began. A configuration is in force from the moment it is appended, and rolled back with
//! its entry.

use crate::catch_up::{CatchUp, CatchUpLimits, CatchUpState};
use crate::configuration::{Configuration, Purpose};
use crate::log::EntryKind;
use crate::output::Refused;
use crate::progress::{Flow, Progress};
use crate::quorum::Quorum;
use crate::raft::{Raft, State};
use crate::types::{Index, ServerId, Time};

/// Servers of a configuration, learners included; past it nothing is added.
pub const SERVERS_MAX: usize = 64;

/// A wish for another membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeRequest {
    /// Servers to add as learners, each with what is to become of it.
    pub add: Vec<(ServerId, Purpose)>,
    /// Voters and learners to take out.
    pub remove: Vec<ServerId>,
    /// The configuration that the caller saw in force, if it cares.
    pub seen: Option<Index>,
}

impl ChangeRequest {
    /// Whether `configuration` has all that is asked for, though some that was added may still be
    /// catching up.
    pub fn is_begun(&self, configuration: &Configuration) -> bool {
        let is_added = |(server, purpose): &(ServerId, Purpose)| match purpose {
            _ if configuration.learners.get(server) == Some(purpose) => true,
            Purpose::Replace(lost) => {
                configuration.voters.contains(server) && !configuration.voters.contains(lost)
            }
            Purpose::Stay | Purpose::Join => configuration.voters.contains(server),
        };
        let is_removed = |server: &ServerId| {
            !configuration.voters.contains(server) && !configuration.learners.contains_key(server)
        };
        self.add.iter().all(is_added) && self.remove.iter().all(is_removed)
    }

    /// Whether `configuration` is stable, has all that is asked for, and what was to vote votes.
    pub fn is_effective(&self, configuration: &Configuration) -> bool {
        let votes = |(server, purpose): &(ServerId, Purpose)| {
            *purpose == Purpose::Stay || configuration.voters.contains(server)
        };
        !configuration.is_joint() && self.is_begun(configuration) && self.add.iter().all(votes)
    }

    /// Refuses if a server is not what the request takes it for: a server is replaced that is no voter
    /// (which would add a voter), another takes its place that votes already (which would only remove the
    /// lost one), or a voter is removed beside an addition (only learners are superseded).
    pub(crate) fn check_roles(&self, configuration: &Configuration) -> Result<(), Refused> {
        let wrong = |server: &ServerId, named_as| {
            Err(Refused::WrongRole {
                server: *server,
                role: configuration.role_of(*server),
                named_as,
            })
        };
        let is_voter = |server: &ServerId| configuration.voters.contains(server);
        for (server, purpose) in &self.add {
            let Purpose::Replace(lost) = purpose else {
                continue;
            };
            if is_voter(server) {
                return wrong(server, "the server that takes the place of another");
            }
            if !is_voter(lost) {
                return wrong(lost, "the voter to replace");
            }
        }
        match self.remove.iter().find(|server| is_voter(server)) {
            Some(voter) if !self.add.is_empty() => wrong(voter, "a learner to supersede"),
            _ => Ok(()),
        }
    }

    /// `configuration`, stable, with the wish fulfilled as far as it can be at once.
    pub(crate) fn applied_to(&self, configuration: &Configuration) -> Configuration {
        let mut target = configuration.clone();
        for (server, purpose) in &self.add {
            if !target.voters.contains(server) {
                target.learners.insert(*server, *purpose);
            }
        }
        for server in &self.remove {
            target.voters.remove(server);
            target.learners.remove(server);
        }
        target
    }
}

impl Raft {
    /// Begins a change. `Ok` if it is begun, was begun before, or already holds; whether and when
    /// it is effective shows in [`Raft::committed_configuration`].
    ///
    /// Checked in this order: this server leads and hears a quorum; it has committed an entry of
    /// its term (else two changes could commit disjoint majorities: Ongaro 2015); the same change
    /// is in force or in flight (OK); another is in flight; a server is not what the request takes it
    /// for; the last voter; `min_majority`; the
    /// caller's configuration is stale; the configuration has too many servers; the servers that are
    /// heard are no quorum of the voters that would be left, so that the change could not be
    /// committed.
    pub fn change(&mut self, now: Time, request: &ChangeRequest) -> Result<(), Refused> {
        self.check_serving(now)?;
        if !self.is_term_committed() {
            return Err(Refused::NoCommit);
        }
        if self.is_transferring() {
            return Err(Refused::Transferring);
        }
        let (index, configuration) = self.log.configuration();
        if request.is_begun(configuration) {
            return Ok(());
        }
        if index > self.commit || configuration.is_joint() {
            return Err(Refused::UnstableConfig);
        }
        request.check_roles(configuration)?;
        let target = request.applied_to(configuration);
        let left = target.voters.len();
        if left == 0 {
            return Err(Refused::LastServer);
        }
        if left < self.config.min_majority {
            let min_majority = self.config.min_majority;
            return Err(Refused::BelowMinMajority { left, min_majority });
        }
        if let Some(seen) = request.seen.filter(|seen| *seen != index) {
            return Err(Refused::StaleConfig {
                in_force: index,
                seen,
            });
        }
        if target.servers().len() > SERVERS_MAX {
            return Err(Refused::Full {
                what: "configuration",
                max: SERVERS_MAX,
            });
        }
        if target.voters != configuration.voters {
            self.check_commits(now, &target)?;
        }
        self.enter(now, target);
        Ok(())
    }

    /// Refuses unless the servers that can store entries now are a quorum of the voters of `target`: those
    /// that are heard, whose appends are acknowledged (which they are not while a server is refilled, or
    /// has stopped storing), and that have not retired (a retired one stops storing at a bound of its log).
    /// Without one the joint configuration would be in force and could not be committed, and this
    /// leader would step down; with one more server lost nobody could ever lead again.
    fn check_commits(&self, now: Time, target: &Configuration) -> Result<(), Refused> {
        let State::Leader(leader) = &self.state else {
            return Err(Refused::NotLeader(self.leader()));
        };
        let timeout = self.config.election_timeout_min;
        let stores = |server: ServerId| {
            server == self.id
                || leader.progress.get(&server).is_some_and(|progress| {
                    progress.reachable
                        && progress.flow == Flow::Replicate
                        && !progress.eligibility.is_some_and(|it| it.is_retired)
                        && progress
                            .heard
                            .is_some_and(|heard| now.since(heard) < timeout)
                })
        };
        let quorum = Quorum::new(target, self.config.min_majority);
        if quorum.reached(stores) {
            return Ok(());
        }
        let missing: Vec<ServerId> = target
            .voters
            .iter()
            .copied()
            .filter(|it| !stores(*it))
            .collect();
        Err(Refused::NoQuorumAfterwards {
            voters: target.voters.len(),
            needed: quorum.needed(&target.voters),
            missing,
        })
    }

    /// Appends the entry that begins the way to `target`.
    fn enter(&mut self, now: Time, target: Configuration) {
        let (_, configuration) = self.log.configuration();
        assert!(!configuration.is_joint(), "one change of voters at a time");
        let outgoing =
            (target.voters != configuration.voters).then(|| configuration.voters.clone());
        self.append_configuration(now, Configuration { outgoing, ..target });
    }

    fn append_configuration(&mut self, now: Time, configuration: Configuration) {
        self.create(EntryKind::Configuration(Box::new(configuration)));
        self.track_members(now);
    }

    /// The commit index moved: leaves a joint configuration that is committed, and leadership if
    /// this server is no voter any more. Not before an entry of the term is committed, which the
    /// restoring of a snapshot may precede.
    pub(crate) fn finish_changes(&mut self, now: Time) {
        if !self.is_term_committed() {
            return;
        }
        if !self.may_campaign() {
            // Its successor finishes whatever is in flight.
            return self.leave_office(now);
        }
        let (index, configuration) = self.log.configuration();
        if index <= self.commit && configuration.is_joint() {
            let left = Configuration {
                outgoing: None,
                ..configuration.clone()
            };
            self.append_configuration(now, left);
        }
    }

    /// Makes voters of learners that have caught up: one that replaces a lost voter by itself;
    /// those that join together, once each of them is ready or has stalled.
    pub(crate) fn promote_learners(&mut self, now: Time) {
        let (index, configuration) = self.log.configuration();
        let is_settled = index <= self.commit && !configuration.is_joint();
        if configuration.learners.is_empty()
            || !is_settled
            || !self.is_term_committed()
            || !self.may_campaign()
            || self.is_transferring()
        {
            return;
        }
        if let Some(target) = self.promoted(now, configuration) {
            self.enter(now, target);
        }
    }

    fn promoted(&self, now: Time, configuration: &Configuration) -> Option<Configuration> {
        let State::Leader(leader) = &self.state else {
            return None;
        };
        let timeout = self.config.election_timeout_min;
        let is_ready = |server: &ServerId| {
            leader.progress.get(server).is_some_and(|progress| {
                progress.is_caught_up()
                    && progress
                        .heard
                        .is_some_and(|heard| now.since(heard) < timeout)
            })
        };
        let is_waited_for = |server: &ServerId| {
            let progress = leader.progress.get(server);
            progress.is_none_or(|progress| progress.is_waited_for())
        };
        let mut target = configuration.clone();
        let replacement =
            configuration
                .learners
                .iter()
                .find_map(|(server, purpose)| match purpose {
                    Purpose::Replace(lost) if is_ready(server) => Some((*server, *lost)),
                    _ => None,
                });
        if let Some((server, lost)) = replacement {
            target.voters.remove(&lost);
            target.promote(server);
            return self.check_commits(now, &target).is_ok().then_some(target);
        }
        let joining = configuration.learners.iter();
        let joining = joining.filter(|(_, purpose)| **purpose == Purpose::Join);
        let joining: Vec<ServerId> = joining.map(|(server, _)| *server).collect();
        let ready: Vec<ServerId> = joining.iter().copied().filter(is_ready).collect();
        if ready.is_empty()
            || !joining
                .iter()
                .all(|server| is_ready(server) || !is_waited_for(server))
        {
            return None;
        }
        ready.into_iter().for_each(|server| target.promote(server));
        self.check_commits(now, &target).is_ok().then_some(target)
    }

    /// Keeps one progress for every other server of the configuration in force.
    pub(crate) fn track_members(&mut self, now: Time) {
        let last = self.log.last().index;
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        let (_, configuration) = self.log.configuration();
        leader
            .progress
            .retain(|server, _| configuration.contains(*server));
        for server in configuration.servers() {
            if server != self.id {
                let progress = leader
                    .progress
                    .entry(server)
                    .or_insert_with(|| Progress::new(last.next()));
                progress.track_catch_up(configuration.learners.get(&server), now, last);
            }
        }
    }

    pub(crate) fn catch_up_limits(&self) -> CatchUpLimits {
        CatchUpLimits {
            round_max: self.config.election_timeout_min,
            rounds_max: self.config.catch_up_rounds_max,
            pause: self.config.catch_up_pause,
        }
    }
}

impl Progress {
    /// Follows the rounds of a learner that is to vote.
    fn track_catch_up(&mut self, purpose: Option<&Purpose>, now: Time, last: Index) {
        match purpose {
            Some(Purpose::Join | Purpose::Replace(_)) => {
                self.catch_up.get_or_insert_with(|| CatchUp::new(now, last));
            }
            Some(Purpose::Stay) | None => self.catch_up = None,
        }
    }

    /// Whether those that join with it wait for it. One that was ready and is not heard any more is waited
    /// for until it stalls.
    fn is_waited_for(&self) -> bool {
        self.catch_up
            .is_some_and(|catch_up| catch_up.is_waited_for() || self.is_caught_up())
    }

    fn is_caught_up(&self) -> bool {
        self.catch_up
            .is_some_and(|catch_up| catch_up.state == CatchUpState::Ready)
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.catch_up
            .is_some_and(|catch_up| matches!(catch_up.state, CatchUpState::Stalled(_)))
    }
}
