//! ExRaft's README, told in Rust: servers inside one program, with a state machine of its own.
//!
//! `cargo run -p kontiki-node --example exraft`

use std::collections::BTreeMap;
use std::error::Error;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use kontiki_node::driver::Refusal;
use kontiki_node::machine::{Effects, Typed, TypedMachine, Version};
use kontiki_node::{LogId, Server, ServerOptions};
use serde::{Deserialize, Serialize};

/// How long a leader, or its first entry, is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The state machine. Every server has one, and applies the same commands in the same order.
#[derive(Clone, Default, Serialize, Deserialize)]
struct KeyValueStore {
    pairs: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Put {
    key: String,
    value: String,
}

impl TypedMachine for KeyValueStore {
    const NAME: &'static str = "store";
    type Command = Put;
    type Reply = String;
    type Query = String;
    type Answer = Option<String>;

    fn check(_: Version, put: &Put) -> Result<(), String> {
        match put.key.is_empty() {
            true => Err("a key must not be empty".into()),
            false => Ok(()),
        }
    }

    fn apply(&mut self, _: Version, id: LogId, put: Put, effects: &mut Effects) -> String {
        let said = format!("{} was put by entry {id}", put.key);
        effects.push(id, move || {
            println!("   (the leader alone says: {said})");
            Ok(())
        });
        self.pairs.insert(put.key, put.value);
        "I GOT IT BOSS".into()
    }

    fn read(&self, key: String) -> Option<String> {
        self.pairs.get(&key).cloned()
    }
}

type Store = Typed<KeyValueStore>;

async fn put(server: &Server, key: &str, value: &str) -> Result<String, Box<dyn Error>> {
    let (key, value) = (key.to_owned(), value.to_owned());
    let command = Store::command(&Put { key, value })?;
    let reply = patiently(async || server.write(&command).await).await?;
    Ok(Store::reply(&reply)?)
}

async fn get(server: &Server, key: &str) -> Result<Option<String>, Box<dyn Error>> {
    let query = Store::query(&key.to_owned())?;
    let answer = patiently(async || server.read(&query).await).await?;
    Ok(Store::answer(&answer)?)
}

/// Calls again while a leader that was just elected has committed nothing yet: what is refused was
/// not done, so nothing is done twice.
async fn patiently<T>(call: impl AsyncFn() -> kontiki_node::Result<T>) -> kontiki_node::Result<T> {
    let start = Instant::now();
    loop {
        match call().await {
            Err(kontiki_node::Error::Refused(Refusal::NoCommit | Refusal::NotActivated))
                if start.elapsed() < PATIENCE =>
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            result => return result,
        }
    }
}

pub async fn story() -> Result<(), Box<dyn Error>> {
    // Two servers that know of each other, and elect a leader amongst themselves.
    let listeners = [
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    ];
    let mut initial_config = Vec::new();
    for (name, listener) in ["raft1", "raft2"].into_iter().zip(&listeners) {
        initial_config.push((name.to_owned(), listener.local_addr()?.to_string()));
    }
    let mut servers = Vec::new();
    for ((name, _), listener) in initial_config.iter().zip(listeners) {
        let options = ServerOptions {
            name: name.clone(),
            initial_config: initial_config.clone(),
            peer_listener: Some(listener),
            ..ServerOptions::default()
        };
        servers.push(Server::start(
            Typed::new(KeyValueStore::default()),
            options,
        )?);
    }

    // This one can never lead by itself, since it knows of no other and needs a majority of 2.
    let mut options = ServerOptions {
        name: "raft3".into(),
        ..ServerOptions::default()
    };
    options.raft.min_majority = 2;
    let raft3 = Server::start(Typed::new(KeyValueStore::default()), options)?;

    // Any server can be asked to await the leader.
    let known = servers[0].await_leader(PATIENCE).await?;
    println!("{} leads {} servers", known.name, servers.len());
    let is_leader = |server: &Server| server.me().id == known.id;
    let at = servers
        .iter()
        .position(is_leader)
        .ok_or("a leader that nobody is")?;
    let (leader, follower) = (&servers[at], &servers[1 - at]);

    let added = patiently(async || leader.add_server(&raft3.me().peer_address).await).await?;
    println!("raft3 is added: {} vote", added.configuration.voters.len());

    // What a write answers is the state machine's to say.
    println!(
        "put greeting: {:?}",
        put(leader, "greeting", "hello").await?
    );
    println!("get greeting: {:?}", get(leader, "greeting").await?);
    println!(
        "put nothing: {}",
        put(leader, "", "x").await.expect_err("refused")
    );

    // A write to a follower is answered with the leader.
    follower.await_leader(PATIENCE).await?;
    match follower
        .write(Store::command(&Put {
            key: "a".into(),
            value: "b".into(),
        })?)
        .await
    {
        Err(kontiki_node::Error::NotLeader { leader }) => println!("redirected to {}", leader.name),
        other => return Err(format!("not a redirect: {other:?}").into()),
    }

    // If the leader stops, or crashes, the others elect another, and nothing is lost.
    leader.stop("its work is done").await;
    println!("{} is stopped", leader.me().name);
    raft3.trigger_election().await?;
    let start = Instant::now();
    let survivors = [follower, &raft3];
    let leader = loop {
        let known = raft3.await_leader(PATIENCE).await?;
        let leads = survivors
            .into_iter()
            .find(|server| server.me().id == known.id);
        match leads.filter(|server| server.leader().is_some_and(|leader| leader.id == known.id)) {
            Some(leader) => break leader,
            None if start.elapsed() > PATIENCE => return Err("nobody leads".into()),
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    println!("{} leads", leader.me().name);
    let greeting = get(leader, "greeting").await?;
    println!("get greeting: {greeting:?}");
    match greeting.as_deref() {
        Some("hello") => Ok(()),
        other => Err(format!("the greeting is {other:?}").into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    story().await
}
