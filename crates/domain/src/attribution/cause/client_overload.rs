//! The measuring side could not keep up.
//!
//! Rule. The agent's own thread waited for a core, beyond chance, and for a larger part of its time than
//! the threads of its engine: where these wait alike, the cores are short for all, which is another
//! cause. An engine that is slow for another reason is no objection. Where the system
//! does not state the wait, a large share of chunks that arrive in bunches is consistent with it: an
//! engine writes them one by one, and a network bunches a few.

use super::super::types::{Cause, CauseFinding, Evidence, Excess, Grade, Part};
use super::super::view::{AgentScene, RequestScene, Scene};
use super::readings::Readings;
use super::words;
use crate::units::ns_to_ms;

/// An engine whose threads wait for less than this part of their time has the cores that it wants.
const ENGINE_WAITS: f64 = 0.03;

/// The client's thread must wait for this many times the part that its engine's threads wait for.
const CLIENT_OVER_ENGINE: f64 = 1.25;

/// Where that is not known: if the engine was slow by its own account for this share of the client's
/// wait or more, the cores may have been short for everybody.
const ENGINE_SHARE: f64 = 0.5;

/// Chunks closer together than this were read at once, ns.
const BUNCHED_NS: u64 = 500_000;

/// This share of chunks in bunches beyond the share alone is a sign of a reader that was late.
const BUNCHED_SHARE: f64 = 0.35;

pub(super) fn test(scene: &Scene<'_>) -> Option<CauseFinding> {
    let waited: Vec<(&AgentScene<'_>, &Excess)> = scene
        .agents
        .iter()
        .filter_map(|agent| Some((agent, agent.slow_in(Part::Client)?)))
        .filter(|(agent, excess)| !cores_short_for_all(agent, excess))
        .collect();
    if !waited.is_empty() {
        let agents: Vec<_> = waited.iter().map(|(agent, _)| words::id(agent)).collect();
        let cost: f64 = waited.iter().map(|(_, excess)| excess.excess_ms).sum();
        return Some(CauseFinding {
            cause: Cause::ClientOverload,
            grade: Grade::Supported,
            sentence: format!(
                "the threads of {} waited {} for a core while their requests were under way: the \
                 measuring side was too slow, not the engine.",
                words::agents(&agents),
                words::duration(cost)
            ),
            agents,
            cost_ms: Some(cost),
            evidence: waited
                .iter()
                .map(|(_, excess)| words::excess(excess))
                .collect(),
            settle: Some(
                "give the workers cores of their own, or run fewer agents per host".to_owned(),
            ),
        });
    }
    let bunched: Vec<(&AgentScene<'_>, Evidence)> = scene
        .agents
        .iter()
        .filter(|agent| late(agent))
        .filter_map(|agent| Some((agent, late_reader(agent)?)))
        .collect();
    (!bunched.is_empty()).then(|| {
        let agents: Vec<_> = bunched.iter().map(|(agent, _)| words::id(agent)).collect();
        CauseFinding {
            cause: Cause::ClientOverload,
            grade: Grade::Consistent,
            sentence: format!(
                "tokens reached {} in bunches, and an engine writes them one by one.",
                words::agents(&agents)
            ),
            agents,
            cost_ms: None,
            evidence: bunched.into_iter().map(|(_, evidence)| evidence).collect(),
            settle: Some(
                "scheduler statistics of the workers (Linux: /proc/self/schedstat) tell a late \
                 reader from a late network"
                    .to_owned(),
            ),
        }
    })
}

/// Whether the client waited no more than whoever else was on the host.
fn cores_short_for_all(agent: &AgentScene<'_>, excess: &Excess) -> bool {
    match engine_waits(agent) {
        Some(engine) if engine < ENGINE_WAITS => false,
        Some(engine) => {
            client_waits(agent).is_none_or(|client| client < CLIENT_OVER_ENGINE * engine)
        }
        None => engine_ms(agent) >= ENGINE_SHARE * excess.excess_ms,
    }
}

/// Part of the time in which threads of the agent's engine wanted a core that they waited for one.
fn engine_waits(agent: &AgentScene<'_>) -> Option<f64> {
    let readings = Readings::of(&agent.view)?;
    let (waited, ran) = (readings.engine_delay()?, readings.engine_cores()?);
    (waited + ran > 0.0).then(|| waited / (waited + ran))
}

/// Part of its requests' time that the agent's thread waited for a core, hidden or not.
fn client_waits(agent: &AgentScene<'_>) -> Option<f64> {
    let (mut waited, mut all) = (0.0, 0.0);
    for request in &agent.requests {
        waited += ns_to_ms(request.record.client_wait_ns?);
        all += request.parts.total_ms();
    }
    (all > 0.0).then(|| waited / all)
}

/// By how much the engine was slower than usual, by its own account or ours, ms.
fn engine_ms(agent: &AgentScene<'_>) -> f64 {
    [Part::Prefill, Part::Decode]
        .into_iter()
        .filter_map(|part| Some(agent.slow_in(part)?.excess_ms))
        .sum()
}

/// Chunks in bunches, of an agent of which the system tells no wait: a sign of a reader that was late.
pub(super) fn late_reader(agent: &AgentScene<'_>) -> Option<Evidence> {
    let told = |r: &RequestScene<'_>| r.record.client_wait_ns.is_some();
    (!agent.requests.iter().any(told)).then_some(())?;
    bunches(agent)
}

/// Whether something the client sees is late at all.
fn late(agent: &AgentScene<'_>) -> bool {
    [Part::Transport, Part::Decode, Part::Stall, Part::Unsplit]
        .into_iter()
        .any(|part| agent.slow_in(part).is_some())
}

/// The share of chunks that came with the one before, if it is well above the share alone.
fn bunches(agent: &AgentScene<'_>) -> Option<Evidence> {
    let together = share(agent.requests.iter().map(|r| r.record.chunk_ns.as_slice()))?;
    let solo = agent.solo?.timeline.requests.iter();
    let alone = share(solo.map(|r| r.chunk_ns.as_slice()))?;
    (together - alone > BUNCHED_SHARE).then(|| {
        words::plain(
            format!(
                "share of {}'s chunks within {} ms of the one before",
                agent.view.planned.id,
                ns_to_ms(BUNCHED_NS)
            ),
            together,
            Some(alone),
            "chunk times".to_owned(),
        )
    })
}

fn share<'a>(requests: impl Iterator<Item = &'a [u64]>) -> Option<f64> {
    let (mut close, mut all) = (0_u32, 0_u32);
    for chunks in requests {
        for (before, after) in chunks.iter().zip(chunks.iter().skip(1)) {
            all = all.saturating_add(1);
            close = close.saturating_add(u32::from(after.saturating_sub(*before) < BUNCHED_NS));
        }
    }
    (all > 0).then(|| f64::from(close) / f64::from(all))
}
