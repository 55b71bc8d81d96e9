//! GPU memory was near its limit, and the engine paid for it.
//!
//! Rule. More of the GPU's memory was in use than [`PRESSURED`] and than alone, and the engine shows
//! what lack of room does: it waited before the first token or between tokens for longer than it
//! computes, or the bus between host and GPU carried far more than alone, because what is needed does
//! not stay. Memory that is full and costs nothing is no cause; decode that is slow with nothing moving
//! is another's.
//!
//! *Source* of the two regimes (67 %, 83 %): Technical Report 110, section 4.4. They only say where to
//! look; the evidence is what moved and waited.

use super::super::types::{Cause, CauseFinding, Evidence, Grade, Part};
use super::super::view::{AgentScene, Scene};
use super::readings::Readings;
use super::{slow_ms, words};

/// From this part of a GPU's memory on, allocations may have to make room.
pub(crate) const PRESSURED: f64 = 0.67;

/// From this part on, what is needed may not stay.
pub(crate) const THRASHING: f64 = 0.83;

/// Memory in use must have grown by at least this part of the GPU's against alone.
const GREW: f64 = 0.02;

/// The bus carries far more than alone from this factor on.
const BUS_FACTOR: f64 = 3.0;

/// And at least this many bytes a second: weights that are fetched again, not prompts and tokens.
const BUS_BYTES_PER_S: f64 = 300e6;

pub(super) fn test(scene: &Scene<'_>) -> Option<CauseFinding> {
    let (mut agents, mut evidence, mut cost) = (Vec::new(), Vec::new(), 0.0);
    let (mut grade, mut highest) = (Grade::Consistent, 0.0_f64);
    for agent in &scene.agents {
        let Some((ratio, moved, found, lost)) = pressed(agent) else {
            continue;
        };
        if moved {
            grade = Grade::Supported;
        }
        highest = highest.max(ratio);
        agents.push(words::id(agent));
        evidence.extend(found);
        cost += lost;
    }
    let regime = if highest >= THRASHING {
        THRASHING
    } else {
        PRESSURED
    };
    (!agents.is_empty()).then(|| CauseFinding {
        cause: Cause::VramPressure,
        grade,
        sentence: format!(
            "GPU memory was {:.0} % in use, above the {:.0} % from which an engine may have to {}: {} \
             waited for it.",
            100.0 * highest,
            100.0 * regime,
            if highest >= THRASHING { "fetch again what it needs" } else { "make room" },
            words::agents(&agents)
        ),
        agents,
        cost_ms: Some(cost),
        evidence,
        settle: Some(
            "a smaller context or fewer agents on the GPU; `chimera plan` says what fits".to_owned(),
        ),
    })
}

/// Memory in use, whether the bus shows it, the readings, and what it cost.
fn pressed(agent: &AgentScene<'_>) -> Option<(f64, bool, Vec<Evidence>, f64)> {
    let readings = Readings::of(&agent.view)?;
    let gpu = readings.gpu().filter(|gpu| gpu.is_covered())?;
    let ratio = gpu
        .memory_used_ratio()
        .filter(|ratio| *ratio >= PRESSURED)?;
    let solo = agent.solo.as_ref().and_then(Readings::of);
    let solo_gpu = solo.as_ref().and_then(Readings::gpu);
    let alone = solo_gpu.and_then(|gpu| gpu.memory_used_ratio());
    let grew = alone.is_none_or(|alone| ratio - alone >= GREW);
    let (bus, bus_alone) = (gpu.pcie(), solo_gpu.and_then(|gpu| gpu.pcie()));
    let fetched = bus
        .zip(bus_alone)
        .is_some_and(|(bus, alone)| bus >= BUS_BYTES_PER_S && bus >= BUS_FACTOR * alone);
    // A wait that is not the engine's computing: for room, before the first token or between tokens.
    let waited = slow_ms(agent, &[Part::Unsplit, Part::Stall]);
    let computed = slow_ms(agent, &[Part::Prefill, Part::Decode]);
    let lost = waited.unwrap_or(0.0) + computed.filter(|_| fetched).unwrap_or(0.0);
    ((grew || fetched) && lost > 0.0).then_some(())?;
    let who = &agent.view.planned.id;
    let mut found = vec![words::plain(
        format!("most memory in use on {who}'s GPU, part of it"),
        ratio,
        alone.or(Some(PRESSURED)),
        readings.source(),
    )];
    if let (true, Some(bus)) = (fetched, bus) {
        found.push(Evidence {
            what: format!("traffic between host and {who}'s GPU"),
            value: bus / 1e6,
            unit: "MB/s".to_owned(),
            against: bus_alone.map(|alone| alone / 1e6),
            source: readings.source(),
        });
    }
    let slow = agent.excess.iter().filter(|excess| excess.beyond_chance);
    let waits = slow.filter(|excess| matches!(excess.part, Part::Unsplit | Part::Stall));
    found.extend(waits.map(words::excess));
    Some((ratio, fetched || grew, found, lost))
}
