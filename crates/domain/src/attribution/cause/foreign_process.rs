//! Another process used the GPU.
//!
//! Rule. A compute process that is no engine of this host was on the agent's GPU, its kernels ran for
//! longer than alone (or, where the driver does not say, it was not there alone, and the GPU's use is
//! not accounted for by the engines), and prefill or decode was slow beyond chance.

use super::super::types::{Cause, CauseFinding, Evidence, Grade};
use super::super::view::{AgentScene, Scene};
use super::readings::{Readings, Stranger};
use super::struck::Struck;
use super::words;

/// Its kernels must run for this much more of the time than alone.
const MORE_USE: f64 = 0.05;

pub(super) fn test(scene: &Scene<'_>) -> Option<CauseFinding> {
    let struck = Struck::by(Cause::ForeignProcess, scene, strangers)?;
    let sentence = format!(
        "a process that is no engine of this experiment worked on the GPU of {}.",
        struck.who()
    );
    Some(struck.finding(
        sentence,
        "end it, or give the engines a GPU of their own; a driver that states the use of each process \
         proves it",
    ))
}

fn strangers(agent: &AgentScene<'_>) -> Option<(Grade, Vec<Evidence>)> {
    let readings = Readings::of(&agent.view)?;
    let gpu = readings.gpu().filter(|gpu| gpu.is_covered())?;
    let together = gpu.strangers()?;
    let solo = agent.solo.as_ref().and_then(Readings::of);
    let alone = solo
        .and_then(|solo| solo.gpu()?.strangers())
        .unwrap_or_default();
    let (mut grade, mut found) = (Grade::Consistent, Vec::new());
    for (pid, process) in together {
        let before = alone.get(&pid);
        let Some((value, against)) = busier(&process, before) else {
            continue;
        };
        let what = match value {
            Some(_) => format!("use of {}'s GPU by process {pid}", agent.view.planned.id),
            None => format!(
                "process {pid} on {}'s GPU, not there alone",
                agent.view.planned.id
            ),
        };
        if value.is_some() {
            grade = Grade::Supported;
        }
        found.push(words::plain(
            what,
            value.unwrap_or(1.0),
            against,
            readings.source(),
        ));
    }
    (!found.is_empty()).then_some((grade, found))
}

/// Its use and its use alone, if it did more than alone. `None` for a use that the driver does not say.
fn busier(process: &Stranger, alone: Option<&Stranger>) -> Option<(Option<f64>, Option<f64>)> {
    match process.utilisation {
        Some(used) => {
            let before = alone.and_then(|alone| alone.utilisation).unwrap_or(0.0);
            (used - before >= MORE_USE).then_some((Some(used), Some(before)))
        }
        None => alone.is_none().then_some((None, Some(0.0))),
    }
}
