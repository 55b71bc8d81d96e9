//! Layers ran on the processor that belong on the GPU.
//!
//! Rule. The engine itself states how much of the loaded model is in GPU memory (pin, engine states).
//! Less of it than alone, and a slower prefill or decode, is the cause. Where the engine does not
//! state it, an engine that uses more of the host's cores and less of its GPU than alone is
//! consistent with it.

use super::super::types::{Cause, CauseFinding, Evidence, Grade};
use super::super::view::{AgentScene, AgentView, Scene};
use super::readings::Readings;
use super::struck::Struck;
use super::words;

/// A part of the model that is smaller than this is rounding, not layers.
const LEAST_PART: f64 = 0.005;

/// An engine that has moved work to the processor uses at least so many cores more.
const MORE_CORES: f64 = 0.3;

/// And at most this share of what it used of its GPU alone.
const LESS_GPU: f64 = 0.9;

pub(super) fn test(scene: &Scene<'_>) -> Option<CauseFinding> {
    let struck = Struck::by(Cause::CpuOffload, scene, |agent| match stated(agent) {
        Some(reading) => Some((Grade::Supported, vec![reading])),
        None if states(agent) => None,
        None => moved(agent).map(|found| (Grade::Consistent, found)),
    })?;
    let who = struck.who();
    let sentence = match struck.grade {
        Grade::Supported => format!(
            "less of the model of {who} was in GPU memory than alone: the processor computed the rest."
        ),
        Grade::Consistent | Grade::NotTested => {
            format!(
                "the engine of {who} used more of the processor and less of its GPU than alone."
            )
        }
    };
    Some(struck.finding(
        sentence,
        "make room on the GPU (a smaller context, fewer agents, a smaller model) or see `chimera \
         plan`; an engine that states its placement (Ollama's /api/ps) proves it",
    ))
}

/// The smallest part of the model in GPU memory that the engine stated in a leg.
#[expect(clippy::cast_precision_loss, reason = "below 2^53 bytes")]
fn part_on_gpu(agent: &AgentView<'_>) -> Option<f64> {
    let timeline = agent.timeline;
    let part = |size: Option<u64>, vram: Option<u64>| {
        let size = size.filter(|size| *size > 0)?;
        Some(vram? as f64 / size as f64)
    };
    let pins = [timeline.pin_before, timeline.pin_after]
        .into_iter()
        .flatten();
    let pinned = pins.filter_map(|pin| part(pin.facts.size_bytes, pin.facts.size_vram_bytes));
    let states = timeline.engine.map_or(&[][..], |watch| &watch.states);
    let own = timeline.pin_before.and_then(|pin| pin.facts.model.clone());
    let resident = states
        .iter()
        .filter_map(|state| state.resident.as_ref())
        .flatten()
        .filter(|model| own.as_ref().is_none_or(|own| *own == model.model))
        .filter_map(|model| part(model.size_bytes, model.size_vram_bytes));
    pinned.chain(resident).reduce(f64::min)
}

fn states(agent: &AgentScene<'_>) -> bool {
    part_on_gpu(&agent.view).is_some()
        && agent.solo.is_some_and(|solo| part_on_gpu(&solo).is_some())
}

fn stated(agent: &AgentScene<'_>) -> Option<Evidence> {
    let together = part_on_gpu(&agent.view)?;
    let alone = part_on_gpu(&agent.solo?)?;
    (alone - together > LEAST_PART).then(|| {
        words::plain(
            format!("part of {}'s model in GPU memory", agent.view.planned.id),
            together,
            Some(alone),
            "pin and engine states".to_owned(),
        )
    })
}

fn moved(agent: &AgentScene<'_>) -> Option<Vec<Evidence>> {
    let together = Readings::of(&agent.view)?;
    let alone = Readings::of(agent.solo.as_ref()?)?;
    let used = |readings: &Readings<'_>| {
        let gpu = readings.gpu().filter(|gpu| gpu.is_covered())?;
        let busy = gpu.mean(|gpu| gpu.utilisation)?;
        Some((readings.engine_cores()?, busy))
    };
    let (cores, busy) = used(&together)?;
    let (cores_alone, busy_alone) = used(&alone)?;
    if cores < cores_alone + MORE_CORES || busy > LESS_GPU * busy_alone {
        return None;
    }
    let who = &agent.view.planned.id;
    Some(vec![
        words::plain(
            format!("cores used by {who}'s engine"),
            cores,
            Some(cores_alone),
            together.source(),
        ),
        words::plain(
            format!("use of {who}'s GPU"),
            busy,
            Some(busy_alone),
            together.source(),
        ),
    ])
}
