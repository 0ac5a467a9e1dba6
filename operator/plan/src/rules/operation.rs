//! Rule 7: an operation in flight. Learners on their way are waited for; those that a newer spec
//! does not want leave.

use crate::ids::ServerId;
use crate::inventory::Purpose;
use crate::plan::Draft;
use crate::rules::{Flow, replace};
use crate::step::Step;
use crate::survey::{Fate, Survey};

pub(crate) fn apply(survey: &Survey<'_>, draft: &mut Draft) -> Flow {
    let (Some(record), Some(configuration), Some(leader)) =
        (survey.record, &survey.configuration, survey.ready_leader())
    else {
        return Flow::Continue;
    };
    if draft.changing {
        return Flow::Continue;
    }
    // Learners that people added to stay are theirs.
    let joining = configuration.learners.iter();
    let joining = joining.filter(|(_, purpose)| **purpose != Purpose::Stay);
    let is_wanted = |server: ServerId, purpose: Purpose| {
        let is_placed = match survey.ordinal(server) {
            Some(ordinal) => ordinal < survey.wanted.replicas,
            None => survey.fate(server) != Fate::Lost,
        };
        let is_obsolete = match purpose {
            Purpose::Replace(lost) => !configuration.voters.contains(&lost),
            Purpose::Join | Purpose::Stay => false,
        };
        is_placed && !is_obsolete
    };
    let (wanted, unwanted): (Vec<_>, Vec<_>) =
        joining.partition(|(server, purpose)| is_wanted(**server, **purpose));
    if !unwanted.is_empty() {
        draft.step(Step::Remove {
            via: leader.server(),
            cluster: record.cluster,
            servers: unwanted.into_iter().map(|(server, _)| *server).collect(),
            configuration_index: configuration.index,
        });
        return Flow::Continue;
    }
    let (dead, living): (Vec<ServerId>, Vec<ServerId>) = wanted
        .into_iter()
        .map(|(server, _)| *server)
        .partition(|server| survey.fate(*server) == Fate::Lost);
    let (hopeless, moving): (Vec<ServerId>, Vec<ServerId>) = living
        .into_iter()
        .partition(|server| survey.is_hopeless(*server));
    if !moving.is_empty() {
        draft.block(replace::waiting(leader, moving));
    }
    for server in hopeless.into_iter().chain(dead) {
        let home = survey.home(server).cloned().unwrap_or_default();
        let admissible = survey.admissible();
        if !admissible.iter().any(|seen| seen.node.name == home) {
            draft.block(replace::no_substitute(survey, server));
        }
    }
    Flow::Continue
}
