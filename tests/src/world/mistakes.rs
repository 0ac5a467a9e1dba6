//! What an operator, or two of them, ask for that is wrong or wrongly timed: a server that lives is
//! replaced, twice, by what was once seen; two changes at once; a learner that nobody needs.

use kontiki_node::driver::Until;
use kontiki_raft::{ChangeRequest, Index, Purpose, ServerId};

use super::World;
use super::chaos::Did;
use super::requests::{Asker, Question};
use crate::network::Place;
use crate::rng::Rng;

/// Mistakes that are remembered until they show.
const MISTAKES_MAX: usize = 4;

impl World {
    /// Takes a voter for lost that lives, rather one that stands still or is cut off.
    pub(super) fn make_mistake(&mut self, rng: &mut Rng) -> Did {
        if !self.operator.activated {
            return None;
        }
        let (leader_place, leader) = self.leader()?;
        let leader = (leader.server, leader.status.configuration.clone());
        let (asked, known) = leader;
        let voters: Vec<(Place, ServerId)> = self
            .processes()
            .filter(|(_, process)| known.configuration.is_voter(process.server))
            .map(|(place, process)| (place, process.server))
            .collect();
        let is_paused = |place: Place| {
            self.places[place]
                .as_ref()
                .is_some_and(|process| process.paused)
        };
        let is_cut = |place: Place| {
            self.network.is_cut(place, leader_place) || self.network.is_cut(leader_place, place)
        };
        let away: Vec<(Place, ServerId)> = voters
            .iter()
            .filter(|(place, _)| is_paused(*place) || is_cut(*place))
            .copied()
            .collect();
        let away = rng.pick(&away).filter(|_| rng.chance(800));
        let (place, voter) = away.or_else(|| rng.pick(&voters))?;
        let (was_paused, was_cut) = (is_paused(place), is_cut(place));
        let fresh = self.start_spare()?;
        let index = known.index;
        let seen = match rng.below(3) {
            0 => None,
            1 => Some(index),
            _ => Some(Index(index.0.saturating_sub(rng.within(1, 20)))),
        };
        let change = ChangeRequest {
            add: vec![(fresh, Purpose::Replace(voter))],
            seen,
            ..ChangeRequest::default()
        };
        if !self.can_change(&change) {
            // The spare process is there all the same.
            return Some(("mistake: not made, too dangerous", format!("{voter}")));
        }
        for (is, name) in [
            (was_cut, "mistake: of one that is cut off"),
            (was_paused, "mistake: of one that stands still"),
            (
                seen.is_some_and(|seen| seen != index),
                "mistake: stale configuration",
            ),
        ] {
            if is {
                self.tally.add(name);
            }
        }
        self.ask_for_change(asked, &change);
        if rng.chance(300) {
            self.tally.add("mistake: twice");
            self.ask_for_change(asked, &change);
        }
        if rng.chance(300)
            && let Some(second) = self.start_spare()
        {
            let change = ChangeRequest {
                add: vec![(second, Purpose::Replace(voter))],
                ..change
            };
            if self.can_change(&change) {
                self.tally.add("mistake: by two");
                self.ask_for_change(asked, &change);
            }
        }
        let mistakes = &mut self.operator.mistakes;
        mistakes.truncate(MISTAKES_MAX - 1);
        mistakes.insert(0, (voter, fresh));
        let what = format!("{voter} in place {place} by {fresh}, as of {seen:?} of {index:?}");
        Some(("fault: a server that lives is replaced", what))
    }

    /// Two different changes, at the same time: of two voters that are taken out at once, or of two
    /// learners that are added, one must be refused, or come after the other.
    pub(super) fn rush(&mut self, rng: &mut Rng) -> Did {
        if !self.operator.activated {
            return None;
        }
        let (_, leader) = self.leader()?;
        let asked = leader.server;
        let voters = leader.status.configuration.configuration.voters.clone();
        let mut voters: Vec<ServerId> = voters.into_iter().collect();
        let removes = voters.len() > 3 && rng.chance(500);
        let mut changes = Vec::new();
        for _ in 0..2 {
            let mut change = ChangeRequest::default();
            if removes {
                change.remove = vec![voters.swap_remove(rng.index(voters.len()))];
            } else if let Some(spare) = self.start_spare() {
                change.add = vec![(spare, Purpose::Stay)];
            } else {
                break;
            }
            if !self.can_change(&change) {
                break;
            }
            self.ask_for_change(asked, &change);
            changes.push(change);
        }
        let what = format!("{changes:?}");
        match changes.len() {
            2 => Some(("fault: two changes at once", what)),
            _ => Some(("two changes at once: not possible", what)),
        }
    }

    /// A learner that stays one, for a while.
    pub(super) fn add_observer(&mut self, _: &mut Rng) -> Did {
        if !self.operator.activated {
            return None;
        }
        let asked = self.leader()?.1.server;
        let server = self.start_spare()?;
        let change = ChangeRequest {
            add: vec![(server, Purpose::Stay)],
            ..ChangeRequest::default()
        };
        self.ask_for_change(asked, &change);
        Some(("fault: learner that stays", format!("{server}")))
    }

    fn ask_for_change(&mut self, server: ServerId, change: &ChangeRequest) {
        let question = Question::Change {
            change: change.clone(),
            until: Until::Committed,
        };
        self.ask(Asker::Nobody, server, question);
    }

    /// A process in a place in which nobody is, nor will be wanted.
    fn start_spare(&mut self) -> Option<ServerId> {
        let place = self.spare_place()?;
        self.start(place);
        self.places[place].as_ref().map(|process| process.server)
    }
}
