//! Configuration of an agent worker.

use std::path::PathBuf;
use std::time::Duration;

use chimera_domain::ids::{InstanceId, NodeId, WorkerId};
use chimera_domain::options::EngineKind;
use chimera_runtime::bus::{BusConfig, NatsArgs};
use chimera_runtime::config::{
    ConfigErrors, DurationText, Problems, cache_dir, find_program, load,
};
use chimera_runtime::telemetry::LogArgs;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::engine::Limits;
use crate::launcher::EngineSource;
use crate::watch::{DEFAULT_PERIOD, MIN_PERIOD};

/// What to spawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spawn {
    /// `ollama serve`
    Ollama,
    /// `llama-server` of llama.cpp
    Llama,
}

/// Raw configuration: flags over environment over file.
#[derive(Debug, Default, Clone, clap::Parser, Serialize, Deserialize)]
#[command(
    name = "agent-worker",
    version,
    about = "Owns exactly one LLM engine instance, runs an agent on it and stamps every token",
    after_help = "Examples:\n  \
        agent-worker --instance http://127.0.0.1:11434 --engine ollama\n  \
        agent-worker --spawn ollama --gpu GPU-8a56a4bc-5b1e-2d6f-9c5e-0d1f6f3c2b7a\n  \
        agent-worker --spawn llama --models-dir ~/models --worker-id w1\n\n\
        Every flag is also an environment variable and a key of the TOML file given by --config; \
        a flag wins over the environment, the environment over the file."
)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// TOML file with the same keys
    #[arg(long, env = "CHIMERA_WORKER_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Name of this worker, unique at its coordinator [default: made of host and process id]
    #[arg(long, env = "CHIMERA_WORKER_ID", value_name = "NAME")]
    pub worker_id: Option<String>,
    /// The coordinator [default: http://127.0.0.1:7070]
    #[arg(long, env = "CHIMERA_COORDINATOR_URL", value_name = "URL")]
    pub coordinator_url: Option<String>,
    /// Which engine instance
    #[command(flatten)]
    #[serde(default)]
    pub engine: EngineArgs,
    /// Where files are
    #[command(flatten)]
    #[serde(default)]
    pub files: FileArgs,
    /// How long a request may take
    #[command(flatten)]
    #[serde(default)]
    pub limits: LimitArgs,
    /// The bus
    #[command(flatten)]
    #[serde(default)]
    pub nats: NatsArgs,
    /// Logs and traces
    #[command(flatten)]
    #[serde(default)]
    pub log: LogArgs,
}

/// The engine part.
#[derive(Debug, Default, Clone, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Engine")]
#[serde(deny_unknown_fields)]
pub struct EngineArgs {
    /// Attach to an engine that runs already
    #[arg(
        long,
        env = "CHIMERA_WORKER_INSTANCE",
        value_name = "URL",
        conflicts_with = "spawn"
    )]
    pub instance: Option<String>,
    /// Protocol of the attached engine: ollama or openai [default: ollama]
    #[arg(long = "engine", env = "CHIMERA_WORKER_ENGINE", value_name = "KIND")]
    pub kind: Option<String>,
    /// Spawn and own an engine on a free port of the loopback interface
    #[arg(long, env = "CHIMERA_WORKER_SPAWN", value_enum)]
    pub spawn: Option<Spawn>,
    /// The one GPU that a spawned engine may see, by UUID
    #[arg(long, env = "CHIMERA_WORKER_GPU", value_name = "UUID")]
    pub gpu: Option<String>,
    /// How often an engine is asked for its state while an agent works, beside the measured path; 0s
    /// never [default: 1s]
    #[arg(long, env = "CHIMERA_WORKER_WATCH_PERIOD", value_name = "DURATION")]
    pub watch_period: Option<DurationText>,
    /// Folder of MODEL.gguf for a spawned llama-server [default: models/ in the cache folder]
    #[arg(long, env = "CHIMERA_WORKER_MODELS_DIR", value_name = "DIR")]
    pub models_dir: Option<PathBuf>,
}

/// The files part.
#[derive(Debug, Default, Clone, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Files")]
#[serde(deny_unknown_fields)]
pub struct FileArgs {
    /// Folder below which a spec's data folders lie; without it only the shipped data can be used
    #[arg(long, env = "CHIMERA_WORKER_DATA_ROOT", value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    /// Folder of prompt templates that go before the built-in ones
    #[arg(long, env = "CHIMERA_WORKER_TEMPLATES", value_name = "DIR")]
    pub templates_dir: Option<PathBuf>,
    /// Folder for spool, epoch, claims and engine logs [default: workers/ in the cache folder]
    #[arg(long, env = "CHIMERA_WORKER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// The limits part.
#[derive(Debug, Default, Clone, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Limits")]
#[serde(deny_unknown_fields)]
pub struct LimitArgs {
    /// Longest wait for a connection [default: 2s]
    #[arg(
        id = "engine_connect_limit",
        long = "connect-limit",
        env = "CHIMERA_WORKER_CONNECT_LIMIT",
        value_name = "DURATION"
    )]
    pub connect_limit: Option<DurationText>,
    /// Longest wait for the first token [default: 2m]
    #[arg(long, env = "CHIMERA_WORKER_FIRST_BYTE_LIMIT", value_name = "DURATION")]
    pub first_byte_limit: Option<DurationText>,
    /// Longest gap between two chunks [default: 30s]
    #[arg(long, env = "CHIMERA_WORKER_GAP_LIMIT", value_name = "DURATION")]
    pub gap_limit: Option<DurationText>,
    /// Longest request [default: 10m]
    #[arg(long, env = "CHIMERA_WORKER_TOTAL_LIMIT", value_name = "DURATION")]
    pub total_limit: Option<DurationText>,
    /// Longest wait until the bus has a record [default: 30s]
    #[arg(long, env = "CHIMERA_WORKER_PUBLISH_LIMIT", value_name = "DURATION")]
    pub publish_limit: Option<DurationText>,
}

