//! Where the wall time of a run went.
//!
//! Rule. Each agent's share of the wall time is laid out along its own stamps: what lies before its
//! start, its steps and requests in order, what lies between them, and what lies after its finish. A
//! time between two of them is the harness's, unless the one before has no end stamp: then it is
//! nobody's and stays in the residual, as does what overlaps. Nothing is scaled to make sums meet.

use super::parts::window_ns;
use super::types::{AgentTime, Decomposition, Parts};
use super::view::{AgentScene, LegView};
use crate::efficiency::activity::{Activity, Span, activity};
use crate::plan::PlannedTest;
use crate::timeline::{AgentTimeline, Timebase};
use crate::units::{MonoNs, ns_to_ms};

/// The name under which a worker records the pause that the spec asks for (`think_ms`).
pub const THINK_STEP: &str = "think";

/// The agents' spans on one axis, in the order of the leg.
///
/// *Undefined when* an agent of the test is missing, has no start or no finish, or its stamps run
/// backwards.
fn spans(test: &PlannedTest, leg: &LegView<'_>) -> Option<Vec<Span>> {
    (leg.agents.len() == test.agents.len()).then_some(())?;
    let timebase = Timebase::of(leg.log.members);
    let span = |timeline: &AgentTimeline<'_>| {
        timeline.duration_ns()?;
        let boot = &timeline.begin?.clock.boot_id;
        Some(Span {
            start: timebase.place(boot, timeline.started?.actual)?,
            finish: timebase.place(boot, timeline.finished?.at)?,
        })
    };
    leg.agents
        .iter()
        .map(|agent| span(agent.timeline))
        .collect()
}

/// TR110's speed-up of a together leg: the durations while together, summed, over the wall time.
///
/// *Undefined when* an agent has no start or no finish, or no time passed. Valid or not: TR110 did
/// not check.
#[must_use]
pub fn tr110_speedup(test: &PlannedTest, leg: &LegView<'_>) -> Option<f64> {
    let spans = spans(test, leg)?;
    let wall = activity(&spans, spans.len())?.wall;
    let durations: i128 = spans.iter().map(|span| span.finish - span.start).sum();
    (wall > 0).then(|| ms(durations) / ns_to_ms(wall))
}

/// Lays out a run's wall time. *Undefined when* an agent has no start or no finish.
pub(super) fn decompose(
    test: &PlannedTest,
    leg: &LegView<'_>,
    agents: &[AgentScene<'_>],
) -> Option<Decomposition> {
    let spans = spans(test, leg)?;
    let places = usize::try_from(test.max_concurrent).unwrap_or(usize::MAX);
    let Activity {
        wall,
        overlap,
        tail,
        ..
    } = activity(&spans, places.max(1))?;
    let begin = spans.iter().map(|span| span.start).min()?;
    let end = spans.iter().map(|span| span.finish).max()?;
    let released = leg.agents.iter().zip(&spans);
    let released: Vec<i128> = released
        .filter(|(agent, _)| !leg.log.queued.contains(&agent.planned.id))
        .map(|(_, span)| span.start)
        .collect();
    let barrier = released.iter().max().zip(released.iter().min());
    let wall_ms = ns_to_ms(wall);
    let times: Vec<AgentTime> = agents
        .iter()
        .zip(&spans)
        .map(|(agent, span)| {
            agent_time(
                agent,
                ms(span.start - begin),
                ms(end - span.finish),
                wall_ms,
            )
        })
        .collect();
    let largest = times.iter().map(|time| time.residual_ms.abs());
    let largest = largest.fold(0.0, f64::max);
    Some(Decomposition {
        wall_ms,
        overlap_ms: ns_to_ms(overlap),
        idle_tail_ms: ns_to_ms(tail),
        barrier_ms: barrier.map_or(0.0, |(last, first)| ms(last - first)),
        agents: times,
        residual_share: if wall_ms > 0.0 {
            largest / wall_ms
        } else {
            0.0
        },
    })
}

/// A step or a request along an agent's time.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: MonoNs,
    to: MonoNs,
    /// Whether `to` is where it ended, or only the last that is known of it.
    closed: bool,
}

fn agent_time(agent: &AgentScene<'_>, start_ms: f64, tail_ms: f64, wall_ms: f64) -> AgentTime {
    let timeline = agent.view.timeline;
    let mut time = AgentTime {
        agent: agent.view.planned.id.clone(),
        start_ms,
        local_ms: 0.0,
        think_ms: 0.0,
        requests: sum(agent.requests.iter().map(|request| &request.parts)),
        closing_ms: 0.0,
        idle_tail_ms: tail_ms,
        harness_ms: 0.0,
        residual_ms: 0.0,
    };
    let mut stretches = Vec::new();
    for step in &timeline.local {
        let Some(took) = step.end.since(step.start) else {
            continue;
        };
        if step.step == THINK_STEP {
            time.think_ms += ns_to_ms(took);
        } else {
            time.local_ms += ns_to_ms(took);
        }
        stretches.push(Stretch {
            from: step.start,
            to: step.end,
            closed: true,
        });
    }
    for request in &timeline.requests {
        let window = window_ns(request);
        let end = request.done_ns.unwrap_or(window).max(window);
        time.closing_ms += ns_to_ms(end - window);
        stretches.push(Stretch {
            from: request.sent,
            to: request.sent.plus(end),
            closed: request.done_ns.is_some() || request.error.is_none(),
        });
    }
    if let Some((from, to)) = agent.view.window() {
        time.harness_ms = ns_to_ms(between(&mut stretches, from, to));
    }
    let held = time.start_ms
        + time.local_ms
        + time.think_ms
        + time.requests.total_ms()
        + time.closing_ms
        + time.idle_tail_ms
        + time.harness_ms;
    time.residual_ms = wall_ms - held;
    time
}

/// Time from `from` to `to` that lies in no stretch and after one that has an end, ns.
fn between(stretches: &mut [Stretch], from: MonoNs, to: MonoNs) -> u64 {
    stretches.sort_by_key(|stretch| (stretch.from, stretch.to));
    let (mut at, mut closed, mut found) = (from, true, 0_u64);
    for stretch in stretches {
        let gap = stretch.from.min(to).since(at).unwrap_or(0);
        if closed {
            found = found.saturating_add(gap);
        }
        if stretch.to >= at {
            at = stretch.to;
            closed = stretch.closed;
        }
    }
    if closed {
        found = found.saturating_add(to.since(at).unwrap_or(0));
    }
    found
}

/// The sum of parts, each over the requests that have it.
fn sum<'a>(all: impl Iterator<Item = &'a Parts> + Clone) -> Parts {
    Parts::of(|part| {
        let known: Vec<f64> = all.clone().filter_map(|parts| parts.get(part)).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>())
    })
}

fn ms(ns: i128) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests;
