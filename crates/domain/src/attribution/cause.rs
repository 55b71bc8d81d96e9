//! One test per cause: what was slow is held against each cause's own evidence.
//!
//! A test sees one run ([`Scene`]) and answers with a finding, or with nothing: nothing of the kind was
//! slow, or the evidence speaks against it. What is slow and has no cause with evidence is
//! `unexplained`, which is tested last.

mod client_overload;
mod cpu_offload;
mod foreign_process;
mod host_cpu;
mod length_imbalance;
mod network;
mod queueing;
mod readings;
mod reload;
mod shared_device;
mod struck;
mod throttle;
mod unexplained;
mod vram_pressure;
mod words;

use super::types::{Cause, CauseFinding, Grade, Part};
use super::view::{AgentScene, Scene};

/// The test of one cause.
type Test = fn(&Scene<'_>) -> Option<CauseFinding>;

/// All but `unexplained`, in the order of [`Cause::ALL`].
const TESTS: [Test; 12] = [
    reload::test,
    queueing::test,
    cpu_offload::test,
    vram_pressure::test,
    shared_device::bandwidth,
    shared_device::compute,
    throttle::test,
    host_cpu::test,
    foreign_process::test,
    client_overload::test,
    network::test,
    length_imbalance::test,
];

/// What was found, the costliest first; then what could not be tested.
pub(super) fn findings(scene: &Scene<'_>) -> Vec<CauseFinding> {
    let mut found: Vec<CauseFinding> = TESTS.iter().filter_map(|test| test(scene)).collect();
    let unexplained = unexplained::test(scene, &found);
    found.extend(unexplained);
    found.sort_by(|a, b| {
        let tested = |finding: &CauseFinding| finding.grade == Grade::NotTested;
        let cost = |finding: &CauseFinding| finding.cost_ms.unwrap_or(0.0);
        tested(a)
            .cmp(&tested(b))
            .then(cost(b).total_cmp(&cost(a)))
            .then(a.cause.cmp(&b.cause))
    });
    found
}

/// The parts of a request in which a cause costs time.
fn acts_in(cause: Cause) -> &'static [Part] {
    match cause {
        Cause::Reload => &[Part::Load, Part::Unsplit],
        Cause::Queueing => &[Part::Queue, Part::Unsplit],
        Cause::CpuOffload
        | Cause::ComputeContention
        | Cause::ThermalOrPowerThrottle
        | Cause::BandwidthContention
        | Cause::ForeignProcess => &[Part::Prefill, Part::Decode, Part::Stall],
        Cause::VramPressure => &[Part::Prefill, Part::Decode, Part::Stall, Part::Unsplit],
        // Whoever takes the cores slows engines, the way to them and the client alike.
        Cause::HostCpu => &[
            Part::Client,
            Part::Transport,
            Part::Prefill,
            Part::Decode,
            Part::Stall,
            Part::Unsplit,
        ],
        Cause::ClientOverload => &[
            Part::Client,
            Part::Decode,
            Part::Stall,
            Part::Transport,
            Part::Unsplit,
        ],
        // Jitter and packets that are sent again lengthen gaps, too.
        Cause::Network => &[Part::Transport, Part::Unsplit, Part::Decode, Part::Stall],
        Cause::LengthImbalance | Cause::Unexplained => &[],
    }
}

/// What an agent lost in these parts beyond chance, ms. `None`: nothing.
fn slow_ms(agent: &AgentScene<'_>, parts: &[Part]) -> Option<f64> {
    let slow = parts.iter().filter_map(|part| agent.slow_in(*part));
    let lost: Vec<f64> = slow.map(|excess| excess.excess_ms).collect();
    (!lost.is_empty()).then(|| lost.iter().sum())
}
