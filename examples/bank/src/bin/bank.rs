//! The bank's command: one change or question, or a load of random transfers.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use kontiki_bank::load::{Load, Plan};
use kontiki_bank::{Answer, BankClient, Change, Error, History, Question, Reply};

const STATUSES: &str = "\
Exit status:
  0  ok
  1  failed or refused: nothing was changed
  2  the command line is wrong
  4  outcome unknown: the change may or may not be made";

/// Accounts to list, or to transfer between in a load.
const ACCOUNTS_MAX: usize = 1000;

/// Opens accounts, makes money, moves it, and looks at it. Prints what the bank says, as JSON.
#[derive(Debug, Parser)]
#[command(name = "bank", after_help = STATUSES)]
struct Arguments {
    /// Client ports of one or more servers, HOST:PORT separated by commas.
    #[arg(
        long,
        env = "KONTIKI_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:7400"
    )]
    endpoints: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Opens an account.
    Open { account: String },
    /// Makes money.
    Mint { account: String, amount: u64 },
    /// Moves money.
    Transfer {
        from: String,
        to: String,
        amount: u64,
    },
    /// What an account holds.
    Balance { account: String },
    /// What all accounts hold.
    Total,
    /// The first accounts by name.
    Accounts {
        #[arg(long, default_value_t = ACCOUNTS_MAX)]
        limit: usize,
    },
    /// The books in short.
    Audit,
    /// Random transfers between the customers' accounts, until interrupted.
    Load {
        /// Writers at the same time.
        #[arg(long, default_value_t = 4)]
        writers: usize,
        /// Ends after so long.
        #[arg(long)]
        seconds: Option<u64>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bank: {error}");
            ExitCode::from(if error.is_unknown() { 4 } else { 1 })
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let client = BankClient::new(&arguments.endpoints)?;
    let change = match arguments.command {
        Command::Open { account } => Change::Open { account },
        Command::Mint { account, amount } => Change::Mint { account, amount },
        Command::Transfer { from, to, amount } => Change::Transfer { from, to, amount },
        Command::Balance { account } => return ask(&client, Question::Balance { account }).await,
        Command::Total => return ask(&client, Question::Total).await,
        Command::Accounts { limit } => {
            let after = String::new();
            return ask(&client, Question::Accounts { after, limit }).await;
        }
        Command::Audit => return ask(&client, Question::Audit).await,
        Command::Load { writers, seconds } => {
            return load(&client, &arguments.endpoints, writers, seconds).await;
        }
    };
    let reply = client.write(&change).await?.reply;
    print(&reply);
    Ok(match reply {
        Reply::Done { .. } => ExitCode::SUCCESS,
        Reply::Refused(_) => ExitCode::FAILURE,
    })
}

async fn ask(client: &BankClient, question: Question) -> Result<ExitCode, Error> {
    print(&client.ask(&question).await?);
    Ok(ExitCode::SUCCESS)
}

fn print(value: &impl serde::Serialize) {
    println!("{}", serde_json::to_string(value).expect("it is JSON"));
}

async fn load(
    client: &BankClient,
    endpoints: &[String],
    writers: usize,
    seconds: Option<u64>,
) -> Result<ExitCode, Error> {
    let question = Question::Accounts {
        after: String::new(),
        limit: ACCOUNTS_MAX,
    };
    let accounts = match client.ask(&question).await? {
        Answer::Accounts(accounts) => accounts.into_iter().map(|(name, _)| name),
        _ => unreachable!("accounts were asked for"),
    };
    let accounts: Vec<_> = accounts.filter(|name| name != "fees").collect();
    if accounts.len() < 2 {
        eprintln!("bank: open two accounts first");
        return Ok(ExitCode::FAILURE);
    }
    let plan = Plan {
        writers,
        accounts,
        ..Plan::default()
    };
    let mut load = Load::start(endpoints, &plan)?;
    let time = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = load.wait() => {}
        () = time => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(report(&load.stop().await))
}

fn report(history: &History) -> ExitCode {
    let (made, faults) = (history.made.len(), history.faults());
    let (refused, failed, unknown) = (history.refused, history.failed, history.unknown);
    println!("acknowledged {made}, refused {refused}, failed {failed}, unknown {unknown}");
    for fault in &faults {
        eprintln!("bank: {fault}");
    }
    match faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
