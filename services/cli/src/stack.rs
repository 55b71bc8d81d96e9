//! The local stack: nats-server as a child, coordinator, analyzer, telemetry and one worker per
//! engine instance as tasks of this process. The same code as the separate binaries, over the
//! same gRPC and the same bus.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_worker::engine::Limits;
use agent_worker::launcher::EngineSource;
use analyzer::{Analyzer, Store, Target};
use anyhow::Context as _;
use chimera_domain::ids::{InstanceId, NodeId, WorkerId};
use chimera_runtime::bus::{Bus, StreamLimits};
use chimera_runtime::nats_server::{NatsServer, NatsServerConfig};
use chimera_runtime::shutdown::Tasks;
use chimera_runtime::{host, version};
use coordinator::Coordinator;
use tokio_util::sync::CancellationToken;

/// How long the parts get to end: an agent lets go of its engine, an engine of its memory.
const GRACE: Duration = Duration::from_secs(15);
/// How long the bus gets for its last messages.
const BUS_GRACE: Duration = Duration::from_secs(3);
/// Patience of a worker's publish: a restart of the bus fits in.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(30);

/// What the stack is made of.
pub(crate) struct StackConfig {
    /// Store of the bus, spools, logs of the engines.
    pub(crate) dir: PathBuf,
    /// Where bundles go.
    pub(crate) target: Target,
    /// One worker per engine.
    pub(crate) engines: Vec<EngineSource>,
    /// Below which data folders lie.
    pub(crate) data_root: Option<PathBuf>,
    /// Address of the coordinator; port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// Address of the analyzer; port 0 takes a free one.
    pub(crate) analyzer_listen: SocketAddr,
    /// Size of the bus's store, where it is there already; `None`: what the disk allows.
    pub(crate) max_file_store: Option<u64>,
}

/// A running stack. [`Stack::stop`] it: dropping it only kills its child processes.
pub(crate) struct Stack {
    nats: NatsServer,
    buses: Vec<Bus>,
    tasks: Tasks,
    /// Where the coordinator is.
    pub(crate) coordinator: SocketAddr,
    /// Where the analyzer is.
    pub(crate) analyzer: SocketAddr,
    /// The reports.
    pub(crate) store: Arc<Store>,
}

impl Stack {
    /// Starts everything; workers connect while the caller goes on.
    pub(crate) async fn start(config: StackConfig) -> anyhow::Result<Self> {
        let software = version::software();
        let nats = NatsServerConfig {
            max_file_store: config.max_file_store,
            ..NatsServerConfig::new(config.dir.join("bus"))
        };
        let nats = nats
            .with_random_token()
            .context("no random token for the bus")?;
        let nats = NatsServer::start(&nats)
            .await
            .context("the local bus did not start")?;
        let streams = StreamLimits::within(nats.max_file_store());
        let mut buses = Vec::new();
        // One connection per part, as if each were its own process: a slow reader slows itself.
        let mut connect = async |name: String| -> anyhow::Result<Bus> {
            let bus = Bus::connect(nats.bus_config(name)).await?;
            buses.push(bus.clone());
            Ok(bus)
        };
        let tasks = Tasks::new(CancellationToken::new());

        // First: the coordinator asks it what the runs show.
        let bus = connect("analyzer".to_owned()).await?;
        let settings = analyzer::Config {
            listen: config.analyzer_listen,
            streams: streams.clone(),
            ..analyzer::Config::local(config.target, software.clone())
        };
        let part = Analyzer::bind(settings, &bus).await?;
        let (analyzer, store) = (part.address(), part.store());
        tasks.spawn("analyzer", part.serve(tasks.stop_token().clone()));

        let bus = connect("coordinator".to_owned()).await?;
        let settings = coordinator::Config {
            listen: config.listen,
            streams,
            analyzer: Some(format!("http://{analyzer}")),
            ..coordinator::Config::local(software.clone())
        };
        let part = Coordinator::bind(settings, &bus).await?;
        let coordinator = part.address();
        tasks.spawn("coordinator", part.serve(tasks.stop_token().clone()));

        let node = NodeId::try_new(host::token(&host::name()))?;
        let bus = connect("gpu-telemetry".to_owned()).await?;
        let settings = gpu_telemetry::Config::local(node.clone());
        let stop = tasks.stop_token().clone();
        tasks.spawn("gpu-telemetry", async move {
            gpu_telemetry::run(settings, &bus, stop).await
        });

        for (index, source) in config.engines.into_iter().enumerate() {
            // Zero-padded: workers are chosen by name.
            let worker = WorkerId::try_new(format!("w{:02}", index + 1))?;
            let bus = connect(worker.to_string()).await?;
            let settings = agent_worker::Config {
                instance: agent_worker::instance_id(&source, &worker)
                    .unwrap_or(InstanceId::try_new(format!("i{:02}", index + 1))?),
                node: node.clone(),
                coordinator_url: format!("http://{coordinator}"),
                source,
                limits: Limits::default(),
                watch_period: agent_worker::watch::DEFAULT_PERIOD,
                publish_patience: PUBLISH_PATIENCE,
                data_root: config.data_root.clone(),
                templates_dir: None,
                state_dir: config.dir.join("workers").join(worker.as_str()),
                claims_dir: agent_worker::default_claims_dir(),
                software: software.clone(),
                worker,
            };
            let stop = tasks.stop_token().clone();
            tasks.spawn("agent-worker", async move {
                agent_worker::run(settings, &bus, stop).await
            });
        }
        Ok(Self {
            nats,
            buses,
            tasks,
            coordinator,
            analyzer,
            store,
        })
    }

    /// Size of the bus's store.
    pub(crate) fn max_file_store(&self) -> u64 {
        self.nats.max_file_store()
    }

    /// Tripped when a part has failed.
    pub(crate) fn failed(&self) -> &CancellationToken {
        self.tasks.stop_token()
    }

    /// Stops everything and waits until no child is left.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.tasks.stop_token().cancel();
        let ended = self.tasks.wait(GRACE).await;
        for bus in self.buses {
            bus.close(BUS_GRACE).await;
        }
        let stopped = self.nats.stop(BUS_GRACE).await;
        ended.context("the local stack failed")?;
        stopped.context("the local bus did not end")
    }
}
