//! Configuration of the telemetry service.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chimera_domain::ids::NodeId;
use chimera_runtime::bus::{BusConfig, NatsArgs};
use chimera_runtime::config::{ConfigErrors, DurationText, Problems, load};
use chimera_runtime::telemetry::LogArgs;
use serde::{Deserialize, Serialize};

/// Time between two samples, if nobody says otherwise.
const DEFAULT_PERIOD: Duration = Duration::from_millis(50);
/// Shortest period: below it the sampler would measure itself.
const MIN_PERIOD: Duration = Duration::from_millis(10);
/// Longest period: a batch of a second then has one sample at most.
const MAX_PERIOD: Duration = Duration::from_secs(10);
/// PCIe traffic takes 20 ms to measure; below this period it is off unless asked for.
const MIN_PCIE_PERIOD: Duration = Duration::from_millis(50);
/// Names of engines, if nobody says otherwise.
const DEFAULT_ENGINES: [&str; 5] = ["ollama", "llama-server", "llama_server", "vllm", "sglang"];
/// Where metrics are served, if asked for without an address.
const METRICS_ADDRESS: &str = "127.0.0.1:9464";
/// Most names of engines.
const MAX_ENGINES: usize = 32;

/// Raw configuration: flags over environment over file.
#[derive(Debug, Default, Clone, clap::Parser, Serialize, Deserialize)]
#[command(
    name = "gpu-telemetry",
    version,
    about = "Samples GPUs, host and engine processes of this node beside the runs",
    after_help = "Examples:\n  \
        gpu-telemetry --nats-url nats://127.0.0.1:4222\n  \
        gpu-telemetry --period 20ms --engine-name ollama --engine-name my-engine\n  \
        gpu-telemetry --metrics-listen 127.0.0.1:9464\n  \
        gpu-telemetry --nvml-library /usr/lib/wsl/lib/libnvidia-ml.so.1\n\n\
        Without a GPU it says so once and records host and engine processes.\n\
        Every flag is also an environment variable and a key of the TOML file given by --config; \
        a flag wins over the environment, the environment over the file."
)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// TOML file with the same keys
    #[arg(long, env = "CHIMERA_TELEMETRY_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Name of this node in telemetry [default: the host's name]
    #[arg(long, env = "CHIMERA_TELEMETRY_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// Time between two samples, 10ms to 10s; half the period costs twice the CPU
    /// (docs/telemetry.md) [default: 50ms]
    #[arg(long, env = "CHIMERA_TELEMETRY_PERIOD", value_name = "DURATION")]
    pub period: Option<DurationText>,
    /// Process whose name begins with this is an engine; repeat, or separate by commas
    /// [default: ollama,llama-server,llama_server,vllm,sglang]
    #[arg(
        long = "engine-name",
        env = "CHIMERA_TELEMETRY_ENGINE_NAMES",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub engine_names: Option<Vec<String>>,
    /// Path of NVML, if it is not where the driver puts it (libnvidia-ml.so.1)
    #[arg(long, env = "CHIMERA_TELEMETRY_NVML_LIBRARY", value_name = "FILE")]
    pub nvml_library: Option<PathBuf>,
    /// Whether to measure PCIe traffic, 20 ms of a GPU's tick in turn [default: true from a period
    /// of 50ms]
    #[arg(long, env = "CHIMERA_TELEMETRY_PCIE", value_name = "BOOL")]
    pub pcie: Option<bool>,
    /// Whether to name busy processes of others, looked for once a second [default: true]
    #[arg(long, env = "CHIMERA_TELEMETRY_BUSY_OTHERS", value_name = "BOOL")]
    pub busy_others: Option<bool>,
    /// Serve the latest readings for Prometheus at http://ADDRESS/metrics; without an address at
    /// 127.0.0.1:9464 [default: off]
    #[arg(
        long,
        env = "CHIMERA_TELEMETRY_METRICS_LISTEN",
        value_name = "ADDRESS",
        num_args = 0..=1,
        default_missing_value = METRICS_ADDRESS
    )]
    pub metrics_listen: Option<String>,
    /// The bus
    #[command(flatten)]
    #[serde(default)]
    pub nats: NatsArgs,
    /// Logs and traces
    #[command(flatten)]
    #[serde(default)]
    pub log: LogArgs,
}

/// Validated configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Whose telemetry this is.
    pub node: NodeId,
    /// Time between two samples.
    pub period: Duration,
    /// Names that an engine process begins with.
    pub engine_names: Vec<String>,
    /// Where NVML is, if not where the driver puts it.
    pub nvml_library: Option<PathBuf>,
    /// Whether to measure PCIe traffic.
    pub pcie: bool,
    /// Whether to name busy processes of others.
    pub busy_others: bool,
    /// Where to serve metrics. `None`: nowhere.
    pub metrics_listen: Option<SocketAddr>,
}

