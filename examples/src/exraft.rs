//! Part one: the story that ExRaft's README tells, by a program with servers inside.
//!
//! The program does what ExRaft's does, with the calls of [`Server`]; what it claims is read from
//! each server over gRPC.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kontiki_client::{Address, Consistency, Error, local_reason};
use kontiki_node::config::RaftSettings;
use kontiki_node::{Server, ServerOptions};

use crate::calls::{Calls, WriteAnswer};
use crate::guestbook::{ALL, Guestbook};
use crate::narrator::{Failed, Narrator};
use crate::sight::{Sight, agreed_leader, at_rest, ids, same_voters};

/// Steps of this part, by their titles.
#[allow(missing_docs)] // the title says it
pub mod step {
    pub const ELECT: &str = "raft1 and raft2, with initial_config, elect a leader";
    pub const ALONE: &str =
        "raft3, with min_majority 2, never leads by itself; a control without it does";
    pub const ADD: &str = "the leader adds raft3";
    pub const WRITE: &str = "a write to the leader is on all three";
    pub const REDIRECT: &str = "a write to a follower is answered with a redirect to the leader";
    pub const STOP: &str = "the leader is stopped";
    pub const TRIGGER: &str = "an election is triggered on raft3: there is a new leader";
    pub const STILL_THERE: &str = "what was written is still there";
    pub const END: &str = "all servers are stopped";
}

/// Heartbeats of all servers.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// Their shortest election timeout; the longest is twice that.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);
/// How many of the longest election timeouts raft3 is watched for.
const TIMEOUTS_WATCHED: u32 = 4;
/// Pause between two looks at raft3.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);
/// What is written first, by the program; and second, over gRPC.
const LINES: [&str; 2] = ["hello", "hello over gRPC"];
/// What is written to a follower, and is nowhere.
const REFUSED: &str = "hello, follower";

/// Tells this part. No step waits longer than `patience` for what it claims.
///
/// # Errors
/// The step that does not hold. All servers have ended, however it ends.
pub async fn tell(
    calls: &dyn Calls,
    narrator: &Narrator,
    patience: Duration,
) -> Result<(), Failed> {
    narrator.part("Part one: ExRaft's README, told by an embedded program");
    let mut story = Story {
        calls,
        narrator,
        patience,
        servers: Vec::new(),
    };
    narrator.step(step::ELECT, story.elect()).await?;
    let raft3 = narrator.step(step::ALONE, story.alone()).await?;
    narrator.step(step::ADD, story.add(raft3)).await?;
    narrator.step(step::WRITE, story.write()).await?;
    narrator.step(step::REDIRECT, story.redirect()).await?;
    let stopped = narrator.step(step::STOP, story.stop()).await?;
    narrator
        .step(step::TRIGGER, story.trigger(&stopped))
        .await?;
    narrator
        .step(step::STILL_THERE, story.still_there())
        .await?;
    narrator.step(step::END, story.end()).await
}

struct Story<'a> {
    calls: &'a dyn Calls,
    narrator: &'a Narrator,
    patience: Duration,
    /// Those that run. Dropped, they end.
    servers: Vec<Server>,
}

