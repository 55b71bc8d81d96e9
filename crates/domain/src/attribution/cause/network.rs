//! The way between agent and engine.
//!
//! Rule. The stream took longer than the engine's own account of the request, beyond chance, and the
//! client's thread did not wait for that long; where the system does not tell, tokens did not come in
//! bunches either. An engine that states its prefill and no total leaves this in what is not split: then
//! an excess before the first token is consistent with the network, if the instance served nobody else,
//! said of itself that nothing waited, and had the cores that it wanted.

use super::super::types::{Cause, CauseFinding, Excess, Grade, Part};
use super::super::view::{AgentScene, RequestScene, Scene};
use super::client_overload::late_reader;
use super::readings::Readings;
use super::words;
use crate::units::ns_to_ms;

/// The client's own wait may be at most this share of the excess: above it, the client is the cause.
const CLIENT_SHARE: f64 = 0.5;

/// Threads of an engine that waited for a core, on average: above it, its own waits may look like a way.
const WAITING: f64 = 0.1;

pub(super) fn test(scene: &Scene<'_>) -> Option<CauseFinding> {
    let on_the_way: Vec<(&AgentScene<'_>, &Excess)> = scene
        .agents
        .iter()
        .filter_map(|agent| Some((agent, agent.slow_in(Part::Transport)?)))
        .filter(|(agent, excess)| client_ms(agent) < CLIENT_SHARE * excess.excess_ms)
        .filter(|(agent, _)| late_reader(agent).is_none())
        .collect();
    if !on_the_way.is_empty() {
        return Some(finding(&on_the_way, Grade::Supported));
    }
    let unsplit: Vec<(&AgentScene<'_>, &Excess)> = scene
        .agents
        .iter()
        .filter(|agent| {
            states_prefill_alone(agent)
                && alone_on_its_instance(scene, agent)
                && !engine_lacks_cores(agent)
        })
        .filter_map(|agent| Some((agent, agent.slow_in(Part::Unsplit)?)))
        .filter(|(agent, excess)| {
            agent.slow_in(Part::Load).is_none()
                && agent.slow_in(Part::Queue).is_none()
                && client_ms(agent) < CLIENT_SHARE * excess.excess_ms
                && late_reader(agent).is_none()
        })
        .collect();
    (!unsplit.is_empty()).then(|| finding(&unsplit, Grade::Consistent))
}

/// Time for which the agent's thread waited for a core beyond the usual, ms.
fn client_ms(agent: &AgentScene<'_>) -> f64 {
    let waits = agent
        .requests
        .iter()
        .filter_map(|r| r.record.client_wait_ns);
    ns_to_ms(waits.sum())
}

/// Whether the engine states its prefill and no total. Without the prefill it is part of what is not
/// split, and a prompt that took longer to process would pass for a long way.
fn states_prefill_alone(agent: &AgentScene<'_>) -> bool {
    agent.requests.iter().all(|request| {
        let times = &request.record.engine_times;
        times.prompt_eval_ns.is_some() && times.total_ns.is_none()
    })
}

/// Whether the agent's engine waited for cores, or may have: then it may have been late to begin, too.
fn engine_lacks_cores(agent: &AgentScene<'_>) -> bool {
    match Readings::of(&agent.view).and_then(|readings| readings.engine_delay()) {
        Some(waiting) => waiting > WAITING,
        None => [Part::Prefill, Part::Decode]
            .into_iter()
            .any(|part| agent.slow_in(part).is_some()),
    }
}

/// Whether no other agent of the run uses the instance.
fn alone_on_its_instance(scene: &Scene<'_>, agent: &AgentScene<'_>) -> bool {
    let instance = |agent: &AgentScene<'_>| agent.view.timeline.begin.map(|b| b.instance.clone());
    let own = instance(agent);
    let same = scene.agents.iter().filter(|other| instance(other) == own);
    own.is_some() && same.count() == 1
}

fn finding(slow: &[(&AgentScene<'_>, &Excess)], grade: Grade) -> CauseFinding {
    let agents: Vec<_> = slow.iter().map(|(agent, _)| words::id(agent)).collect();
    let cost: f64 = slow.iter().map(|(_, excess)| excess.excess_ms).sum();
    let mut evidence: Vec<_> = slow
        .iter()
        .map(|(_, excess)| words::excess(excess))
        .collect();
    let told = slow.iter().filter(|(agent, _)| {
        let waits = |request: &RequestScene<'_>| request.record.client_wait_ns.is_some();
        agent.requests.iter().any(waits)
    });
    evidence.extend(told.map(|(agent, excess)| {
        words::ms(
            format!(
                "wait of {}'s own thread for a core, in all",
                agent.view.planned.id
            ),
            client_ms(agent),
            Some(excess.excess_ms),
            "scheduler statistics of the thread".to_owned(),
        )
    }));
    let (sentence, settle) = match grade {
        Grade::Supported => (
            format!(
                "{} lost {} between agent and engine: the streams took that much longer than the \
                 engine's own account of the same requests.",
                words::agents(&agents),
                words::duration(cost)
            ),
            "put the worker beside its engine, or measure the way with `chimera probe`",
        ),
        Grade::Consistent | Grade::NotTested => (
            format!(
                "{} waited {} longer for first tokens than alone, on instances that served nobody \
                 else; the engine states no total to tell the way from its own waits.",
                words::agents(&agents),
                words::duration(cost)
            ),
            "an engine that states its total time per request (Ollama), or its queue (llama.cpp: \
             --metrics), tells the two apart",
        ),
    };
    CauseFinding {
        cause: Cause::Network,
        grade,
        agents,
        cost_ms: Some(cost),
        evidence,
        sentence,
        settle: Some(settle.to_owned()),
    }
}
