//! The person's tool: everything that `chimera` can be asked for.
//!
//! - [`args`]: the command line. `output`: standard output.
//! - `bench`, `job`, `stack`, `engines`: the local stack and the main job on it. `resume`: what it
//!   leaves behind when it is cut short.
//! - `dry_run`: the plan of an experiment, told without starting anything.
//! - `remote`: a coordinator or an analyzer that runs elsewhere. `progress`: how far it is.
//! - `history`: what was measured on this machine.
//! - `report`: results read again, from a bundle or a server. `table`: them on a terminal.
//!   `why`: whose fault it is. `proof`:
//!   whether they are as they were written and compute. `judge`: two of them compared, or one held to
//!   thresholds.
//! - `import`: what another tool measured. `advise`: which configuration to take.
//! - `spec_file`: a spec, read and checked.
//! - `plan`: how many agents fit on a GPU. `probe`: one instance, quickly. `doctor`: what this machine
//!   lacks.

mod advise;
pub mod args;
mod bench;
mod doctor;
mod dry_run;
mod engines;
mod history;
mod import;
mod job;
mod judge;
mod output;
mod plan;
mod probe;
mod progress;
mod proof;
mod remote;
mod report;
mod resume;
mod spec_file;
mod stack;
mod table;
mod why;

use std::future::Future;
use std::time::Duration;

use chimera_runtime::exit::UsageError;
use chimera_runtime::telemetry::{self, LogArgs, TelemetryError};
use chimera_runtime::version;
use clap::CommandFactory as _;

use args::{Cli, Command};

/// What is logged where nobody says otherwise: only trouble, so that progress stays readable.
const QUIET: &str = "warn";
/// How long blocking work may go on after the end.
const LINGER: Duration = Duration::from_millis(500);
/// How long the last spans may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Does what the command line asks for.
///
/// # Errors
/// When it could not be done; [`chimera_runtime::exit::code`] tells whose fault that is.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli { command, json, log } = cli;
    let quiet = quiet(&log);
    match &command {
        Command::Bench(args) if args.dry_run => dry_run::run(args, json),
        Command::Bench(args) => block_on(Threads::Many, &quiet, bench::run(args, json)),
        Command::Up(args) => block_on(Threads::Many, &quiet, bench::up(args)),
        Command::Submit(args) => block_on(Threads::One, &quiet, remote::submit(args, json)),
        Command::List(args) if args.server.server.is_none() => {
            block_on(Threads::One, &quiet, async { history::list(args, json) })
        }
        Command::List(args) => block_on(Threads::One, &quiet, remote::list(&args.server, json)),
        Command::History(args) => {
            block_on(Threads::One, &quiet, async { history::run(args, json) })
        }
        Command::Watch(args) => block_on(Threads::One, &quiet, remote::watch(args, json)),
        Command::Cancel(args) => block_on(Threads::One, &quiet, remote::cancel(args, json)),
        Command::Workers(args) => {
            block_on(Threads::One, &quiet, remote::workers(&args.server, json))
        }
        Command::Report(args) => block_on(Threads::One, &quiet, report::report(args, json)),
        Command::Import(args) => import::run(args, json),
        Command::Advise(args) => advise::run(args, json),
        Command::Replay(args) => proof::replay(args, json),
        Command::Verify(args) => proof::verify(args, json),
        Command::Compare(args) => judge::compare_reports(args, json),
        Command::Gate(args) => judge::gate(args, json),
        Command::Probe(args) => block_on(Threads::One, &quiet, probe::run(args, json)),
        Command::Plan(args) => block_on(Threads::One, &quiet, plan::run(args, json)),
        Command::Doctor(_) => block_on(Threads::One, &quiet, doctor::run(json)),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "chimera", &mut script);
            output::print(&script).map(|_| ())
        }
        Command::Schema(_) => output::print_json(&chimera_domain::report::schema()),
    }
}

fn quiet(log: &LogArgs) -> LogArgs {
    let filter = log.filter.clone().or_else(|| Some(QUIET.to_owned()));
    LogArgs {
        filter,
        ..log.clone()
    }
}

/// How many threads the asynchronous work gets.
#[derive(Debug, Clone, Copy)]
enum Threads {
    /// Nothing to do side by side, and a probe must not be woken on another thread.
    One,
    /// The local stack: several services in one process.
    Many,
}

/// Runs asynchronous work with logs and traces.
fn block_on<F>(threads: Threads, log: &LogArgs, work: F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut builder = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::Many => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build()?;
    let result = runtime.block_on(async {
        let telemetry = telemetry::init(log, "chimera", version::VERSION).map_err(usage)?;
        let result = work.await;
        telemetry.shutdown(FLUSH_LIMIT).await;
        result
    });
    // A name lookup or a driver call that hangs is not waited for long.
    runtime.shutdown_timeout(LINGER);
    result
}

fn usage(error: TelemetryError) -> anyhow::Error {
    match error {
        TelemetryError::Filter { .. } | TelemetryError::Endpoint(_) => {
            UsageError(error.to_string()).into()
        }
        other => other.into(),
    }
}
