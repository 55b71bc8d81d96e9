//! Other processes took the host's cores.
//!
//! Rule. Processes that are neither engines nor ours used more cores than alone, tasks waited for a core
//! more than alone (the engine's own threads, or any by the kernel's pressure figure), and something of
//! the agent was slow beyond chance. The processes are named where they were looked at.

use super::super::types::{Cause, CauseFinding, Evidence, Grade};
use super::super::view::{AgentScene, Scene};
use super::readings::Readings;
use super::struck::{Struck, not_tested};
use super::words;
use crate::telemetry::Source;

/// Others must use this many cores more than alone.
const MORE_CORES: f64 = 0.2;

/// Threads of an engine that waited for a core, on average, beyond alone.
const WAITING: f64 = 0.03;

/// Part of the time in which any task waited for a core, beyond alone.
const PRESSURE: f64 = 0.05;

pub(super) fn test(scene: &Scene<'_>) -> Option<CauseFinding> {
    let mut blind = Vec::new();
    let struck = Struck::by(Cause::HostCpu, scene, |agent| {
        let Some((together, alone)) = windows(agent) else {
            blind.push(words::id(agent));
            return None;
        };
        Some((Grade::Supported, crowded(agent, &together, &alone)?))
    });
    let Some(struck) = struck else {
        return (!blind.is_empty()).then(|| {
            let sentence = format!(
                "whether other processes took the cores of {} is not known: telemetry does not cover \
                 the run.",
                words::agents(&blind)
            );
            not_tested(Cause::HostCpu, blind, sentence)
        });
    };
    let named = named(scene);
    let others = if named.is_empty() {
        "other processes".to_owned()
    } else {
        words::list(&named)
    };
    let sentence = format!("{others} took cores that {} wanted.", struck.who());
    Some(struck.finding(
        sentence,
        "end or move the other processes, or give the engines cores of their own",
    ))
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
