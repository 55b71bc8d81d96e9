//! One test: `summary.json`, `summary.md`, and the tables that `report.md` shares.

use serde_json::{Value, json};

use super::RenderError;
use super::memory;
use super::statistics::{DISTRIBUTION, distributions_of, measured_and_missing};
use super::table::Table;
use super::why;
use crate::quality::Quality;
use crate::report::number::{opt, percent, text, with_interval};
use crate::report::{RunReport, TestReport};
use crate::stats::{self, Summary};

/// `summary.json`: the test without its runs' details, one line per run, everything aggregated.
///
/// # Errors
/// When a part has no JSON, which no report built from records has.
pub fn summary_json(test: &TestReport) -> Result<Value, RenderError> {
    let runs: Vec<Value> = test
        .runs
        .iter()
        .map(|run| {
            json!({
                "run": run.run,
                "valid": run.valid,
                "invalid_reason": run.invalid_reason,
                "wall_s": run.wall_s,
                "solo_total_s": run.solo_total_s,
                "concurrency_gain": run.concurrency_gain,
                "gain_provenance": run.gain_provenance,
                "parallel_efficiency": run.parallel_efficiency,
                "tr110_speedup": run.tr110_speedup,
                "start_skew_ms": run.start_skew_ms,
                "goodput": run.goodput,
                "slow": run.attribution.as_ref().and_then(|found| found.slow),
                "causes": run.attribution.as_ref().map(why::causes_cell),
            })
        })
        .collect();
    Ok(json!({
        "id": test.id,
        "phase": test.phase,
        "scenario": test.scenario,
        "label": test.label,
        "agents": serde_json::to_value(&test.agents)?,
        "max_concurrent": test.max_concurrent,
        "topology": test.topology,
        "runs_planned": test.runs_planned,
        "runs_attempted": test.runs_attempted,
        "runs_valid": test.runs_valid,
        "verdict": test.verdict,
        "slow": test.slow,
        "causes": serde_json::to_value(&test.causes)?,
        "times": serde_json::to_value(&test.times)?,
        "runs": runs,
        "aggregate": serde_json::to_value(&test.aggregate)?,
        "distributions": serde_json::to_value(&test.distributions)?,
    }))
}

/// `summary.md`: the test by itself.
#[must_use]
pub fn summary_markdown(test: &TestReport) -> String {
    format!("# {}\n\n{}", title(test), body(test))
}

pub(super) fn title(test: &TestReport) -> String {
    format!(
        "Test {} (phase {}, {}): {}",
        test.id, test.phase, test.scenario, test.label
    )
}

/// Everything about one test, from its verdict to its last table.
pub(super) fn body(test: &TestReport) -> String {
    let mut out = format!("{}\n\n", test.verdict);
    out.push_str(&format!(
        "{} valid of {} attempted, {} planned.\n\n",
        test.runs_valid, test.runs_attempted, test.runs_planned
    ));
    out.push_str(&why::section(test));
    out.push_str(&agents(test));
    out.push_str("**Runs**\n\n");
    out.push_str(&runs(&test.runs));
    out.push_str(&invalid_runs(&test.runs));
    out.push_str("**Agents over the valid runs** (mean, 95 % interval)\n\n");
    out.push_str(&agent_means(test));
    out.push_str("**What the agents wrote** (valid runs)\n\n");
    out.push_str(&written(test));
    out.push_str("**GPU memory while the agents ran** (valid runs, from telemetry)\n\n");
    out.push_str(&gpu_memory(test));
    out.push_str("**All statistics over the valid runs**\n\n");
    out.push_str(&statistics(test));
    out.push_str("**All requests of the valid runs**\n\n");
    out.push_str(&distributions(test));
    out
}

fn agents(test: &TestReport) -> String {
    let mut table = Table::new(&[
        "Agent",
        "Role",
        "Engine",
        "Model",
        "num_ctx",
        "num_predict",
        "num_thread",
        "num_gpu",
        "Temperature",
        "Seed",
    ]);
    let asked = |value: Option<u32>| value.map_or_else(|| "engine's".to_owned(), |v| v.to_string());
    let sampled = |value: Option<String>| value.unwrap_or_else(|| "engine's".to_owned());
    for agent in &test.agents {
        let options = &agent.options;
        table.row([
            agent.agent.to_string(),
            agent.role.to_string(),
            agent.engine.as_str().to_owned(),
            agent.model.clone().unwrap_or_else(|| "-".to_owned()),
            asked(options.num_ctx),
            asked(options.num_predict),
            asked(options.num_thread),
            asked(options.num_gpu),
            sampled(
                options
                    .temperature
                    .map(|temperature| temperature.to_string()),
            ),
            sampled(options.seed.map(|seed| seed.to_string())),
        ]);
    }
    table.finish("No agents.")
}

