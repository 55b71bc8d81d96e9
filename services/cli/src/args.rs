//! The command line. Fields are `Option`s without defaults: once parsed, a default could not be
//! told from a choice. Numbers are as wide as a person can type them; their bounds are checked with
//! everything else that a spec can have wrong, all at once.

use std::path::PathBuf;
use std::sync::LazyLock;

use chimera_domain::options::EngineKind;
use chimera_runtime::telemetry::LogArgs;
use chimera_runtime::version;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

mod bench;
mod history;
mod judge;
mod plan;
mod study;
mod up;

pub use bench::{BenchArgs, FlagArgs};
pub use history::{HistoryArgs, HistoryCommand, ListArgs, PruneArgs};
pub(crate) use judge::options;
pub use judge::{CompareArgs, GateArgs};
pub use plan::{Contexts, Counts, PlanArgs, Size};
pub use study::{AdviseArgs, ImportArgs, ImportLayout, PlaybookFormat, Tr110Args};
pub use up::UpArgs;

/// Where a coordinator listens unless told otherwise.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:7070";
/// Where an analyzer listens unless told otherwise.
pub const DEFAULT_ANALYZER: &str = "http://127.0.0.1:7071";

/// What the services say of it is not true here.
const LOG_HELP: &str =
    "What to log, e.g. \"debug\" or \"warn,chimera_runtime=debug\" [default: warn; of `up`: info]";

static VERSION: LazyLock<String> = LazyLock::new(version::software);

/// Measures what really happens when several LLM agents run at once.
#[derive(Debug, Parser)]
#[command(
    name = "chimera",
    version = VERSION.as_str(),
    arg_required_else_help = true,
    max_term_width = 100,
    mut_arg("filter", |arg| arg.help(LOG_HELP)),
    after_help = "Examples:
  chimera doctor                              what this machine lacks, and how to get it
  chimera bench --quick                       measure this machine in three minutes
  chimera report results/quick --format md    read a result again

Exit codes: 0 good, 1 failed, 64 bad usage or spec."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Write JSON to standard output, for programs.
    #[arg(long, global = true)]
    pub json: bool,
    /// Logs and traces.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure on this machine: start what is needed, run, report
    Bench(BenchArgs),
    /// Start coordinator, workers, telemetry and analyzer on this machine, until Ctrl-C
    Up(UpArgs),
    /// Hand an experiment to a coordinator
    Submit(SubmitArgs),
    /// List what was measured on this machine, or the experiments of a coordinator
    List(ListArgs),
    /// Forget old entries of the list of what was measured on this machine
    History(HistoryArgs),
    /// Follow an experiment until it ends
    Watch(ExperimentArgs),
    /// Stop an experiment; its runs so far are kept
    Cancel(ExperimentArgs),
    /// List the workers of a coordinator
    Workers(WorkersArgs),
    /// Show the report of an experiment, by its folder, its id, or the begin of its id
    Report(ReportArgs),
    /// Read what another tool measured into the same reports
    Import(ImportArgs),
    /// Say which configuration to take for which goal, from a report's measured results
    Advise(AdviseArgs),
    /// Compute a bundle's report again from its records alone, and compare the bytes
    Replay(ReplayArgs),
    /// Check that a bundle is as it was written and as it computes
    Verify(VerifyArgs),
    /// Compare two results: what differs, and whether it is more than noise
    Compare(CompareArgs),
    /// Exit with 1 if a result misses its thresholds or falls behind a baseline
    Gate(GateArgs),
    /// Measure one engine instance quickly, without any service
    Probe(ProbeArgs),
    /// Say how many agents fit on a GPU, from the model's file, before anything is started
    Plan(PlanArgs),
    /// Say what this machine lacks for `chimera bench`, and how to get it
    Doctor(DoctorArgs),
    /// Write a completion script for a shell
    Completions(CompletionsArgs),
    /// Write the JSON Schema of report.json
    Schema(SchemaArgs),
}

/// Which engine speaks at an address, or is to be started.
fn engine() -> impl TypedValueParser<Value = EngineKind> {
    PossibleValuesParser::new(["ollama", "openai"]).map(|name| match name.as_str() {
        "ollama" => EngineKind::Ollama,
        _ => EngineKind::Openai,
    })
}

/// Which coordinator.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// The coordinator [default: http://127.0.0.1:7070]
    #[arg(long, env = "CHIMERA_COORDINATOR_URL", value_name = "URL")]
    pub server: Option<String>,
}

impl ServerArgs {
    /// The coordinator's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        self.server.as_deref().unwrap_or(DEFAULT_SERVER)
    }
}

/// `chimera workers`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  chimera workers
  chimera workers --server http://10.0.0.5:7070 --json")]
