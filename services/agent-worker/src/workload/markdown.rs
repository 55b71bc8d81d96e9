//! The `<agent>_report.md`: what an agent did, wrote and took, for a person.
//!
//! Times and rates come from [`chimera_domain::latency`]; a value that is not defined reads
//! `not measured`. The model's texts are quoted line by line, so that nothing in them can pass for
//! a heading or a table of ours.

use chimera_domain::event::{LocalStep, RequestRecord};
use chimera_domain::latency;
use chimera_domain::plan::PlannedAgent;
use chimera_domain::session::LegRef;
use chimera_domain::units::ns_to_ms;

use super::aggregate::Aggregates;
use super::data::{ColumnAggregate, ColumnValues};
use super::facts::{figure, shown};
use super::prompt::StepKind;

/// Most columns in the table of a report; the JSON aggregates have them all.
const MAX_TABLE_COLUMNS: usize = 64;

/// What a report is made from.
#[derive(Debug)]
pub struct AgentReport<'a> {
    /// Which attempt at which leg.
    pub leg: &'a LegRef,
    /// The agent.
    pub agent: &'a PlannedAgent,
    /// What it worked on.
    pub aggregates: &'a Aggregates,
    /// Its steps without the model, in order.
    pub local: &'a [LocalStep],
    /// Its steps with the model, in order.
    pub steps: &'a [StepReport],
}

/// One step with the model.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Which.
    pub step: StepKind,
    /// What the request took.
    pub request: RequestRecord,
    /// What the model wrote.
    pub text: String,
    /// What had to be left out of the prompt.
    pub note: Option<String>,
}

/// Writes the report.
///
/// *Shape*: sections Configuration, Data, one per step with the model, Metrics; ends with a line
/// break. *Non-goal*: gain or slowdown, which only the other legs of the run can tell.
#[must_use]
pub fn report_markdown(report: &AgentReport<'_>) -> String {
    let mut out = String::new();
    let agent = report.agent;
    line(
        &mut out,
        &format!("# Report of {} ({})\n", agent.id, agent.role),
    );
    line(
        &mut out,
        &format!(
            "Leg `{}`, attempt {}.\n",
            report.leg.run, report.leg.attempt
        ),
    );
    configuration(&mut out, report);
    data(&mut out, report.aggregates);
    for step in report.steps {
        text_section(&mut out, step);
    }
    metrics(&mut out, report);
    out
}

/// Appends a line.
fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn row<const N: usize>(out: &mut String, cells: [&str; N]) {
    line(out, &format!("| {} |", cells.join(" | ")));
}

fn heading<const N: usize>(out: &mut String, cells: [&str; N]) {
    row(out, cells);
    line(out, &format!("|{}", "---|".repeat(N)));
}

fn configuration(out: &mut String, report: &AgentReport<'_>) {
    let agent = report.agent;
    let options = &agent.options;
    line(out, "## Configuration\n");
    heading(out, ["setting", "value"]);
    row(out, ["model", &shown(&agent.model)]);
    row(out, ["engine", agent.engine.as_str()]);
    let unset = || "engine's default".to_owned();
    let layers = options.num_gpu.map_or_else(unset, |v| v.to_string());
    let threads = options.num_thread.map_or_else(unset, |v| v.to_string());
    let top_p = options.top_p.map_or_else(unset, |v| v.to_string());
    let top_k = options.top_k.map_or_else(unset, |v| v.to_string());
    let penalty = options.repeat_penalty.map_or_else(unset, |v| v.to_string());
    let keep_alive = options.keep_alive.as_deref().map_or_else(unset, shown);
    for (name, value) in [
        ("num_gpu", layers.as_str()),
        ("num_ctx", &options.num_ctx.to_string()),
        ("num_batch", &options.num_batch.to_string()),
        ("num_predict", &options.num_predict.to_string()),
        ("num_thread", &threads),
        ("temperature", &options.temperature.to_string()),
        ("top_p", &top_p),
        ("top_k", &top_k),
        ("repeat_penalty", &penalty),
        ("seed", &options.seed.to_string()),
        ("keep_alive", &keep_alive),
    ] {
        row(out, [name, value]);
    }
    out.push('\n');
}

fn data(out: &mut String, aggregates: &Aggregates) {
    line(out, "## Data\n");
    heading(out, ["file", "rows", "columns"]);
    for file in &aggregates.files {
        row(
            out,
            [
                &shown(&file.name),
                &file.rows.to_string(),
                &file.columns.len().to_string(),
            ],
        );
    }
    out.push('\n');
    heading(
        out,
        [
            "column", "files", "n", "missing", "mean", "sd", "min", "median", "max",
        ],
    );
    for column in aggregates.columns.iter().take(MAX_TABLE_COLUMNS) {
        column_row(out, column);
    }
    let beyond = aggregates.columns.len().saturating_sub(MAX_TABLE_COLUMNS);
    if beyond > 0 {
        line(
            out,
            &format!("\n{beyond} further columns are in the agent's aggregates JSON."),
        );
    }
    out.push('\n');
}

