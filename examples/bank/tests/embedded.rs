//! Three servers of the bank in this process, and clients over gRPC.

use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use kontiki_bank::load::{Load, Plan};
use kontiki_bank::{Answer, Audit, Bank, BankClient, Change, Question, Reply};
use kontiki_node::config::RaftSettings;
use kontiki_node::machine::{Typed, Version};
use kontiki_node::{Server, ServerOptions};

/// Long enough for a busy machine; everything ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(60);

const CUSTOMERS: [&str; 4] = ["ann", "bob", "cem", "dee"];
const MINTED: u64 = 4000;

fn server(name: &str, versions: RangeInclusive<Version>, options: ServerOptions) -> Server {
    let options = ServerOptions {
        name: name.into(),
        raft: RaftSettings {
            heartbeat_milliseconds: 20,
            election_timeout_milliseconds: 400,
            ..options.raft
        },
        ..options
    };
    let machine = Typed::new(Bank::default()).with_versions(versions);
    Server::start(machine, options).expect("started")
}

/// Servers that form a cluster.
fn start(count: usize, versions: RangeInclusive<Version>) -> Vec<Server> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let name = |at| format!("bank-{at}");
    let address = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
    let listed = listeners.iter().enumerate();
    let initial_config: Vec<_> = listed
        .map(|(at, listener)| (name(at), address(listener)))
        .collect();
    let servers = listeners.into_iter().enumerate().map(|(at, listener)| {
        let options = ServerOptions {
            peer_listener: Some(listener),
            initial_config: initial_config.clone(),
            ..ServerOptions::default()
        };
        server(&name(at), versions.clone(), options)
    });
    servers.collect()
}

/// A server that never leads by itself, to be added.
fn fresh(name: &str, versions: RangeInclusive<Version>) -> Server {
    let raft = RaftSettings {
        min_majority: 2,
        ..RaftSettings::default()
    };
    let options = ServerOptions {
        raft,
        ..ServerOptions::default()
    };
    server(name, versions, options)
}

fn endpoints(servers: &[Server]) -> Vec<String> {
    let addresses = servers.iter().map(|server| &server.me().client_address);
    addresses.cloned().collect()
}

async fn done(client: &BankClient, change: Change) -> u64 {
    match client.write(&change).await.expect("acknowledged").reply {
        Reply::Done { balance, .. } => balance,
        refused => panic!("{change:?}: {refused:?}"),
    }
}

/// Opens the customers' accounts, with as much money in each.
async fn found(client: &BankClient) {
    for account in CUSTOMERS.map(str::to_owned) {
        let amount = MINTED / CUSTOMERS.len() as u64;
        let open = Change::Open {
            account: account.clone(),
        };
        assert_eq!(done(client, open).await, 0);
        assert_eq!(done(client, Change::Mint { account, amount }).await, amount);
    }
}

fn plan() -> Plan {
    Plan {
        accounts: CUSTOMERS.map(str::to_owned).into(),
        ..Plan::default()
    }
}

async fn audit(server: &Server) -> Audit {
    let query = Typed::<Bank>::query(&Question::Audit).expect("JSON");
    let answer = server.read_dirty(query).await.expect("answered");
    match Typed::<Bank>::answer(&answer).expect("an answer") {
        Answer::Audit(audit) => audit,
        other => panic!("{other:?}"),
    }
}

/// What all servers say of the books once they say the same.
async fn agreed(servers: &[Server]) -> Audit {
    let start = Instant::now();
    loop {
        let mut audits = Vec::new();
        for server in servers {
            audits.push(audit(server).await);
        }
        if audits.windows(2).all(|pair| pair[0] == pair[1]) {
            return audits[0];
        }
        assert!(start.elapsed() < PATIENCE, "they differ: {audits:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn total(client: &BankClient) -> u64 {
    match client.ask(&Question::Total).await.expect("answered") {
        Answer::Total(total) => total,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_is_conserved_while_leaders_come_and_go() {
    let mut servers = start(3, 1..=2);
    let endpoints = endpoints(&servers);
    servers[0].await_leader(PATIENCE).await.expect("a leader");
    let client = BankClient::new(&endpoints).expect("a client");
    found(&client).await;

    let load = Load::start(&endpoints, &plan()).expect("started");
    assert!(load.wait_for(100, PATIENCE).await, "{:?}", load.history());
    assert_eq!(total(&client).await, MINTED);

    // Any server may campaign; then the leader goes for good.
    servers[1].trigger_election().await.expect("a campaign");
    assert!(load.wait_for(100, PATIENCE).await, "{:?}", load.history());
    let leader = servers[1].await_leader(PATIENCE).await.expect("a leader");
    let at = servers
        .iter()
        .position(|server| server.me().id == leader.id);
    let leader = servers.remove(at.expect("one of them"));
    leader.stop("a crash").await;
    assert!(load.wait_for(100, PATIENCE).await, "{:?}", load.history());
    assert_eq!(total(&client).await, MINTED);

    let history = load.stop().await;
    assert_eq!(history.faults(), Vec::<String>::new());
    let audit = agreed(&servers).await;
    assert_eq!((audit.minted, audit.held), (MINTED, MINTED));
    let founded = 2 * CUSTOMERS.len() as u64;
    let (made, unknown) = (history.made.len() as u64, history.unknown);
    assert!(
        (founded + made..=founded + made + unknown).contains(&audit.changes),
        "{made} transfers are acknowledged, {unknown} are unknown, {audit:?}"
    );
}

/// Asks whoever leads by now, until it is done: once it is, asking again changes nothing.
async fn by_the_leader<T>(
    servers: &[Server],
    mut ask: impl AsyncFnMut(&Server) -> kontiki_node::Result<T>,
) -> T {
    let start = Instant::now();
    loop {
        for server in servers {
            match ask(server).await {
                Ok(done) => return done,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fees_begin_at_one_place_in_the_log_of_all_servers() {
    let mut servers = start(3, 1..=1);
    servers[0].await_leader(PATIENCE).await.expect("a leader");
    let mut all = endpoints(&servers);
    let newer: Vec<_> = (0..3)
        .map(|at| fresh(&format!("new-{at}"), 1..=2))
        .collect();
    all.extend(endpoints(&newer));
    let client = BankClient::new(&all).expect("a client");
    found(&client).await;

    let load = Load::start(&all, &plan()).expect("started");
    for server in newer {
        assert!(load.wait_for(50, PATIENCE).await, "{:?}", load.history());
        assert_eq!(load.history().fees(), 0, "a server is left that knows none");
        let peer = server.me().peer_address.clone();
        by_the_leader(&servers, async |leader| leader.add_server(&peer).await).await;
        servers.push(server);
        let old = servers[0].me().id.to_string();
        by_the_leader(&servers, async |leader| {
            match leader.remove_server(&old).await {
                Err(kontiki_node::Error::NoSuchServer(_)) => Ok(()),
                other => other.map(drop),
            }
        })
        .await;
        servers.remove(0).stop("replaced").await;
    }
    let start = Instant::now();
    while load.history().fees() < 50 {
        assert!(start.elapsed() < PATIENCE, "{:?}", load.history());
        assert!(load.wait_for(10, PATIENCE).await, "{:?}", load.history());
    }
    assert_eq!(total(&client).await, MINTED);
    let history = load.stop().await;
    assert_eq!(history.faults(), Vec::<String>::new());
    let audit = agreed(&servers).await;
    assert_eq!((audit.minted, audit.held), (MINTED, MINTED));
}