/// What of the configuration is worth a line in the log.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    worker: &'a str,
    instance: &'a str,
    node: &'a str,
    coordinator_url: &'a str,
    engine: String,
    data_root: &'a Option<PathBuf>,
    templates_dir: &'a Option<PathBuf>,
    state_dir: &'a PathBuf,
    software: &'a str,
}

/// Validated configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Name of the worker.
    pub worker: WorkerId,
    /// Name of its instance.
    pub instance: InstanceId,
    /// Its host.
    pub node: NodeId,
    /// The coordinator.
    pub coordinator_url: String,
    /// The engine.
    pub source: EngineSource,
    /// Deadlines of a request.
    pub limits: Limits,
    /// How often the engine's state is looked at while an agent works; 0: never.
    pub watch_period: Duration,
    /// Patience of a publish.
    pub publish_patience: Duration,
    /// Below which data folders lie.
    pub data_root: Option<PathBuf>,
    /// Templates of the user.
    pub templates_dir: Option<PathBuf>,
    /// Spool, epoch, logs.
    pub state_dir: PathBuf,
    /// Locks of claimed instances, one folder for all workers of the host.
    pub claims_dir: PathBuf,
    /// Version and git revision.
    pub software: String,
}

impl Config {
    /// For the log.
    #[must_use]
    pub fn shown(&self) -> Shown<'_> {
        Shown {
            worker: self.worker.as_str(),
            instance: self.instance.as_str(),
            node: self.node.as_str(),
            coordinator_url: &self.coordinator_url,
            engine: format!("{:?}", self.source),
            data_root: &self.data_root,
            templates_dir: &self.templates_dir,
            state_dir: &self.state_dir,
            software: &self.software,
        }
    }

    /// Merges the file in and checks everything.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn resolve(args: &Args, software: String) -> Result<(Self, BusConfig), ConfigErrors> {
        let args = load(args, args.config.as_deref())?;
        let mut problems = Problems::default();
        let host = chimera_runtime::host::name();
        let node = problems.take("node", NodeId::try_new(chimera_runtime::host::token(&host)));
        let worker = args.worker_id.clone().unwrap_or_else(|| {
            format!(
                "{}-{}",
                chimera_runtime::host::token(&host),
                std::process::id()
            )
        });
        let bus = problems.nested(args.nats.validate(&worker));
        let worker = problems.take("worker_id", WorkerId::try_new(worker));
        let source = source(&args.engine, &mut problems);
        let instance = match (&source, &worker) {
            (Some(source), Some(worker)) => problems.take("instance", instance_id(source, worker)),
            _ => None,
        };
        let state_dir = args
            .files
            .state_dir
            .clone()
            .or_else(|| cache_dir().map(|c| c.join("workers")));
        if state_dir.is_none() {
            problems.add(
                "state_dir",
                "neither HOME nor XDG_CACHE_HOME is set: name a folder",
            );
        }
        for (key, dir) in [
            ("data_root", &args.files.data_root),
            ("templates_dir", &args.files.templates_dir),
        ] {
            if let Some(dir) = dir.as_ref().filter(|d| !d.is_dir()) {
                problems.add(key, format!("{} is no folder", dir.display()));
            }
        }
        let defaults = Limits::default();
        let or =
            |given: &Option<DurationText>, default: Duration| given.map_or(default, Duration::from);
        let limits = Limits {
            connect: or(&args.limits.connect_limit, defaults.connect),
            first_byte: or(&args.limits.first_byte_limit, defaults.first_byte),
            gap: or(&args.limits.gap_limit, defaults.gap),
            total: or(&args.limits.total_limit, defaults.total),
            ..defaults
        };
        let watch_period = or(&args.engine.watch_period, DEFAULT_PERIOD);
        if !watch_period.is_zero() && watch_period < MIN_PERIOD {
            problems.add(
                "watch_period",
                format!(
                    "{watch_period:?} is shorter than {MIN_PERIOD:?}, and the looks would compete with \
                     the requests that are measured: ask for less often, or for never with 0s"
                ),
            );
        }
        let parts = (|| Some((worker?, node?, source?, instance?, state_dir?, bus?)))();
        let (worker, node, source, instance, state_dir, bus) = problems.finish_with(parts)?;
        let state_dir = state_dir.join(worker.as_str());
        let config = Self {
            worker,
            instance,
            node,
            coordinator_url: args
                .coordinator_url
                .unwrap_or_else(|| "http://127.0.0.1:7070".to_owned()),
            source,
            limits,
            watch_period,
            publish_patience: or(&args.limits.publish_limit, Duration::from_secs(30)),
            data_root: args.files.data_root,
            templates_dir: args.files.templates_dir,
            state_dir,
            claims_dir: default_claims_dir(),
            software,
        };
        Ok((config, bus))
    }
}

