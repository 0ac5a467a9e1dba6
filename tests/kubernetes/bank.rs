//! A state machine of one's own: the bank of `examples/bank`, deployed as its README says. Clients in
//! Rust and Python move money while pods are killed and the cluster is scaled, and it stays what was
//! minted: for a linearizable reader all the time, and in the end on every server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kontiki_bank::load::{Load, Plan};
use kontiki_bank::machine::PAGE_MAX;
use kontiki_bank::{Answer, Audit, BankClient, Change, History, Question, Reply};
use kontiki_client::Address;

use crate::World;
use crate::cluster::checkout;
use crate::example::{Example, Outcome};
use crate::raft::{PATIENCE, Raft};
use crate::wait::until;

/// Accounts that are opened.
const CUSTOMERS: usize = 10;

/// Money that is made for each.
const EACH: u64 = 10_000;

/// All money there is.
const MINTED: u64 = CUSTOMERS as u64 * EACH;

/// Each writer begins a transfer no sooner than this after its last: so that the log of a long
/// scenario fits in the memory of a pod.
const INTERVAL: Duration = Duration::from_millis(10);

/// Transfers that show that the writers are served.
pub const SERVED: usize = 100;

/// The same of the client in Python.
const SERVED_IN_PYTHON: usize = 20;

/// What the books of one server say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    pub accounts: Vec<(String, u64)>,
    pub audit: Audit,
}

/// A bank that is under way.
pub struct Bank {
    pub raft: Raft,
    client: BankClient,
    load: Load,
}

pub async fn run(world: &World) -> Result<()> {
    let bank = Bank::found(world).await?;
    let endpoints = bank.raft.client_endpoints()[..3].to_vec();
    let python = Example::bank()?;
    let mut writing = python.write(&endpoints, "load", "10")?;
    for ordinal in 0..3 {
        let pod = format!("bank-{ordinal}");
        bank.disturb(format!("pod {pod} killed"), async |raft| {
            let flags = ["--grace-period=0", "--force"];
            raft.replace_pod(&pod, &flags).await?;
            raft.settled(3).await
        })
        .await?;
        writing.served(SERVED_IN_PYTHON).await?;
    }
    for replicas in [5, 3] {
        bank.disturb(format!("scaled to {replicas}"), async |raft| {
            raft.scale(replicas).await?;
            raft.settled(replicas).await
        })
        .await?;
        writing.served(SERVED_IN_PYTHON).await?;
    }
    let outcomes = writing.stop().await?;
    calls(&python, &endpoints).await?;
    let (raft, history) = bank.close().await?;
    let books = agreed(&raft, 3).await?;
    made_once(&books, &history, &outcomes)
}

/// What the client in Python says of single calls, and how it ends.
async fn calls(python: &Example, endpoints: &[String]) -> Result<()> {
    let total = format!("{{\"total\": {MINTED}}}\n");
    python.expect(endpoints, &["total"], 0, &total).await?;
    let transfer = ["transfer", "customer-0", "nobody", "1"];
    let refused = "{\"refused\": {\"no_account\": \"nobody\"}}\n";
    python.expect(endpoints, &transfer, 1, refused).await?;
    let transfer = ["transfer", "customer-0", "customer-0", "1"];
    let refused = python.run(endpoints, &transfer).await?;
    ensure!(
        refused.status == Some(1) && refused.stderr.starts_with("failed: REFUSED_BY_MACHINE"),
        "{refused:?}"
    );
    Ok(())
}

/// Every change that was acknowledged was made once, and no other but where the outcome is unknown.
fn made_once(books: &Books, history: &History, python: &[Outcome]) -> Result<()> {
    let of = |wanted| python.iter().filter(|outcome| **outcome == wanted).count() as u64;
    let (written, doubtful) = (of(Outcome::Acknowledged), of(Outcome::Unknown));
    println!("  in Python {written} transfers made, {doubtful} unknown");
    let founded = 2 * CUSTOMERS as u64;
    let made = founded + history.made.len() as u64 + written;
    let unknown = history.unknown + doubtful;
    ensure!(
        (made..=made + unknown).contains(&books.audit.changes),
        "{made} changes are acknowledged and {unknown} unknown, and {} were made",
        books.audit.changes
    );
    let fees = books.accounts.iter().find(|(name, _)| name == "fees");
    ensure!(
        fees.is_none(),
        "nothing is charged under version 1: {fees:?}"
    );
    Ok(())
}

impl Bank {
    /// Applies the example, opens accounts with money in them, and starts transfers between them.
    pub async fn found(world: &World) -> Result<Self> {
        let raft = world.namespace.raft("bank");
        let example = checkout().join("examples/bank/bank.yaml");
        let example = example.to_str().context("the path of the example")?;
        raft.kubectl(&["apply", "-f", example]).await?;
        raft.settled(3).await?;

        let client = BankClient::new(raft.client_endpoints())?;
        let accounts: Vec<_> = (0..CUSTOMERS).map(|at| format!("customer-{at}")).collect();
        for account in accounts.iter().cloned() {
            let open = Change::Open {
                account: account.clone(),
            };
            done(&client, open).await?;
            let amount = EACH;
            done(&client, Change::Mint { account, amount }).await?;
        }
        let plan = Plan {
            accounts,
            interval: INTERVAL,
            ..Plan::default()
        };
        let load = Load::start(&raft.client_endpoints(), &plan)?;
        let bank = Bank { raft, client, load };
        bank.served().await?;
        bank.conserves_money().await?;
        Ok(bank)
    }

