//! The story: 3 servers, 5, 3, a kill and a replacement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kontiki_client::Client;

use super::world::{LocalWorld, Node};
use crate::calls::{Calls, Pairs};
use crate::narrator::{Failed, Narrator};
use crate::process::Process;
use crate::sight::{Sight, at_rest, ids, same_voters};

/// Steps of this part, by their titles.
#[allow(missing_docs)] // the title says it
pub mod step {
    pub const READY: &str = "the operator makes a cluster of 3 servers from the manifest";
    pub const WRITE: &str = "keys are written, and are on every server";
    pub const SCALE_UP: &str = "the manifest is edited: replicas 3 -> 5";
    pub const SCALE_DOWN: &str = "the manifest is edited: replicas 5 -> 3";
    pub const KILL: &str = "kill -9 of the leader's process: the others go on";
    pub const REPLACE: &str = "the operator replaces the server that was killed";
    pub const STILL_THERE: &str = "every key is still there, linearizably and on every server";
    pub const STOP: &str = "the operator is interrupted: no process is left";
}

/// How long steps may take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Bound of every wait but for the replacement.
    pub patience: Duration,
    /// Bound of the wait for the replacement.
    pub replacement_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let bound = Duration::from_secs(40);
        Self {
            patience: bound,
            replacement_max: bound,
        }
    }
}

/// Keys that are written before each disturbance.
const KEYS: usize = 20;

/// Tells this part about `world`, whose manifest wants 3 replicas. `world` must be ended, however
/// the story ends.
///
/// # Errors
/// The step that does not hold.
pub async fn tell(
    calls: &dyn Calls,
    narrator: &Narrator,
    timing: Timing,
    world: &mut LocalWorld,
) -> Result<(), Failed> {
    narrator.part("Part two: a cluster of processes, kept by the operator as its manifest says");
    let mut story = Story {
        calls,
        narrator,
        timing,
        world,
        written: Pairs::new(),
    };
    narrator.step(step::READY, story.ready()).await?;
    narrator.step(step::WRITE, story.write("at-three")).await?;
    narrator.step(step::SCALE_UP, story.scale_up()).await?;
    narrator.step(step::SCALE_DOWN, story.scale_down()).await?;
    let killed = narrator.step(step::KILL, story.kill()).await?;
    narrator.step(step::REPLACE, story.replace(&killed)).await?;
    narrator
        .step(step::STILL_THERE, story.still_there())
        .await?;
    narrator.step(step::STOP, story.stop()).await
}

struct Story<'a> {
    calls: &'a dyn Calls,
    narrator: &'a Narrator,
    timing: Timing,
    world: &'a mut LocalWorld,
    /// Every write that was acknowledged.
    written: Pairs,
}

/// What runs, and what each says of itself.
type Seen = Vec<(Node, Sight)>;

/// Who was killed.
struct Killed {
    node: String,
    server: String,
    process: Process,
}

