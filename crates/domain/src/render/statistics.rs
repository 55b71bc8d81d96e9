//! The statistics of a test in the order in which every document lists them.

use crate::report::{Aggregate, Distributions, NO_SLO};
use crate::stats::{Distribution, Summary};

/// Every statistic over the valid runs with the name that people read.
fn statistics_of(a: &Aggregate) -> [(&'static str, &Summary); 39] {
    [
        ("Concurrency gain", &a.concurrency_gain),
        ("Raw gain", &a.raw_gain),
        ("Gain per unit of work", &a.work_gain),
        ("Parallel efficiency", &a.parallel_efficiency),
        ("Aggregate tokens/s", &a.aggregate_tokens_per_s),
        ("Solo tokens/s", &a.solo_tokens_per_s),
        ("Throughput ratio", &a.throughput_ratio),
        ("Wall s", &a.wall_s),
        ("Solo total s", &a.solo_total_s),
        ("Slowdown", &a.slowdown),
        ("Overlap fraction", &a.overlap_fraction),
        ("Idle tail s", &a.idle_tail_s),
        ("Fairness (Jain)", &a.fairness),
        ("Goodput requests/s", &a.goodput_rps),
        ("Good requests together", &a.good_ratio),
        ("Good requests alone", &a.good_solo_ratio),
        ("TR110 speedup (balance)", &a.tr110_speedup),
        ("TR110 efficiency (balance)", &a.tr110_efficiency),
        ("Quality of the reports", &a.quality),
        (
            "Quality-adjusted tokens/s",
            &a.quality_adjusted_tokens_per_s,
        ),
        ("GPU memory in use, highest part", &a.gpu_memory_peak_ratio),
        ("Start skew ms", &a.start_skew_ms),
        ("Harness overhead ms", &a.harness_overhead_ms),
        ("Queue wait s", &a.queue_wait_s),
        ("TTFT together ms", &a.ttft_ms),
        ("TTFT alone ms", &a.ttft_solo_ms),
        ("E2E together ms", &a.e2e_ms),
        ("E2E alone ms", &a.e2e_solo_ms),
        ("TPOT together ms", &a.tpot_ms),
        ("TPOT alone ms", &a.tpot_solo_ms),
        ("Decode together tokens/s", &a.decode_tokens_per_s),
        ("Decode alone tokens/s", &a.decode_solo_tokens_per_s),
        ("Engine: load ms", &a.engine_load_ms),
        ("Engine: prefill together ms", &a.engine_prompt_eval_ms),
        ("Engine: prefill alone ms", &a.engine_prompt_eval_solo_ms),
        ("Engine: decode together ms", &a.engine_eval_ms),
        ("Engine: decode alone ms", &a.engine_eval_solo_ms),
        ("Engine: decode together tokens/s", &a.engine_tokens_per_s),
        ("Engine: decode alone tokens/s", &a.engine_solo_tokens_per_s),
    ]
}

/// The columns of a table of distributions.
pub(super) const DISTRIBUTION: [&str; 8] = [
    "Client time, ms",
    "n",
    "min",
    "p50",
    "p90",
    "p95",
    "p99",
    "max",
];

/// The distributions that there are with the name that people read: how many values, and then the
/// figures of [`DISTRIBUTION`].
pub(super) fn distributions_of(d: &Distributions) -> Vec<(&'static str, u32, [f64; 6])> {
    let all = [
        ("TTFT together", &d.ttft_ms),
        ("TTFT alone", &d.ttft_solo_ms),
        ("E2E together", &d.e2e_ms),
        ("E2E alone", &d.e2e_solo_ms),
        ("TPOT together", &d.tpot_ms),
        ("TPOT alone", &d.tpot_solo_ms),
        ("Gap between chunks together", &d.itl_ms),
        ("Gap between chunks alone", &d.itl_solo_ms),
    ];
    let figures = |(name, found): (&'static str, &Option<Distribution>)| {
        let d = found.as_ref()?;
        Some((name, d.n, [d.min, d.p50, d.p90, d.p95, d.p99, d.max]))
    };
    all.into_iter().filter_map(figures).collect()
}

/// A statistic and the name that people read.
pub(super) type Named<'a> = (&'static str, &'a Summary);

/// The statistics that there are; and, a line for each reason, what is missing for it: a table of
/// dashes hides the figures among them.
pub(super) fn measured_and_missing(a: &Aggregate) -> (Vec<Named<'_>>, Vec<String>) {
    let (measured, missing): (Vec<_>, Vec<_>) = statistics_of(a)
        .into_iter()
        .filter(|(_, summary)| !not_asked(summary))
        .partition(|(_, summary)| summary.value.is_some());
    let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, summary) in missing {
        let reason = summary.reason.as_deref().unwrap_or("for no stated reason");
        match by_reason.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(name),
            None => by_reason.push((reason, vec![name])),
        }
    }
    let lines = by_reason
        .into_iter()
        .map(|(reason, names)| format!("{reason}: {}", names.join(", ")))
        .collect();
    (measured, lines)
}

/// Whether a figure is missing because nobody asked for it: that is no gap in what was measured.
fn not_asked(summary: &Summary) -> bool {
    summary.reason.as_deref() == Some(NO_SLO)
}
