//! Where the time went and whose fault it is, in words: for the documents, the page and a terminal.

use super::table::{Table, escape};
use crate::attribution::{AgentTime, Attribution, Evidence, Grade, Part};
use crate::report::number::{percent, text};
use crate::report::{CauseSummary, MeanTime, Report, SlowRuns, TestReport};
use crate::tr110::figures;

/// What is said once where no test has a cause.
pub const NOTHING_SLOW: &str = "Nothing is slow beyond chance.";

/// A part below this in every column has no row, ms.
const SHOWN_MS: f64 = 0.05;

/// A stretch of an agent's wall time.
pub(super) struct Piece {
    /// What people call it.
    pub(super) name: &'static str,
    /// Its length, ms. `None`: it cannot be told apart.
    pub(super) ms: Option<f64>,
}

/// An agent's wall time in the order in which a bar shows it: its requests, its own work, its waits.
pub(super) fn pieces(time: &AgentTime) -> Vec<Piece> {
    let requests = Part::ALL.map(|part| Piece {
        name: part.as_str(),
        ms: time.requests.get(part),
    });
    let own = [
        ("closing", time.closing_ms),
        ("local", time.local_ms),
        ("think", time.think_ms),
        ("harness", time.harness_ms),
        ("start", time.start_ms),
        ("idle tail", time.idle_tail_ms),
        ("residual", time.residual_ms),
    ];
    let own = own
        .into_iter()
        .map(|(name, ms)| Piece { name, ms: Some(ms) });
    requests.into_iter().chain(own).collect()
}

/// An agent's wall time, stretch by stretch, ms: its requests' parts, its own work, its waits. `None`:
/// that part cannot be told apart. They sum to the run's wall time.
#[must_use]
pub fn wall_pieces(time: &AgentTime) -> Vec<(&'static str, Option<f64>)> {
    let pieces = pieces(time).into_iter();
    pieces.map(|piece| (piece.name, piece.ms)).collect()
}

/// `2 of 3 runs`.
fn of_runs(count: u32, of: u32) -> String {
    let plural = if of == 1 { "" } else { "s" };
    format!("{count} of {of} run{plural}")
}

/// `supported, 2 of 3 runs`; with both grades, `supported in 1 and consistent in 2 of 3 runs`.
pub(super) fn standing(cause: &CauseSummary) -> String {
    let of = cause.runs;
    match (cause.runs_supported, cause.runs_consistent) {
        (0, 0) => format!("not tested, {}", of_runs(cause.runs_not_tested, of)),
        (supported, 0) => format!("supported, {}", of_runs(supported, of)),
        (0, consistent) => format!("consistent, {}", of_runs(consistent, of)),
        (supported, consistent) => {
            let rest = of_runs(consistent, of);
            format!("supported in {supported} and consistent in {rest}")
        }
    }
}

/// `compute_contention (supported, 3 of 3 runs)`.
fn named(cause: &CauseSummary) -> String {
    format!("{} ({})", cause.cause, standing(cause))
}

/// A test's causes in a line: the first with its sentence, the others by name. `None`: none is named.
///
/// ```text
/// compute_contention (supported, 3 of 3 runs): a and b took 1.56 s longer ... Also: reload (...).
/// ```
#[must_use]
pub fn why_line(test: &TestReport) -> Option<String> {
    let mut causes = test.causes.iter().filter(|cause| cause.is_named());
    let first = causes.next()?;
    let mut line = format!("{}: {}", named(first), first.sentence);
    let others: Vec<String> = causes.map(named).collect();
    if !others.is_empty() {
        line.push_str(&format!(" Also: {}.", others.join(", ")));
    }
    Some(line)
}

/// Whether runs of the report were held against solo legs, and nothing was found in any.
#[must_use]
pub fn nothing_slow(report: &Report) -> bool {
    let slow = || report.tests.iter().filter_map(|test| test.slow);
    slow().any(|slow| slow.runs_compared > 0)
        && slow().all(|slow| slow.runs_slow == 0)
        && report.tests.iter().all(|test| why_line(test).is_none())
}

