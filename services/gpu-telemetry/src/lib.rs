//! Samples the GPUs, the host and the engine processes of a node beside the runs, and publishes one
//! batch per second. What cannot be measured is said, what was missed is a gap; nothing is guessed.
//!
//! - [`config`]: flags, environment, file. [`error`]: what stops the service.
//! - [`probe`]: what is asked of whatever knows the GPUs, and the contract for absence; [`nvml`]:
//!   NVIDIA's; [`amd`]: AMD's; [`fleet`]: both as one.
//! - `host`, `processes`: Linux `/proc`, resctrl and the processor clocks of processes; `proc`: how
//!   such files are read.
//! - `sampler`: the sampling thread; `batch`: ticks put together, and the book of gaps.
//! - [`publish`]: batches to the bus; `board`: the latest of everything, for Prometheus.

pub mod amd;
mod batch;
mod board;
pub mod config;
pub mod error;
pub mod fleet;
mod host;
pub mod nvml;
pub mod probe;
mod proc;
mod processes;
pub mod publish;
mod sampler;

use std::any::Any;
use std::path::Path;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use chimera_domain::telemetry::ProbeState;
use chimera_runtime::bus::Bus;
use chimera_runtime::{clock, metrics, server};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use config::{Args, Config};
pub use error::TelemetryError;

use amd::AmdProbe;
use batch::Assembler;
use board::Board;
use fleet::Fleet;
use host::HostReader;
use nvml::NvmlProbe;
use probe::GpuProbe;
use proc::Roots;
use processes::ProcessWatch;
use publish::{BatchSink, BusSink};
use sampler::{Losses, RealPace, Sources, sample_until_stopped};

/// Batches that may wait for the bus: two minutes, longer than a restart of the server takes, and
/// some 10 MB at the usual period. When it is full, the newest batch is dropped and counted (a gap).
const QUEUE: usize = 120;
/// How long one batch is offered before it is reported as not stored (and offered again).
const PUBLISH_LIMIT: Duration = Duration::from_secs(30);
/// How long the last batches may take after the stop.
const GRACE: Duration = Duration::from_secs(5);

/// Samples and publishes to the stream TEL until `shutdown`.
///
/// The stream must exist, or be created by another service while batches wait.
///
/// # Errors
/// See [`TelemetryError`]; after an error nothing is sampled any more.
pub async fn run(
    config: Config,
    bus: &Bus,
    shutdown: CancellationToken,
) -> Result<(), TelemetryError> {
    // Trips only when the grace period is over, so that the last batches can be stored.
    let cut = CancellationToken::new();
    let _guard = cut.clone().drop_guard();
    let sink = BusSink::new(bus.publisher(PUBLISH_LIMIT, cut));
    run_with(config, sink, shutdown).await
}

/// Samples until `shutdown` and gives the batches to `sink`.
///
/// # Errors
/// See [`TelemetryError`].
pub async fn run_with(
    config: Config,
    sink: impl BatchSink,
    shutdown: CancellationToken,
) -> Result<(), TelemetryError> {
    let (batches, queue) = mpsc::channel(QUEUE);
    let losses = Losses::default();
    // Before anything is sampled: a port that is taken is told at once.
    let endpoint = match config.metrics_listen {
        Some(address) => Some(
            server::bind(&address.to_string())
                .await
                .map_err(TelemetryError::Metrics)?,
        ),
        None => None,
    };
    let metrics = serve_metrics(endpoint, losses.board.clone());
    tokio::pin!(metrics);
    let sampler = SamplerThread::start(config, batches, losses.clone())?;
    let publishing = publish::publish_all(queue, sink, losses);
    tokio::pin!(publishing);

    // Each arm may be cut: the futures go on below, or the service ends.
    let ended = tokio::select! {
        () = shutdown.cancelled() => None,
        result = &mut publishing => Some(result),
        // Never ends by itself.
        () = &mut metrics => None,
    };
    let death = sampler.stop(GRACE).await;
    let published = match ended {
        Some(result) => result,
        None => tokio::time::timeout(GRACE, publishing)
            .await
            .unwrap_or(Err(TelemetryError::GraceExpired(GRACE))),
    };
    match death {
        Some(words) => Err(TelemetryError::SamplerDied(words)),
        None => published,
    }
}

