//! The stories hold; and with a fault between them and the servers they fail at the step that the
//! fault belies, and leave no process either.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::Context;
use kontiki_client::{Address, Client, Consistency};
use kontiki_examples::calls::{Calls, Pairs, Real, WriteAnswer};
use kontiki_examples::exraft;
use kontiki_examples::local::{self, LocalWorld, Programs, Timing};
use kontiki_examples::narrator::{Failed, Narrator};
use kontiki_examples::process::Process;
use kontiki_examples::sight::Sight;
use kontiki_proto::v1::WriteResponse;
use rustix::process::Signal;

/// Standard output that the test harness shows of failed tests only.
struct Captured;

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        print!("{}", String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing.
    None,
    /// A follower takes a write, as if it led.
    FollowerAccepts,
    /// A write is acknowledged and goes nowhere.
    WriteSwallowed,
    /// The last line of the book does not outlive the leader.
    LineLost,
    /// A key that was acknowledged is gone when the leader is.
    KeyLost,
    /// The operator stands still when a node is killed.
    NotReplaced,
}

/// The real calls, but for the fault.
struct Perturbed {
    fault: Fault,
    real: Real,
    /// Whether the fault has happened.
    happened: AtomicBool,
    /// The term and the last index that a leader told last.
    term: AtomicU64,
    last: AtomicU64,
    /// Where the last put went.
    client: Mutex<Option<Client>>,
    /// The operator's pid.
    operator: OnceLock<i32>,
}

impl Perturbed {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            real: Real::default(),
            happened: AtomicBool::default(),
            term: AtomicU64::default(),
            last: AtomicU64::default(),
            client: Mutex::default(),
            operator: OnceLock::new(),
        }
    }

    /// Whether the fault is this one, and now is the time for it.
    fn happens(&self, fault: Fault) -> bool {
        let happens = self.fault == fault;
        self.happened.fetch_or(happens, Relaxed);
        happens
    }
}

#[tonic::async_trait]
impl Calls for Perturbed {
    async fn status(&self, peer: &Address) -> anyhow::Result<Sight> {
        let sight = self.real.status(peer).await?;
        if sight.leads() {
            self.term.store(sight.0.term, Relaxed);
            self.last.store(sight.0.last_index, Relaxed);
        }
        Ok(sight)
    }

    async fn write(&self, client: &str, command: &str) -> anyhow::Result<WriteAnswer> {
        if self.happens(Fault::WriteSwallowed) {
            return Ok(WriteAnswer::Accepted(WriteResponse {
                reply: b"2".to_vec().into(),
                index: self.last.load(Relaxed) + 1,
                term: self.term.load(Relaxed),
            }));
        }
        match self.real.write(client, command).await? {
            WriteAnswer::Redirected { address, .. } if self.happens(Fault::FollowerAccepts) => {
                self.real.write(&address, command).await
            }
            answer => Ok(answer),
        }
    }

    async fn read(&self, client: &str, query: &[u8], how: Consistency) -> anyhow::Result<String> {
        let book = self.real.read(client, query, how).await?;
        if how == Consistency::Linearizable && self.happens(Fault::LineLost) {
            let mut lines: Vec<&str> = book.lines().collect();
            lines.pop();
            return Ok(lines.join("\n"));
        }
        Ok(book)
    }

    async fn put(&self, cluster: &Client, key: &str, value: &str) -> anyhow::Result<u64> {
        *self.client.lock().unwrap() = Some(cluster.clone());
        self.real.put(cluster, key, value).await
    }

    async fn pairs(&self, cluster: &Client) -> anyhow::Result<Pairs> {
        self.real.pairs(cluster).await
    }

    async fn pairs_at(&self, cluster: &Client, at: &Address) -> anyhow::Result<Pairs> {
        self.real.pairs_at(cluster, at).await
    }

