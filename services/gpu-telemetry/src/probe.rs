//! What the sampler asks of whatever knows the GPUs. A trait because tests drive the sampler with a
//! probe that knows its own truth.

use chimera_domain::telemetry::{GapReason, GpuError, GpuFacts, GpuSample, ProbeStatus, Source};
use chimera_domain::units::MonoNs;

/// Reads GPUs.
///
/// The contract for absence, which every implementation keeps:
/// - A value that could not be read is `None`; never zero, never the value before it.
/// - A GPU of which nothing could be read is not in [`GpuReadings::gpus`]. If it is one of
///   [`GpuProbe::facts`], it is in [`GpuReadings::away`] instead, by itself or as
///   [`Source::Gpus`] with all others, at every tick until it can be read again.
/// - What can never be read here is no gap: [`GpuProbe::status`] says so, with the reason.
/// - No call fails and none panics; a probe heals itself as far as it can be healed.
///
/// All calls may block, and are made from one thread that is no thread of the async runtime.
pub trait GpuProbe: Send {
    /// Reads every GPU, quickly: what is slow to read belongs to [`Self::sample_slow`].
    fn sample(&mut self, now: MonoNs) -> GpuReadings;

    /// Adds one reading that takes long (some 20 ms) to what [`Self::sample`] has just returned.
    /// Called once per tick, after everything else was read.
    fn sample_slow(&mut self, gpus: &mut [GpuSample]);

    /// Static facts of every GPU seen so far, those that are away included.
    fn facts(&self) -> &[GpuFacts];

    /// What is measured and what is not. *Shape*: one per GPU; or one for [`Source::Gpus`] if there
    /// is no GPU to name.
    fn status(&self) -> Vec<ProbeStatus>;
}

/// One tick of a probe.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GpuReadings {
    /// GPUs that could be read.
    pub gpus: Vec<GpuSample>,
    /// GPUs that should have been, and were not.
    pub away: Vec<Away>,
    /// Errors that GPUs reported since the tick before, in order of time.
    pub errors: Vec<GpuError>,
}

/// A source that should have been read at this tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// Which.
    pub source: Source,
    /// Why, by class.
    pub reason: GapReason,
    /// Why, in words.
    pub detail: String,
}