impl Story<'_> {
    async fn ready(&mut self) -> anyhow::Result<()> {
        let (pid, file) = (self.world.operator(), self.world.manifest());
        self.narrator.line(format!(
            "kontiki-operator local {}, pid {pid}",
            file.display()
        ));
        let seen = self.settled(3, "3 ready voters").await?;
        self.show(&seen)
    }

    /// Writes keys, and reads them from every server.
    async fn write(&mut self, prefix: &str) -> anyhow::Result<()> {
        let client = self.client().await?;
        let mut revision = 0;
        for number in 0..KEYS {
            let (key, value) = (format!("{prefix}/{number:02}"), format!("value {number}"));
            revision = self.calls.put(&client, &key, &value).await?;
            self.written.insert(key, value);
        }
        self.narrator.line(format!(
            "Kv.Put of {KEYS} keys {prefix}/.. -> revision {revision}"
        ));
        self.everywhere().await
    }

    async fn scale_up(&mut self) -> anyhow::Result<()> {
        self.world.edit_replicas(5)?;
        let seen = self.settled(5, "5 ready voters").await?;
        self.show(&seen)?;
        self.write("at-five").await
    }

    async fn scale_down(&mut self) -> anyhow::Result<()> {
        let before = self.settled(5, "5 ready voters").await?;
        self.world.edit_replicas(3)?;
        let seen = self.settled(3, "3 ready voters").await?;
        let stay: BTreeSet<String> = seen
            .iter()
            .map(|(_, sight)| sight.id().to_owned())
            .collect();
        for (node, sight) in before
            .iter()
            .filter(|(_, sight)| !stay.contains(sight.id()))
        {
            for (_, member) in &seen {
                let members = member.members();
                ensure!(
                    !members.contains(sight.id()),
                    "{} is still a member: {member}",
                    node.name
                );
            }
            let pid = node.process.pid;
            ensure!(
                !node.process.is_alive(),
                "{} still runs, pid {pid}",
                node.name
            );
            let id = sight.id();
            self.narrator.line(format!(
                "{} {id} is in no configuration, pid {pid} gone",
                node.name
            ));
        }
        self.show(&seen)?;
        self.everywhere().await
    }

    /// Kills the leader, and writes.
    async fn kill(&mut self) -> anyhow::Result<Killed> {
        let seen = self.settled(3, "3 ready voters").await?;
        let (node, leader) = leader_of(&seen)?;
        self.narrator.line(leader);
        let client = client_of(&seen)?;
        let killed = Killed {
            node: node.name.clone(),
            server: leader.id().to_owned(),
            process: node.process,
        };
        self.calls.kill(node.process).await?;
        let since = Instant::now();
        let (key, value) = ("after-the-kill".to_owned(), "still here".to_owned());
        let revision = self.calls.put(&client, &key, &value).await?;
        let gap = since.elapsed().as_millis();
        self.written.insert(key, value);
        self.narrator.line(format!(
            "kill -9 {} ({}); {gap} ms later a Kv.Put is acknowledged, revision {revision}",
            killed.process.pid, killed.node
        ));
        ensure!(
            !killed.process.is_alive(),
            "pid {} has survived SIGKILL",
            killed.process.pid
        );
        let survivors = seen.iter().filter(|(node, _)| node.name != killed.node);
        let survivors: Vec<Node> = survivors.map(|(node, _)| node.clone()).collect();
        let look = async || {
            let seen = self.look_at(&survivors).await?;
            let new = seen.iter().find(|(_, sight)| sight.leads());
            let (_, new) = new.context("none of the others leads yet")?;
            ensure!(new.0.term > leader.0.term, "no new term: {new}");
            Ok(new.clone())
        };
        let new = self
            .narrator
            .until("a new leader", self.timing.patience, look)
            .await?;
        self.narrator.line(new);
        Ok(killed)
    }

    async fn replace(&mut self, killed: &Killed) -> anyhow::Result<()> {
        let Killed {
            node,
            server,
            process,
        } = killed;
        let bound = self.timing.replacement_max;
        let seen = self
            .settled_within(bound, 3, "3 ready voters again")
            .await?;
        let (new, sight) = seen
            .iter()
            .find(|(new, _)| new.name == *node)
            .context("no such node any more")?;
        ensure!(
            sight.id() != server,
            "{node} has the id of the server that was killed: {sight}"
        );
        ensure!(
            new.process != *process,
            "{node} has the process that was killed"
        );
        for (_, sight) in &seen {
            ensure!(
                !sight.members().contains(server.as_str()),
                "{server} is a member: {sight}"
            );
        }
        let (old, new) = (process.pid, new.process.pid);
        self.narrator.line(format!(
            "{node}: server {server}, pid {old}, is in no configuration"
        ));
        self.narrator
            .line(format!("{node}: server {}, pid {new}, votes", sight.id()));
        self.show(&seen)
    }

    async fn still_there(&mut self) -> anyhow::Result<()> {
        self.everywhere().await
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        let pid = self.world.operator();
        let status = self.world.interrupt().await?;
        self.narrator.line(format!("kill -INT {pid} -> {status}"));
        let left = self.world.left_over()?;
        ensure!(left.is_empty(), "still running: {left:?}");
        let count = self.world.processes_seen();
        self.narrator.line(format!(
            "of {count} processes, by pid and start time, none is left"
        ));
        Ok(())
    }

    /// Reads all keys from the leader, and from every server what it has applied: each must have
    /// exactly what was acknowledged.
    async fn everywhere(&mut self) -> anyhow::Result<()> {
        let seen = self.look().await?;
        let client = client_of(&seen)?;
        let pairs = self.calls.pairs(&client).await?;
        same_pairs(&pairs, &self.written).context("a linearizable read")?;
        self.narrator.line(format!(
            "Kv.Range, linearizable -> {} keys, all as written",
            pairs.len()
        ));
        for (node, _) in &seen {
            let look = async || {
                let pairs = self.calls.pairs_at(&client, &node.client).await?;
                same_pairs(&pairs, &self.written)?;
                Ok(pairs.len())
            };
            let what = format!("every key on {}", node.name);
            let count = self
                .narrator
                .until(&what, self.timing.patience, look)
                .await?;
            let sight = self.calls.status(&node.peer).await?;
            let (applied, id) = (sight.0.applied_index, sight.id());
            let name = &node.name;
            self.narrator.line(format!(
                "Kv.Range at {name} {id}, applied {applied} -> {count} keys"
            ));
        }
        Ok(())
    }

    async fn client(&mut self) -> anyhow::Result<Client> {
        client_of(&self.look().await?)
    }

    /// Every node that runs, and what its server says now.
    async fn look(&mut self) -> anyhow::Result<Seen> {
        let nodes = self.world.nodes()?;
        self.look_at(&nodes).await
    }

    async fn look_at(&self, nodes: &[Node]) -> anyhow::Result<Seen> {
        let mut seen = Vec::new();
        for node in nodes {
            let sight = self.calls.status(&node.peer).await;
            let sight = sight.with_context(|| format!("{} does not answer", node.name))?;
            ensure!(
                sight.node() == node.name,
                "{} answers for {}",
                sight.node(),
                node.name
            );
            seen.push((node.clone(), sight));
        }
        Ok(seen)
    }

    async fn settled(&mut self, count: usize, what: &str) -> anyhow::Result<Seen> {
        self.settled_within(self.timing.patience, count, what).await
    }

    /// Waits until so many servers run, all ready, at rest, and voters of one configuration that
    /// has no others.
    async fn settled_within(
        &mut self,
        bound: Duration,
        count: usize,
        what: &str,
    ) -> anyhow::Result<Seen> {
        let narrator = self.narrator;
        let look = async || {
            let seen = self.look().await?;
            ensure!(seen.len() == count, "{} nodes run, not {count}", seen.len());
            let sights = sights(&seen);
            at_rest(&sights)?;
            same_voters(&sights, &ids(&sights))?;
            for sight in &sights {
                ensure!(sight.0.activated && sight.0.ready, "not ready: {sight}");
            }
            Ok(seen)
        };
        narrator.until(what, bound, look).await
    }

    fn show(&self, seen: &Seen) -> anyhow::Result<()> {
        for (node, sight) in seen {
            self.narrator
                .line(format!("{sight}  pid {}", node.process.pid));
        }
        let (_, leader) = leader_of(seen)?;
        self.narrator.line(leader.configuration());
        Ok(())
    }
}

