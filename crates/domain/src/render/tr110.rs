//! The files that TR110 wrote per run, under its names and with its signs.
//!
//! Field names, shape and the signs of differences are TR110's (throughput: second minus first;
//! TTFT: first minus second), so that its tools can read them. Three contents are not: times to first
//! token are client-observed (TR110 took the server's prompt evaluation), token rates are
//! client-observed decode rates, and what was not measured is `null`. Ours stands beside it under
//! `chimera`, where a difference is this agent minus the first.

use serde_json::{Map, Value, json};

use super::RenderError;
use super::table::Table;
use crate::report::number::{opt, text};
use crate::report::{AgentConfig, AgentOutputs, AgentRun, RequestReport, RunReport, TestReport};
use crate::stats::quantile;
use crate::tr110::figures::{self, throughput, ttft_ms};

/// What a figure of an imported run is.
const AS_STATED: &str = "as the imported file states it";

/// `metrics.json` of one run.
///
/// # Errors
/// When a part has no JSON, which no report built from records has.
pub fn metrics_json(test: &TestReport, run: &RunReport) -> Result<Value, RenderError> {
    let mut root = Map::new();
    for (agent, config) in run.agents.iter().zip(&test.agents) {
        root.insert(agent.agent.to_string(), agent_object(agent, config)?);
    }
    root.insert("summary".to_owned(), Value::Object(summary(test, run)));
    for agent in &run.agents {
        root.insert(
            format!("{}_execution_time", agent.agent),
            json!(agent.duration_s),
        );
    }
    let imported = run.tr110.is_some();
    root.insert(
        "chimera".to_owned(),
        json!({
            "test": test.id,
            "scenario": test.scenario,
            "label": test.label,
            "definitions": {
                "concurrency_speedup": "sum of the agents' durations while together / wall: balance, \
                    not gain; see run.concurrency_gain",
                "sequential_estimated_time": "TR110's term: the sum of the durations while together; \
                    the measured solo time is run.solo_total_s",
                "ttft_ms": if imported { AS_STATED } else {
                    "client: request sent to first content token received"
                },
                "tokens_per_second": if imported { AS_STATED } else {
                    "client: (output tokens - 1) / (last token - first token)"
                },
                "throughput_delta": "second agent minus first",
                "ttft_delta_ms": "first agent minus second",
                "resource_contention_detected": "TR110's rule: concurrency_speedup < 1.5",
                "delta": "this agent minus the first agent",
            },
            "run": serde_json::to_value(run)?,
        }),
    );
    Ok(Value::Object(root))
}

fn values(agent: &AgentRun, of: fn(&RequestReport) -> Option<f64>) -> Vec<f64> {
    agent.requests.iter().filter_map(of).collect()
}

fn p95(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.95)
}

fn agent_object(agent: &AgentRun, config: &AgentConfig) -> Result<Value, RenderError> {
    // What an imported run states of its requests stays as stated: they are not there one by one.
    let stated = agent.tr110.as_ref();
    // What the requests took in all; unknown as soon as one is.
    let asking: Option<f64> = agent.requests.iter().map(|r| r.done_ms.or(r.e2e_ms)).sum();
    let requests = stated.map_or_else(
        || json!(agent.requests.len()),
        |stated| json!(stated.requests),
    );
    let ttft_p95 = stated.map_or_else(
        || p95(values(agent, |request| request.ttft_ms)),
        |stated| stated.ttft_p95_ms,
    );
    let rate_p95 = stated.map_or_else(
        || p95(values(agent, |request| request.decode_tokens_per_s)),
        |stated| stated.tokens_per_s_p95,
    );
    Ok(json!({
        "agent_type": config
            .stated_type
            .as_ref()
            .map_or_else(|| agent.role.to_string(), Clone::clone),
        "model": config.model,
        "configuration": serde_json::to_value(&config.options)?,
        "aggregate_metrics": {
            "total_requests": requests,
            "total_duration_ms": stated.map_or(asking, |stated| stated.requests_ms),
            "total_tokens_generated": agent.output_tokens,
            "average_ttft_ms": ttft_ms(agent),
            "average_tokens_per_second": throughput(agent),
            "p95_ttft_ms": ttft_p95,
            "p95_tokens_per_second": rate_p95,
            "average_gpu_utilization": null,
            "peak_gpu_memory_gb": null,
            "peak_gpu_temperature_c": null,
        },
        "execution_summary": execution_summary(agent),
    }))
}

