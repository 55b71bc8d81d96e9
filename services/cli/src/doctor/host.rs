//! The machine itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chimera_domain::telemetry::ProbeState;
use chimera_runtime::config::{cache_dir, env};
use chimera_runtime::{clock as clocks, host};
use gpu_telemetry::nvml::NvmlProbe;
use gpu_telemetry::probe::GpuProbe as _;

use super::Check;

/// Two quantised models of 270M parameters, their contexts and the services.
const MEMORY_NEEDED: u64 = 2 << 30;
/// Engine, weights and the streams of a long experiment.
const DISK_WANTED: u64 = 2 << 30;
/// What the bus refuses to start below.
const DISK_NEEDED: u64 = 64 << 20;
/// A driver that hangs is told after that.
const GPU_LIMIT: Duration = Duration::from_secs(20);
/// Readings of the clock that are timed.
const READINGS: u32 = 1_000;
/// Above this a reading is a system call, and stamps cost what they measure.
const READING_LIMIT_NS: u64 = 1_000;

/// The cache folder, where tools, weights and claims are.
pub(super) fn cache() -> Check {
    const NAME: &str = "cache folder";
    let Some(folder) = cache_dir() else {
        let remedy = "set HOME or XDG_CACHE_HOME";
        return Check::missing(NAME, "neither HOME nor XDG_CACHE_HOME is set", remedy);
    };
    let there = existing(&folder);
    // A real file: rights alone do not tell of a read-only or full disk.
    match tempfile::Builder::new()
        .prefix(".doctor-")
        .tempfile_in(&there)
    {
        Ok(_) => Check::ok(NAME, format!("{} can be written", folder.display())),
        Err(error) => Check::missing(
            NAME,
            format!("{} cannot be written: {error}", there.display()),
            "correct its owner and rights, or set XDG_CACHE_HOME to a folder of yours",
        ),
    }
}

/// The nearest folder above a path that is there.
fn existing(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|folder| folder.is_dir());
    there.unwrap_or_else(|| Path::new("/")).to_owned()
}

/// Space where the streams are kept.
pub(super) fn disk() -> Check {
    const NAME: &str = "free disk";
    let folder = existing(&cache_dir().unwrap_or_else(std::env::temp_dir));
    let facts = match rustix::fs::statvfs(&folder) {
        Ok(facts) => facts,
        Err(error) => {
            let found = format!("{} cannot be asked: {error}", folder.display());
            return Check::warning(NAME, found, "see that at least 2 GiB are free");
        }
    };
    let free = facts.f_bavail.saturating_mul(facts.f_frsize);
    let found = format!("{} at {}", gib(free), folder.display());
    let remedy = "free space, or set XDG_CACHE_HOME to a folder on a larger disk";
    if free < DISK_NEEDED {
        Check::missing(NAME, found, remedy)
    } else if free < DISK_WANTED {
        Check::warning(NAME, found, remedy)
    } else {
        Check::ok(NAME, found)
    }
}

/// Cores that this process may use.
pub(super) fn cores() -> Check {
    const NAME: &str = "cores";
    let model = host::cpu_model().map_or_else(String::new, |model| format!(" ({model})"));
    match host::cores() {
        Some(1) => Check::warning(
            NAME,
            format!("1{model}"),
            "two engines on one core always disturb each other: use a machine with two or more",
        ),
        Some(cores) => Check::ok(NAME, format!("{cores}{model}")),
        None => Check::warning(
            NAME,
            "the system does not tell",
            "name threads with --num-thread",
        ),
    }
}

/// Memory of the host.
pub(super) fn memory() -> Check {
    const NAME: &str = "memory";
    match host::memory_bytes() {
        Some(bytes) if bytes >= MEMORY_NEEDED => Check::ok(NAME, gib(bytes)),
        Some(bytes) => Check::warning(
            NAME,
            gib(bytes),
            "two engines of the quick job need about 2 GiB: use a smaller model or context",
        ),
        None => Check::warning(NAME, "the system does not tell", "is /proc mounted?"),
    }
}

/// GPUs as telemetry sees them.
pub(super) async fn gpu() -> Check {
    const NAME: &str = "gpu";
    let library = env("CHIMERA_TELEMETRY_NVML_LIBRARY").map(PathBuf::from);
    let looked = tokio::task::spawn_blocking(move || {
        let probe = NvmlProbe::open(library, false, clocks::mono());
        let names: Vec<String> = probe
            .facts()
            .iter()
            .map(|gpu| gpu.name.clone().unwrap_or_else(|| gpu.uuid.to_string()))
            .collect();
        let trouble = probe
            .status()
            .into_iter()
            .find_map(|status| match status.state {
                ProbeState::NotMeasured { detail, .. } => Some(detail),
                ProbeState::Measured { .. } => None,
            });
        (names, trouble)
    });
    let remedy = "engines run on the CPU, and reports say so; for a GPU, install the NVIDIA driver";
    match tokio::time::timeout(GPU_LIMIT, looked).await {
        Ok(Ok((names, _))) if !names.is_empty() => Check::ok(NAME, names.join(", ")),
        Ok(Ok((_, trouble))) => Check::warning(
            NAME,
            trouble.unwrap_or_else(|| "none seen".to_owned()),
            remedy,
        ),
        Ok(Err(error)) => {
            Check::warning(NAME, format!("the driver cannot be asked: {error}"), remedy)
        }
        Err(_) => Check::warning(
            NAME,
            format!("the driver does not answer within {GPU_LIMIT:?}"),
            "is a GPU lost? see `dmesg`, and restart the machine",
        ),
    }
}

/// The clock that stamps every token.
pub(super) fn clock() -> Check {
    const NAME: &str = "clock";
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(source).map_or_else(
        |_| "of unknown source".to_owned(),
        |text| text.trim().to_owned(),
    );
    let begin = clocks::mono();
    for _ in 0..READINGS {
        std::hint::black_box(clocks::mono());
    }
    let each = clocks::mono().0.saturating_sub(begin.0) / u64::from(READINGS);
    let found = format!("{source}, {each} ns per reading");
    if each <= READING_LIMIT_NS {
        return Check::ok(NAME, found);
    }
    Check::warning(
        NAME,
        found,
        "stamps are slow: boot with clocksource=tsc if the processor's is stable, or look again on a \
         quiet machine",
    )
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn the_nearest_folder_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(existing(&dir.path().join("not/there")), dir.path());
        assert_eq!(existing(Path::new("/nowhere/at/all")), Path::new("/"));
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        for check in [cache(), disk(), cores(), memory(), clock()] {
            assert!(!check.found.is_empty(), "{}", check.name);
            assert_eq!(
                check.remedy.is_none(),
                check.state == State::Ok,
                "{}",
                check.name
            );
        }
    }
}