fn runs(runs: &[RunReport]) -> String {
    let mut table = Table::new(&[
        "Run",
        "Gain",
        "Efficiency",
        "Wall s",
        "Alone, summed s",
        "Tokens/s together",
        "Slowdown per agent",
        "Overlap",
        "Idle tail s",
        "TR110 balance",
        "Skew ms",
        "Overhead ms",
        "Provenance",
    ]);
    for run in runs.iter().filter(|run| run.valid) {
        let slowdowns: Vec<String> = run.agents.iter().map(|agent| opt(agent.slowdown)).collect();
        table.row([
            run.run.to_string(),
            opt(run.concurrency_gain),
            run.parallel_efficiency
                .map_or_else(|| "-".to_owned(), percent),
            opt(run.wall_s),
            opt(run.solo_total_s),
            opt(run.aggregate_tokens_per_s),
            slowdowns.join(" / "),
            run.overlap_fraction.map_or_else(|| "-".to_owned(), percent),
            opt(run.idle_tail_s),
            opt(run.tr110_speedup),
            opt(run.start_skew_ms),
            opt(run.harness_overhead_ms),
            run.gain_provenance.as_str().to_owned(),
        ]);
    }
    table.finish("No valid run.")
}

fn invalid_runs(runs: &[RunReport]) -> String {
    let mut table = Table::new(&["Invalid run", "Reason", "What was found"]);
    for run in runs {
        for reason in &run.invalid {
            table.row([
                run.run.to_string(),
                reason.reason.clone(),
                reason.detail.clone(),
            ]);
        }
    }
    for run in runs {
        for leg in &run.legs {
            for earlier in &leg.earlier {
                let (reason, detail) = earlier.invalid.as_ref().map_or_else(
                    || ("not closed".to_owned(), String::new()),
                    |why| (why.reason.clone(), why.detail.clone()),
                );
                table.row([
                    format!("{} (try {} of {})", run.run, earlier.attempt, leg.leg),
                    reason,
                    detail,
                ]);
            }
        }
    }
    table.finish("No invalid run.")
}

fn mean(summary: &Summary) -> String {
    with_interval(summary.value, summary.ci95)
}

fn agent_means(test: &TestReport) -> String {
    let mut table = Table::new(&[
        "Agent",
        "Slowdown",
        "Together s",
        "Alone s",
        "TTFT together ms",
        "TTFT alone ms",
        "TPOT together ms",
        "TPOT alone ms",
        "Tokens/s together",
        "Tokens/s alone",
    ]);
    for agent in test
        .aggregate
        .agents
        .iter()
        .filter(|agent| agent.duration_s.n > 0)
    {
        table.row([
            agent.agent.to_string(),
            mean(&agent.slowdown),
            mean(&agent.duration_s),
            mean(&agent.solo_duration_s),
            mean(&agent.ttft_ms),
            mean(&agent.ttft_solo_ms),
            mean(&agent.tpot_ms),
            mean(&agent.tpot_solo_ms),
            mean(&agent.tokens_per_s),
            mean(&agent.solo_tokens_per_s),
        ]);
    }
    table.finish("No valid run.")
}

