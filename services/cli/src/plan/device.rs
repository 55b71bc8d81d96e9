//! The GPU that is planned for: as given, or the one that is here.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use chimera_domain::memory::Device;
use chimera_runtime::clock;
use chimera_runtime::config::env;
use chimera_runtime::exit::UsageError;
use gpu_telemetry::nvml::NvmlProbe;
use gpu_telemetry::probe::GpuProbe as _;

use crate::args::{PlanArgs, Size};

/// A driver that hangs is told after that.
const DRIVER_LIMIT: Duration = Duration::from_secs(20);

/// A GPU, and whose it is.
pub(super) struct Gpu {
    pub(super) device: Device,
    /// For the person.
    pub(super) from: String,
}

/// The GPU of the options, or the first that the driver lists.
pub(super) async fn find(args: &PlanArgs) -> anyhow::Result<Gpu> {
    let mut gpu = match args.gpu {
        Some(Size(bytes)) => Gpu {
            device: Device::new(bytes),
            from: "as given, empty".to_owned(),
        },
        None => here().await?,
    };
    if let Some(Size(bytes)) = args.keep_free {
        gpu.device.margin_bytes = bytes;
    }
    Ok(gpu)
}

async fn here() -> anyhow::Result<Gpu> {
    let library = env("CHIMERA_TELEMETRY_NVML_LIBRARY").map(PathBuf::from);
    let asked = tokio::task::spawn_blocking(move || ask(library));
    tokio::time::timeout(DRIVER_LIMIT, asked)
        .await
        .with_context(|| {
            format!(
                "the driver does not answer within {DRIVER_LIMIT:?}: give --gpu SIZE to plan without it"
            )
        })?
        .context("the driver cannot be asked: give --gpu SIZE to plan without it")?
        .map_err(anyhow::Error::from)
}

fn ask(library: Option<PathBuf>) -> Result<Gpu, UsageError> {
    let mut probe = NvmlProbe::open(library, false, clock::mono());
    let readings = probe.sample(clock::mono());
    let first = probe.facts().iter().min_by_key(|facts| facts.index);
    let read = first.and_then(|facts| {
        let total = facts.memory_total_bytes?;
        let sample = readings.gpus.iter().find(|s| s.uuid == facts.uuid)?;
        let free = sample
            .memory_free_bytes
            .or_else(|| total.checked_sub(sample.memory_used_bytes?))?;
        let name = facts.name.clone().unwrap_or_else(|| facts.uuid.to_string());
        Some(Gpu {
            device: Device::measured(total, free, sample.memory_reserved_bytes),
            from: format!("{name}, as it is now"),
        })
    });
    read.ok_or_else(|| {
        UsageError(
            "no GPU can be read here (`chimera doctor` says why): say which to plan for, e.g. --gpu 12GiB"
                .to_owned(),
        )
    })
}
