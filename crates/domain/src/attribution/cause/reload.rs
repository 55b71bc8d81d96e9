//! A model was loaded that should have been in memory.
//!
//! Rule. A request whose load part is above what tells a reload from the engine's ordinary overhead
//! ([`reload_limit_ns`]) waited for a load: the engine says so itself. Without such a statement the
//! instance tells: another process, another start or another context length after the run than before
//! it, or a model that left memory while the agent worked. That alone costs nothing, so something
//! before a first token must be slow beyond chance too.

use super::super::types::{Cause, CauseFinding, Evidence, Grade, Part};
use super::super::view::{AgentScene, Scene};
use super::words;
use crate::event::PinFacts;
use crate::units::ns_to_ms;
use crate::validity::reload_limit_ns;

pub(super) fn test(scene: &Scene<'_>) -> Option<CauseFinding> {
    let mut evidence = Vec::new();
    let (mut agents, mut cost) = (Vec::new(), 0.0);
    let warm = scene.agents.iter().filter_map(|agent| warm_ns(agent)).max();
    for agent in &scene.agents {
        let changed = changed(agent);
        let own = stated(agent, warm);
        let slow = agent
            .slow_in(Part::Load)
            .or_else(|| agent.slow_in(Part::Unsplit));
        if own.is_none() && (changed.is_empty() || slow.is_none()) {
            continue;
        }
        agents.push(words::id(agent));
        match own {
            Some((lost, reading)) => {
                cost += lost;
                evidence.push(reading);
            }
            None => {
                cost += slow.map_or(0.0, |excess| excess.excess_ms);
                evidence.extend(slow.map(words::excess));
            }
        }
        evidence.extend(changed);
    }
    (!agents.is_empty()).then(|| {
        CauseFinding {
        cause: Cause::Reload,
        grade: Grade::Supported,
        sentence: format!(
            "{} waited {} for a model to be loaded that should have been in memory.",
            words::agents(&agents),
            words::duration(cost)
        ),
        agents,
        cost_ms: Some(cost),
        evidence,
        settle: Some(
            "ask all agents of an instance for the same context length and options, keep the model \
             loaded (keep_alive), and see that it fits beside the others"
                .to_owned(),
        ),
    }
    })
}

fn warm_ns(agent: &AgentScene<'_>) -> Option<u64> {
    agent.view.timeline.pin_before?.facts.warm_load_ns
}

/// What the engine states of loads above the limit: time lost, ms, and the worst reading.
fn stated(agent: &AgentScene<'_>, warm: Option<u64>) -> Option<(f64, Evidence)> {
    let limit = ns_to_ms(reload_limit_ns(warm));
    let loads: Vec<(f64, &str, f64)> = agent
        .requests
        .iter()
        .filter_map(|request| {
            let load = request.parts.load_ms.filter(|load| *load > limit)?;
            let usual = request.usual.get(&Part::Load).map_or(0.0, |u| u.mean_ms);
            Some((load, request.record.request_id.as_str(), usual))
        })
        .collect();
    let worst = loads.iter().map(|(load, _, _)| *load).reduce(f64::max)?;
    // Alone the same load is no excess: a cold start that was asked for.
    let lost: f64 = loads.iter().map(|(load, _, usual)| load - usual).sum();
    (lost > limit / 2.0).then(|| {
        let ids = words::requests(loads.iter().map(|(_, id, _)| *id));
        let what = format!(
            "longest load that the engine states to {}",
            agent.view.planned.id
        );
        (lost, words::ms(what, worst, Some(limit), ids))
    })
}

/// What shows on the instance itself that a model was loaded.
fn changed(agent: &AgentScene<'_>) -> Vec<Evidence> {
    let timeline = agent.view.timeline;
    let facts = |pin: Option<&'_ crate::event::PinCheck>| pin.map(|pin| pin.facts.clone());
    let mut found = Vec::new();
    if let (Some(before), Some(after)) = (facts(timeline.pin_before), facts(timeline.pin_after)) {
        let source = || "pin before and after".to_owned();
        let differs = |get: fn(&PinFacts) -> Option<String>| matches!((get(&before), get(&after)), (Some(a), Some(b)) if a != b);
        if differs(|pin| pin.instance_epoch.clone()) {
            let what = format!("the engine of {} was started anew", agent.view.planned.id);
            found.push(words::plain(what, 1.0, Some(0.0), source()));
        }
        if differs(|pin| pin.model_digest.clone()) {
            let what = format!(
                "the engine of {} serves another model",
                agent.view.planned.id
            );
            found.push(words::plain(what, 1.0, Some(0.0), source()));
        }
        if let (Some(was), Some(is)) = (before.context_length, after.context_length)
            && was != is
        {
            let what = format!("context length of {} after the run", agent.view.planned.id);
            found.push(words::plain(what, is.into(), Some(was.into()), source()));
        }
    }
    let states = timeline.engine.map_or(&[][..], |watch| &watch.states);
    let resident = states.iter().filter_map(|state| state.resident.as_ref());
    let gone = resident.filter(|models| models.is_empty()).count();
    if gone > 0 {
        let what = format!(
            "readings in which {} had no model in memory",
            agent.view.planned.id
        );
        let gone = u32::try_from(gone).unwrap_or(u32::MAX);
        found.push(words::plain(
            what,
            gone.into(),
            Some(0.0),
            "engine states".to_owned(),
        ));
    }
    found
}