/// The reports of the valid runs, judged; in a sentence where there is none.
fn written(test: &TestReport) -> String {
    let mut table = Table::new(&[
        "Agent",
        "Quality, 0 to 1",
        "Words",
        "Figures in the data of those stated",
        "Citations",
        "Technical words per 100",
        "Cut at the token budget",
        "Quality-adjusted tokens/s",
    ]);
    for aggregate in &test.aggregate.agents {
        let own = || {
            let runs = test.runs.iter().filter(|run| run.valid);
            runs.flat_map(|run| &run.agents)
                .filter(|agent| agent.agent == aggregate.agent)
        };
        let texts: Vec<&Quality> = own().filter_map(|a| a.quality.value.as_ref()).collect();
        if texts.is_empty() {
            continue;
        }
        let mean_of = |of: fn(&Quality) -> Option<f64>| {
            opt(stats::mean(
                &texts.iter().filter_map(|text| of(text)).collect::<Vec<_>>(),
            ))
        };
        let adjusted: Vec<f64> = own()
            .filter_map(|agent| agent.quality.adjusted_tokens_per_s)
            .collect();
        let sum =
            |of: fn(&Quality) -> Option<u32>| -> Option<u32> { texts.iter().map(|t| of(t)).sum() };
        let stated = sum(|text| Some(text.numbers_stated)).unwrap_or(0);
        let cut = texts
            .iter()
            .filter(|text| text.cut_at_budget == Some(true))
            .count();
        table.row([
            aggregate.agent.to_string(),
            mean(&aggregate.quality),
            mean_of(|text| Some(f64::from(text.words))),
            sum(|text| text.numbers_in_data).map_or_else(
                || format!("- of {stated}"),
                |found| format!("{found} of {stated}"),
            ),
            mean_of(|text| Some(f64::from(text.citations))),
            mean_of(|text| text.technical_per_100_words),
            format!("{cut} of {}", texts.len()),
            opt(stats::mean(&adjusted)),
        ]);
    }
    let why = test.aggregate.quality.reason.as_deref();
    table.finish(&format!(
        "Not judged: {}.",
        why.unwrap_or("no reason is recorded")
    ))
}

/// What telemetry saw of the GPUs' memory, GPU by GPU; in a sentence where it saw nothing.
fn gpu_memory(test: &TestReport) -> String {
    let mut table = Table::new(&[
        "GPU",
        "Host",
        "Installed GiB",
        "In use, highest GiB",
        "In use, mean GiB",
        "Highest part",
        "Engines, highest GiB",
        "Engines, mean GiB",
        "Runs",
    ]);
    let seen = memory::devices(test);
    for device in seen.iter().filter(|device| device.runs > 0) {
        table.row([
            device.uuid.to_string(),
            device.node.to_string(),
            opt(device.total_gib),
            opt(device.peak_gib),
            opt(device.mean_gib),
            device.peak_ratio.map_or_else(|| "-".to_owned(), percent),
            opt(device.engines_peak_gib),
            opt(device.engines_mean_gib),
            format!("{} of {}", device.runs, test.runs_valid),
        ]);
    }
    let aggregate = &test.aggregate;
    let why = aggregate.gpu_memory_peak_bytes.reason.as_deref();
    let mut out = table.finish(&format!(
        "Not measured: {}.",
        why.unwrap_or("no reason is recorded")
    ));
    let engines = aggregate.gpu_engines_peak_bytes.reason.as_deref();
    if let Some(why) = engines.filter(|_| seen.iter().any(|device| device.runs > 0)) {
        out.push_str(&format!("Of the engines not measured: {why}.\n\n"));
    }
    out
}

fn statistics(test: &TestReport) -> String {
    let mut table = Table::new(&[
        "Statistic",
        "Mean",
        "sd",
        "n",
        "CV",
        "95 % interval",
        "Provenance",
    ]);
    let (measured, missing) = measured_and_missing(&test.aggregate);
    for (name, summary) in measured {
        let interval = summary.ci95.map_or_else(
            || "-".to_owned(),
            |[low, high]| format!("{} to {}", opt(Some(low)), opt(Some(high))),
        );
        let reason = summary
            .reason
            .as_ref()
            .map_or_else(String::new, |why| format!(": {why}"));
        table.row([
            name.to_owned(),
            opt(summary.value),
            opt(summary.sd),
            summary.n.to_string(),
            summary
                .cv
                .map_or_else(|| "-".to_owned(), |cv| format!("{} %", text(cv * 100.0))),
            interval,
            format!("{}{reason}", summary.provenance.as_str()),
        ]);
    }
    let mut out = table.finish("Nothing was measured.");
    for line in missing {
        out.push_str(&format!("Not measured, {line}.\n\n"));
    }
    out
}

fn distributions(test: &TestReport) -> String {
    let mut table = Table::new(&DISTRIBUTION);
    for (name, n, figures) in distributions_of(&test.distributions) {
        let cells = figures.map(|value| opt(Some(value)));
        table.row([name.to_owned(), n.to_string()].into_iter().chain(cells));
    }
    table.finish("No request of a valid run.")
}
