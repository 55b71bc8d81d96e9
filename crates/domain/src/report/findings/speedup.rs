//! What TR110's speed-up shows, and what it does not.

use super::{Evidence, Finding, place, provenance, runs};
use crate::report::number::text;
use crate::report::types::Report;

/// Largest difference at which two figures are called equal in words.
const EQUAL: f64 = 0.02;

/// TR110's speed-up against what it must be for agents that start at once: durations summed over the
/// longest, with two agents 1 + min/max.
pub(super) fn balance_identity(report: &Report) -> Option<Finding> {
    let mut found: Vec<(f64, String, crate::stats::Provenance)> = runs(report)
        .filter(|(test, run)| {
            run.agents.len() > 1 && test.max_concurrent as usize >= run.agents.len()
        })
        .filter_map(|(test, run)| {
            let off = (run.tr110_speedup? - run.balance_identity?).abs();
            Some((off, place(test, run), provenance(run)))
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (largest, ..) = found.first()?;
    let (count, close) = (
        found.len(),
        found.iter().filter(|(off, ..)| *off <= EQUAL).count(),
    );
    let meaning = if close == count {
        "it says how evenly long the agents are, and nothing of what running them together gains"
    } else {
        "where they are apart, the agents did not start together or the harness took time of its own"
    };
    let sentence = format!(
        "TR110's speed-up is 1 + min/max of the agents' durations (with N agents: their sum over the \
         longest) within {} in {close} of {count} runs, at most {} off: {meaning}.",
        text(EQUAL),
        text(*largest)
    );
    let what = "|speed-up - (sum of durations / longest)|";
    let evidence = found
        .into_iter()
        .take(3)
        .map(|(value, place, provenance)| Evidence {
            what: what.to_owned(),
            place: Some(place),
            value,
            provenance,
        });
    Some(Finding::new(
        "balance_identity",
        sentence,
        evidence.collect(),
    ))
}

/// Tests in which running together surely costs time and TR110's formula says that it saves it.
pub(super) fn hidden_loss(report: &Report) -> Option<Finding> {
    let tests: Vec<_> = report
        .tests
        .iter()
        .filter_map(|test| {
            let gain = &test.aggregate.concurrency_gain;
            let speedup = test.aggregate.tr110_speedup.value?;
            let [_, high] = gain.ci95?;
            (high < 1.0 && speedup > 1.5 && test.agents.len() > 1).then_some((test, gain, speedup))
        })
        .collect();
    let (worst, gain, speedup) = tests.iter().min_by(|a, b| {
        let value = |gain: &crate::stats::Summary| gain.value.unwrap_or(f64::INFINITY);
        value(a.1).total_cmp(&value(b.1))
    })?;
    let compared = report
        .tests
        .iter()
        .filter(|test| test.aggregate.concurrency_gain.value.is_some() && test.agents.len() > 1)
        .count();
    let sentence = format!(
        "In {} of {compared} tests running the agents together costs time (the gain's 95 % interval lies \
         below 1), and TR110's formula still gives more than 1.5: '{}' gains {} and is credited with {}.",
        tests.len(),
        worst.label,
        text(gain.value.unwrap_or(f64::NAN)),
        text(*speedup)
    );
    let evidence = tests.iter().flat_map(|(test, gain, speedup)| {
        let of = |what: &str, value: f64, provenance| Evidence {
            what: what.to_owned(),
            place: Some(format!("test {}", test.id)),
            value,
            provenance,
        };
        [
            gain.value
                .map(|value| of("concurrency gain", value, gain.provenance)),
            Some(of(
                "TR110's speed-up",
                *speedup,
                test.aggregate.tr110_speedup.provenance,
            )),
        ]
        .into_iter()
        .flatten()
    });
    let evidence = evidence.collect();
    Some(Finding::new("hidden_loss", sentence, evidence))
}
