//! Other processes took the host's cores.
//!
//! Rule. Processes that are neither engines nor ours used more cores than alone, tasks waited for a core
//! more than alone (the engine's own threads, or any by the kernel's pressure figure), and something of
//! the agent was slow beyond chance. The processes are named where they were looked at.

use super::super::types::{Cause, CauseFinding, Evidence, Grade, Part};
use super::super::view::{AgentScene, Scene};
use super::readings::Readings;
use super::{slow_ms, words};
use crate::telemetry::Source;

/// Others must use this many cores more than alone.
const MORE_CORES: f64 = 0.2;

/// Threads of an engine that waited for a core, on average, beyond alone.
const WAITING: f64 = 0.03;

/// Part of the time in which any task waited for a core, beyond alone.
const PRESSURE: f64 = 0.05;

/// Where anything slow may come from a lack of cores.
const ACTS_IN: [Part; 6] = [
    Part::Client,
    Part::Transport,
    Part::Prefill,
    Part::Decode,
    Part::Stall,
    Part::Unsplit,
];

pub(super) fn test(scene: &Scene<'_>) -> Option<CauseFinding> {
    let (mut agents, mut evidence, mut cost) = (Vec::new(), Vec::new(), 0.0);
    let mut blind = Vec::new();
    for agent in &scene.agents {
        let Some(slow) = slow_ms(agent, &ACTS_IN) else {
            continue;
        };
        let Some((together, alone)) = windows(agent) else {
            blind.push(words::id(agent));
            continue;
        };
        let Some(found) = crowded(agent, &together, &alone) else {
            continue;
        };
        agents.push(words::id(agent));
        evidence.extend(found);
        cost += slow;
    }
    if agents.is_empty() {
        return (!blind.is_empty()).then(|| not_tested(blind));
    }
    let named = named(scene);
    Some(CauseFinding {
        cause: Cause::HostCpu,
        grade: Grade::Supported,
        sentence: format!(
            "{} took cores that {} wanted.",
            if named.is_empty() {
                "other processes".to_owned()
            } else {
                words::list(&named)
            },
            words::agents(&agents)
        ),
        agents,
        cost_ms: Some(cost),
        evidence,
        settle: Some(
            "end or move the other processes, or give the engines cores of their own".to_owned(),
        ),
    })
}

fn not_tested(agents: Vec<crate::ids::AgentId>) -> CauseFinding {
    CauseFinding {
        cause: Cause::HostCpu,
        grade: Grade::NotTested,
        sentence: format!(
            "whether other processes took the cores of {} is not known: telemetry does not cover the run.",
            words::agents(&agents)
        ),
        agents,
        cost_ms: None,
        evidence: Vec::new(),
        settle: Some("run gpu-telemetry on the host of the engines".to_owned()),
    }
}

/// The agent's window together and alone, if the host was read in both.
fn windows<'a>(agent: &AgentScene<'a>) -> Option<(Readings<'a>, Readings<'a>)> {
    let together = Readings::of(&agent.view)?;
    let alone = Readings::of(agent.solo.as_ref()?)?;
    (together.covers(&Source::Host) && alone.covers(&Source::Host)).then_some((together, alone))
}

fn crowded(
    agent: &AgentScene<'_>,
    together: &Readings<'_>,
    alone: &Readings<'_>,
) -> Option<Vec<Evidence>> {
    let (others, others_alone) = (together.others_cores()?, alone.others_cores()?);
    (others - others_alone >= MORE_CORES).then_some(())?;
    let who = &agent.view.planned.id;
    let mut found = vec![words::plain(
        "cores used by processes that are neither engines nor ours",
        others,
        Some(others_alone),
        together.source(),
    )];
    let delay = together.engine_delay().zip(alone.engine_delay());
    let delay = delay.filter(|(delay, alone)| delay - alone >= WAITING);
    let pressure = together.pressure().zip(alone.pressure());
    let pressure = pressure.filter(|(pressure, alone)| pressure - alone >= PRESSURE);
    (delay.is_some() || pressure.is_some()).then_some(())?;
    found.extend(delay.map(|(delay, alone)| {
        words::plain(
            format!("threads of {who}'s engine that waited for a core, mean"),
            delay,
            Some(alone),
            together.source(),
        )
    }));
    found.extend(pressure.map(|(pressure, alone)| {
        words::plain(
            "part of the time in which some task waited for a core",
            pressure,
            Some(alone),
            together.source(),
        )
    }));
    Some(found)
}

/// The other processes that are busier than alone, with the cores they used.
fn named(scene: &Scene<'_>) -> Vec<String> {
    const SHOWN: usize = 3;
    let seen = scene.agents.iter().find_map(|agent| {
        let (together, alone) = windows(agent)?;
        Some((
            together.busy_others()?,
            alone.busy_others().unwrap_or_default(),
        ))
    });
    let Some((together, alone)) = seen else {
        return Vec::new();
    };
    let mut more: Vec<(&str, f64)> = together
        .into_iter()
        .filter(|(name, cores)| cores - alone.get(name).copied().unwrap_or(0.0) >= MORE_CORES / 2.0)
        .collect();
    more.sort_by(|a, b| b.1.total_cmp(&a.1));
    let named = more.into_iter().take(SHOWN);
    named
        .map(|(name, cores)| format!("{name} ({cores:.1} cores)"))
        .collect()
}