/// TR110's rule beside ours, in a sentence. `None`: there is one agent, or no run with a speed-up.
///
/// ```text
/// TR110's rule (speed-up below 1.5): contended in 0 of 3 runs; ours: slow in 3 of 3 runs,
/// compute_contention. They disagree about 3 of 3 runs.
/// ```
#[must_use]
pub fn tr110_line(test: &TestReport) -> Option<String> {
    let rule = "TR110's rule (speed-up below 1.5)";
    let Some(slow) = test.slow else {
        // An imported run: its own flag, and nothing of ours to hold it against.
        let (contended, of) = figures::of_test(test).contention;
        let theirs = of_runs(contended, of);
        return (of > 0).then(|| {
            format!("{rule}: contended in {theirs}; ours: cannot be told, no agent was run alone.")
        });
    };
    (slow.runs_tr110 > 0).then_some(())?;
    let theirs = of_runs(slow.runs_tr110_contended, slow.runs_tr110);
    if slow.runs_compared == 0 {
        return Some(format!(
            "{rule}: contended in {theirs}; ours: cannot be told, there is nothing to compare with."
        ));
    }
    let ours = of_runs(slow.runs_slow, slow.runs_compared);
    let causes = test.causes.iter().filter(|cause| cause.is_named());
    let causes: String = causes.map(|cause| format!(", {}", cause.cause)).collect();
    let judged = test.runs.iter().filter_map(|run| {
        let found = run.attribution.as_ref()?;
        Some((found.tr110_contention?, found.slow?))
    });
    let judged: Vec<(bool, bool)> = judged.collect();
    let apart = judged.iter().filter(|(theirs, ours)| theirs != ours);
    let verdict = match (apart.count(), judged.len()) {
        (_, 0) => String::new(),
        (0, _) => " They agree.".to_owned(),
        (apart, of) => {
            let [apart, of] = [apart, of].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
            format!(" They disagree about {}.", of_runs(apart, of))
        }
    };
    Some(format!(
        "{rule}: contended in {theirs}; ours: slow in {ours}{causes}.{verdict}"
    ))
}

/// `longest load that the engine states to b: 2310 ms, against 300 ms (request b-1)`.
#[must_use]
pub fn evidence_text(evidence: &Evidence) -> String {
    let against = evidence.against.map_or_else(String::new, |against| {
        format!(", against {}", reading(evidence, against))
    });
    let source = match evidence.source.as_str() {
        "" => String::new(),
        source => format!(" ({source})"),
    };
    let value = reading(evidence, evidence.value);
    format!("{}: {value}{against}{source}", evidence.what)
}

/// A value in the unit of the evidence; a count is whole, and reads as one.
pub(super) fn reading(evidence: &Evidence, value: f64) -> String {
    let whole = evidence.unit.is_empty() && value.fract().abs() < f64::EPSILON;
    let written = if whole && value.abs() < 1e6 {
        format!("{value:.0}")
    } else {
        text(value)
    };
    match evidence.unit.as_str() {
        "" => written,
        unit => format!("{written} {unit}"),
    }
}

/// A run's causes in a cell: `compute_contention=supported;reload=consistent`. Empty: none is named.
pub(super) fn causes_cell(found: &Attribution) -> String {
    let names: Vec<String> = found
        .named()
        .map(|finding| format!("{}={}", finding.cause, finding.grade.as_str()))
        .collect();
    names.join(";")
}

/// How many runs are slow, in a sentence.
pub(super) fn slow_sentence(slow: SlowRuns) -> String {
    let of = slow.runs_compared;
    match slow.runs_slow {
        _ if of == 0 => "Whether anything is slow cannot be told: there are too few solo legs to \
             compare with."
            .to_owned(),
        0 => format!("Nothing is slow beyond chance in {}.", of_runs(of, of)),
        slow => format!("Slow beyond chance in {}.", of_runs(slow, of)),
    }
}

/// The causes that no run could test, in a line. `None`: all were tested.
pub(super) fn not_tested(causes: &[CauseSummary]) -> Option<String> {
    let names: Vec<String> = causes
        .iter()
        .filter(|cause| !cause.is_named())
        .map(|cause| match &cause.settle {
            Some(settle) => format!("{} (would settle it: {settle})", cause.cause),
            None => cause.cause.to_string(),
        })
        .collect();
    (!names.is_empty()).then(|| format!("Could not be tested: {}.", names.join("; ")))
}

/// What stands before a cause's `settle`.
pub(super) fn settle_word(grade: Grade) -> &'static str {
    match grade {
        Grade::Supported => "What to do",
        Grade::Consistent | Grade::NotTested => "What would settle it",
    }
}

