//! Section 4.3 and appendix D: GPU memory, processors, bandwidth.

use super::group;
use super::{By, Cell, Draft, Form, Table};
use crate::report::{AgentOptions, Report, TestReport};
use crate::stats::{Provenance, Summary, mean};
use crate::tr110::figures::valid;

const GB: f64 = 1e9;
/// TR110 B.2: model base size, bytes.
const BASE_BYTES: f64 = 1.6e9;
/// TR110 B.2: hidden dimension x 2 (key and value) x bytes of fp16.
const KV_BYTES_PER_TOKEN: f64 = 2048.0 * 2.0 * 2.0;
/// TR110 B.2: overhead per layer asked for, bytes.
const LAYER_BYTES: f64 = 50e6;
const NO_VRAM: &str = "no engine stated its GPU memory";
const NO_TOTAL: &str = "which GPU it was, and how much memory it has, is not in the data";
const NOTHING: &str = "not measured: no engine stated GPU memory, and telemetry sampled none; not estimated either: TR110's formula needs \
    num_gpu and num_ctx of every agent";
const NO_OPTIONS: &str =
    "the formula needs num_gpu and num_ctx, and an agent states neither or one";

/// TR110's estimate of one agent's memory (B.2): 1.6 GB + `num_ctx` x 2048 x 2 x 2 bytes + `num_gpu` x
/// 50 MB.
fn estimate(options: &AgentOptions) -> Option<f64> {
    let context = f64::from(options.num_ctx?) * KV_BYTES_PER_TOKEN;
    Some(BASE_BYTES + context + f64::from(options.num_gpu?) * LAYER_BYTES)
}

/// The same over all agents of a test. *Undefined when* an agent states not both options.
pub(super) fn estimated_bytes(test: &TestReport) -> Option<f64> {
    test.agents
        .iter()
        .map(|agent| estimate(&agent.options))
        .sum()
}

/// GPU memory of the loaded models of all agents as their engines state it: mean over the valid runs.
pub(super) fn measured_bytes(test: &TestReport) -> Option<f64> {
    let of_runs: Vec<f64> = valid(test)
        .filter_map(|run| {
            let together = run.legs.iter().find(|leg| leg.solo.is_none())?;
            let bytes: Option<u64> = together
                .ready
                .iter()
                .map(|ready| ready.facts.size_vram_bytes)
                .sum();
            // An instance that holds nothing on a GPU has stated that.
            bytes
                .filter(|_| !together.ready.is_empty())
                .map(|bytes| bytes as f64)
        })
        .collect();
    mean(&of_runs)
}

/// The most GPU memory that the engines' processes held, by telemetry: mean over the valid runs.
pub(super) fn engines_bytes(test: &TestReport) -> Option<f64> {
    test.aggregate.gpu_engines_peak_bytes.value
}

/// The most GPU memory that was in use, by telemetry, whoever held it: mean over the valid runs.
pub(super) fn in_use_bytes(test: &TestReport) -> Option<f64> {
    test.aggregate.gpu_memory_peak_bytes.value
}

/// What of the GPUs' memory stayed free throughout, by telemetry: mean over the valid runs.
fn free_bytes(test: &TestReport) -> Option<f64> {
    let free: Vec<f64> = valid(test)
        .filter_map(|run| {
            let memory = run.gpu_memory.as_ref()?;
            let total: Option<u64> = memory.devices.iter().map(|gpu| gpu.total_bytes).sum();
            Some(total? as f64 - memory.peak_bytes? as f64)
        })
        .collect();
    mean(&free)
}

/// A figure of telemetry, or why it has none.
fn sampled(bytes: Option<f64>, summary: &Summary) -> Cell {
    let why = summary.reason.as_deref().unwrap_or(NO_TOTAL);
    gigabytes(bytes, Provenance::Measured, why)
}

fn total_bytes(report: &Report) -> Option<f64> {
    let gpus = report.environment.gpu.as_ref()?;
    let totals: Option<u64> = gpus.iter().map(|gpu| gpu.memory_total_bytes).sum();
    totals.filter(|total| *total > 0).map(|total| total as f64)
}

fn gigabytes(bytes: Option<f64>, provenance: Provenance, otherwise: &str) -> Cell {
    Cell::number(
        bytes.map(|bytes| bytes / GB),
        Form::Fixed(2),
        provenance,
        otherwise,
    )
}

/// Tests of distinct memory demands, one each: same options of all agents, same estimate.
fn distinct(report: &Report) -> Vec<&TestReport> {
    let demand = |test: &TestReport| (group::layers(test), group::context(test));
    let mut found: Vec<&TestReport> = Vec::new();
    for test in &report.tests {
        if found.iter().all(|known| demand(known) != demand(test)) {
            found.push(test);
        }
    }
    found
}

/// The same, if of any of them anything is known.
fn known(report: &Report) -> Vec<&TestReport> {
    let tests = distinct(report);
    let ways = [estimated_bytes, measured_bytes, engines_bytes, in_use_bytes];
    let told = |test: &&TestReport| ways.iter().any(|bytes| bytes(test).is_some());
    if tests.iter().any(told) {
        tests
    } else {
        Vec::new()
    }
}