fn sights(seen: &Seen) -> Vec<Sight> {
    seen.iter().map(|(_, sight)| sight.clone()).collect()
}

fn leader_of(seen: &Seen) -> anyhow::Result<(&Node, &Sight)> {
    let leader = seen
        .iter()
        .find(|(_, sight)| sight.leads())
        .context("none leads")?;
    Ok((&leader.0, &leader.1))
}

fn client_of(seen: &Seen) -> anyhow::Result<Client> {
    Ok(Client::new(
        seen.iter().map(|(node, _)| node.client.as_str()),
    )?)
}

/// Checks that what was read is what was written, and names the first keys that differ.
fn same_pairs(read: &Pairs, written: &Pairs) -> anyhow::Result<()> {
    let differ = |one: &Pairs, other: &Pairs| -> BTreeMap<String, String> {
        one.iter()
            .filter(|(key, value)| other.get(*key) != Some(*value))
            .map(own)
            .collect()
    };
    let (lost, strange) = (differ(written, read), differ(read, written));
    ensure!(
        lost.is_empty() && strange.is_empty(),
        "of {} keys written {} are lost: {:?}; {} were never written so: {:?}",
        written.len(),
        lost.len(),
        lost.keys().take(3).collect::<Vec<_>>(),
        strange.len(),
        strange.keys().take(3).collect::<Vec<_>>()
    );
    Ok(())
}

fn own((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_and_changed_and_strange_keys_are_named() {
        let pairs = |list: &[(&str, &str)]| -> Pairs {
            list.iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let written = pairs(&[("a", "1"), ("b", "2")]);
        same_pairs(&written, &written).unwrap();
        for (read, named) in [
            (pairs(&[("a", "1")]), "1 are lost: [\"b\"]"),
            (pairs(&[("a", "1"), ("b", "3")]), "1 are lost: [\"b\"]"),
            (
                pairs(&[("a", "1"), ("b", "2"), ("c", "3")]),
                "never written so: [\"c\"]",
            ),
        ] {
            let error = same_pairs(&read, &written).unwrap_err().to_string();
            assert!(error.contains(named), "{named}: {error}");
        }
    }
}