/// `costs 400 ms on average`. `None`: it cannot be told apart.
pub(super) fn cost_text(cause: &CauseSummary) -> Option<String> {
    let cost = cause.cost_ms?;
    let named = cause.runs_named();
    Some(if named > 1 {
        format!("costs {} ms on average", text(cost))
    } else {
        format!("costs {} ms", text(cost))
    })
}

/// `Why it was slow`, of one test. Empty where no run was attributed.
pub(super) fn section(test: &TestReport) -> String {
    let Some(slow) = test.slow else {
        return String::new();
    };
    let mut out = format!("**Why it was slow**\n\n{}\n\n", slow_sentence(slow));
    let causes: String = test
        .causes
        .iter()
        .filter(|cause| cause.is_named())
        .map(cause_text)
        .collect();
    if !causes.is_empty() {
        out.push_str(&format!("{causes}\n"));
    }
    for line in not_tested(&test.causes).into_iter().chain(tr110_line(test)) {
        out.push_str(&format!("{}\n\n", escape(&line)));
    }
    if !test.times.is_empty() {
        out.push_str(&lead(&test.times));
        out.push_str(&decomposition(&test.times));
    }
    out
}

fn cause_text(cause: &CauseSummary) -> String {
    let cost = cost_text(cause).map_or_else(String::new, |cost| format!(", {cost}"));
    let mut out = format!(
        "- **{}** ({}{cost}): {}\n",
        cause.cause,
        standing(cause),
        escape(&cause.sentence)
    );
    for evidence in &cause.evidence {
        let line = escape(&evidence_text(evidence));
        out.push_str(&format!("  - run {}: {line}\n", cause.run));
    }
    if let Some(settle) = &cause.settle {
        let word = settle_word(cause.grade);
        out.push_str(&format!("  - {word}: {}\n", escape(settle)));
    }
    out
}

fn lead(times: &[MeanTime]) -> String {
    let runs = times.iter().map(|time| time.runs).max().unwrap_or(0);
    let wall = times.first().map_or(0.0, |time| time.wall_ms);
    format!(
        "Where the wall time went, mean over {}, {} ms each. *alone*: the same requests by \
         themselves.\n\n",
        if runs == 1 {
            "1 run".to_owned()
        } else {
            format!("{runs} runs")
        },
        text(wall)
    )
}

/// A row per part that took any time, columns per agent.
fn decomposition(times: &[MeanTime]) -> String {
    let mut header = vec!["Part".to_owned()];
    for time in times {
        let agent = &time.together.agent;
        header.extend([format!("{agent} ms"), "of wall".to_owned()]);
        if time.has_alone() {
            header.push("alone ms".to_owned());
        }
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new(&header);
    let all: Vec<Vec<Piece>> = times.iter().map(|time| pieces(&time.together)).collect();
    let first = all.first().into_iter().flatten();
    let dash = || "-".to_owned();
    for (place, name) in first.map(|piece| piece.name).enumerate() {
        let part = Part::ALL.get(place).copied();
        let mut row = vec![name.to_owned()];
        // The residual is shown even where it is nothing: that is what it is for.
        let mut any = name == "residual";
        for (time, own) in times.iter().zip(&all) {
            let ms = own.get(place).and_then(|piece| piece.ms);
            let alone = part.and_then(|part| time.alone.get(part));
            any |= [ms, alone].iter().flatten().any(|ms| ms.abs() >= SHOWN_MS);
            row.push(ms.map_or_else(dash, milliseconds));
            row.push(ms.map_or_else(dash, |ms| share(ms, time.wall_ms)));
            if time.has_alone() {
                row.push(alone.map_or_else(dash, milliseconds));
            }
        }
        if any {
            table.row(row);
        }
    }
    table.finish("No run could be laid out.")
}

/// Milliseconds, whole from ten on.
pub(super) fn milliseconds(ms: f64) -> String {
    if ms.abs() < SHOWN_MS {
        "0".to_owned()
    } else if ms.abs() < 9.95 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}

/// A part of the wall, below ten percent with a decimal.
pub(super) fn share(ms: f64, wall_ms: f64) -> String {
    if wall_ms <= 0.0 {
        return "-".to_owned();
    }
    let part = ms / wall_ms;
    if part.abs() < 0.000_5 {
        "0 %".to_owned()
    } else if part.abs() < 0.099_5 {
        format!("{:.1} %", part * 100.0)
    } else {
        percent(part)
    }
}

#[cfg(test)]
mod tests;
