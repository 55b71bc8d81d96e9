//! What `chimera bench` is told: a spec file, or options that describe an experiment.

use std::path::PathBuf;

use chimera_domain::options::EngineKind;
use chimera_domain::spec::FlagSpec;
use chimera_runtime::exit::UsageError;
use clap::Args;

use super::{Rule, engine};

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
    /// Show beside the results what another rule says: tr110 calls a run contended below a speed-up of 1.5
    #[arg(long, value_name = "RULE")]
    pub rule: Option<Rule>,
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
    pub(super) fn given(&self) -> Vec<&'static str> {
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
