//! Servers whose programs differ: the roll to a new version of the machine, and a state that differs.

mod common;

use std::io::Read;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use common::{PATIENCE, eventually};
use kontiki_node::config::{Limits, RaftSettings};
use kontiki_node::driver::Refusal;
use kontiki_node::machine::counter::Counter;
use kontiki_node::machine::{
    Command, Effects, Place, Refused, RestoreError, StateMachine, Version, View,
};
use kontiki_node::{Error, Server, ServerOptions};
use kontiki_proto::v1;
use kontiki_proto::v1::admin_client::AdminClient;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A counter that from version 2 on answers in another way. What is in `bias` is added to what it
/// shows of its state, as if a bit of its memory had changed.
#[derive(Default)]
struct Changed {
    counter: Counter,
    newest: Version,
    place: Option<Place>,
    bias: Arc<AtomicI64>,
}

impl Changed {
    fn up_to(newest: Version) -> Self {
        Self {
            newest,
            ..Self::default()
        }
    }
}

struct Biased(Vec<u8>);

impl View for Biased {
    fn write(&mut self, out: &mut Vec<u8>, _: usize) -> bool {
        out.append(&mut self.0);
        false
    }
}

impl StateMachine for Changed {
    fn name(&self) -> &'static str {
        "changed"
    }

    fn versions(&self) -> RangeInclusive<Version> {
        1..=self.newest
    }

    fn place(&self) -> Place {
        self.place.unwrap_or(Place::Inline)
    }

    fn apply(
        &mut self,
        version: Version,
        batch: &[Command<'_>],
        effects: &mut Effects,
    ) -> Vec<Vec<u8>> {
        let replies = self.counter.apply(version, batch, effects);
        match version {
            1 => replies,
            _ => replies.iter().map(|_| b"new".to_vec()).collect(),
        }
    }

    fn read(&self, query: &[u8]) -> Result<Vec<u8>, Refused> {
        self.counter.read(query)
    }

    fn snapshot(&self) -> Box<dyn View> {
        let mut bytes = Vec::new();
        while self.counter.snapshot().write(&mut bytes, usize::MAX) {}
        bytes.extend_from_slice(&self.bias.load(Relaxed).to_le_bytes());
        Box::new(Biased(bytes))
    }

    fn restore(&mut self, version: Version, reader: &mut dyn Read) -> Result<(), RestoreError> {
        self.counter.restore(version, reader)
    }

    fn size(&self) -> usize {
        self.counter.size()
    }
}

fn options(name: &str, min_majority: usize) -> ServerOptions {
    ServerOptions {
        name: name.into(),
        raft: RaftSettings {
            heartbeat_milliseconds: 20,
            election_timeout_milliseconds: 300,
            min_majority,
            ..RaftSettings::default()
        },
        limits: Limits {
            checkpoint_milliseconds_max: 100,
            ..Limits::default()
        },
        ..ServerOptions::default()
    }
}

/// Servers that bootstrap themselves from one list, one for each machine.
fn start(machines: Vec<Changed>) -> Vec<Server> {
    let listeners = machines
        .iter()
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let listeners: Vec<_> = listeners.collect();
    let address = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
    let named = listeners.iter().enumerate();
    let initial_config: Vec<_> = named
        .map(|(at, listener)| (format!("raft{}", at + 1), address(listener)))
        .collect();
    let servers = machines.into_iter().zip(listeners).enumerate();
    let start = |(at, (machine, listener))| {
        let options = ServerOptions {
            peer_listener: Some(listener),
            initial_config: initial_config.clone(),
            ..options(&format!("raft{}", at + 1), 1)
        };
        Server::start(machine, options).expect("started")
    };
    servers.map(start).collect()
}

/// A server that waits to be added.
fn joiner(name: &str, machine: Changed) -> Server {
    Server::start(machine, options(name, 2)).expect("started")
}

/// Writes to whoever leads by now. A leader that is quarantined meanwhile does not know what became of
/// it; nothing here minds a write too many.
async fn write(servers: &[Server]) -> String {
    eventually("a leader that accepts a write", async || {
        for server in servers {
            if let Ok(reply) = server.write("1").await {
                return Some(String::from_utf8(reply).expect("text"));
            }
        }
        None
    })
    .await
}

/// Place of the leader.
async fn leader(servers: &[Server]) -> usize {
    eventually("a leader that may change the configuration", async || {
        for (at, server) in servers.iter().enumerate() {
            let status = server.status().await.expect("a status");
            if status.serving && status.term_committed && status.activated {
                return Some(at);
            }
        }
        None
    })
    .await
}

/// Hands leadership to a server.
async fn lead(servers: &[Server], name: &str) {
    eventually("it leads", async || {
        let at = leader(servers).await;
        if servers[at].me().name == name {
            return Some(());
        }
        // Refused or failed while the last change settles, say: tried again.
        drop(servers[at].transfer_leadership(Some(name)).await);
        None
    })
    .await;
}

