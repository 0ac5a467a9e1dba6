//! Only votes and acknowledgements count that a voter of the configuration in force really gave: a
//! leader was elected by a quorum of votes that reached it, and what it commits is of its own term
//! and in the logs of a quorum (or was, when a member of it died). Nothing of an incarnation that was
//! replaced counts, nor anything of the incarnation in its place.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::{Configuration, ServerId, Term};

use super::quorum::is_quorum;
use super::{Invariant, Ledger, Turn};

/// See the module.
#[derive(Debug, Default)]
pub struct GenuineQuorum {
    /// Votes that reached a candidate, by candidate and term.
    votes: BTreeMap<(ServerId, Term), BTreeSet<ServerId>>,
}

impl Invariant for GenuineQuorum {
    fn name(&self) -> &'static str {
        "genuine quorum"
    }

    fn check(&mut self, turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
        for (voter, term) in turn.votes {
            let votes = self.votes.entry((turn.server, *term)).or_default();
            votes.insert(*voter);
        }
        if turn.leads() && !turn.led() {
            self.elected(turn)?;
        }
        if turn.leads() && turn.led() && turn.status.commit > turn.before.commit {
            committed(turn, ledger)?;
        }
        Ok(())
    }
}

impl GenuineQuorum {
    fn elected(&self, turn: &Turn<'_>) -> Result<(), String> {
        let term = turn.status.standing.term;
        let votes = self.votes.get(&(turn.server, term));
        let voted =
            |server| server == turn.server || votes.is_some_and(|votes| votes.contains(&server));
        if !configurations(turn).any(|known| is_quorum(&known, turn.min_majority, voted)) {
            return Err(format!(
                "leads term {} with the votes {votes:?} alone",
                term.0
            ));
        }
        Ok(())
    }
}

/// The configurations in force during the turn. A server that is a quorum by itself may leave a joint
/// configuration and begin the next change in one turn: in between, half of the two was in force.
fn configurations(turn: &Turn<'_>) -> impl Iterator<Item = Configuration> {
    let before = turn.before.status.as_ref();
    let [before, after] = [before, Some(turn.status)]
        .map(|status| status.map(|status| status.configuration.configuration.clone()));
    let joint = before.as_ref().filter(|before| before.is_joint());
    let between = joint.and_then(|before| {
        let outgoing = after.as_ref()?.outgoing.as_ref()?;
        (*outgoing == before.voters).then(|| Configuration::of(outgoing.iter().copied()))
    });
    [before, between, after].into_iter().flatten()
}

fn committed(turn: &Turn<'_>, ledger: &Ledger) -> Result<(), String> {
    let commit = turn.status.commit;
    let id = ledger.log(turn.server)[commit.0 as usize - 1].id;
    let term = turn.status.standing.term;
    if id.term != term {
        let term = term.0;
        return Err(format!(
            "the leader of term {term} counted replicas of {id} (section 5.4.2)"
        ));
    }
    let holds = |server| {
        ledger
            .servers
            .get(&server)
            .is_some_and(|seen| seen.holds(id))
    };
    if !configurations(turn).any(|known| is_quorum(&known, turn.min_majority, holds)) {
        let known = &turn.status.configuration.configuration;
        return Err(format!(
            "{id} is committed without being held by a quorum of {known:?}"
        ));
    }
    Ok(())
}