    /// Waits until transfers are made.
    pub async fn served(&self) -> Result<()> {
        ensure!(
            self.load.wait_for(SERVED, PATIENCE).await,
            "{SERVED} transfers are not made within {} s; the last error: {:?}",
            PATIENCE.as_secs(),
            self.load.history().last_error
        );
        Ok(())
    }

    /// Does something to the cluster; then transfers are made, and money is conserved everywhere.
    pub async fn disturb(
        &self,
        what: String,
        work: impl AsyncFnOnce(&Raft) -> Result<()>,
    ) -> Result<()> {
        let started = Instant::now();
        work(&self.raft).await.with_context(|| what.clone())?;
        let settled = started.elapsed().as_secs_f64();
        println!("  {what}: settled after {settled:.1} s");
        self.served().await.with_context(|| what.clone())?;
        self.conserves_money().await.with_context(|| what.clone())?;
        self.every_server_conserves_money().await.context(what)
    }

    /// A linearizable reader finds as much money as was minted.
    pub async fn conserves_money(&self) -> Result<()> {
        match self.client.ask(&Question::Total).await? {
            Answer::Total(MINTED) => Ok(()),
            other => bail!("{MINTED} were minted, and the total is {other:?}"),
        }
    }

    /// So does a reader of each server, once it has caught up with what is committed now.
    async fn every_server_conserves_money(&self) -> Result<()> {
        for endpoint in self.raft.caught_up().await? {
            let endpoint: Address = endpoint.parse()?;
            let audit = audit(&self.client, &endpoint).await?;
            ensure!(
                (audit.held, audit.minted) == (MINTED, MINTED),
                "{MINTED} were minted, and {endpoint} says {audit:?}"
            );
        }
        Ok(())
    }

    /// Stops the transfers once those in flight have ended; what became of them.
    pub async fn close(self) -> Result<(Raft, History)> {
        let history = self.load.stop().await;
        let faults = history.faults();
        ensure!(faults.is_empty(), "{}", faults.join("; "));
        println!(
            "  {} transfers made, {} refused, {} failed, {} unknown{}{}",
            history.made.len(),
            history.refused,
            history.failed,
            history.unknown,
            if history.last_error.is_some() {
                "; the last error: "
            } else {
                ""
            },
            history.last_error.as_deref().unwrap_or_default()
        );
        Ok((self.raft, history))
    }
}

async fn done(client: &BankClient, change: Change) -> Result<()> {
    match client.write(&change).await?.reply {
        Reply::Done { .. } => Ok(()),
        Reply::Refused(refusal) => bail!("{change:?} is refused: {refusal}"),
    }
}

/// The books, once those of every server are the same and they have applied what is committed. The
/// money in them is what was minted.
pub async fn agreed(raft: &Raft, servers: usize) -> Result<Books> {
    // A transfer whose outcome is not known may be made yet.
    let books = until("all servers have the same books", PATIENCE, async || {
        let mut all = Vec::new();
        for endpoint in raft.caught_up().await? {
            all.push(books(&endpoint.parse()?).await?);
        }
        ensure!(all.len() == servers, "{} servers answer", all.len());
        let differ = all.iter().find(|books| **books != all[0]);
        if let Some(other) = differ {
            bail!("they differ: {:?} and {other:?}", all[0]);
        }
        Ok(all.pop())
    })
    .await?;
    let held: u64 = books.accounts.iter().map(|(_, held)| held).sum();
    ensure!(
        (held, books.audit.held, books.audit.minted) == (MINTED, MINTED, MINTED),
        "{MINTED} were minted, and accounts hold {held}: {books:?}"
    );
    println!(
        "  {servers} servers have the same {} accounts and trail, {held} in all",
        books.accounts.len()
    );
    Ok(books)
}

/// The books as one server has them.
async fn books(endpoint: &Address) -> Result<Books> {
    let client = BankClient::new([endpoint.as_str()])?;
    let question = Question::Accounts {
        after: String::new(),
        limit: PAGE_MAX,
    };
    let accounts = match client.ask_at(endpoint, &question).await? {
        Answer::Accounts(accounts) => accounts,
        other => bail!("accounts were asked for: {other:?}"),
    };
    let audit = audit(&client, endpoint).await?;
    Ok(Books { accounts, audit })
}

async fn audit(client: &BankClient, endpoint: &Address) -> Result<Audit> {
    match client.ask_at(endpoint, &Question::Audit).await? {
        Answer::Audit(audit) => Ok(audit),
        other => bail!("an audit was asked for: {other:?}"),
    }
}
