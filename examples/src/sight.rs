//! What servers say of themselves: the answers to `Admin.Status` that every line of the stories
//! shows.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context, ensure};
use kontiki_proto::v1::{Configuration, Role, Server, StatusResponse};

/// One server's answer.
#[derive(Clone, Debug)]
pub struct Sight(pub StatusResponse);

impl Sight {
    fn server(&self) -> Option<&Server> {
        self.0.server.as_ref()
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.server().map_or("", |server| &server.server_id)
    }

    /// Name of its node.
    pub fn node(&self) -> &str {
        self.server().map_or("", |server| &server.node)
    }

    /// Where clients reach it.
    pub fn client_address(&self) -> &str {
        self.server().map_or("", |server| &server.client_address)
    }

    /// Id of the leader that it knows; empty if it knows none.
    pub fn leader(&self) -> &str {
        self.0
            .leader
            .as_ref()
            .map_or("", |leader| &leader.server_id)
    }

    /// Whether it leads.
    pub fn leads(&self) -> bool {
        self.0.role() == Role::Leader
    }

    /// Its configuration in one line.
    pub fn configuration(&self) -> String {
        let Some(configuration) = &self.0.configuration else {
            return "no configuration".into();
        };
        describe(configuration)
    }

    /// All servers of its configuration: voters, those of before during a change, learners.
    pub fn members(&self) -> BTreeSet<&str> {
        let configurations = self.0.configuration.iter();
        let ids = configurations.flat_map(|configuration| {
            let learners = configuration
                .learners
                .iter()
                .map(|learner| &learner.server_id);
            configuration
                .voters
                .iter()
                .chain(&configuration.outgoing)
                .chain(learners)
        });
        ids.map(String::as_str).collect()
    }
}

fn describe(configuration: &Configuration) -> String {
    let Configuration {
        index,
        committed,
        voters,
        outgoing,
        learners,
    } = configuration;
    let state = if *committed {
        "committed"
    } else {
        "not committed"
    };
    let mut text = format!(
        "configuration of index {index}, {state}: {} voters",
        voters.len()
    );
    for voter in voters {
        text.push_str(&format!(" {voter}"));
    }
    if !outgoing.is_empty() {
        text.push_str(&format!("; outgoing {}", outgoing.join(" ")));
    }
    for learner in learners {
        text.push_str(&format!(
            "; learner {} ({})",
            learner.server_id, learner.purpose
        ));
    }
    text
}

impl fmt::Display for Sight {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status) = self;
        let role = status.role().as_str_name().to_lowercase();
        write!(
            out,
            "{:<7} {}  {role:<9} term {}",
            self.node(),
            self.id(),
            status.term
        )?;
        let (last, commit) = (status.last_index, status.commit_index);
        write!(
            out,
            "  last {last}  committed {commit}  applied {}",
            status.applied_index
        )?;
        match self.leader() {
            "" => write!(out, "  knows no leader"),
            leader => write!(out, "  led by {leader}"),
        }
    }
}

/// Checks that all agree on one serving leader in one term of one cluster; returns it.
///
/// # Errors
/// What they do not agree on.
pub fn agreed_leader(sights: &[Sight]) -> anyhow::Result<&Sight> {
    let first = sights.first().context("no server answers")?;
    let mut leaders = sights.iter().filter(|sight| sight.leads());
    let leader = leaders
        .next()
        .with_context(|| format!("none leads; {first}"))?;
    if let Some(second) = leaders.next() {
        anyhow::bail!("two lead: {leader}; {second}");
    }
    ensure!(
        leader.0.serving,
        "{} leads without a quorum that answers",
        leader.node()
    );
    for sight in sights {
        let node = sight.node();
        let (theirs, ours) = (&sight.0, &leader.0);
        ensure!(
            sight.leader() == leader.id(),
            "{node} does not follow {}: {sight}",
            leader.id()
        );
        ensure!(
            theirs.term == ours.term,
            "{node} is in term {}, not {}",
            theirs.term,
            ours.term
        );
        let (theirs, ours) = (&theirs.cluster_id, &ours.cluster_id);
        ensure!(
            theirs == ours && !ours.is_empty(),
            "{node} is in cluster {theirs:?}, not {ours:?}"
        );
    }
    Ok(leader)
}

