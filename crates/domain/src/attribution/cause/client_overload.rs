//! The measuring side could not keep up.
//!
//! Rule. The agent's own thread waited for a core, beyond chance, and the engines did not: where
//! engines wait for cores too, the cores are short for all, which is another cause. Where the system
//! does not state the wait, chunks that arrive in bunches while the engine's own decode time is as
//! usual are consistent with it.

use super::super::types::{Cause, CauseFinding, Evidence, Excess, Grade, Part};
use super::super::view::{AgentScene, Scene};
use super::words;
use crate::units::ns_to_ms;

/// If engines were slow by their own account for this share of the client's wait or more, the cores
/// were short for everybody.
const ENGINE_SHARE: f64 = 0.5;

/// Chunks closer together than this were read at once, ns.
const BUNCHED_NS: u64 = 500_000;

/// This share of chunks in bunches beyond the share alone is a sign of a reader that was late.
const BUNCHED_SHARE: f64 = 0.25;

pub(super) fn test(scene: &Scene<'_>) -> Option<CauseFinding> {
    let waited: Vec<(&AgentScene<'_>, &Excess)> = scene
        .agents
        .iter()
        .filter_map(|agent| Some((agent, agent.slow_in(Part::Client)?)))
        .filter(|(agent, excess)| engine_ms(agent) < ENGINE_SHARE * excess.excess_ms)
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
        .filter(|agent| {
            agent
                .requests
                .iter()
                .all(|r| r.record.client_wait_ns.is_none())
        })
        .filter(|agent| engine_ms(agent) <= 0.0 && late(agent))
        .filter_map(|agent| Some((agent, bunches(agent)?)))
        .collect();
    (!bunched.is_empty()).then(|| {
        let agents: Vec<_> = bunched.iter().map(|(agent, _)| words::id(agent)).collect();
        CauseFinding {
            cause: Cause::ClientOverload,
            grade: Grade::Consistent,
            sentence: format!(
                "tokens reached {} in bunches while the engine wrote at its usual pace.",
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

/// By how much the engine was slower than usual, by its own account or ours, ms.
fn engine_ms(agent: &AgentScene<'_>) -> f64 {
    [Part::Prefill, Part::Decode]
        .into_iter()
        .filter_map(|part| Some(agent.slow_in(part)?.excess_ms))
        .sum()
}

/// Whether something the client sees is late at all.
fn late(agent: &AgentScene<'_>) -> bool {
    [Part::Transport, Part::Stall, Part::Unsplit]
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
