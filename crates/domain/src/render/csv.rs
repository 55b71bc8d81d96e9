//! `runs.csv`: one row per run and agent, valid or not.

use super::RenderError;
use super::why::causes_cell;
use crate::report::{AgentRun, Report, RunGpuMemory, RunReport, TestReport};

const HEADER: [&str; 46] = [
    "test",
    "phase",
    "scenario",
    "label",
    "run",
    "valid",
    "invalid_reason",
    "concurrency_gain",
    "gain_provenance",
    "raw_gain",
    "parallel_efficiency",
    "wall_s",
    "solo_total_s",
    "aggregate_tokens_per_s",
    "solo_tokens_per_s",
    "throughput_ratio",
    "overlap_fraction",
    "idle_tail_s",
    "fairness",
    "tr110_speedup",
    "tr110_efficiency",
    "start_skew_ms",
    "harness_overhead_ms",
    "agent",
    "role",
    "instance",
    "duration_s",
    "solo_duration_s",
    "slowdown",
    "queue_wait_s",
    "agent_output_tokens",
    "agent_tokens_per_s",
    "agent_solo_tokens_per_s",
    "agent_ttft_ms",
    "agent_requests",
    "agent_failed_requests",
    "goodput_rps",
    "good_ratio",
    "good_solo_ratio",
    "agent_good_requests",
    "gpu_memory_peak_bytes",
    "gpu_memory_mean_bytes",
    "gpu_memory_peak_ratio",
    "gpu_engines_peak_bytes",
    "gpu_engines_mean_bytes",
    "causes",
];

/// One row per run and agent. Empty cells are "not measured"; numbers are unrounded.
///
/// # Errors
/// When a row cannot be written, which memory never refuses.
pub fn runs_csv(report: &Report) -> Result<Vec<u8>, RenderError> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER)?;
    for test in &report.tests {
        for run in &test.runs {
            for agent in &run.agents {
                writer.write_record(row(test, run, agent))?;
            }
        }
    }
    writer
        .into_inner()
        .map_err(|error| RenderError::Csv(error.into_error().into()))
}

fn row(test: &TestReport, run: &RunReport, agent: &AgentRun) -> [String; 46] {
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let failed = agent
        .requests
        .iter()
        .filter(|request| request.error.is_some())
        .count();
    let memory = run.gpu_memory.as_ref();
    let bytes = |of: fn(&RunGpuMemory) -> Option<u64>| {
        memory
            .and_then(of)
            .map(|bytes| bytes.to_string())
            .unwrap_or_default()
    };
    let goodput = run.goodput.as_ref();
    // Without an [slo] no request is judged, and there is nothing to count.
    let good: Option<usize> = agent
        .requests
        .iter()
        .map(|request| request.good.map(usize::from))
        .sum();
    let good = good.filter(|_| !agent.requests.is_empty());
    [
        test.id.clone(),
        test.phase.to_string(),
        test.scenario.clone(),
        test.label.clone(),
        run.run.to_string(),
        run.valid.to_string(),
        run.invalid_reason.clone().unwrap_or_default(),
        number(run.concurrency_gain),
        run.gain_provenance.as_str().to_owned(),
        number(run.raw_gain),
        number(run.parallel_efficiency),
        number(run.wall_s),
        number(run.solo_total_s),
        number(run.aggregate_tokens_per_s),
        number(run.solo_tokens_per_s),
        number(run.throughput_ratio),
        number(run.overlap_fraction),
        number(run.idle_tail_s),
        number(run.fairness),
        number(run.tr110_speedup),
        number(run.tr110_efficiency),
        number(run.start_skew_ms),
        number(run.harness_overhead_ms),
        agent.agent.to_string(),
        agent.role.to_string(),
        agent
            .instance
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        number(agent.duration_s),
        number(agent.solo_duration_s),
        number(agent.slowdown),
        number(agent.queue_wait_s),
        agent
            .output_tokens
            .map(|tokens| tokens.to_string())
            .unwrap_or_default(),
        number(agent.tokens_per_s),
        number(agent.solo_tokens_per_s),
        number(agent.ttft_ms),
        agent.requests.len().to_string(),
        failed.to_string(),
        number(goodput.map(|found| found.goodput_rps)),
        number(goodput.map(|found| found.good_ratio)),
        number(goodput.and_then(|found| found.good_solo_ratio)),
        good.map(|count| count.to_string()).unwrap_or_default(),
        bytes(|memory| memory.peak_bytes),
        number(memory.and_then(|memory| memory.mean_bytes)),
        number(memory.and_then(|memory| memory.peak_ratio)),
        bytes(|memory| memory.engines_peak_bytes),
        number(memory.and_then(|memory| memory.engines_mean_bytes)),
        run.attribution
            .as_ref()
            .map(causes_cell)
            .unwrap_or_default(),
    ]
}
