//! Memory of the GPUs of a test as telemetry saw it, GPU by GPU, for the documents.

use std::collections::BTreeMap;

use crate::ids::NodeId;
use crate::report::{DeviceMemory, TestReport};
use crate::stats::mean;
use crate::telemetry::GpuUuid;

const GIB: f64 = 1_073_741_824.0;

/// One GPU over the valid runs of a test. Highest figures are the highest of all runs, means are
/// means over the runs.
pub(super) struct Device<'a> {
    /// Its host.
    pub(super) node: &'a NodeId,
    /// Which.
    pub(super) uuid: &'a GpuUuid,
    /// Installed memory.
    pub(super) total_gib: Option<f64>,
    /// The most in use, whoever held it.
    pub(super) peak_gib: Option<f64>,
    /// In use on average.
    pub(super) mean_gib: Option<f64>,
    /// The largest part in use.
    pub(super) peak_ratio: Option<f64>,
    /// The most that the engines held.
    pub(super) engines_peak_gib: Option<f64>,
    /// What the engines held on average.
    pub(super) engines_mean_gib: Option<f64>,
    /// Valid runs in which its memory was read throughout.
    pub(super) runs: usize,
}

/// Every GPU that telemetry saw in a valid run, by host and UUID.
pub(super) fn devices(test: &TestReport) -> Vec<Device<'_>> {
    let mut by_gpu: BTreeMap<(&NodeId, &GpuUuid), Vec<&DeviceMemory>> = BTreeMap::new();
    let valid = test.runs.iter().filter(|run| run.valid);
    for device in valid
        .filter_map(|run| run.gpu_memory.as_ref())
        .flat_map(|memory| &memory.devices)
    {
        let own = by_gpu.entry((&device.node, &device.uuid)).or_default();
        own.push(device);
    }
    let each = by_gpu.into_iter();
    each.map(|((node, uuid), seen)| {
        let highest = |of: fn(&DeviceMemory) -> Option<u64>| {
            let all = seen.iter().filter_map(|device| of(device));
            all.max().map(gib)
        };
        let average = |of: fn(&DeviceMemory) -> Option<f64>| {
            let all: Vec<f64> = seen.iter().filter_map(|device| of(device)).collect();
            mean(&all).map(|bytes| bytes / GIB)
        };
        let ratios = seen.iter().filter_map(|device| device.peak_ratio);
        Device {
            node,
            uuid,
            total_gib: highest(|device| device.total_bytes),
            peak_gib: highest(|device| device.peak_bytes),
            mean_gib: average(|device| device.mean_bytes),
            peak_ratio: ratios.reduce(f64::max),
            engines_peak_gib: highest(|device| device.engines_peak_bytes),
            engines_mean_gib: average(|device| device.engines_mean_bytes),
            runs: seen.iter().filter(|d| d.peak_bytes.is_some()).count(),
        }
    })
    .collect()
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / GIB
}
