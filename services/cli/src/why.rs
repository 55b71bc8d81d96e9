//! Why a run was slow, on a terminal: everything that attribution found, and TR110's rule beside it.

use chimera_domain::attribution::{Attribution, CauseFinding, Grade, Part};
use chimera_domain::render::{NOTHING_SLOW, evidence_text, nothing_slow, tr110_line, why_line};
use chimera_domain::report::number::{opt, text};
use chimera_domain::report::{Report, RunReport, TestReport};
use chimera_runtime::exit::UsageError;
use serde::Serialize;

use crate::args::{ReportArgs, Rule};
use crate::table::{plain, wrap};

/// Tests whose causes are told below the table.
const MAX_TESTS: usize = 12;
/// Requests of a run that are listed.
const MAX_REQUESTS: usize = 40;

/// What is said of causes below the table of results: a line per test that has one, or once that there
/// is nothing. With a rule, what that says of each test.
pub(crate) fn lines(report: &Report, rule: Option<Rule>) -> Vec<String> {
    let several = report.tests.len() > 1;
    let named = |test: &TestReport, line: &str| {
        if several {
            format!("{}: {line}", test.label)
        } else {
            line.to_owned()
        }
    };
    let why = report
        .tests
        .iter()
        .filter_map(|test| Some(named(test, &format!("why: {}", why_line(test)?))));
    let mut lines: Vec<String> = why.collect();
    let more = lines.len().saturating_sub(MAX_TESTS);
    if more > 0 {
        lines.truncate(MAX_TESTS);
        lines.push(format!("Why {more} more tests were slow: see report.md."));
    }
    if nothing_slow(report) {
        lines.push(NOTHING_SLOW.to_owned());
    }
    if let Some(Rule::Tr110) = rule {
        let judged = report.tests.iter();
        lines.extend(judged.filter_map(|test| Some(named(test, &tr110_line(test)?))));
    }
    lines
}

/// A run that is explained.
#[derive(Debug, Serialize)]
struct Explained<'a> {
    test: &'a str,
    label: &'a str,
    run: u32,
    valid: bool,
    attribution: &'a Attribution,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
}

/// The runs that are asked for. Without a number: of each test the one in which its first cause is
/// strongest, else its first.
///
/// # Errors
/// When there is no such test or run, or nothing was attributed.
fn chosen<'a>(report: &'a Report, args: &ReportArgs) -> anyhow::Result<Vec<Explained<'a>>> {
    let wanted = |test: &&TestReport| {
        args.test
            .as_ref()
            .is_none_or(|name| test.id == *name || test.label == *name)
    };
    let tests: Vec<&TestReport> = report.tests.iter().filter(wanted).collect();
    if let (Some(name), true) = (&args.test, tests.is_empty()) {
        let known: Vec<&str> = report.tests.iter().map(|test| test.id.as_str()).collect();
        return Err(UsageError(format!(
            "no test has the id or the label '{name}'; there are {}",
            known.join(", ")
        ))
        .into());
    }
    let rule = |test: &TestReport| args.rule.and_then(|Rule::Tr110| tr110_line(test));
    let found: Vec<Explained<'a>> = tests
        .into_iter()
        .filter_map(|test| {
            let run = run_of(test, args.run)?;
            Some(Explained {
                test: &test.id,
                label: &test.label,
                run: run.run,
                valid: run.valid,
                attribution: run.attribution.as_ref()?,
                rule: rule(test),
            })
        })
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let why = match args.run {
        Some(run) => format!("run {run} was not executed, or left no records"),
        None => {
            "no run left records of its own: imported results state no causes, and a report that \
             an older chimera wrote gets them by `chimera replay`"
                .to_owned()
        }
    };
    Err(UsageError(format!("there is nothing to explain: {why}")).into())
}

fn run_of(test: &TestReport, number: Option<u32>) -> Option<&RunReport> {
    let explained = |run: &&RunReport| run.attribution.is_some();
    let first = test.causes.iter().find(|cause| cause.is_named());
    let number = number.or(first.map(|cause| cause.run));
    let mut runs = test.runs.iter().filter(explained);
    match number {
        Some(number) => runs.find(|run| run.run == number),
        None => runs.next(),
    }
}

/// `chimera report --why`.
///
/// # Errors
/// When there is no such test or run, or nothing was attributed.
pub(crate) fn explain(
    report: &Report,
    args: &ReportArgs,
    json: bool,
    width: u16,
) -> anyhow::Result<Vec<u8>> {
    let runs = chosen(report, args)?;
    if json {
        let mut text = serde_json::to_vec_pretty(&runs)?;
        text.push(b'\n');
        return Ok(text);
    }
    let texts: String = runs.iter().map(|run| of_run(run, width)).collect();
    Ok(texts.into_bytes())
}

