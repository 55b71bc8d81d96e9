//! What the engine said of its state while an agent worked, held against the pin.
//!
//! The pin is looked at before and after; a reading in between shows what came and went. Each rule
//! fires on one reading: an engine's account of its own state is a count, not an estimate, and a state
//! that contradicts the pin has touched the run whatever followed.
//!
//! Only readings within the agent's own run count. An engine that cannot say a thing is not held to it.

use super::findings::invalid;
use crate::control::{Invalid, InvalidReason};
use crate::event::{EngineState, ResidentModel};
use crate::timeline::AgentTimeline;
use crate::units::{MonoNs, ns_to_ms};

/// What one reading says against a run: of the model that was asked for, or of its absence.
type Rule<'r> = &'r dyn Fn(Option<&ResidentModel>) -> Option<(InvalidReason, String)>;

/// Everything to be said against an agent by its engine's states.
///
/// `ours`: how many agents of the leg are on the instance; each asks for one thing at a time.
pub(super) fn against_watch(who: &str, timeline: &AgentTimeline<'_>, ours: u32) -> Vec<Invalid> {
    let (Some(watch), Some(started), Some(finished)) =
        (timeline.engine, timeline.started, timeline.finished)
    else {
        return Vec::new();
    };
    let (from, to) = (started.actual, finished.at);
    let states: Vec<&EngineState> = watch
        .states
        .iter()
        .filter(|state| (from..=to).contains(&state.at))
        .collect();
    let mut found: Vec<Invalid> = another_client(who, &states, from, ours)
        .into_iter()
        .collect();
    found.extend(another_load(who, timeline, &states, from));
    found
}

/// More requests at once than our agents can have asked.
fn another_client(who: &str, states: &[&EngineState], from: MonoNs, ours: u32) -> Option<Invalid> {
    let most = states
        .iter()
        .filter_map(|state| {
            let running = state.requests_running?;
            Some((
                running.saturating_add(state.requests_waiting.unwrap_or(0)),
                state.at,
            ))
        })
        .max_by_key(|(requests, _)| *requests)?;
    let (requests, at) = most;
    (requests > ours).then(|| {
        invalid(
            InvalidReason::PinChanged,
            format!(
                "{who}: another client used its instance: {requests} requests at once {}, of which at \
                 most {ours} can be ours; give the run an instance that nobody else asks",
                after(from, at)
            ),
        )
    })
}

/// The model gone, or loaded otherwise than before the work.
fn another_load(
    who: &str,
    timeline: &AgentTimeline<'_>,
    states: &[&EngineState],
    from: MonoNs,
) -> Vec<Invalid> {
    let Some(pin) = timeline.pin_before.map(|pin| &pin.facts) else {
        return Vec::new();
    };
    let Some(model) = pin.model.as_deref() else {
        return Vec::new();
    };
    let first = |rule: Rule<'_>| {
        states.iter().find_map(|state| {
            let resident = state.resident.as_ref()?;
            let ours = resident.iter().find(|loaded| loaded.model == model);
            let (reason, words) = rule(ours)?;
            let detail = format!("{who}: {words} {}", after(from, state.at));
            Some(invalid(reason, detail))
        })
    };
    let gone = first(&|loaded| {
        loaded.is_none().then(|| {
            let words = format!("a reload: {model} was not in the engine's memory");
            (InvalidReason::Reload, words)
        })
    });
    let fell = first(&|loaded| {
        let (was, is) = (pin.size_vram_bytes?, loaded?.size_vram_bytes?);
        (is < was).then(|| {
            let words = format!(
                "layers fell to the CPU: {is} bytes of the model were in GPU memory, {was} before the \
                 work,"
            );
            (InvalidReason::PinChanged, words)
        })
    });
    let context = first(&|loaded| {
        let (was, is) = (pin.context_length?, loaded?.context_length?);
        let (reason, words) = if is < was {
            (InvalidReason::PinChanged, "the context was cut")
        } else if is > was {
            (InvalidReason::Reload, "a reload with another context")
        } else {
            return None;
        };
        let words = format!("{words}: {is} tokens, {was} before the work,");
        Some((reason, words))
    });
    [gone, fell, context].into_iter().flatten().collect()
}

fn after(from: MonoNs, at: MonoNs) -> String {
    let ms = ns_to_ms(at.since(from).unwrap_or_default());
    format!("{ms:.0} ms after the start")
}