/// Serves the board at `endpoint` until it is dropped; without one, waits for that.
async fn serve_metrics(endpoint: Option<TcpListener>, board: Board) {
    let Some(listener) = endpoint else {
        return std::future::pending().await;
    };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "metrics are served at /metrics");
    }
    metrics::serve(listener, CancellationToken::new(), move || {
        board.render(clock::mono())
    })
    .await;
}

/// The sampling thread.
struct SamplerThread {
    /// Dropped to stop it.
    stop: std_mpsc::SyncSender<()>,
    /// How it ended.
    ended: oneshot::Receiver<Result<(), String>>,
}

impl SamplerThread {
    fn start(
        config: Config,
        batches: mpsc::Sender<chimera_domain::telemetry::TelemetryBatch>,
        losses: Losses,
    ) -> Result<Self, TelemetryError> {
        // Nothing is ever sent: the thread waits on it for its ticks, and stops when it closes.
        let (stop, stopped) = std_mpsc::sync_channel(0);
        let (report, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || {
                let work =
                    std::panic::AssertUnwindSafe(|| sample(config, stopped, &batches, &losses));
                let result = std::panic::catch_unwind(work).map_err(|panic| words(&*panic));
                // The channel to the publisher closes only now, when the end is known.
                if report.send(result).is_err() {
                    tracing::debug!("nobody waits for the sampling thread any more");
                }
                drop(batches);
            })
            .map_err(TelemetryError::Thread)?;
        Ok(Self { stop, ended })
    }

    /// Stops it; the words of its panic, if it died. Does not wait longer than `limit`: a call of
    /// the driver may hang.
    async fn stop(self, limit: Duration) -> Option<String> {
        drop(self.stop);
        match tokio::time::timeout(limit, self.ended).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(words))) => Some(words),
            Ok(Err(_)) => Some("it ended without a word".to_owned()),
            Err(_) => Some(format!("it hangs in a call of the driver (over {limit:?})")),
        }
    }
}

fn sample(
    config: Config,
    stopped: std_mpsc::Receiver<()>,
    batches: &mpsc::Sender<chimera_domain::telemetry::TelemetryBatch>,
    losses: &Losses,
) {
    let started = clock::mono();
    let period_ns = u64::try_from(config.period.as_nanos()).unwrap_or(u64::MAX);
    let gpus = Fleet::new(vec![
        Box::new(NvmlProbe::open(config.nvml_library, config.pcie, started)),
        Box::new(AmdProbe::open(Path::new("/sys"), started)),
    ]);
    announce(&gpus);
    let roots = Roots::system();
    let mut sources = Sources {
        host: HostReader::open(&roots),
        processes: ProcessWatch::new(roots, &config.engine_names, config.busy_others),
        gpus: Box::new(gpus),
    };
    let mut assembler = Assembler::new(config.node, started, period_ns);
    let mut pace = RealPace::new(stopped);
    sample_until_stopped(
        &mut pace,
        &mut sources,
        &mut assembler,
        period_ns,
        batches,
        losses,
    );
}

/// Says once what of the GPUs is recorded, and what is not.
fn announce(gpus: &impl GpuProbe) {
    for facts in gpus.facts() {
        tracing::info!(
            gpu = %facts.uuid,
            name = facts.name.as_deref().unwrap_or("unknown"),
            memory_total_bytes = facts.memory_total_bytes,
            "sampling a GPU"
        );
    }
    for status in gpus.status() {
        if let ProbeState::NotMeasured { reason, detail } = status.state {
            tracing::warn!(reason = reason.as_str(), "{detail}");
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