fn column_row(out: &mut String, column: &ColumnAggregate) {
    let name = shown(&column.name);
    let files = column.files.to_string();
    let missing = (column.empty + column.non_finite).to_string();
    let number = |value: Option<f64>| value.map_or_else(not_measured, |v| figure(Some(v)));
    match &column.values {
        ColumnValues::Numeric(n) => row(
            out,
            [
                &name,
                &files,
                &n.count.to_string(),
                &missing,
                &number(n.mean),
                &number(n.sd),
                &number(Some(n.min)),
                &number(n.median),
                &number(Some(n.max)),
            ],
        ),
        ColumnValues::Text(t) => {
            let kinds = t.distinct.map_or_else(
                || "text, kinds not measured".to_owned(),
                |distinct| format!("text, {distinct} kinds"),
            );
            let count = t.count.to_string();
            row(
                out,
                [&name, &files, &count, &missing, &kinds, "", "", "", ""],
            );
        }
        ColumnValues::Missing => {
            row(
                out,
                [&name, &files, "0", &missing, "no values", "", "", "", ""],
            );
        }
    }
}

fn text_section(out: &mut String, step: &StepReport) {
    let title = match step.step {
        StepKind::Analysis => "## Analysis\n",
        StepKind::Report => "## Report\n",
    };
    line(out, title);
    if let Some(note) = &step.note {
        line(out, &format!("Prompt: {note}.\n"));
    }
    if step.text.trim().is_empty() {
        line(out, "The model wrote nothing.\n");
        return;
    }
    for text in step.text.trim().lines() {
        line(out, format!("> {text}").trim_end());
    }
    out.push('\n');
}

fn metrics(out: &mut String, report: &AgentReport<'_>) {
    line(out, "## Metrics\n");
    line(
        out,
        "Client times are stamped on receipt: TTFT is request sent to first content, E2E to last \
         content, TPOT is (E2E - TTFT) / (output tokens - 1). Engine times are the engine's own \
         account and are never mixed with them.\n",
    );
    let names: Vec<&str> = report.steps.iter().map(|step| step.step.as_str()).collect();
    line(
        out,
        &format!("| measure | source | {} |", names.join(" | ")),
    );
    line(out, &format!("|---|---|{}", "---|".repeat(names.len())));
    for (measure, source, value) in MEASURES {
        let cells: Vec<String> = report
            .steps
            .iter()
            .map(|step| value(&step.request))
            .collect();
        line(
            out,
            &format!("| {measure} | {source} | {} |", cells.join(" | ")),
        );
    }
    out.push('\n');
    heading(out, ["local step", "time", "what"]);
    for step in report.local {
        row(
            out,
            [
                &shown(&step.step),
                &ms(step.end.since(step.start)),
                &step.detail.replace('|', "/"),
            ],
        );
    }
}

/// A line of the metrics table: its name, whose account it is, and its value.
type Measure = (&'static str, &'static str, fn(&RequestRecord) -> String);

/// The lines of the metrics table, in order.
const MEASURES: [Measure; 13] = [
    ("TTFT", "client", |r| ms(latency::ttft_ns(r))),
    ("E2E", "client", |r| ms(latency::e2e_ns(r))),
    ("TPOT", "client", |r| {
        latency::tpot_ns(r).map_or_else(not_measured, |ns| format!("{:.2} ms", ns / 1e6))
    }),
    ("decode rate", "client", |r| {
        rate(latency::decode_tokens_per_s(r))
    }),
    ("output tokens", "engine, else chunks", |r| {
        latency::output_tokens(r).map_or_else(not_measured, |(n, source)| match source {
            latency::TokenSource::Engine => n.to_string(),
            latency::TokenSource::Chunks => format!("{n} chunks"),
        })
    }),
    ("prompt tokens", "engine", |r| count(r.prompt_tokens)),
    ("cached prompt tokens", "engine", |r| count(r.cached_tokens)),
    ("load", "engine", |r| ms(r.engine_times.load_ns)),
    ("prompt evaluation", "engine", |r| {
        ms(r.engine_times.prompt_eval_ns)
    }),
    ("evaluation", "engine", |r| ms(r.engine_times.eval_ns)),
    ("total", "engine", |r| ms(r.engine_times.total_ns)),
    ("decode rate", "engine", |r| {
        rate(latency::engine_tokens_per_s(r))
    }),
    ("error", "client", |r| {
        r.error
            .as_ref()
            .map_or_else(|| "none".to_owned(), |error| error.kind.as_str().to_owned())
    }),
];

fn ms(ns: Option<u64>) -> String {
    ns.map_or_else(not_measured, |ns| format!("{:.2} ms", ns_to_ms(ns)))
}

fn rate(per_s: Option<f64>) -> String {
    per_s.map_or_else(not_measured, |rate| format!("{rate:.1} tokens/s"))
}

fn count(n: Option<u32>) -> String {
    n.map_or_else(not_measured, |n| n.to_string())
}

fn not_measured() -> String {
    "not measured".to_owned()
}
