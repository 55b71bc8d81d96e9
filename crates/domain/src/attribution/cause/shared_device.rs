//! Agents shared a device: its compute units or cores, or its memory's bandwidth.
//!
//! Rule. What the agents want of a device is what each uses of it alone; if the sum is more than there
//! is, all wait, and what saturates first says which cause it is. On a GPU the driver states both uses.
//! On the host, cores are what engines used alone, held against the cores that others leave, and their
//! threads say how long they waited for one. Bandwidth of the host's memory is seldom counted: without a
//! counter, decode that is slow while cores are free and prefill is as usual is consistent with it,
//! since decode reads all weights for each token and prefill reads them once.

use super::super::types::{Cause, CauseFinding, Evidence, Grade, Part};
use super::super::view::{AgentScene, Scene};
use super::readings::{Gpu, Readings, beside, decoding, serving};
use super::struck::Struck;
use super::words;
use crate::telemetry::Source;
use crate::units::ns_to_ms;

/// A sum of uses counts as too much from here on: the driver states whole percents of windows that
/// the work only partly fills.
const TOO_MUCH: f64 = 1.03;

/// The bandwidth that the host's memory gave, over what the agents want, below which it is short.
const SHORT_OF_TRAFFIC: f64 = 0.93;

/// Threads of an engine that wait for a core, on average, beyond alone: below it, cores are free.
const WAITING: f64 = 0.05;

/// Part of an agent's work during which another must work for the two to share a device.
const AT_ONCE: f64 = 0.1;

/// Decode that is slower by this much more than prefill is slow by its memory.
const DECODE_OVER_PREFILL: f64 = 2.0;

/// What an agent found of the device that it shares.
struct Shared {
    cause: Cause,
    grade: Grade,
    evidence: Vec<Evidence>,
}

pub(super) fn compute(scene: &Scene<'_>) -> Option<CauseFinding> {
    finding(scene, Cause::ComputeContention)
}

pub(super) fn bandwidth(scene: &Scene<'_>) -> Option<CauseFinding> {
    finding(scene, Cause::BandwidthContention)
}

fn finding(scene: &Scene<'_>, cause: Cause) -> Option<CauseFinding> {
    let struck = Struck::by(cause, scene, |agent| {
        let shared = shared(scene, agent).filter(|shared| shared.cause == cause)?;
        Some((shared.grade, shared.evidence))
    })?;
    let who = struck.who();
    let (sentence, settle) = match (cause, struck.grade) {
        (Cause::ComputeContention, _) => (
            format!(
                "{who} shared compute units that all of them together want more of than there are."
            ),
            "fewer agents at once, fewer threads per engine, or a device for each agent",
        ),
        (_, Grade::Supported) => (
            format!(
                "{who} shared a memory whose bandwidth all of them together want more of than there is."
            ),
            "fewer agents at once, smaller weights (quantisation), or a device for each agent",
        ),
        _ => (
            format!(
                "{who} wrote slower together though cores were free and prompts took as long as \
                     alone: what sharing the memory's bandwidth looks like."
            ),
            "a counter of memory traffic (resctrl on the host, DCGM on the GPU) settles it",
        ),
    };
    Some(struck.finding(sentence, settle))
}

fn shared(scene: &Scene<'_>, agent: &AgentScene<'_>) -> Option<Shared> {
    let together = |other: &AgentScene<'_>| {
        other.view.planned.id != agent.view.planned.id && at_once(agent, other)
    };
    scene.agents.iter().any(together).then_some(())?;
    let readings = Readings::of(&agent.view)?;
    match readings.gpu() {
        Some(gpu) => on_gpu(scene, agent, &readings, &gpu),
        None => on_host(scene, agent, &readings),
    }
}

/// Whether engines worked for two agents at the same time: requests that wait for one slot share the
/// device with nobody.
fn at_once(agent: &AgentScene<'_>, other: &AgentScene<'_>) -> bool {
    let (mine, theirs) = (serving(&agent.view), serving(&other.view));
    let both: u64 = mine
        .iter()
        .flat_map(|(from, to)| {
            let shared = theirs
                .iter()
                .map(move |(begin, end)| (*to).min(*end).since((*from).max(*begin)).unwrap_or(0));
            shared.collect::<Vec<_>>()
        })
        .fold(0, u64::saturating_add);
    let own = mine.iter().filter_map(|(from, to)| to.since(*from));
    let own = own.fold(0, u64::saturating_add);
    own > 0 && ns_to_ms(both) >= AT_ONCE * ns_to_ms(own)
}

/// What an agent uses of a GPU alone while it writes: compute and bandwidth, parts of what there is.
fn wanted(agent: &AgentScene<'_>) -> Option<(f64, f64)> {
    let solo = agent.solo?;
    let gpu = Readings::of(&solo)?.gpu().filter(Gpu::is_covered)?;
    let spans = decoding(&solo);
    // The median: a driver's window at either end of an answer is only in part of it.
    let compute = gpu.median_in(&spans, |gpu| gpu.utilisation)?;
    let memory = gpu
        .median_in(&spans, |gpu| gpu.memory_utilisation)
        .unwrap_or(0.0);
    Some((compute, memory))
}

