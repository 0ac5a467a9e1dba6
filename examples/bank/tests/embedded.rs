//! Three servers of the bank in this process, and clients over gRPC.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use kontiki_bank::load::{Load, Plan};
use kontiki_bank::{Answer, Audit, Bank, BankClient, Change, Question, Reply};
use kontiki_node::config::RaftSettings;
use kontiki_node::machine::Typed;
use kontiki_node::{Server, ServerOptions};

/// Long enough for a busy machine; everything ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(60);

const CUSTOMERS: [&str; 4] = ["ann", "bob", "cem", "dee"];
const MINTED: u64 = 4000;

fn start(count: usize) -> Vec<Server> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let address = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
    let named = listeners.iter().enumerate();
    let initial_config: Vec<_> = named
        .map(|(at, listener)| (format!("bank-{at}"), address(listener)))
        .collect();
    let servers = listeners.into_iter().enumerate().map(|(at, listener)| {
        let options = ServerOptions {
            name: format!("bank-{at}"),
            peer_listener: Some(listener),
            initial_config: initial_config.clone(),
            raft: RaftSettings {
                heartbeat_milliseconds: 20,
                election_timeout_milliseconds: 400,
                min_majority: 1,
            },
            ..ServerOptions::default()
        };
        Server::start(Typed::new(Bank::default()), options).expect("started")
    });
    servers.collect()
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
    let mut servers = start(3);
    let endpoints: Vec<_> = servers
        .iter()
        .map(|server| server.me().client_address.clone())
        .collect();
    servers[0].await_leader(PATIENCE).await.expect("a leader");
    let client = BankClient::new(&endpoints).expect("a client");
    found(&client).await;

    let plan = Plan {
        accounts: CUSTOMERS.map(str::to_owned).into(),
        ..Plan::default()
    };
    let load = Load::start(&endpoints, &plan).expect("started");
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
