//! `report.md`: the experiment for a person who has never seen one.

use super::goodput;
use super::scaling;
use super::summary::{body, title};
use super::table::{Table, escape};
use super::topology;
use super::why;
use super::{Derived, extra};
use crate::report::number::{opt, percent, text, with_interval};
use crate::report::{Engine, Environment, OutcomeState, Report};

const HOW_TO_READ: &str = "\
## How to read it

- **Concurrency gain**: the time the same agents need one after the other, each alone (measured in this
  session), divided by the time they need together. 1 is no gain. Below 1 running them together costs time.
  N agents that do not disturb each other gain up to N.
- **Efficiency**: gain divided by the number of agents.
- **TR110 balance**: the formula of Technical Report 110, the agents' durations *while they run together*
  divided by the wall time. It says how evenly long the agents are, not whether anything was gained: two
  equally long agents give 2.00 even where each is slowed to a crawl.
- **TTFT**: from sending a request to its first token, as the client saw it. **TPOT**: time per further token.
- **Slowdown**: an agent's time together divided by its time alone. **Overlap**: the part of the wall time with
  two or more agents active. **Idle tail**: the time at the end in which agents that could run have ended.
- **Why it was slow**: each part of an agent's time against what the same requests take alone. A cause is
  *supported* where its own evidence was read, *consistent* where only its effect was seen.
- Intervals are 95 % intervals of the mean over valid runs (Student's t). A run with anything wrong is shown
  and never averaged.
- Differences between agents are always *this agent minus the first agent*.

";

const PROVENANCE: &str = "\
## Where the numbers come from

- **measured**: computed from time stamps and token counts of this session alone.
- **derived**: passed through a model fitted to this session's own solo requests (used where an agent wrote more
  or less together than alone: the gain is then per unit of work).
- **imported**: stated by another tool's files, or computed from them by the formula of the figure.
- **estimated**: rests on a premise that could not be checked here.
- **not measured**: there is no number; the reason stands beside it. A dash is never a zero.

Times are the client's, stamped on receipt before parsing, except where a line says *Engine*.

";

/// The report for a person: the picture first, then how to read it, then everything.
#[must_use]
pub fn report_markdown(report: &Report) -> String {
    let derived = Derived::of(report);
    markdown(report, &derived)
}

/// The document, where its laws and tables are known already.
pub(super) fn markdown(report: &Report, derived: &Derived) -> String {
    let mut out = format!("# {}\n\n", escape(&report.name));
    if report.outcome.state != OutcomeState::Completed {
        let state = match report.outcome.state {
            OutcomeState::Running => "has not ended: this is a view of a part",
            OutcomeState::Cancelled => "was cancelled",
            OutcomeState::Failed => "failed",
            OutcomeState::Completed => "completed",
        };
        let detail = report
            .outcome
            .detail
            .as_ref()
            .map_or_else(String::new, |d| format!(" ({d})"));
        out.push_str(&format!("**This experiment {state}{detail}.**\n\n"));
    }
    for group in report.topology.iter().flat_map(|verdict| &verdict.groups) {
        out.push_str(&format!("{}\n\n", group.sentence));
    }
    if let Some(contrast) = &report.contrast {
        out.push_str(&format!("{}\n\n", contrast.sentence));
    }
    out.push_str(&picture(report));
    for test in &report.tests {
        out.push_str(&format!(
            "- **{}**: {}\n",
            escape(&test.label),
            test.verdict
        ));
        if let Some(line) = why::why_line(test) {
            out.push_str(&format!("  Why: {}\n", escape(&line)));
        }
    }
    if why::nothing_slow(report) {
        out.push_str(&format!("\n{}\n", why::NOTHING_SLOW));
    }
    out.push('\n');
    out.push_str(&extra::source(report));
    out.push_str(&extra::findings(report));
    out.push_str(HOW_TO_READ);
    out.push_str(&goodput::section(report));
    out.push_str(&topology::section(report.topology.as_ref()));
    out.push_str(&scaling::section(&derived.laws));
    for test in &report.tests {
        out.push_str(&format!("## {}\n\n", escape(&title(test))));
        out.push_str(&body(test));
    }
    out.push_str(&extra::tables(&derived.tables));
    out.push_str(PROVENANCE);
    out.push_str(&environment(&report.environment));
    if report.source.is_none() {
        out.push_str(&data(report));
    }
    out
}