pub struct WorkersArgs {
    /// The coordinator.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `chimera submit`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera submit examples/two-agents.toml
  chimera watch \"$(chimera submit examples/two-agents.toml)\"
  chimera submit spec.json --server http://10.0.0.5:7070

Prints the experiment's id.")]
pub struct SubmitArgs {
    /// Experiment in TOML or JSON; `-` reads standard input
    #[arg(value_name = "SPEC")]
    pub spec: PathBuf,
    /// The coordinator.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `chimera watch` and `chimera cancel`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera watch quick-20260801-101500
  chimera watch quick-20260801-101500 --json | jq .phase
  chimera cancel quick-20260801-101500

`chimera list` shows the ids.")]
pub struct ExperimentArgs {
    /// Its id
    #[arg(value_name = "EXPERIMENT")]
    pub experiment: String,
    /// The coordinator.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `chimera report`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera report results/quick                the table again
  chimera report results/quick --format csv > runs.csv
  chimera report results/quick --why          the evidence for why it was slow
  chimera report results/quick --why --test 2 --run 1 --json | jq '.[0].attribution.causes'
  chimera report results/quick --rule tr110   TR110's contention rule beside ours
  chimera report quick-2026 --format html > quick.html
  chimera report quick-20260801-101500 --format md --analyzer http://10.0.0.5:7071")]
pub struct ReportArgs {
    /// Folder of a bundle, or id of an experiment; of one measured on this machine the begin is enough
    #[arg(value_name = "EXPERIMENT|DIR")]
    pub target: String,
    /// How to show it [default: the table]
    // An id of its own: that of --log-format is `format`, and global.
    #[arg(id = "report_format", long = "format", value_name = "FORMAT")]
    pub format: Option<ReportFormat>,
    /// The analyzer to ask for an id [default: this machine's history, then http://127.0.0.1:7071]
    #[arg(long, env = "CHIMERA_ANALYZER_URL", value_name = "URL")]
    pub analyzer: Option<String>,
    /// How long to wait for the report to be complete, seconds [default: 0]
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u32>,
    /// Show the evidence for why a run was slow: causes, what was compared, where the time went
    #[arg(long, conflicts_with = "report_format")]
    pub why: bool,
    /// Of this test only, by its id or its label
    #[arg(long, value_name = "TEST", requires = "why")]
    pub test: Option<String>,
    /// Of this run [default: the one in which the test's first cause is strongest]
    #[arg(long, value_name = "N", requires = "why")]
    pub run: Option<u32>,
    /// Show beside it what another rule says: tr110 calls a run contended below a speed-up of 1.5
    #[arg(long, value_name = "RULE", conflicts_with = "report_format")]
    pub rule: Option<Rule>,
}

/// A rule of others, shown beside ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rule {
    /// Technical Report 110: contended where the speed-up is below 1.5
    Tr110,
}

/// How a report is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// The results side by side, for a terminal
    Table,
    /// Markdown, everything
    Md,
    /// One self-contained page with pictures
    Html,
    /// report.json, byte for byte
    Json,
    /// One line per run
    Csv,
}

/// `chimera replay`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera replay results/quick
  chimera replay results/quick --out again.json && cmp again.json results/quick/report.json

Exits with 1 if the bytes differ from report.json in the bundle; not if another version of chimera
wrote it, nothing is damaged, and this one only says more: no figure differs.")]
pub struct ReplayArgs {
    /// Folder of the bundle
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// Write the computed report.json here
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `chimera verify`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera verify results/quick
  chimera verify results/quick --json

Checks every file's SHA-256, then the records by themselves, then that they compute to the same files.
Exits with 1 if not. Where another version of chimera wrote the bundle, it says what this one computes
otherwise, and exits with 0 if that is more and no figure differs.")]
pub struct VerifyArgs {
    /// Folder of the bundle
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
}

/// `chimera probe`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera probe http://127.0.0.1:11434 --engine ollama --model gemma3:270m
  chimera probe http://127.0.0.1:8080 --engine openai --model gemma3 -c 8 -n 80 --tokens 128 \\
      --out probe.ndjson

A closed loop: each of CONCURRENCY users asks again as soon as its answer has ended.
The model is warmed by one request that is not measured. Exits with 1 if any request failed.")]
pub struct ProbeArgs {
    /// Base URL of the instance
    #[arg(value_name = "URL")]
    pub url: String,
    /// Its protocol
    #[arg(long, value_name = "ENGINE", value_parser = engine())]
    pub engine: EngineKind,
    /// Model, by the name that the engine knows it by
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Users at once [default: 1]
    #[arg(short, long, value_name = "CONCURRENCY", allow_negative_numbers = true)]
    pub concurrency: Option<u32>,
    /// Requests in all [default: 10]
    #[arg(
        short = 'n',
        long,
        value_name = "REQUESTS",
        allow_negative_numbers = true
    )]
    pub requests: Option<u32>,
    /// Output tokens per request [default: 64]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub tokens: Option<u32>,
    /// Context length, where the engine takes it per request [default: 2048]
    #[arg(long, value_name = "TOKENS", allow_negative_numbers = true)]
    pub num_ctx: Option<u32>,
    /// Write one JSON line per request here
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// What to ask, after a number that keeps requests out of the prompt cache [default: built in]
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
}

/// `chimera doctor`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  chimera doctor
  chimera doctor --json | jq '.checks[] | select(.state != \"ok\")'

Exits with 0 if `chimera bench` can run on this machine, else with 1.")]
pub struct DoctorArgs {}

/// `chimera completions`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  chimera completions bash > ~/.local/share/bash-completion/completions/chimera
  chimera completions zsh > ~/.zfunc/_chimera")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// `chimera schema`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  chimera schema > report.schema.json
  chimera schema | jq .properties.tests")]
pub struct SchemaArgs {}

#[cfg(test)]
mod tests;
