//! Owns one engine instance, runs an agent on it, stamps every token.
//!
//! - [`engine`]: the measuring path; [`probe`]: a quick look at one instance by it.
//! - [`workload`]: what the agents do; [`agent`]: one agent's steps on one engine.
//! - `job`: an agent on its own thread; `driver`: one assignment from WARM to its last record;
//!   `hold`: the agents of the leg at hand; `session`: the coordinator's commands.
//! - [`watch`]: the engine's state, looked at beside the agent's work.
//! - `recorder`, [`spool`]: records to disk and bus. `request_name`: the `X-Request-ID`.
//! - [`launcher`]: the instance, attached or owned; `claim`, `fence`, `lease`, `pin`: whose it is, whom to
//!   obey and until when, whether it is what was asked for.
//! - `appraise`: what an agent would take here.

pub mod agent;
mod appraise;
mod claim;
mod config;
mod digest;
mod driver;
pub mod engine;
mod error;
mod fence;
mod hold;
mod job;
pub mod launcher;
mod lease;
mod pin;
pub mod probe;
mod recorder;
mod request_name;
mod session;
pub mod spool;
pub mod watch;
pub mod workload;

use std::sync::Arc;
use std::time::Duration;

use chimera_runtime::bus::Bus;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

pub use claim::ClaimError;
pub use config::{
    Args, Config, EngineArgs, FileArgs, LimitArgs, Spawn, default_claims_dir, instance_id,
};
pub use error::WorkerError;
pub use fence::FenceError;
pub use lease::LeaseEnd;

use claim::Claim;
use fence::Fence;
use launcher::{EngineSource, Launcher};
use session::{SessionEnd, Worker};

/// Pause before the next try at a session; a coordinator that restarts is back within seconds.
const RECONNECT: Duration = Duration::from_millis(500);

/// Claims the instance and serves the coordinator until told to stop. A lost session is opened
/// again; an owned engine ends with this call.
///
/// # Errors
/// When the instance is claimed by another worker, the coordinator refuses this one, or the state
/// folder cannot be used.
pub async fn run(
    config: Config,
    bus: &Bus,
    shutdown: CancellationToken,
) -> Result<(), WorkerError> {
    // A spawned engine is on a port of its own and nobody else's; only an address can be shared.
    let _claim = match &config.source {
        EngineSource::Attach { .. } => Some(Claim::take(&config.claims_dir, &config.instance)?),
        EngineSource::SpawnOllama { .. } | EngineSource::SpawnLlama { .. } => None,
    };
    let mut fence = Fence::open(&config.state_dir)?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let launcher = Arc::new(Mutex::new(Launcher::new(
        config.source.clone(),
        config.state_dir.join("logs"),
        config.worker.to_string(),
        http,
    )));
    let channel = Endpoint::from_shared(config.coordinator_url.clone())
        .map_err(|source| WorkerError::Coordinator {
            url: config.coordinator_url.clone(),
            source,
        })?
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .connect_lazy();
    let worker = Worker {
        id: config.worker,
        instance: config.instance,
        node: config.node,
        source: config.source,
        software: config.software,
        // Not tied to the shutdown: an agent that is stopped still writes how it ended.
        publisher: bus.publisher(config.publish_patience, CancellationToken::new()),
        spool_dir: config.state_dir.join("spool"),
        limits: config.limits,
        watches: watch::Watches::new(config.watch_period),
        data_root: config.data_root,
        templates_dir: config.templates_dir,
        launcher: launcher.clone(),
    };
    let result = sessions(&worker, &channel, &mut fence, &shutdown).await;
    launcher.lock().await.stop().await;
    result
}

async fn sessions(
    worker: &Worker,
    channel: &tonic::transport::Channel,
    fence: &mut Fence,
    shutdown: &CancellationToken,
) -> Result<(), WorkerError> {
    loop {
        match worker.session(channel.clone(), fence, shutdown).await? {
            SessionEnd::Shutdown => return Ok(()),
            // A restarted worker may come before its predecessor's lease has run out.
            SessionEnd::Refused(reason) => {
                tracing::warn!(worker = %worker.id, %reason, "refused; trying again");
            }
            SessionEnd::Lost(detail) => {
                tracing::warn!(worker = %worker.id, %detail, "session lost; trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RECONNECT) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}