    async fn kill(&self, process: Process) -> anyhow::Result<()> {
        if self.happens(Fault::NotReplaced) {
            let operator = self.operator.get().and_then(|pid| Process::find(*pid));
            operator
                .context("the operator runs")?
                .signal(Signal::STOP)?;
        }
        if self.happens(Fault::KeyLost) {
            let client = self
                .client
                .lock()
                .unwrap()
                .clone()
                .context("keys were put")?;
            let deleted = client.delete("at-five/07".to_owned()).await?;
            anyhow::ensure!(deleted.deleted, "there was no such key");
        }
        self.real.kill(process).await
    }
}

async fn part_one(fault: Fault) -> Result<(), Failed> {
    let calls = Perturbed::new(fault);
    let told = exraft::tell(&calls, &Narrator::to(Captured), Duration::from_secs(10)).await;
    assert_eq!(
        calls.happened.into_inner(),
        fault != Fault::None,
        "whether the fault happened"
    );
    told
}

async fn part_two(fault: Fault) -> Result<(), Failed> {
    let calls = Perturbed::new(fault);
    let timing = match fault {
        Fault::NotReplaced => Timing {
            replacement_max: Duration::from_secs(5),
            ..Timing::default()
        },
        _ => Timing::default(),
    };
    let mut world = LocalWorld::start(programs(), 3).expect("an operator");
    let pid = i32::try_from(world.operator()).expect("a pid");
    calls.operator.set(pid).expect("set once");
    let root = world.manifest().parent().expect("a folder").to_owned();
    let told = local::tell(&calls, &Narrator::to(Captured), timing, &mut world).await;
    if let Err(failed) = &told {
        println!("{failed}\n{}", world.tails());
    }
    world.end().await.expect("all of it has ended");
    assert!(!root.exists(), "{} is left", root.display());
    assert_eq!(
        Process::that_use(&root).expect("/proc"),
        [],
        "processes are left"
    );
    assert!(Process::find(pid).is_none(), "the operator is left");
    assert_eq!(
        calls.happened.into_inner(),
        fault != Fault::None,
        "whether the fault happened"
    );
    told
}

/// The programs of this checkout, built now: Cargo builds none of other crates for a test.
fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let own = std::env::current_exe().expect("this program");
        let folder = own
            .parent()
            .and_then(Path::parent)
            .expect("target/PROFILE/deps")
            .to_owned();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["build", "--quiet", "--package", "kontiki-node"]);
        cargo.args(["--package", "kontiki-operator", "--bins", "--target-dir"]);
        cargo.arg(folder.parent().expect("target"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(
            cargo.status().expect("cargo").success(),
            "the programs are built"
        );
        let program = |name: &str| -> PathBuf { folder.join(name) };
        Programs {
            operator: program("kontiki-operator"),
            node: program("kontiki-node"),
        }
    })
}

#[tokio::test]
async fn part_one_holds() {
    part_one(Fault::None).await.unwrap();
}

#[tokio::test]
async fn a_follower_that_accepts_a_write_is_noticed() {
    let failed = part_one(Fault::FollowerAccepts).await.unwrap_err();
    assert_eq!(failed.step, exraft::step::REDIRECT);
    assert!(
        failed.cause.to_string().contains("the follower accepts"),
        "{failed}"
    );
}

#[tokio::test]
async fn a_write_that_goes_nowhere_is_noticed() {
    let failed = part_one(Fault::WriteSwallowed).await.unwrap_err();
    assert_eq!(failed.step, exraft::step::WRITE);
}

#[tokio::test]
async fn a_line_that_does_not_outlive_the_leader_is_noticed() {
    let failed = part_one(Fault::LineLost).await.unwrap_err();
    assert_eq!(failed.step, exraft::step::STILL_THERE);
    assert!(
        failed.cause.to_string().contains("has \"hello\""),
        "{failed}"
    );
}

#[tokio::test]
async fn part_two_holds() {
    part_two(Fault::None).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_lost_is_noticed() {
    let failed = part_two(Fault::KeyLost).await.unwrap_err();
    assert_eq!(failed.step, local::step::STILL_THERE);
    assert!(
        format!("{failed}").contains("1 are lost: [\"at-five/07\"]"),
        "{failed}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_replaced_is_noticed() {
    let failed = part_two(Fault::NotReplaced).await.unwrap_err();
    assert_eq!(failed.step, local::step::REPLACE);
}