async fn version(server: &Server) -> Version {
    server.status().await.expect("a status").version
}

/// Adds a server and takes another out, as the roll of a deployment does.
async fn replace(servers: &mut Vec<Server>, at: usize, fresh: Server) {
    let lead = leader(servers).await;
    let address = &fresh.me().peer_address;
    servers[lead].add_server(address).await.expect("added");
    let old = servers[at].me().name.clone();
    servers.push(fresh);
    // The leader may be the one that goes: it leaves its office, then.
    servers[lead].remove_server(&old).await.expect("removed");
    servers.remove(at).stop("replaced").await;
}

async fn admin(server: &Server) -> AdminClient<tonic::transport::Channel> {
    let address = format!("http://{}", server.me().peer_address);
    AdminClient::connect(address).await.expect("it listens")
}

fn refused_for_its_version(status: &Status) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert_eq!(reason.as_deref(), Some("UNSUPPORTED_VERSION"), "{status}");
    let text = status.message();
    assert!(text.contains("version 1 of the machine changed"), "{text}");
}

#[tokio::test]
async fn a_roll_raises_the_version_at_its_end_and_the_old_program_is_not_added_any_more() {
    let mut servers = start((0..3).map(|_| Changed::up_to(1)).collect());
    for round in 0..3 {
        assert_ne!(write(&servers).await, "new");
        for server in &servers {
            // A server that has not applied the first version entry yet shows 0.
            assert!(version(server).await <= 1, "raised in round {round}");
        }
        let name = format!("new{round}");
        replace(&mut servers, 0, joiner(&name, Changed::up_to(2))).await;
        // A leader that runs version 2 itself still waits for the others.
        lead(&servers, &name).await;
    }
    for server in &servers {
        eventually("version 2", async || {
            (version(server).await == 2).then_some(())
        })
        .await;
    }
    assert_eq!(write(&servers).await, "new");

    // The old program is refused, whichever way it comes.
    let old = joiner("old", Changed::up_to(1));
    let at = leader(&servers).await;
    match servers[at].add_server(&old.me().peer_address).await {
        Err(Error::Refused(Refusal::UnsupportedVersion(_))) => {}
        other => panic!("{other:?}"),
    }
    let described = v1::Server {
        server_id: old.me().id.to_string(),
        node: "old".into(),
        peer_address: old.me().peer_address.clone(),
        client_address: String::new(),
    };
    let mut admin = admin(&servers[at]).await;
    for as_learner in [false, true] {
        let request = v1::AddServerRequest {
            servers: vec![described.clone()],
            as_learner,
            ..v1::AddServerRequest::default()
        };
        refused_for_its_version(&admin.add_server(request).await.expect_err("refused"));
    }
    let request = v1::ReplaceServerRequest {
        lost: servers[(at + 1) % 3].me().id.to_string(),
        server: Some(described),
        ..v1::ReplaceServerRequest::default()
    };
    refused_for_its_version(&admin.replace_server(request).await.expect_err("refused"));
    let status = admin
        .status(v1::StatusRequest {})
        .await
        .expect("a status")
        .into_inner();
    assert_eq!(status.machine_version, 2);
    assert_eq!(
        (status.machine_versions_min, status.machine_versions_max),
        (1, 2)
    );
    assert_eq!(status.quarantine, "");
}

#[tokio::test]
async fn a_server_whose_state_differs_is_quarantined_and_the_others_go_on() {
    // A machine on the node thread, and one on a thread of its own.
    for place in [Place::Inline, Place::Thread] {
        let machines: Vec<_> = (0..3)
            .map(|_| Changed {
                place: Some(place),
                ..Changed::up_to(1)
            })
            .collect();
        let biases: Vec<_> = machines
            .iter()
            .map(|machine| machine.bias.clone())
            .collect();
        let servers = start(machines);
        write(&servers).await;
        for server in &servers {
            eventually("a first digest", async || {
                server.status().await.expect("a status").digest
            })
            .await;
        }
        // The leader itself: it notices, and another leads.
        let wrong = leader(&servers).await;
        biases[wrong].store(1 << 40, Relaxed);
        write(&servers).await;
        let why = eventually("the quarantine", async || {
            servers[wrong].status().await.expect("a status").quarantine
        })
        .await;
        assert!(why.contains("its state differs"), "{why}");
        let left = leader(&servers).await;
        assert_ne!(left, wrong);
        write(&servers).await;
        for (at, server) in servers.iter().enumerate() {
            let status = server.status().await.expect("a status");
            assert_eq!(status.quarantine.is_some(), at == wrong);
            assert_eq!(status.diverged, None);
        }
        let shown = admin(&servers[wrong])
            .await
            .status(v1::StatusRequest {})
            .await;
        assert_eq!(shown.expect("a status").into_inner().quarantine, why);
        assert!(servers[wrong].read_dirty("").await.is_err());
        servers[wrong]
            .await_leader(PATIENCE)
            .await
            .expect("it still follows");
    }
}
