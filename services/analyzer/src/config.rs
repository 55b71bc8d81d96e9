//! Configuration of the analyzer.

use std::net::SocketAddr;
use std::path::PathBuf;

use chimera_runtime::bus::{BusConfig, NatsArgs, StreamLimits};
use chimera_runtime::config::{ConfigErrors, Problems, env, load};
use chimera_runtime::telemetry::LogArgs;
use serde::{Deserialize, Serialize};

use crate::history::{self, HISTORY_VARIABLE};
use crate::watcher::Target;

/// Raw configuration: flags over environment over file.
#[derive(Debug, Default, Clone, clap::Parser, Serialize, Deserialize)]
#[command(
    name = "analyzer",
    version,
    about = "Recomputes every experiment from the streams alone and writes reports and bundles",
    after_help = "Examples:\n  \
        analyzer --nats-url nats://127.0.0.1:4222 --out-dir results\n  \
        analyzer --listen 0.0.0.0:7071 --config /etc/chimera/analyzer.toml\n\n\
        Every flag is also an environment variable and a key of the TOML file given by --config; \
        a flag wins over the environment, the environment over the file."
)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// TOML file with the same keys
    #[arg(long, env = "CHIMERA_ANALYZER_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Address of the gRPC server; port 0 takes any free one [default: 127.0.0.1:7071]
    #[arg(long, env = "CHIMERA_ANALYZER_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// Folder that gets one bundle per experiment [default: results]
    #[arg(long, env = "CHIMERA_ANALYZER_OUT_DIR", value_name = "DIR")]
    pub out_dir: Option<PathBuf>,
    /// SQLite file that lists the reports written here, or `off` [default: chimera/history.sqlite in the
    /// user's data folder]
    #[arg(long, env = "CHIMERA_HISTORY", value_name = "FILE|off")]
    pub history: Option<String>,
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
    /// Address of the gRPC server.
    pub listen: SocketAddr,
    /// Where bundles go.
    #[serde(skip)]
    pub target: Target,
    /// The history of reports. `None`: none is kept.
    pub history: Option<PathBuf>,
    /// Version and git revision, written into bundles.
    pub software: String,
    /// Sizes of the streams, where they do not exist yet.
    #[serde(skip)]
    pub streams: StreamLimits,
}

impl Config {
    /// The configuration of an analyzer inside a local stack.
    #[must_use]
    pub fn local(target: Target, software: String) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            target,
            history: history::path(env(HISTORY_VARIABLE).as_deref()),
            software,
            streams: StreamLimits::default(),
        }
    }

    /// Merges the file in and checks everything.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn resolve(args: &Args, software: String) -> Result<(Self, BusConfig), ConfigErrors> {
        let args = load(args, args.config.as_deref())?;
        let mut problems = Problems::default();
        let bus = problems.nested(args.nats.validate("analyzer"));
        let target = Target::Under(args.out_dir.unwrap_or_else(|| PathBuf::from("results")));
        let mut config = Self::local(target, software);
        config.history = history::path(args.history.as_deref());
        let listen = args.listen.as_deref().unwrap_or("127.0.0.1:7071").parse();
        config.listen = problems.take("listen", listen).unwrap_or(config.listen);
        problems.finish_with(bus).map(|bus| (config, bus))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn every_mistake_is_said_at_once() {
        let args =
            Args::try_parse_from(["analyzer", "--listen", "x", "--nats-url", "http://y"]).unwrap();
        let text = Config::resolve(&args, "test".into())
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("listen") && text.contains("nats.url"),
            "{text}"
        );
    }
}