/// `None`: an imported run does not say.
fn execution_summary(agent: &AgentRun) -> Option<String> {
    if let Some(failure) = &agent.failure {
        return Some(format!(
            "Execution not completed: {}: {}",
            failure.label, failure.detail
        ));
    }
    let completed = match &agent.tr110 {
        Some(stated) => stated.completed?,
        None => true,
    };
    let words = if completed {
        "Execution completed"
    } else {
        "Execution not completed"
    };
    Some(words.to_owned())
}

fn summary(test: &TestReport, run: &RunReport) -> Map<String, Value> {
    let mut summary = Map::new();
    let mut put = |name: &str, value: Value| {
        summary.insert(name.to_owned(), value);
    };
    put("run_number", json!(run.run));
    let together = run.legs.iter().find(|leg| leg.solo.is_none());
    for (agent, config) in run.agents.iter().zip(&test.agents) {
        let ready = together.and_then(|leg| leg.ready.iter().find(|r| r.agent == agent.agent));
        let told = ready.map(|ready| &ready.facts.url);
        let asked = config.instance.as_ref().filter(|_| agent.tr110.is_some());
        put(
            &format!("{}_ollama_url", agent.agent),
            json!(told.or(asked)),
        );
    }
    let theirs = figures::of_run(run);
    let [first_rate, second_rate] = theirs.throughput;
    let [first_ttft, second_ttft] = theirs.ttft_ms;
    put("baseline_throughput", json!(first_rate));
    put("chimera_throughput", json!(second_rate));
    // Of an imported run what its file states, and nothing where it states nothing.
    let stated = run.tr110.as_ref();
    put(
        "throughput_delta",
        json!(stated.map_or(theirs.throughput_delta, |stated| {
            stated.throughput_delta_tokens_per_s
        })),
    );
    put("baseline_ttft_ms", json!(first_ttft));
    put("chimera_ttft_ms", json!(second_ttft));
    put(
        "ttft_delta_ms",
        json!(stated.map_or(theirs.ttft_delta_ms, |stated| stated.ttft_delta_ms)),
    );
    let duration = |at: usize| run.agents.get(at).and_then(|agent| agent.duration_s);
    put("baseline_duration", json!(duration(0)));
    put("chimera_duration", json!(duration(1)));
    put("concurrent_wall_time", json!(run.wall_s));
    let sum: Option<f64> = run.agents.iter().map(|agent| agent.duration_s).sum();
    put(
        "sequential_estimated_time",
        json!(stated.map_or(sum, |stated| stated.sequential_estimated_s)),
    );
    put(
        "concurrency_speedup",
        json!(stated.map_or(run.tr110_speedup, |stated| stated.concurrency_speedup)),
    );
    put(
        "gpu_memory_peak",
        json!(stated.and_then(|stated| stated.gpu_memory_peak_gb)),
    );
    put("resource_contention_detected", json!(theirs.contention));
    // Ours, where TR110's readers will look first.
    put("solo_total_time", json!(run.solo_total_s));
    put("concurrency_gain", json!(run.concurrency_gain));
    put("concurrency_gain_provenance", json!(run.gain_provenance));
    put("parallel_efficiency", json!(run.parallel_efficiency));
    summary
}

