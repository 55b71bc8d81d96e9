//! What a test has of a quantity.

use super::quantity::Quantity;
use crate::metric::Metric;
use crate::report::{RunReport, TestReport};
use crate::stats::{Provenance, Summary, mean, t_interval_95, welch_95, wilson_interval};

/// TR110's flag: a run is "contended" below this speed-up.
const TR110_CONTENDED: f64 = 1.5;
/// Below this gain running together costs time.
const NO_GAIN: f64 = 1.0;

/// A figure over the runs of a test.
pub(super) struct Found {
    /// It.
    pub(super) value: f64,
    /// Its 95 % interval.
    pub(super) interval: Option<[f64; 2]>,
    /// Runs behind it.
    pub(super) n: u32,
    /// How it came about.
    pub(super) provenance: Provenance,
}

/// The figure of a test, or why there is none.
///
/// # Errors
/// Why it was not measured.
pub(super) fn measure(
    quantity: Quantity,
    test: &TestReport,
    baseline: Option<&TestReport>,
) -> Result<Found, String> {
    match quantity {
        Quantity::Metric(metric) => {
            let summary = metric.of_test(&test.aggregate);
            let missing = || summary.reason.clone().unwrap_or_else(|| NO_RUN.to_owned());
            Ok(Found {
                value: summary.value.ok_or_else(missing)?,
                interval: summary.ci95,
                n: summary.n,
                provenance: summary.provenance,
            })
        }
        Quantity::ContentionRate => rate(test, Metric::ConcurrencyGain, NO_GAIN)
            .ok_or_else(|| "no valid run has a concurrency gain, which needs solo legs".to_owned()),
        Quantity::Tr110ContentionRate => {
            rate(test, Metric::Tr110Speedup, TR110_CONTENDED).ok_or_else(|| NO_RUN.to_owned())
        }
        Quantity::ValidRate => {
            let (hits, tries) = (test.runs_valid as usize, test.runs_attempted as usize);
            let interval = wilson_interval(hits, tries, 0.95);
            Ok(Found {
                // More valid runs than attempts would be a fault of the report: no interval, no rate.
                value: interval
                    .map(|_| hits as f64 / tries as f64)
                    .ok_or("no run was attempted")?,
                interval,
                n: test.runs_attempted,
                provenance: Provenance::Measured,
            })
        }
        Quantity::TtftDeltaMs => {
            let deltas: Vec<f64> = test.runs.iter().filter_map(ttft_delta_ms).collect();
            Ok(Found {
                value: mean(&deltas)
                    .ok_or("no valid run has times to first token both together and alone")?,
                interval: t_interval_95(&deltas),
                n: u32::try_from(deltas.len()).unwrap_or(u32::MAX),
                provenance: Provenance::Measured,
            })
        }
        Quantity::VramUsedRatio => vram_used_ratio(test),
        Quantity::QualityDelta => {
            let baseline = baseline.ok_or("there is no baseline, or it lacks the test")?;
            quality_delta(test, baseline)
        }
    }
}

const NO_RUN: &str = "no valid run has it";

/// The highest part of a GPU's memory that was in use in any valid run. A highest has no interval.
fn vram_used_ratio(test: &TestReport) -> Result<Found, String> {
    let valid = test.runs.iter().filter(|run| run.valid);
    let seen: Vec<f64> = valid
        .filter_map(|run| run.gpu_memory.as_ref()?.peak_ratio)
        .collect();
    let summary = &test.aggregate.gpu_memory_peak_ratio;
    let missing = || summary.reason.clone().unwrap_or_else(|| NO_RUN.to_owned());
    Ok(Found {
        value: seen.iter().copied().reduce(f64::max).ok_or_else(missing)?,
        interval: None,
        n: u32::try_from(seen.len()).unwrap_or(u32::MAX),
        provenance: summary.provenance,
    })
}

/// Part of the valid runs in which a metric lies below a limit.
fn rate(test: &TestReport, metric: Metric, below: f64) -> Option<Found> {
    let seen: Vec<f64> = test
        .runs
        .iter()
        .filter_map(|run| metric.of_run(run))
        .collect();
    let hits = seen.iter().filter(|value| **value < below).count();
    (!seen.is_empty()).then(|| Found {
        value: hits as f64 / seen.len() as f64,
        interval: wilson_interval(hits, seen.len(), 0.95),
        n: u32::try_from(seen.len()).unwrap_or(u32::MAX),
        provenance: metric.of_test(&test.aggregate).provenance,
    })
}

/// Client TTFT together minus alone in one run, each averaged over its requests.
fn ttft_delta_ms(run: &RunReport) -> Option<f64> {
    let together = Metric::TtftMs.of_run(run)?;
    let alone = run
        .agents
        .iter()
        .flat_map(|agent| &agent.solo_requests)
        .filter_map(|request| request.ttft_ms);
    Some(together - mean(&alone.collect::<Vec<_>>())?)
}

/// Mean quality of the reports that the agents wrote minus that of the baseline, in points of 100.
fn quality_delta(test: &TestReport, baseline: &TestReport) -> Result<Found, String> {
    let (ours, theirs) = (&test.aggregate.quality, &baseline.aggregate.quality);
    let value = |summary: &Summary, whose: &str| {
        summary.value.ok_or_else(|| {
            let why = summary.reason.as_deref().unwrap_or(NO_RUN);
            format!("{whose} reports have no quality ({why})")
        })
    };
    let difference = value(ours, "this result's")? - value(theirs, "the baseline's")?;
    let interval = welch_95(&qualities(test), &qualities(baseline));
    Ok(Found {
        value: 100.0 * difference,
        interval: interval.map(|(_, ends)| ends.map(|end| 100.0 * end)),
        n: ours.n,
        provenance: ours.provenance.max(theirs.provenance),
    })
}

/// Quality of each valid run: the mean of its agents', where all of them were judged.
fn qualities(test: &TestReport) -> Vec<f64> {
    let valid = test.runs.iter().filter(|run| run.valid);
    valid
        .filter_map(|run| {
            let all: Option<Vec<f64>> = run
                .agents
                .iter()
                .map(|agent| Some(agent.quality.value.as_ref()?.composite))
                .collect();
            mean(&all?)
        })
        .collect()
}
