//! The command line. Fields are `Option`s without defaults: once parsed, a default could not be
//! told from a choice. Numbers are as wide as a person can type them; their bounds are checked with
//! everything else that a spec can have wrong, all at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;

use chimera_domain::options::EngineKind;
use chimera_domain::spec::FlagSpec;
use chimera_runtime::exit::UsageError;
use chimera_runtime::telemetry::LogArgs;
use chimera_runtime::version;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::engines::{Choice, Sources};

mod history;
mod judge;

pub use history::{HistoryArgs, HistoryCommand, ListArgs, PruneArgs};
pub(crate) use judge::options;
pub use judge::{CompareArgs, GateArgs};

mod study;

pub use study::{AdviseArgs, ImportArgs, ImportLayout, PlaybookFormat, Tr110Args};

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

/// `chimera bench`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  chimera bench --quick                       two agents, threads that fit against threads that do not
  chimera bench examples/two-agents.toml --out results/mine
  chimera bench examples/tr110.toml --dry-run  what it would do, without starting anything
  chimera bench --resume results/mine         go on after a crash
  chimera bench --engine ollama --model gemma3:270m --agents 2 --runs 5
  chimera bench --engine openai --instance http://127.0.0.1:8001 --instance http://127.0.0.1:8002 \\
      --model gemma3 --num-predict 128

Without --engine, a reachable or installed Ollama is taken, else llama.cpp's server.")]
pub struct BenchArgs {
    /// Experiment in TOML or JSON (see docs/spec.md); without it, the options below describe one
    #[arg(value_name = "SPEC")]
    pub spec: Option<PathBuf>,
    /// The quick job: two tests side by side that show contention, sized for two cores
    #[arg(long)]
    pub quick: bool,
    /// Say what would be done, leg by leg, and start nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Folder for the results; must not exist yet [default: results/TIME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the next leg of what was cut short (a crash, a reboot, kill -9) before it had
    /// written its results to DIR. What Ctrl-C stopped is closed and cannot be resumed
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// The experiment, where no SPEC describes it.
    #[command(flatten)]
    pub flags: FlagArgs,
}

/// An experiment described by options.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Experiment, instead of SPEC")]
pub struct FlagArgs {
    /// Protocol of the engines [default: what this machine has]
    #[arg(long, value_name = "ENGINE", value_parser = engine())]
    pub engine: Option<EngineKind>,
    /// Attach to an engine that runs already; once per agent. Without it engines are started
    #[arg(long = "instance", value_name = "URL")]
    pub instances: Vec<String>,
    /// Model, by the name that the engine knows it by
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Agents, each pinned to an instance of its own [default: 2]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub agents: Option<u64>,
    /// Repeats; each has its own solo baselines [default: 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub runs: Option<u64>,
    /// Context length
    #[arg(long, value_name = "TOKENS", allow_negative_numbers = true)]
    pub num_ctx: Option<u64>,
    /// Layers on the GPU
    #[arg(long, value_name = "LAYERS", allow_negative_numbers = true)]
    pub num_gpu: Option<u64>,
    /// Threads of each engine
    #[arg(long, value_name = "THREADS", allow_negative_numbers = true)]
    pub num_thread: Option<u64>,
    /// Output tokens per request
    #[arg(long, value_name = "TOKENS", allow_negative_numbers = true)]
    pub num_predict: Option<u64>,
    /// Sampling temperature; 0 is greedy
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Seed of the order of runs and of sampling
    #[arg(long, value_name = "SEED", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Folder of CSV files for the agents to work on [default: the data shipped with Chimera]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Name of the experiment
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

impl FlagArgs {
    /// The same for the one door to a checked spec.
    #[must_use]
    pub fn spec(&self) -> FlagSpec {
        FlagSpec {
            engine: self.engine,
            instances: self.instances.clone(),
            model: self.model.clone(),
            agents: self.agents,
            runs: self.runs,
            num_ctx: self.num_ctx,
            num_gpu: self.num_gpu,
            num_thread: self.num_thread,
            num_predict: self.num_predict,
            temperature: self.temperature,
            seed: self.seed,
            data: self.data.clone(),
            name: self.name.clone(),
        }
    }

