//! Arguments in, one answer out: text on stdout, errors on stderr, and an exit status that tells
//! *failed* from *unknown*.

mod admin;
mod arguments;
mod bytes;
mod failure;
mod inspect;
mod kv;
mod load;
mod shown;
mod status;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use kontiki_client::{Admin, Client, Error, Options};

pub use arguments::Arguments;
use arguments::Command;
use failure::Failure;
use shown::Shown;

/// Runs one command.
pub async fn run(arguments: Arguments) -> ExitCode {
    let output = arguments.output;
    let result = match answer(arguments).await {
        Ok(shown) => print(&shown.render(output)).and_then(|()| shown.verdict.map_or(Ok(()), Err)),
        Err(failure) => Err(failure),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("kontiki: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

async fn answer(arguments: Arguments) -> Result<Shown, Failure> {
    // A session for one write costs more than the write: only those who ask for it have one.
    let options = Options {
        timeout: arguments.timeout,
        sessions: false,
        ..Options::default()
    };
    let client_with = |options| Client::with_options(&arguments.endpoints, options);
    let client = || client_with(options.clone());
    let writer = |sessions| {
        client_with(Options {
            sessions,
            ..options.clone()
        })
    };
    let admin = || Admin::with_options(&arguments.admin_endpoints, options.clone());
    match arguments.command {
        Command::Put(put) => kv::put(&writer(put.once)?, put).await,
        Command::Get(get) => kv::get(&client()?, get).await,
        Command::Delete(delete) => kv::delete(&writer(delete.once)?, delete).await,
        Command::Range(range) => kv::range(&client()?, range).await,
        Command::Watch(watch) => watch::run(&client()?, watch, arguments.output).await,
        Command::Write(write) => kv::write(&writer(write.once)?, write).await,
        Command::Read(read) => kv::read(&client()?, read).await,
        Command::Status => status::status(&admin()?).await,
        Command::Members => admin::members(&admin()?).await,
        Command::AddServer(add) => admin::add_server(&admin()?, add).await,
        Command::RemoveServer(remove) => admin::remove_server(&admin()?, remove).await,
        Command::ReplaceServer(replace) => admin::replace_server(&admin()?, replace).await,
        Command::TransferLeadership(transfer) => {
            admin::transfer_leadership(&admin()?, transfer).await
        }
        Command::TriggerElection(trigger) => admin::trigger_election(&admin()?, trigger).await,
        Command::Inspect(asked) => inspect::inspect(&admin()?, asked).await,
        Command::Ping => inspect::ping(&admin()?).await,
        Command::StopServer(stop) => inspect::stop_server(&admin()?, stop).await,
        Command::AwaitLeader => admin::await_leader(&admin()?, arguments.timeout).await,
        Command::Load(load) => load::run(&arguments.endpoints, options.clone(), load).await,
        Command::Completions { shell } => Ok(completions(shell)),
    }
}

fn completions(shell: clap_complete::Shell) -> Shown {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "kontiki", &mut script);
    Shown::raw(script)
}

/// Writes to stdout; a reader that has gone away is no failure.
fn print(text: &[u8]) -> Result<(), Failure> {
    print_more(text).map(|_| ())
}

/// The same. `false`: the reader has gone away.
fn print_more(text: &[u8]) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Local {
            message: format!("cannot write the answer to stdout: {error}"),
        }),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Client(error)
    }
}
