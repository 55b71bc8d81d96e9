//! Requests waited in the engine for other requests.
//!
//! Rule. The queue part is beyond chance. That part is the time in which the records of the same run, or
//! the engine's own state, show that the instance worked for others while this request waited, so it
//! is evidence by itself. Where others on the instance cannot be seen (another host's clock), an excess
//! before the first token is only consistent with it.

use super::super::types::{Cause, CauseFinding, Evidence, Excess, Grade, Part};
use super::super::view::{AgentScene, Scene};
use super::words;

pub(super) fn test(scene: &Scene<'_>) -> Option<CauseFinding> {
    let slow: Vec<(&AgentScene<'_>, &Excess)> = scene
        .agents
        .iter()
        .filter_map(|agent| Some((agent, agent.slow_in(Part::Queue)?)))
        .collect();
    if !slow.is_empty() {
        return Some(supported(&slow));
    }
    let hidden: Vec<(&AgentScene<'_>, &Excess)> = scene
        .agents
        .iter()
        .filter(|agent| agent.requests.iter().any(|r| r.parts.queue_ms.is_none()))
        .filter_map(|agent| Some((agent, agent.slow_in(Part::Unsplit)?)))
        .collect();
    (!hidden.is_empty()).then(|| consistent(&hidden))
}

fn supported(slow: &[(&AgentScene<'_>, &Excess)]) -> CauseFinding {
    let agents: Vec<_> = slow.iter().map(|(agent, _)| words::id(agent)).collect();
    let cost: f64 = slow.iter().map(|(_, excess)| excess.excess_ms).sum();
    let evidence = slow
        .iter()
        .flat_map(|(agent, excess)| {
            let waiting = waiting(agent);
            std::iter::once(words::excess(excess)).chain(waiting)
        })
        .collect();
    CauseFinding {
        cause: Cause::Queueing,
        grade: Grade::Supported,
        sentence: format!(
            "{} waited {} in the engine while it worked on other requests.",
            words::agents(&agents),
            words::duration(cost)
        ),
        agents,
        cost_ms: Some(cost),
        evidence,
        settle: Some(
            "give the instance more slots, or each agent an instance of its own".to_owned(),
        ),
    }
}

/// What the engine said of requests that waited.
fn waiting(agent: &AgentScene<'_>) -> Option<Evidence> {
    let states = &agent.view.timeline.engine?.states;
    let most = states
        .iter()
        .filter_map(|state| state.requests_waiting)
        .max()?;
    (most > 0).then(|| {
        let what = format!(
            "most requests that waited on the engine of {}",
            agent.view.planned.id
        );
        words::plain(what, most.into(), Some(0.0), "engine states".to_owned())
    })
}

fn consistent(hidden: &[(&AgentScene<'_>, &Excess)]) -> CauseFinding {
    let agents: Vec<_> = hidden.iter().map(|(agent, _)| words::id(agent)).collect();
    CauseFinding {
        cause: Cause::Queueing,
        grade: Grade::Consistent,
        sentence: format!(
            "{} waited longer for a first token than alone, on an instance that others use too.",
            words::agents(&agents)
        ),
        agents,
        cost_ms: None,
        evidence: hidden.iter().map(|(_, excess)| words::excess(excess)).collect(),
        settle: Some(
            "run the agents of an instance on one host, so that their instants compare, or let the \
             engine state what waits (llama.cpp: --metrics)"
                .to_owned(),
        ),
    }
}