fn of_run(run: &Explained<'_>, width: u16) -> String {
    let found = run.attribution;
    let slow = match found.slow {
        Some(true) => "slow beyond chance",
        Some(false) => "nothing is slow beyond chance",
        None => "whether anything is slow cannot be told: too few solo legs to compare with",
    };
    let valid = if run.valid { "" } else { ", invalid" };
    let mut lines = vec![
        String::new(),
        wrap(
            &format!(
                "Test {} ({}), run {}{valid}: {slow}.",
                run.test, run.label, run.run
            ),
            width,
        ),
    ];
    lines.extend(run.rule.as_ref().map(|line| wrap(line, width)));
    for finding in found.named() {
        lines.push(String::new());
        lines.push(of_cause(finding, width));
    }
    let untested = found.causes.iter();
    let untested: Vec<&CauseFinding> = untested
        .filter(|finding| finding.grade == Grade::NotTested)
        .collect();
    if !untested.is_empty() {
        lines.push(String::new());
        lines.push("Could not be tested:".to_owned());
        for finding in untested {
            let settle = finding.settle.as_deref().unwrap_or(&finding.sentence);
            lines.push(wrap(&format!("  {}: {settle}", finding.cause), width));
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text.push_str(&excess(found));
    text.push_str(&wall(found));
    text.push_str(&requests(found));
    text
}

fn of_cause(finding: &CauseFinding, width: u16) -> String {
    let cost = finding
        .cost_ms
        .map_or_else(String::new, |cost| format!(", {} ms", text(cost)));
    let mut lines = vec![
        format!("{} ({}{cost})", finding.cause, finding.grade.as_str()),
        wrap(&format!("  {}", finding.sentence), width),
    ];
    for evidence in &finding.evidence {
        lines.push(wrap(&format!("  - {}", evidence_text(evidence)), width));
    }
    if let Some(settle) = &finding.settle {
        lines.push(wrap(&format!("  -> {settle}"), width));
    }
    lines.join("\n")
}

/// What was compared: beyond chance first.
fn excess(found: &Attribution) -> String {
    if found.excess.is_empty() {
        return String::new();
    }
    let rows = found.excess.iter().map(|excess| {
        vec![
            excess.agent.to_string(),
            excess.part.to_string(),
            text(excess.together_ms),
            text(excess.usual_ms),
            opt(excess.usual_sd_ms),
            excess.usual_n.to_string(),
            text(excess.excess_ms),
            opt(excess.p),
            if excess.beyond_chance { "yes" } else { "" }.to_owned(),
        ]
    });
    let head = [
        "AGENT",
        "PART",
        "TOGETHER ms",
        "ALONE ms",
        "SD",
        "LEGS",
        "MORE ms",
        "P",
        "BEYOND CHANCE",
    ];
    format!(
        "\nEach part against the same requests alone:\n{}",
        plain(&head, rows)
    )
}

/// Where the wall time went.
fn wall(found: &Attribution) -> String {
    let Some(laid) = &found.decomposition else {
        return "\nThe wall time cannot be laid out: an agent has no start or no end.\n".to_owned();
    };
    let mut head = vec!["PART"];
    head.extend(laid.agents.iter().map(|agent| agent.agent.as_str()));
    let pieces: Vec<Vec<(&str, Option<f64>)>> = laid
        .agents
        .iter()
        .map(chimera_domain::render::wall_pieces)
        .collect();
    let names = pieces.first().into_iter().flatten().map(|(name, _)| *name);
    let rows = names.enumerate().map(|(at, name)| {
        let own = pieces.iter().map(|own| {
            let ms = own.get(at).and_then(|(_, ms)| *ms);
            opt(ms)
        });
        std::iter::once(name.to_owned()).chain(own).collect()
    });
    format!(
        "\nWhere the wall time of {} ms went, ms (overlap {}, idle tail {}, start skew {}):\n{}",
        text(laid.wall_ms),
        text(laid.overlap_ms),
        text(laid.idle_tail_ms),
        text(laid.barrier_ms),
        plain(&head, rows)
    )
}

/// Each request, taken apart.
fn requests(found: &Attribution) -> String {
    if found.requests.is_empty() {
        return String::new();
    }
    let names = Part::ALL.map(Part::as_str).map(str::to_uppercase);
    let head: Vec<&str> = std::iter::once("REQUEST")
        .chain(names.iter().map(String::as_str))
        .collect();
    let rows = found.requests.iter().take(MAX_REQUESTS).map(|request| {
        let parts = Part::ALL.map(|part| opt(request.parts.get(part)));
        std::iter::once(request.request_id.to_string())
            .chain(parts)
            .collect()
    });
    let more = found.requests.len().saturating_sub(MAX_REQUESTS);
    let more = if more > 0 {
        format!("and {more} more, see report.json\n")
    } else {
        String::new()
    };
    format!("\nThe requests, ms:\n{}{more}", plain(&head, rows))
}