fn on_gpu(
    scene: &Scene<'_>,
    agent: &AgentScene<'_>,
    readings: &Readings<'_>,
    gpu: &Gpu<'_>,
) -> Option<Shared> {
    let others: Vec<&AgentScene<'_>> = beside(scene, agent, gpu)
        .into_iter()
        .filter(|other| at_once(agent, other))
        .collect();
    (!others.is_empty() && gpu.is_covered()).then_some(())?;
    let all: Option<Vec<(f64, f64)>> = std::iter::once(agent).chain(others).map(wanted).collect();
    let all = all?;
    let compute: f64 = all.iter().map(|(compute, _)| compute).sum();
    let memory: f64 = all.iter().map(|(_, memory)| memory).sum();
    (compute.max(memory) > TOO_MUCH).then_some(())?;
    let who = &agent.view.planned.id;
    let one = |what: &str, sum: f64| {
        words::plain(
            format!("{what} of {who}'s GPU that its agents use alone, summed"),
            sum,
            Some(1.0),
            "telemetry of the solo legs".to_owned(),
        )
    };
    let busy = gpu.mean_in(&decoding(&agent.view), |gpu| gpu.utilisation);
    let together = busy.map(|busy| {
        words::plain(
            format!("use of {who}'s GPU together"),
            busy,
            None,
            readings.source(),
        )
    });
    // A kernel that runs says nothing of how much of the GPU it fills: where kernels of several agents
    // run beside each other (MPS), each may run all the time and none waits for another. Where that is
    // not told, prefill tells the two apart: it needs compute and hardly any bandwidth.
    let beside_each_other = gpu.shared_by_mps() == Some(true);
    let by_memory =
        memory > TOO_MUCH && (memory > compute || beside_each_other || decode_suffers(agent));
    let (cause, sum) = if by_memory {
        (Cause::BandwidthContention, one("memory bandwidth", memory))
    } else {
        (Cause::ComputeContention, one("compute time", compute))
    };
    Some(Shared {
        cause,
        grade: Grade::Supported,
        evidence: std::iter::once(sum).chain(together).collect(),
    })
}

fn on_host(scene: &Scene<'_>, agent: &AgentScene<'_>, readings: &Readings<'_>) -> Option<Shared> {
    readings.covers(&Source::Host).then_some(())?;
    let cores = readings.cores()?;
    let solo: Vec<Readings<'_>> = scene
        .agents
        .iter()
        .filter_map(|agent| Readings::of(agent.solo.as_ref()?))
        .collect();
    (solo.len() == scene.agents.len()).then_some(())?;
    let engines: Option<f64> = solo.iter().map(Readings::engine_cores).sum();
    let others = solo
        .iter()
        .filter_map(Readings::others_cores)
        .fold(0.0, f64::max);
    let wanted = engines? + others;
    let own = Readings::of(agent.solo.as_ref()?)?;
    let delay = readings.engine_delay();
    let delay_alone = own.engine_delay();
    let waits = delay.zip(delay_alone).map(|(delay, alone)| delay - alone);
    let who = &agent.view.planned.id;
    if wanted > TOO_MUCH * cores && waits.is_none_or(|waits| waits > WAITING) {
        let mut evidence = vec![words::plain(
            "cores that engines and others use alone, summed",
            wanted,
            Some(cores),
            "telemetry of the solo legs".to_owned(),
        )];
        evidence.extend(delay.map(|delay| {
            words::plain(
                format!("threads of {who}'s engine that waited for a core, mean"),
                delay,
                delay_alone,
                readings.source(),
            )
        }));
        return Some(Shared {
            cause: Cause::ComputeContention,
            grade: Grade::Supported,
            evidence,
        });
    }
    let free = waits.is_some_and(|waits| waits <= WAITING) && wanted <= TOO_MUCH * cores;
    (free && decode_suffers(agent)).then_some(())?;
    let mut evidence: Vec<Evidence> = agent
        .slow_in(Part::Decode)
        .map(words::excess)
        .into_iter()
        .collect();
    let traffic: Option<f64> = solo.iter().map(Readings::traffic).sum();
    let counted = readings
        .traffic()
        .zip(traffic)
        .filter(|(together, sum)| *together < SHORT_OF_TRAFFIC * sum);
    if let Some((together, sum)) = counted {
        evidence.push(Evidence {
            what: "memory traffic together, against the solo legs' summed".to_owned(),
            value: together / 1e9,
            unit: "GB/s".to_owned(),
            against: Some(sum / 1e9),
            source: readings.source(),
        });
    }
    evidence.extend(waits.map(|waits| {
        words::plain(
            format!("threads of {who}'s engine that waited for a core, beyond alone"),
            waits,
            Some(WAITING),
            readings.source(),
        )
    }));
    Some(Shared {
        cause: Cause::BandwidthContention,
        grade: if counted.is_some() {
            Grade::Supported
        } else {
            Grade::Consistent
        },
        evidence,
    })
}

/// Whether decode is slow beyond chance and by much more than prefill.
fn decode_suffers(agent: &AgentScene<'_>) -> bool {
    let factor = |part: Part| {
        let excess = agent.excess.iter().find(|excess| excess.part == part)?;
        (excess.usual_ms > 0.0).then(|| excess.excess_ms / excess.usual_ms)
    };
    agent.slow_in(Part::Decode).is_some()
        && factor(Part::Decode).is_some_and(|decode| {
            factor(Part::Prefill).is_none_or(|prefill| decode > DECODE_OVER_PREFILL * prefill)
        })
}