impl Config {
    /// The configuration of a sampler inside a local stack.
    #[must_use]
    pub fn local(node: NodeId) -> Self {
        Self {
            node,
            period: DEFAULT_PERIOD,
            engine_names: DEFAULT_ENGINES.map(String::from).to_vec(),
            nvml_library: None,
            pcie: true,
            busy_others: true,
            metrics_listen: None,
        }
    }

    /// Merges the file in and checks everything.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn resolve(args: &Args) -> Result<(Self, BusConfig), ConfigErrors> {
        let args = load(args, args.config.as_deref())?;
        let mut problems = Problems::default();
        let node = args
            .node
            .unwrap_or_else(|| chimera_runtime::host::token(&chimera_runtime::host::name()));
        let bus = problems.nested(args.nats.validate("gpu-telemetry"));
        let node = problems.take("node", NodeId::try_new(node));

        let period = args.period.map_or(DEFAULT_PERIOD, Duration::from);
        if !(MIN_PERIOD..=MAX_PERIOD).contains(&period) {
            problems.add(
                "period",
                format!("must be from {MIN_PERIOD:?} to {MAX_PERIOD:?}"),
            );
        }
        let engine_names = args
            .engine_names
            .unwrap_or_else(|| DEFAULT_ENGINES.map(String::from).to_vec());
        if engine_names.len() > MAX_ENGINES {
            problems.add("engine_names", format!("at most {MAX_ENGINES} names"));
        }
        if engine_names.iter().any(|name| name.trim().is_empty()) {
            problems.add(
                "engine_names",
                "an empty name would make every process an engine",
            );
        }
        // A library that was asked for and is not there is a mistake, not a node without a GPU.
        if let Some(library) = args
            .nvml_library
            .as_ref()
            .filter(|library| !library.is_file())
        {
            problems.add("nvml_library", format!("{} is no file", library.display()));
        }
        let metrics_listen = args
            .metrics_listen
            .and_then(|address| problems.take("metrics_listen", address.parse()));
        let parts = node.zip(bus);
        let (node, bus) = problems.finish_with(parts)?;
        let config = Self {
            node,
            period,
            engine_names,
            nvml_library: args.nvml_library,
            pcie: args.pcie.unwrap_or(period >= MIN_PCIE_PERIOD),
            busy_others: args.busy_others.unwrap_or(true),
            metrics_listen,
        };
        Ok((config, bus))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn resolve(args: &[&str]) -> Result<Config, ConfigErrors> {
        let args = Args::try_parse_from([&["gpu-telemetry"], args].concat()).unwrap();
        Config::resolve(&args).map(|(config, _)| config)
    }

    #[test]
    fn defaults_are_sound_and_said() {
        let config = resolve(&[]).unwrap();
        assert_eq!(config, Config::local(config.node.clone()));
    }

    #[test]
    fn names_may_be_repeated_or_listed() {
        let listed = resolve(&["--engine-name", "a,b", "--engine-name", "c"]).unwrap();
        assert_eq!(listed.engine_names, ["a", "b", "c"]);
    }

    #[test]
    fn pcie_is_off_where_its_20_ms_do_not_fit_unless_asked_for() {
        assert!(resolve(&["--period", "50ms"]).unwrap().pcie);
        assert!(!resolve(&["--period", "20ms"]).unwrap().pcie);
        assert!(
            resolve(&["--period", "20ms", "--pcie", "true"])
                .unwrap()
                .pcie
        );
    }

    #[test]
    fn metrics_are_off_and_on_loopback_unless_told_otherwise() {
        let listen = |args: &[&str]| resolve(args).unwrap().metrics_listen;
        assert_eq!(listen(&[]), None);
        assert_eq!(
            listen(&["--metrics-listen"]),
            Some(METRICS_ADDRESS.parse().unwrap())
        );
        let given = listen(&["--metrics-listen", "0.0.0.0:1"]);
        assert_eq!(given, Some("0.0.0.0:1".parse().unwrap()));
    }

    #[test]
    fn every_mistake_is_said_at_once() {
        let text = resolve(&[
            "--node=a.b",
            "--period=5ms",
            "--metrics-listen=9464",
            "--engine-name=",
            "--nvml-library=/no/such/file",
        ])
        .unwrap_err()
        .to_string();
        for key in [
            "node",
            "period",
            "engine_names",
            "nvml_library",
            "metrics_listen",
        ] {
            assert!(text.contains(key), "{key}: {text}");
        }
    }
}