impl Story<'_> {
    async fn elect(&mut self) -> anyhow::Result<()> {
        // The ports are known before the servers are started, so that each can name the other.
        let names = ["raft1", "raft2"];
        let mut listeners = Vec::new();
        for _ in names {
            listeners.push(TcpListener::bind("127.0.0.1:0")?);
        }
        let mut initial_config = Vec::new();
        for (name, listener) in names.into_iter().zip(&listeners) {
            initial_config.push((name.to_owned(), listener.local_addr()?.to_string()));
        }
        for (name, listener) in names.into_iter().zip(listeners) {
            self.servers.push(start(ServerOptions {
                peer_listener: Some(listener),
                initial_config: initial_config.clone(),
                ..options(name, 1)
            })?);
        }
        // Any server can be asked to await the leader.
        let leader = self.servers[0].await_leader(self.patience).await?;
        self.narrator
            .line(format!("raft1 awaited the leader: {}", leader.name));
        let sights = self.settled("a leader").await?;
        self.show(&sights)
    }

    /// Starts raft3 and the control; raft3 goes on.
    async fn alone(&mut self) -> anyhow::Result<Server> {
        let control = start(options("control", 1))?;
        let raft3 = start(options("raft3", 2))?;
        let look = async || {
            let sight = self.look(&control).await?;
            ensure!(sight.leads(), "{sight}");
            Ok(sight)
        };
        let sight = self
            .narrator
            .until("the control to lead", self.patience, look)
            .await?;
        self.narrator.line(sight);
        self.watch(&raft3).await?;
        control.stop("told to").await;
        Ok(raft3)
    }

    /// Looks at a server again and again: it must neither lead nor know a leader.
    async fn watch(&self, server: &Server) -> anyhow::Result<()> {
        let longest = ELECTION_TIMEOUT * 2;
        let watched = longest * TIMEOUTS_WATCHED;
        let started = Instant::now();
        let mut told = started;
        let mut looks = 0;
        loop {
            let sight = self.look(server).await?;
            looks += 1;
            ensure!(!sight.leads() && sight.leader().is_empty(), "{sight}");
            let elapsed = started.elapsed();
            if elapsed >= watched {
                self.narrator.line(&sight);
                self.narrator.line(format!(
                    "{} has led at none of {looks} looks within {:.1} s, {TIMEOUTS_WATCHED} times \
                     its longest election timeout",
                    sight.node(),
                    elapsed.as_secs_f64()
                ));
                return Ok(());
            }
            if told.elapsed() >= Duration::from_secs(2) {
                told = Instant::now();
                self.narrator
                    .waiting("raft3 to lead, which it must not", elapsed, &sight);
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }

    async fn add(&mut self, raft3: Server) -> anyhow::Result<()> {
        let (leader, _) = self.leader().await?;
        leader.add_server(&raft3.me().peer_address).await?;
        self.servers.push(raft3);
        let sights = self.settled("three voters").await?;
        self.show(&sights)
    }

    async fn write(&mut self) -> anyhow::Result<()> {
        let (leader, sight) = self.leader().await?;
        let reply = leader.write(LINES[0]).await?;
        let reply = String::from_utf8_lossy(&reply);
        self.narrator.line(format!(
            "{}.write({:?}) -> {reply:?}",
            sight.node(),
            LINES[0]
        ));
        let answer = self.calls.write(sight.client_address(), LINES[1]).await?;
        let written = match answer {
            WriteAnswer::Accepted(written) => written,
            WriteAnswer::Redirected { leader, .. } => bail!("{sight} sent the write to {leader}"),
        };
        self.narrator.line(format!(
            "Data.Write({:?}) to {} -> {:?}, index {}, term {}",
            LINES[1],
            sight.node(),
            String::from_utf8_lossy(&written.reply),
            written.index,
            written.term
        ));
        ensure!(
            &written.reply[..] == b"2",
            "the machine answers {:?}, not 2",
            written.reply
        );
        ensure!(
            written.term == sight.0.term,
            "written in term {}; {sight}",
            written.term
        );
        let look = async || {
            for server in &self.servers {
                let sight = self.look(server).await?;
                ensure!(sight.0.applied_index >= written.index, "{sight}");
                self.has_lines(&sight, Consistency::Stale).await?;
            }
            self.look_at_all().await
        };
        let sights = self
            .narrator
            .until("the write on all", self.patience, look)
            .await?;
        self.show(&sights)
    }

    async fn redirect(&mut self) -> anyhow::Result<()> {
        let (_, leader) = self.leader().await?;
        let follower = self
            .servers
            .iter()
            .find(|server| server.me().name != leader.node());
        let follower = follower.context("no follower")?;
        let sight = self.look(follower).await?;
        self.narrator.line(&leader);
        self.narrator.line(&sight);
        match follower.write(REFUSED).await {
            Err(kontiki_node::Error::NotLeader { leader: named }) => {
                self.narrator.line(format!(
                    "{}.write() -> {} {}",
                    sight.node(),
                    named.name,
                    named.id
                ));
                ensure!(
                    named.id.to_string() == leader.id(),
                    "{} does not lead",
                    named.name
                );
            }
            other => bail!(
                "{}.write() is answered with {other:?}, not a redirect",
                sight.node()
            ),
        }
        match self.calls.write(sight.client_address(), REFUSED).await? {
            WriteAnswer::Redirected {
                leader: named,
                address,
            } => {
                let node = sight.node();
                self.narrator.line(format!(
                    "Data.Write to {node} -> NOT_LEADER, {named} {address}"
                ));
                ensure!(named == leader.id(), "{named} does not lead: {leader}");
                let known = leader.client_address();
                ensure!(address == known, "{named} is at {known}, not {address}");
            }
            WriteAnswer::Accepted(written) => {
                bail!(
                    "the follower accepts the write, as index {}: {sight}",
                    written.index
                )
            }
        }
        let after = self.look(self.server(leader.node())?).await?;
        let book = self
            .calls
            .read(leader.client_address(), ALL, Consistency::Linearizable)
            .await?;
        ensure!(
            !book.contains(REFUSED),
            "the refused write is in the book: {book:?}"
        );
        ensure!(
            after.0.last_index == leader.0.last_index,
            "the log has grown: {leader}; {after}"
        );
        self.narrator.line(after);
        Ok(())
    }

    /// Stops the leader, and returns what it said last.
    async fn stop(&mut self) -> anyhow::Result<Sight> {
        let (_, sight) = self.leader().await?;
        self.narrator.line(&sight);
        ensure!(
            sight.node() != "raft3",
            "raft3 leads already; nobody asked it to"
        );
        let at = self
            .servers
            .iter()
            .position(|server| server.me().name == sight.node());
        let leader = self
            .servers
            .remove(at.context("the leader is not among the servers")?);
        let peer: Address = leader.me().peer_address.parse()?;
        leader.stop("told to").await;
        self.gone(sight.node(), &peer).await?;
        Ok(sight)
    }

    async fn trigger(&mut self, stopped: &Sight) -> anyhow::Result<()> {
        let raft3 = self.server("raft3")?;
        self.narrator.line(self.look(raft3).await?);
        let term = raft3.trigger_election().await?;
        self.narrator
            .line(format!("raft3.trigger_election() -> term {}", term.0));
        let look = async || {
            let leader = raft3.await_leader(self.patience).await?;
            let sights = self.look_at_all().await?;
            let agreed = at_rest(&sights)?;
            ensure!(
                agreed.node() == leader.name,
                "raft3 names {}: {agreed}",
                leader.name
            );
            ensure!(agreed.0.term > stopped.0.term, "no new term: {agreed}");
            ensure!(
                agreed.id() != stopped.id(),
                "the stopped server leads: {agreed}"
            );
            Ok(sights)
        };
        let sights = self
            .narrator
            .until("a new leader", self.patience, look)
            .await?;
        self.show(&sights)
    }

    async fn still_there(&mut self) -> anyhow::Result<()> {
        let look = async || {
            let sights = self.look_at_all().await?;
            agreed_leader(&sights).cloned()
        };
        let leader = self
            .narrator
            .until("the leader", self.patience, look)
            .await?;
        self.narrator.line(&leader);
        let book = self.has_lines(&leader, Consistency::Linearizable).await?;
        self.narrator.line(format!(
            "Data.Read from {}, linearizable -> {book:?}",
            leader.node()
        ));
        let embedded = self.server(leader.node())?.read(ALL).await?;
        ensure!(
            embedded == book.as_bytes(),
            "{}.read() -> {embedded:?}",
            leader.node()
        );
        Ok(())
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        while let Some(server) = self.servers.pop() {
            let (name, peer) = (server.me().name.clone(), server.me().peer_address.parse()?);
            server.stop("told to").await;
            self.gone(&name, &peer).await?;
        }
        Ok(())
    }

    /// Waits until nothing takes a connection where a server was.
    async fn gone(&self, name: &str, peer: &Address) -> anyhow::Result<()> {
        let look = async || match self.calls.status(peer).await {
            Ok(sight) => bail!("it still answers: {sight}"),
            Err(error) => match error.downcast_ref::<Error>().and_then(Error::reason) {
                Some(local_reason::UNREACHABLE) => Ok(error),
                _ => Err(error),
            },
        };
        let what = format!("{name} to be gone");
        let error = self.narrator.until(&what, self.patience, look).await?;
        self.narrator
            .line(format!("Admin.Status of {name} -> {error:#}"));
        Ok(())
    }

    /// The book on a server, which must hold exactly what was written.
    async fn has_lines(&self, sight: &Sight, how: Consistency) -> anyhow::Result<String> {
        let book = self.calls.read(sight.client_address(), ALL, how).await?;
        ensure!(
            book.lines().eq(LINES),
            "{} has {book:?}, not {LINES:?}",
            sight.node()
        );
        Ok(book)
    }

    async fn look(&self, server: &Server) -> anyhow::Result<Sight> {
        let me = server.me();
        let sight = self.calls.status(&me.peer_address.parse()?).await?;
        ensure!(
            sight.id() == me.id.to_string(),
            "another answers for {}: {sight}",
            me.name
        );
        Ok(sight)
    }

    async fn look_at_all(&self) -> anyhow::Result<Vec<Sight>> {
        let mut sights = Vec::new();
        for server in &self.servers {
            sights.push(self.look(server).await?);
        }
        Ok(sights)
    }

    /// Waits until all servers agree on a leader, on what is committed, and that they are all the
    /// voters.
    async fn settled(&self, what: &str) -> anyhow::Result<Vec<Sight>> {
        let look = async || {
            let sights = self.look_at_all().await?;
            at_rest(&sights)?;
            same_voters(&sights, &ids(&sights))?;
            Ok(sights)
        };
        self.narrator.until(what, self.patience, look).await
    }

    /// The leader, and what it says.
    async fn leader(&self) -> anyhow::Result<(&Server, Sight)> {
        let sights = self.settled("the leader").await?;
        let sight = agreed_leader(&sights)?;
        Ok((self.server(sight.node())?, sight.clone()))
    }

    fn server(&self, name: &str) -> anyhow::Result<&Server> {
        let server = self.servers.iter().find(|server| server.me().name == name);
        server.with_context(|| format!("{name} does not run"))
    }

    fn show(&self, sights: &[Sight]) -> anyhow::Result<()> {
        for sight in sights {
            self.narrator.line(sight);
        }
        self.narrator.line(agreed_leader(sights)?.configuration());
        Ok(())
    }
}

fn options(name: &str, min_majority: usize) -> ServerOptions {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    ServerOptions {
        name: name.to_owned(),
        raft: RaftSettings {
            heartbeat_milliseconds: milliseconds(HEARTBEAT),
            election_timeout_milliseconds: milliseconds(ELECTION_TIMEOUT),
            min_majority,
            ..RaftSettings::default()
        },
        ..ServerOptions::default()
    }
}

fn start(options: ServerOptions) -> anyhow::Result<Server> {
    let name = options.name.clone();
    Server::start(Guestbook::default(), options).with_context(|| format!("start {name}"))
}