    /// The options that were given, as typed.
    fn given(&self) -> Vec<&'static str> {
        [
            ("--engine", self.engine.is_some()),
            ("--instance", !self.instances.is_empty()),
            ("--model", self.model.is_some()),
            ("--agents", self.agents.is_some()),
            ("--runs", self.runs.is_some()),
            ("--num-ctx", self.num_ctx.is_some()),
            ("--num-gpu", self.num_gpu.is_some()),
            ("--num-thread", self.num_thread.is_some()),
            ("--num-predict", self.num_predict.is_some()),
            ("--temperature", self.temperature.is_some()),
            ("--seed", self.seed.is_some()),
            ("--data", self.data.is_some()),
            ("--name", self.name.is_some()),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
        .collect()
    }
}

impl BenchArgs {
    /// Checks what the parser cannot.
    ///
    /// # Errors
    /// When a spec file and options that describe an experiment are both given, or either beside a
    /// folder to go on with: which of them is meant cannot be known.
    pub fn check(&self) -> Result<(), UsageError> {
        let mut given = self.flags.given();
        if self.quick {
            given.insert(0, "--quick");
        }
        if let Some(folder) = &self.resume {
            if self.out.is_some() {
                given.push("--out");
            }
            if given.is_empty() {
                return Ok(());
            }
            return Err(UsageError(format!(
                "{} cannot be combined with --resume: it goes on with {} as it was begun",
                given.join(", "),
                folder.display()
            )));
        }
        let Some(spec) = &self.spec else {
            return Ok(());
        };
        if given.is_empty() {
            return Ok(());
        }
        Err(UsageError(format!(
            "{} cannot be combined with a spec file: write it into {}, or leave the file out",
            given.join(", "),
            spec.display()
        )))
    }
}

/// `chimera up`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  chimera up --workers 2                      two workers, each with an engine of its own
  chimera up --instance http://127.0.0.1:11434 --engine ollama
  chimera up --listen 127.0.0.1:7070 --dir ./stack

Then, in another terminal: chimera submit examples/two-agents.toml")]
pub struct UpArgs {
    /// Workers, each with an engine of its own [default: 2, or one per --instance]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(1..=MAX_WORKERS)
    )]
    pub workers: Option<u32>,
    /// Protocol of the engines [default: what this machine has]
    #[arg(long, value_name = "ENGINE", value_parser = engine())]
    pub engine: Option<EngineKind>,
    /// Attach a worker to an engine that runs already; repeatable
    #[arg(long = "instance", value_name = "URL")]
    pub instances: Vec<String>,
    /// Model whose weights must be there before anything starts
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Address of the coordinator; the analyzer takes the next port [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Folder for streams, spools, logs and results; kept [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Workers that one machine can be asked for: more than any has GPUs or cores for.
const MAX_WORKERS: i64 = 256;
/// Workers where nobody says otherwise.
const WORKERS: u32 = 2;

impl UpArgs {
    /// How many workers: as asked, or one per instance that runs already, or two.
    pub(crate) fn workers(&self, choice: &Choice) -> u32 {
        let instances = match &choice.sources {
            Sources::Attach(urls) => u32::try_from(urls.len()).ok(),
            Sources::Spawn(_) => None,
        };
        self.workers.or(instances).unwrap_or(WORKERS)
    }

    /// Where the coordinator listens.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7070)))
    }

    /// Where the analyzer listens: the coordinator's next port, or any free one if it takes one too.
    pub(crate) fn analyzer_listen(&self) -> SocketAddr {
        let mut address = self.listen();
        let port = if address.port() == 0 {
            0
        } else {
            address.port().wrapping_add(1)
        };
        address.set_port(port);
        address
    }
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

Exits with 1 if the bytes differ from report.json in the bundle.")]
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

Checks every file's SHA-256, then that the records compute to the same files. Exits with 1 if not.")]
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