/// `combined_report.md`: what the agents wrote, with the times of their steps.
#[must_use]
pub fn combined_report_markdown(
    test: &TestReport,
    run: &RunReport,
    texts: &[&AgentOutputs],
) -> String {
    let mut out = format!("# Combined report: {}, run {}\n\n", test.label, run.run);
    out.push_str(&result(run));
    out.push_str("## Steps\n\nTimes count from each agent's own start.\n\n");
    for agent in &run.agents {
        out.push_str(&format!("### {}\n\n{}", agent.agent, steps(agent)));
    }
    for agent in &run.agents {
        out.push_str(&format!("## What {} wrote\n\n", agent.agent));
        let own = texts.iter().find(|texts| texts.agent == agent.agent);
        out.push_str(&written(own.copied()));
    }
    out
}

/// `<agent>_report.md`: what the agent wrote, then the times of its steps.
#[must_use]
pub fn agent_report_markdown(agent: &AgentRun, texts: Option<&AgentOutputs>) -> String {
    let mut out = format!("# Report of {} ({})\n\n", agent.agent, agent.role);
    out.push_str(&written(texts));
    out.push_str("## Steps and times\n\n");
    out.push_str(&steps(agent));
    out
}

fn result(run: &RunReport) -> String {
    if let Some(reason) = run.invalid.first() {
        return format!("**Invalid run** ({}): {}\n\n", reason.reason, reason.detail);
    }
    format!(
        "Wall time {} s, the same agents one after the other {} s: concurrency gain {}. TR110's formula \
         (balance) gives {}.\n\n",
        opt(run.wall_s),
        opt(run.solo_total_s),
        opt(run.concurrency_gain),
        opt(run.tr110_speedup)
    )
}

/// The text named `report`; without one, every text in its order.
fn written(texts: Option<&AgentOutputs>) -> String {
    let outputs = texts
        .map(|texts| texts.outputs.as_slice())
        .unwrap_or_default();
    let report = outputs.iter().rev().find(|output| output.name == "report");
    if let Some(report) = report {
        return format!("{}\n\n", report.text.trim());
    }
    if outputs.is_empty() {
        return "Nothing: the agent's texts are not in the records.\n\n".to_owned();
    }
    outputs
        .iter()
        .map(|output| {
            if output.media_type == "application/json" {
                format!(
                    "### {}\n\n```json\n{}\n```\n\n",
                    output.name,
                    output.text.trim()
                )
            } else {
                format!("### {}\n\n{}\n\n", output.name, output.text.trim())
            }
        })
        .collect()
}

fn steps(agent: &AgentRun) -> String {
    let mut rows: Vec<(f64, [String; 7])> = Vec::new();
    for step in &agent.local_steps {
        let start = step.start_s.unwrap_or(f64::INFINITY);
        let dash = || "-".to_owned();
        let (at, time) = (opt(step.start_s), opt(step.duration_ms));
        let detail = step.detail.clone();
        rows.push((
            start,
            [step.step.clone(), at, time, dash(), dash(), dash(), detail],
        ));
    }
    for request in &agent.requests {
        let start = request.sent_s.unwrap_or(f64::INFINITY);
        let detail = request.error.as_ref().map_or_else(
            || {
                format!(
                    "asked the model: {} prompt tokens",
                    count(request.prompt_tokens)
                )
            },
            |error| format!("failed: {}: {}", error.kind.as_str(), error.detail),
        );
        rows.push((
            start,
            [
                request.step.clone(),
                opt(request.sent_s),
                opt(request.e2e_ms),
                opt(request.ttft_ms),
                opt(request.tpot_ms),
                count(request.output_tokens),
                detail,
            ],
        ));
    }
    rows.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut table = Table::new(&[
        "Step",
        "Start s",
        "Time ms",
        "TTFT ms",
        "TPOT ms",
        "Output tokens",
        "What",
    ]);
    for (_, row) in rows {
        table.row(row);
    }
    let slowdown = agent.slowdown.map_or_else(String::new, |slowdown| {
        format!(", slowdown {}", text(slowdown))
    });
    format!(
        "{}Duration together {} s, alone {} s{slowdown}.\n\n",
        table.finish("No step was recorded."),
        opt(agent.duration_s),
        opt(agent.solo_duration_s),
    )
}

fn count(tokens: Option<u32>) -> String {
    tokens.map_or_else(|| "-".to_owned(), |tokens| tokens.to_string())
}