/// Where claims are kept: in the cache folder, so that all stacks of a user see them, else in the
/// system's folder for temporary files.
#[must_use]
pub fn default_claims_dir() -> PathBuf {
    cache_dir()
        .unwrap_or_else(|| std::env::temp_dir().join("chimera"))
        .join("claims")
}

fn source(args: &EngineArgs, problems: &mut Problems) -> Option<EngineSource> {
    let kind = match args.kind.as_deref() {
        None | Some("ollama") => EngineKind::Ollama,
        Some("openai") => EngineKind::Openai,
        Some(other) => {
            problems.add(
                "engine",
                format!("'{other}' is neither 'ollama' nor 'openai'"),
            );
            return None;
        }
    };
    match (&args.instance, args.spawn) {
        (Some(url), None) => {
            let url = problems.take("instance", Url::parse(url))?;
            if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
                problems.add(
                    "instance",
                    format!("'{url}' is no http:// or https:// address"),
                );
                return None;
            }
            Some(EngineSource::Attach { url, kind })
        }
        (None, Some(Spawn::Ollama)) => {
            let program = problems.take("spawn", find_program("CHIMERA_OLLAMA", "ollama"))?;
            Some(EngineSource::SpawnOllama {
                program,
                gpu: args.gpu.clone(),
            })
        }
        (None, Some(Spawn::Llama)) => {
            let program = problems.take(
                "spawn",
                find_program("CHIMERA_LLAMA_SERVER", "llama-server"),
            )?;
            let models_dir = args
                .models_dir
                .clone()
                .or_else(|| cache_dir().map(|c| c.join("models")));
            let Some(models_dir) = models_dir.filter(|d| d.is_dir()) else {
                problems.add("models_dir", "names no folder of GGUF files");
                return None;
            };
            Some(EngineSource::SpawnLlama {
                program,
                models_dir,
                gpu: args.gpu.clone(),
            })
        }
        (None, None) => {
            problems.add(
                "instance",
                "name the engine: --instance URL, or --spawn ollama|llama",
            );
            None
        }
        (Some(_), Some(_)) => {
            problems.add(
                "instance",
                "either attach with --instance or spawn one, not both",
            );
            None
        }
    }
}

/// An attached instance is named by its address, so that two workers on it collide; a spawned one
/// by its worker.
///
/// # Errors
/// When the address makes no id.
pub fn instance_id(
    source: &EngineSource,
    worker: &WorkerId,
) -> Result<InstanceId, chimera_domain::ids::IdError> {
    match source {
        EngineSource::Attach { url, .. } => {
            let host = url.host_str().unwrap_or("localhost");
            let host = if host == "localhost" {
                "127.0.0.1"
            } else {
                host
            };
            let port = url.port_or_known_default().unwrap_or(0);
            InstanceId::try_new(chimera_runtime::host::token(&format!("{host}-{port}")))
        }
        EngineSource::SpawnOllama { .. } | EngineSource::SpawnLlama { .. } => {
            InstanceId::try_new(format!("{worker}-own"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn resolve(args: &[&str]) -> Result<Config, ConfigErrors> {
        let args = Args::try_parse_from([&["agent-worker"], args].concat()).unwrap();
        Config::resolve(&args, "test".into()).map(|(config, _)| config)
    }

    #[test]
    fn localhost_and_its_address_are_one_instance() {
        let id = |url| {
            resolve(&["--state-dir", "/tmp", "--instance", url])
                .unwrap()
                .instance
        };
        assert_eq!(id("http://localhost:11434"), id("http://127.0.0.1:11434/"));
        assert_eq!(id("http://127.0.0.1:11434").as_str(), "127-0-0-1-11434");
    }

    #[test]
    fn every_mistake_is_said_at_once() {
        let errors = resolve(&[
            "--worker-id",
            "a.b",
            "--engine",
            "vllm",
            "--data-root",
            "/no/such",
        ]);
        let text = errors.unwrap_err().to_string();
        for key in ["worker_id", "engine", "data_root"] {
            assert!(text.contains(key), "{text}");
        }
    }

    #[test]
    fn an_engine_must_be_named() {
        let text = resolve(&[]).unwrap_err().to_string();
        assert!(text.contains("--spawn ollama|llama"), "{text}");
    }
}
