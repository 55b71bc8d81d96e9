//! Processes that compute on a GPU through ROCm, as the kernel's compute driver (KFD) lists them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chimera_domain::telemetry::{GpuProcess, GpuProcessKind};

use super::card::text;

/// Most processes listed: a bound, far above what computes on one node.
const MAX_PROCESSES: usize = 4096;
/// Most nodes (processors and GPUs) in its topology.
const MAX_NODES: usize = 1024;

/// Where the processes are listed, and the name of the file that says what each holds of one GPU.
#[derive(Debug)]
pub(super) struct Kfd {
    processes: PathBuf,
    file: String,
}

impl Kfd {
    /// Finds the number under which KFD knows the GPU: its node has the same render device.
    pub(super) fn find(sys: &Path, device: &Path) -> Option<Self> {
        let kfd = sys.join("class/kfd/kfd");
        let minor = fs::read_dir(device.join("drm"))
            .ok()?
            .filter_map(Result::ok)
            .find_map(|entry| {
                Some(
                    entry
                        .file_name()
                        .to_str()?
                        .strip_prefix("renderD")?
                        .to_owned(),
                )
            })?;
        let nodes = fs::read_dir(kfd.join("topology/nodes")).ok()?;
        let id = nodes
            .take(MAX_NODES)
            .filter_map(Result::ok)
            .find_map(|node| {
                let properties = text(&node.path().join("properties"))?;
                let mut pairs = properties.lines().filter_map(|line| line.split_once(' '));
                pairs
                    .any(|(key, value)| key == "drm_render_minor" && value.trim() == minor)
                    .then(|| text(&node.path().join("gpu_id")))
                    .flatten()
            })?;
        Some(Self {
            processes: kfd.join("proc"),
            file: format!("vram_{id}"),
        })
    }

    /// Who holds memory on the GPU, by rising pid.
    ///
    /// # Errors
    /// If the list cannot be read.
    pub(super) fn processes(&self) -> io::Result<Vec<GpuProcess>> {
        let mut all: Vec<GpuProcess> = fs::read_dir(&self.processes)?
            .take(MAX_PROCESSES)
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                // One that ended meanwhile, or does not use this GPU, has no such file.
                let held: u64 = text(&entry.path().join(&self.file))?.parse().ok()?;
                (held > 0).then_some(GpuProcess {
                    pid,
                    memory_used_bytes: Some(held),
                    utilisation: None,
                    memory_utilisation: None,
                    kind: GpuProcessKind::Compute,
                })
            })
            .collect();
        all.sort_by_key(|process| process.pid);
        Ok(all)
    }
}
