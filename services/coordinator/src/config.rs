//! Configuration of the coordinator.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chimera_runtime::bus::{BusConfig, NatsArgs, StreamLimits};
use chimera_runtime::config::{ConfigErrors, DurationText, Problems, load};
use chimera_runtime::telemetry::LogArgs;
use serde::{Deserialize, Serialize};

/// Raw configuration: flags over environment over file.
#[derive(Debug, Default, Clone, clap::Parser, Serialize, Deserialize)]
#[command(
    name = "coordinator",
    version,
    about = "Plans runs, reserves gangs of agent workers and drives them through a common start",
    after_help = "Examples:\n  \
        coordinator --nats-url nats://127.0.0.1:4222\n  \
        coordinator --listen 0.0.0.0:7070 --config /etc/chimera/coordinator.toml\n\n\
        Every flag is also an environment variable and a key of the TOML file given by --config; \
        a flag wins over the environment, the environment over the file."
)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// TOML file with the same keys
    #[arg(long, env = "CHIMERA_COORDINATOR_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Address of the gRPC server; port 0 takes any free one [default: 127.0.0.1:7070]
    #[arg(long, env = "CHIMERA_COORDINATOR_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// How often workers send a heartbeat [default: 1s]
    #[arg(long, env = "CHIMERA_COORDINATOR_HEARTBEAT", value_name = "DURATION")]
    pub heartbeat: Option<DurationText>,
    /// A worker that is silent for longer has lost its lease [default: 5s]
    #[arg(long, env = "CHIMERA_COORDINATOR_LEASE", value_name = "DURATION")]
    pub lease: Option<DurationText>,
    /// A worker that hears nothing for longer stops by itself [default: 3s]
    #[arg(long, env = "CHIMERA_COORDINATOR_FENCE", value_name = "DURATION")]
    pub fence: Option<DurationText>,
    /// Least time between the ready votes and the common start [default: 250ms]
    #[arg(long, env = "CHIMERA_COORDINATOR_START_LEAD", value_name = "DURATION")]
    pub start_lead: Option<DurationText>,
    /// Analyzer that says what the runs show, for experiments whose plan depends on it [default: none]
    #[arg(long, env = "CHIMERA_ANALYZER_URL", value_name = "URL")]
    pub analyzer: Option<String>,
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
    /// Heartbeat period asked of workers, ms.
    pub heartbeat_ms: u64,
    /// Lease, ms.
    pub lease_ms: u64,
    /// Silence after which a worker stops by itself, ms; shorter than the lease.
    pub fence_ms: u64,
    /// Least lead of a common start, ms.
    pub start_lead_ms: u64,
    /// URL of the analyzer; `None`: experiments that need one are refused.
    pub analyzer: Option<String>,
    /// Version and git revision, written into the log.
    pub software: String,
    /// Sizes of the streams, where they do not exist yet.
    #[serde(skip)]
    pub streams: StreamLimits,
}

impl Config {
    /// The configuration of a coordinator inside a local stack.
    #[must_use]
    pub fn local(software: String) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            heartbeat_ms: 1_000,
            lease_ms: 5_000,
            fence_ms: 3_000,
            start_lead_ms: 250,
            analyzer: None,
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
        let base = Self::local(software);
        let mut problems = Problems::default();
        let bus = problems.nested(args.nats.validate("coordinator"));
        let listen = args.listen.as_deref().unwrap_or("127.0.0.1:7070").parse();
        let listen = problems.take("listen", listen).unwrap_or(base.listen);
        let ms = |given: &Option<DurationText>, default: u64| {
            given.as_ref().map_or(default, |d| {
                u64::try_from(Duration::from(*d).as_millis()).unwrap_or(u64::MAX)
            })
        };
        let config = Self {
            listen,
            heartbeat_ms: ms(&args.heartbeat, base.heartbeat_ms),
            lease_ms: ms(&args.lease, base.lease_ms),
            fence_ms: ms(&args.fence, base.fence_ms),
            start_lead_ms: ms(&args.start_lead, base.start_lead_ms),
            analyzer: args.analyzer.clone(),
            ..base
        };
        if config.heartbeat_ms < 10 {
            problems.add("heartbeat", "must be at least 10ms");
        }
        if config.fence_ms <= config.heartbeat_ms {
            problems.add(
                "fence",
                "must be longer than the heartbeat, or no worker can keep its lease",
            );
        }
        if config.lease_ms <= config.fence_ms {
            problems.add(
                "lease",
                "must be longer than the fence, or two workers could hold one instance",
            );
        }
        if let Some(url) = &config.analyzer
            && !url.starts_with("http://")
        {
            problems.add(
                "analyzer",
                "must be an address like http://127.0.0.1:7071 (TLS is left to a proxy)",
            );
        }
        problems.finish_with(bus).map(|bus| (config, bus))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn resolve(args: &[&str]) -> Result<Config, ConfigErrors> {
        let args = Args::try_parse_from([&["coordinator"], args].concat()).unwrap();
        Config::resolve(&args, "test".into()).map(|(config, _)| config)
    }

    #[test]
    fn defaults_are_sound_and_said() {
        let config = resolve(&[]).unwrap();
        assert_eq!(config.listen.port(), 7070);
        assert_eq!(
            (config.heartbeat_ms, config.fence_ms, config.lease_ms),
            (1000, 3000, 5000)
        );
    }

    #[test]
    fn every_mistake_is_said_at_once() {
        let errors = resolve(&[
            "--listen",
            "nowhere",
            "--fence",
            "6s",
            "--heartbeat",
            "7s",
            "--analyzer",
            "x",
        ])
        .unwrap_err();
        let text = errors.to_string();
        for key in ["listen", "fence", "lease", "analyzer"] {
            assert!(text.contains(key), "{text}");
        }
    }
}