/// As [`agreed_leader`]; and that the leader has committed an entry of its term, and all have all
/// of the log, committed and applied.
///
/// # Errors
/// Who is behind.
pub fn at_rest(sights: &[Sight]) -> anyhow::Result<&Sight> {
    let leader = agreed_leader(sights)?;
    ensure!(
        leader.0.term_committed,
        "nothing of its term is committed yet: {leader}"
    );
    let last = leader.0.last_index;
    for sight in sights {
        let StatusResponse {
            last_index,
            commit_index,
            applied_index,
            ..
        } = sight.0;
        let all = [last_index, commit_index, applied_index] == [last; 3];
        ensure!(all, "not at index {last} yet: {sight}");
    }
    Ok(leader)
}

/// Checks that all have the same committed configuration, at rest, of exactly these voters.
///
/// # Errors
/// Who has another.
pub fn same_voters(sights: &[Sight], voters: &BTreeSet<String>) -> anyhow::Result<()> {
    let mut index = None;
    for sight in sights {
        let configuration = sight.0.configuration.as_ref();
        let configuration = configuration.with_context(|| format!("{sight}: none"))?;
        let has: BTreeSet<String> = configuration.voters.iter().cloned().collect();
        let at_rest = configuration.outgoing.is_empty() && configuration.learners.is_empty();
        let told = || format!("{} has the {}", sight.node(), describe(configuration));
        ensure!(
            has == *voters,
            "{}; it should be {} voters: {voters:?}",
            told(),
            voters.len()
        );
        ensure!(
            configuration.committed && at_rest,
            "{}; a change is in flight",
            told()
        );
        let first = *index.get_or_insert(configuration.index);
        ensure!(
            configuration.index == first,
            "{}; another has that of index {first}",
            told()
        );
    }
    Ok(())
}

/// Ids of the servers that answered.
pub fn ids(sights: &[Sight]) -> BTreeSet<String> {
    sights.iter().map(|sight| sight.id().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(id: &str, leader: &str) -> Sight {
        let server = |id: &str| Server {
            server_id: id.into(),
            ..Server::default()
        };
        let leads = id == leader;
        Sight(StatusResponse {
            cluster_id: "c".into(),
            server: Some(server(id)),
            role: i32::from(if leads { Role::Leader } else { Role::Follower }),
            serving: leads,
            term: 2,
            leader: Some(server(leader)),
            configuration: Some(Configuration {
                index: 1,
                committed: true,
                voters: vec!["a".into(), "b".into()],
                ..Configuration::default()
            }),
            ..StatusResponse::default()
        })
    }

    /// A way to spoil what a server says.
    type Spoil = fn(&mut StatusResponse);

    #[test]
    fn a_leader_is_agreed_on_by_all_or_not_at_all() {
        let good = [sight("a", "a"), sight("b", "a")];
        assert_eq!(agreed_leader(&good).unwrap().id(), "a");
        let table: [(&str, usize, Spoil); 6] = [
            ("none leads", 0, |a| a.role = i32::from(Role::Follower)),
            ("two lead", 1, |b| b.role = i32::from(Role::Leader)),
            ("without a quorum", 0, |a| a.serving = false),
            ("does not follow", 1, |b| b.leader = None),
            ("in term 3", 1, |b| b.term = 3),
            ("in cluster", 1, |b| b.cluster_id = "d".into()),
        ];
        for (expected, which, spoil) in table {
            let mut sights = good.clone();
            spoil(&mut sights[which].0);
            let error = agreed_leader(&sights).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        assert!(agreed_leader(&[]).is_err());
    }

    #[test]
    fn at_rest_all_have_applied_all_of_the_log() {
        let mut sights = [sight("a", "a"), sight("b", "a")];
        for sight in &mut sights {
            let StatusResponse {
                last_index,
                commit_index,
                applied_index,
                ..
            } = &mut sight.0;
            (*last_index, *commit_index, *applied_index) = (4, 4, 4);
        }
        assert!(
            at_rest(&sights).is_err(),
            "nothing of the term is committed"
        );
        sights[0].0.term_committed = true;
        at_rest(&sights).unwrap();
        sights[1].0.applied_index = 3;
        assert!(at_rest(&sights).is_err());
    }

    #[test]
    fn voters_are_those_and_committed_everywhere() {
        let sights = [sight("a", "a"), sight("b", "a")];
        same_voters(&sights, &ids(&sights)).unwrap();
        assert!(same_voters(&sights, &ids(&sights[..1])).is_err());
        let table: [Spoil; 4] = [
            |b| b.configuration.as_mut().unwrap().committed = false,
            |b| b.configuration.as_mut().unwrap().outgoing = vec!["c".into()],
            |b| b.configuration.as_mut().unwrap().index = 2,
            |b| b.configuration = None,
        ];
        for spoil in table {
            let mut sights = sights.clone();
            spoil(&mut sights[1].0);
            assert!(same_voters(&sights, &ids(&sights)).is_err());
        }
    }
}
