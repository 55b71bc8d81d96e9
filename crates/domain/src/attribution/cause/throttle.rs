//! Clocks were held down by heat or power.
//!
//! Rule. The driver names heat or power as the reason in more of the samples than alone, the clock of
//! the processors was lower than alone, and prefill or decode was slow beyond chance.

use super::super::types::{Cause, CauseFinding, Evidence, Grade};
use super::super::view::{AgentScene, Scene};
use super::readings::{Readings, gpu_unread};
use super::struck::{Struck, not_tested};
use super::words;

/// The reason must be named in this much more of the samples than alone.
const MORE_OFTEN: f64 = 0.2;

/// The clock must be lower than alone by this part: a step of 15 MHz is less.
const LOWER: f64 = 0.03;

pub(super) fn test(scene: &Scene<'_>) -> Option<CauseFinding> {
    let mut blind = Vec::new();
    let struck = Struck::by(Cause::ThermalOrPowerThrottle, scene, |agent| {
        if gpu_unread(&agent.view) {
            blind.push(words::id(agent));
        }
        Some((Grade::Supported, held_down(agent)?))
    });
    let Some(struck) = struck else {
        return (!blind.is_empty()).then(|| {
            let sentence = format!(
                "whether heat or power held the GPU of {} down is not known, nor what else used it: no \
                 telemetry of it covers the run.",
                words::agents(&blind)
            );
            not_tested(Cause::ThermalOrPowerThrottle, blind, sentence)
        });
    };
    let sentence = format!(
        "the GPU of {} was held below its clock by heat or power.",
        struck.who()
    );
    Some(struck.finding(
        sentence,
        "cool the GPU, raise its power limit, or let it rest between runs (`cool_down_s`)",
    ))
}

fn held_down(agent: &AgentScene<'_>) -> Option<Vec<Evidence>> {
    let readings = Readings::of(&agent.view)?;
    let gpu = readings.gpu().filter(|gpu| gpu.is_covered())?;
    let solo = Readings::of(agent.solo.as_ref()?)?;
    let solo_gpu = solo.gpu().filter(|gpu| gpu.is_covered())?;
    let (share, reasons) = gpu.held_down()?;
    let (alone, _) = solo_gpu.held_down()?;
    let (clock, clock_alone) = (gpu.clock()?, solo_gpu.clock()?);
    (share - alone > MORE_OFTEN && clock < (1.0 - LOWER) * clock_alone).then_some(())?;
    let who = &agent.view.planned.id;
    let names: Vec<String> = reasons
        .iter()
        .map(|reason| reason.as_str().to_owned())
        .collect();
    Some(vec![
        words::plain(
            format!(
                "part of the samples in which {} held {who}'s GPU down",
                words::list(&names)
            ),
            share,
            Some(alone),
            readings.source(),
        ),
        Evidence {
            what: format!("clock of {who}'s GPU while it worked"),
            value: clock,
            unit: "MHz".to_owned(),
            against: Some(clock_alone),
            source: readings.source(),
        },
    ])
}