/// Section 4.3.
pub(super) fn vram(report: &Report) -> Table {
    let mut draft = Draft::new(
        "4.3",
        "GPU memory by configuration",
        "TR110 never measured GPU memory: its figures are estimates, and those that it prints (3.2 to \
         4.2 GB an agent) do not follow from its own formula, which is what is computed here; ours is what \
         the engines say that their loaded models hold, and what telemetry saw at its highest while the \
         agents ran: in the engines' processes, and in use on the GPUs whoever held it.",
    )
    .columns(By::Row, &["num_gpu", "num_ctx"])
    .columns(
        By::Tr110,
        &[
            "Per agent GB (estimated)",
            "All agents GB (estimated)",
            "Headroom GB (estimated)",
        ],
    )
    .columns(
        By::Ours,
        &[
            "All agents GB",
            "Headroom GB",
            "Engines' processes GB (highest)",
            "In use GB (highest)",
            "Free GB (least)",
        ],
    );
    let total = total_bytes(report);
    for test in known(report) {
        let estimated = estimated_bytes(test);
        let measured = measured_bytes(test);
        let agents = test.agents.len() as f64;
        let left = |used: Option<f64>| total.zip(used).map(|(total, used)| total - used);
        let why = if measured.is_none() {
            NO_VRAM
        } else {
            NO_TOTAL
        };
        draft.row([
            Cell::text(group::layers(test)),
            Cell::text(group::context(test)),
            gigabytes(
                estimated.map(|b| b / agents),
                Provenance::Estimated,
                NO_OPTIONS,
            ),
            gigabytes(estimated, Provenance::Estimated, NO_OPTIONS),
            gigabytes(left(estimated), Provenance::Estimated, NO_TOTAL),
            gigabytes(measured, Provenance::Measured, NO_VRAM),
            gigabytes(left(measured), Provenance::Measured, why),
            sampled(engines_bytes(test), &test.aggregate.gpu_engines_peak_bytes),
            sampled(in_use_bytes(test), &test.aggregate.gpu_memory_peak_bytes),
            sampled(free_bytes(test), &test.aggregate.gpu_memory_peak_ratio),
        ]);
    }
    draft.finish(NOTHING)
}

/// Appendix D.1.
pub(super) fn usage(report: &Report) -> Table {
    let mut draft = Draft::new(
        "D.1",
        "GPU memory by part",
        "TR110's parts are estimates by its formula (B.2); its printed KV caches of 1 to 4 GB are hundreds \
         of times what that formula gives. How an engine divides its memory is measured by nobody here; the \
         sum is.",
    )
    .columns(By::Row, &["num_gpu", "num_ctx"])
    .columns(
        By::Tr110,
        &[
            "Model base GB (estimated)",
            "KV cache of all agents GB (estimated)",
            "Layer overhead of all agents GB (estimated)",
        ],
    )
    .columns(By::Ours, &["All agents GB"]);
    for test in known(report) {
        let sum = |of: fn(&AgentOptions) -> Option<f64>| -> Option<f64> {
            test.agents.iter().map(|agent| of(&agent.options)).sum()
        };
        let known = estimated_bytes(test).is_some();
        let estimated = |bytes: Option<f64>| {
            gigabytes(bytes.filter(|_| known), Provenance::Estimated, NO_OPTIONS)
        };
        draft.row([
            Cell::text(group::layers(test)),
            Cell::text(group::context(test)),
            estimated(Some(BASE_BYTES * test.agents.len() as f64)),
            estimated(sum(|o| Some(f64::from(o.num_ctx?) * KV_BYTES_PER_TOKEN))),
            estimated(sum(|o| Some(f64::from(o.num_gpu?) * LAYER_BYTES))),
            gigabytes(measured_bytes(test), Provenance::Measured, NO_VRAM),
        ]);
    }
    draft.finish(NOTHING)
}

/// Appendix D.2.
pub(super) fn processor(report: &Report) -> Table {
    let mut draft = Draft::new(
        "D.2",
        "Processor use",
        "TR110 prints ranges of CPU use by phase without data behind them; ours is the mean number of busy \
         cores while the agents ran together, from telemetry.",
    )
    .columns(By::Row, &["Test"])
    .columns(By::Ours, &["Cores busy, all processes (95 %)", "Cores busy, engines (95 %)"]);
    for test in &report.tests {
        let over = |of: fn(&crate::report::RunHost) -> Option<f64>| {
            let hosts = valid(test).filter_map(|run| run.host.as_ref());
            let values: Vec<f64> = hosts.filter_map(of).collect();
            Summary::of(
                &values,
                Provenance::Measured,
                "telemetry does not cover the runs",
            )
        };
        let all = over(|host| host.cores_used);
        let engines = over(|host| {
            let cores: Option<f64> = host.engines.iter().map(|engine| engine.cores_used).sum();
            cores.filter(|_| !host.engines.is_empty())
        });
        if all.n > 0 || engines.n > 0 {
            draft.row([
                Cell::text(group::name(report, test)),
                Cell::interval(&all),
                Cell::interval(&engines),
            ]);
        }
    }
    draft.finish("not measured: no telemetry of the host covers a run")
}

/// Appendix D.3.
pub(super) fn bandwidth(_report: &Report) -> Table {
    Draft::new(
        "D.3",
        "Memory bandwidth",
        "TR110 prints effective bandwidths that nothing in its data measures.",
    )
    .columns(By::Row, &["Test"])
    .columns(By::Ours, &["GB/s"])
    .finish("not measured: no sampler reads the GPU's memory bandwidth, in TR110 or here")
}