fn picture(report: &Report) -> String {
    let mut table = Table::new(&[
        "Test",
        "Valid runs",
        "Concurrency gain (95 %)",
        "Efficiency",
        "TR110 balance",
        "TTFT alone ms",
        "TTFT together ms",
        "Tokens/s of one alone",
        "Tokens/s together",
        "Provenance",
    ]);
    for test in &report.tests {
        let a = &test.aggregate;
        let gain = a.concurrency_gain.value.map_or_else(
            || "-".to_owned(),
            |_| {
                format!(
                    "**{}**",
                    with_interval(a.concurrency_gain.value, a.concurrency_gain.ci95)
                )
            },
        );
        table.row([
            test.label.clone(),
            format!("{} of {}", test.runs_valid, test.runs_attempted),
            gain,
            a.parallel_efficiency
                .value
                .map_or_else(|| "-".to_owned(), percent),
            opt(a.tr110_speedup.value),
            opt(a.ttft_solo_ms.value),
            opt(a.ttft_ms.value),
            opt(a.solo_tokens_per_s.value),
            opt(a.aggregate_tokens_per_s.value),
            a.concurrency_gain.provenance.as_str().to_owned(),
        ]);
    }
    table.finish("No tests.")
}

fn environment(environment: &Environment) -> String {
    let mut table = Table::new(&["Environment", ""]);
    let mut line = |name: &str, value: Option<String>| {
        table.row([
            name.to_owned(),
            value.unwrap_or_else(|| "not known".to_owned()),
        ]);
    };
    line("Host", environment.host.clone());
    line("System", environment.os.clone());
    line("Processor", environment.cpu.clone());
    line("Cores", environment.cores.map(|cores| cores.to_string()));
    line("Memory, GiB", environment.memory_bytes.map(gib));
    line("Engine", environment.engine.as_ref().map(Engine::in_words));
    line("Model", environment.model.clone());
    line("Model digest", environment.model_digest.clone());
    let gpu = environment.gpu.as_ref().map(|gpus| {
        let names: Vec<&str> = gpus
            .iter()
            .map(|gpu| gpu.name.as_deref().unwrap_or("unnamed GPU"))
            .collect();
        names.join(", ")
    });
    let none = environment
        .gpu_absent
        .as_ref()
        .map(|why| format!("none seen ({why})"));
    line("GPU", gpu.or(none));
    line("Software", environment.software.clone());
    line("Git revision", environment.git_revision.clone());
    for instance in &environment.instances {
        let facts = &instance.facts;
        let known = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
        line(
            &format!("Instance {}", instance.instance),
            Some(format!(
                "{} on {}, context {}, slots {}",
                facts.url,
                instance.node,
                known(facts.context_length),
                known(facts.parallel_slots)
            )),
        );
    }
    format!(
        "## Where it was measured\n\n{}",
        table.finish("Nothing is known.")
    )
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn gib(bytes: u64) -> String {
    text(bytes as f64 / (1_u64 << 30) as f64)
}

fn data(report: &Report) -> String {
    let v = &report.validity;
    format!(
        "## The data behind it\n\n\
         - Legs: {} valid of {} executed, {} planned.\n\
         - Agent streams: {} with every record of {}; {} compared with their closing hash.\n\
         - Not counted: {} records of older attempts, {} of legs that were never planned, {} messages that \
         could not be decoded.\n\
         - Experiment `{}`, seed {}.\n",
        v.legs_valid,
        v.legs_attempted,
        v.legs_planned,
        v.streams_complete,
        v.streams,
        v.streams_hash_checked,
        v.stale_dropped,
        v.stray_dropped,
        v.dead_letters,
        report.experiment,
        report
            .seed
            .map_or_else(|| "not known".to_owned(), |seed| seed.to_string()),
    )
}
