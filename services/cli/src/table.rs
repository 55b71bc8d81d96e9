//! The results on a terminal: every test side by side, for someone who sees them for the first time.

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use chimera_domain::report::number::{percent, text, with_interval};
use chimera_domain::report::{OutcomeState, Report, TestReport};
use chimera_domain::stats::Summary;
use chimera_runtime::config;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table,
};

use crate::args::Rule;
use crate::why;

/// Width where there is no terminal to ask.
const WIDTH: u16 = 100;
/// Below this a table cannot be read; the terminal may scroll instead.
const MIN_WIDTH: u16 = 60;
/// Tests that stand in columns; more stand in rows.
const MAX_COLUMNS: usize = 4;
/// A test's column that is narrower shares its room with the names of the lines.
const MIN_COLUMN: usize = 20;
/// What stands between two columns, and at the edges.
const PADDING: usize = 4;
/// Invalid runs that are listed.
const MAX_INVALID: usize = 12;

/// Writes the results: the table, what it means, and what does not count.
///
/// Width and colour are those of standard output, where this is meant to end.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn print_results(
    report: &Report,
    rule: Option<Rule>,
    out: &mut impl Write,
) -> io::Result<()> {
    let colour = io::stdout().is_terminal() && config::env("NO_COLOR").is_none();
    let width = width();
    out.write_all(render(report, rule, Paper { width, colour }).as_bytes())
}

/// Writes where the files of the results are, and what to do with them.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn print_files(folder: &Path, out: &mut impl Write) -> io::Result<()> {
    let folder = folder.display();
    writeln!(
        out,
        "\nFiles: {folder} (start with report.html)\nCheck: chimera verify {folder}"
    )
}

/// Writes what the data show, a sentence each.
///
/// # Errors
/// When `out` cannot be written.
pub(crate) fn print_findings(report: &Report, out: &mut impl Write) -> io::Result<()> {
    if report.findings.is_empty() {
        return Ok(());
    }
    let width = width();
    writeln!(out, "\nWhat the data show:")?;
    for finding in &report.findings {
        writeln!(out, "{}", wrap(&format!("  {}", finding.sentence), width))?;
    }
    Ok(())
}

/// Width of standard output.
pub(crate) fn width() -> u16 {
    let terminal = io::stdout().is_terminal();
    let asked = Table::new().width().filter(|_| terminal);
    asked.unwrap_or(WIDTH).max(MIN_WIDTH)
}

/// What is written on.
#[derive(Debug, Clone, Copy)]
struct Paper {
    width: u16,
    colour: bool,
}

impl Paper {
    fn table(self) -> Table {
        let mut table = Table::new();
        table
            .load_style(UTF8_BORDERS_ONLY)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(self.width);
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }
}

fn render(report: &Report, rule: Option<Rule>, paper: Paper) -> String {
    let mut lines = vec![String::new()];
    match report.outcome.state {
        OutcomeState::Completed => {}
        OutcomeState::Running => {
            lines.push("The experiment has not ended: this is a part.".to_owned())
        }
        OutcomeState::Cancelled => {
            lines.push("The experiment was cancelled: this is a part.".to_owned())
        }
        OutcomeState::Failed => {
            let why = report
                .outcome
                .detail
                .as_deref()
                .unwrap_or("no reason was given");
            lines.push(format!("The experiment failed: {why}"));
        }
    }
    let mut notes = Notes::default();
    if report.tests.is_empty() {
        lines.push("No test was planned.".to_owned());
    } else {
        lines.push(picture(report, paper, &mut notes));
    }
    lines.extend(notes.lines());
    // Of many tests the table says as much as a sentence each, which the report has.
    let few = report.tests.len() <= MAX_COLUMNS;
    if !few {
        let legend = "  TTFT, TPOT, tokens/s: one alone -> all together. TR110: its 'speed-up', balance only.";
        lines.push(wrap(legend, paper.width));
    }
    lines.push(String::new());
    if let Some(slo) = &report.slo {
        let sentence = format!("A request is good within {slo}.");
        lines.push(wrap(&sentence, paper.width));
        lines.push(String::new());
    }
    let topology = report.topology.iter().flat_map(|verdict| &verdict.groups);
    let topology = topology.map(|group| group.sentence.clone());
    let contrast = report
        .contrast
        .iter()
        .map(|contrast| contrast.sentence.clone());
    let told = report.tests.iter().filter(|_| few);
    let verdicts = told.map(|test| format!("{}: {}", test.label, test.verdict));
    for sentence in topology.chain(contrast).chain(verdicts) {
        lines.push(wrap(&sentence, paper.width));
        lines.push(String::new());
    }
    for line in why::lines(report, rule) {
        lines.push(wrap(&line, paper.width));
        lines.push(String::new());
    }
    let invalid = invalid_runs(report);
    if !invalid.is_empty() {
        lines.push("Not counted:".to_owned());
        lines.extend(
            invalid
                .iter()
                .map(|line| wrap(&format!("  {line}"), paper.width)),
        );
        lines.push(String::new());
    }
    let mut text = lines.join("\n");
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Reasons for what is not in the table, numbered in order of first use.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn mark(&mut self, reason: &str) -> usize {
        if let Some(at) = self.0.iter().position(|known| known == reason) {
            return at + 1;
        }
        self.0.push(reason.to_owned());
        self.0.len()
    }

    fn lines(self) -> impl Iterator<Item = String> {
        self.0
            .into_iter()
            .enumerate()
            .map(|(at, reason)| format!("  [{}] {reason}", at + 1))
    }

    /// A value, or a dash with its reason.
    fn value(&mut self, summary: &Summary, write: impl Fn(f64) -> String) -> String {
        match summary.value {
            Some(value) => write(value),
            None => {
                let reason = summary.reason.as_deref().unwrap_or("not measured");
                format!("- [{}]", self.mark(reason))
            }
        }
    }

    fn interval(&mut self, summary: &Summary) -> String {
        let value = self.value(summary, text);
        match (summary.value, summary.ci95) {
            (Some(_), Some(_)) => with_interval(summary.value, summary.ci95),
            (Some(_), None) => {
                format!(
                    "{value} [{}]",
                    self.mark("no interval: that needs two valid runs")
                )
            }
            (None, _) => value,
        }
    }

    fn change(&mut self, alone: &Summary, together: &Summary) -> String {
        if alone.value.is_none() && together.value.is_none() && alone.reason == together.reason {
            return self.value(together, text);
        }
        format!(
            "{} -> {}",
            self.value(alone, text),
            self.value(together, text)
        )
    }
}

type Write1 = fn(&TestReport, &mut Notes) -> String;

/// The lines of the table: what it is, and how a test fills it.
const LINES: [(&str, Write1); 10] = [
    ("valid runs", valid),
    (GAIN, gain),
    ("gain is", gain_is),
    ("parallel efficiency", efficiency),
    ("TR110 'speed-up' (balance only)", balance),
    ("slowdown of each agent", slowdowns),
    ("first token (TTFT) ms, alone -> together", ttft),
    ("per further token (TPOT) ms, alone -> together", tpot),
    ("tokens/s, one alone -> all together", throughput),
    ("start skew ms", skew),
];

/// The lines that an `[slo]` adds.
const SLO_LINES: [(&str, Write1); 2] = [
    ("good requests, alone -> together", good),
    ("goodput (95 %), requests/s", goodput),
];
/// The same in a table of many.
const SLO_BRIEF: [(&str, Write1); 1] = [("good", good)];

/// What stands beside a test in a table of many.
const BRIEF: [(&str, Write1); 7] = [
    (GAIN_BRIEF, gain),
    ("efficiency", efficiency),
    ("TR110", balance),
    ("TTFT ms", ttft),
    ("TPOT ms", tpot),
    ("tokens/s", throughput),
    ("valid", valid),
];
/// What a narrow table of many does without, the first first.
const FIRST_TO_GO: [&str; 4] = ["TPOT ms", "efficiency", "TTFT ms", "good"];
/// Below this the labels of a table of many would be hard to read.
const MIN_LABEL: usize = 22;

/// The line that is printed in bold.
const GAIN: &str = "concurrency gain (95 %)";
/// The same in a table of many.
const GAIN_BRIEF: &str = "gain (95 %)";

fn valid(test: &TestReport, _: &mut Notes) -> String {
    format!("{} of {}", test.runs_valid, test.runs_attempted)
}

fn gain(test: &TestReport, notes: &mut Notes) -> String {
    notes.interval(&test.aggregate.concurrency_gain)
}

fn gain_is(test: &TestReport, _: &mut Notes) -> String {
    let provenance = test.aggregate.concurrency_gain.provenance;
    provenance.as_str().to_owned()
}

fn efficiency(test: &TestReport, notes: &mut Notes) -> String {
    notes.value(&test.aggregate.parallel_efficiency, percent)
}

fn balance(test: &TestReport, notes: &mut Notes) -> String {
    notes.value(&test.aggregate.tr110_speedup, text)
}

fn ttft(test: &TestReport, notes: &mut Notes) -> String {
    notes.change(&test.aggregate.ttft_solo_ms, &test.aggregate.ttft_ms)
}

fn tpot(test: &TestReport, notes: &mut Notes) -> String {
    notes.change(&test.aggregate.tpot_solo_ms, &test.aggregate.tpot_ms)
}

fn throughput(test: &TestReport, notes: &mut Notes) -> String {
    let a = &test.aggregate;
    notes.change(&a.solo_tokens_per_s, &a.aggregate_tokens_per_s)
}

fn good(test: &TestReport, notes: &mut Notes) -> String {
    let a = &test.aggregate;
    let [alone, together] = [&a.good_solo_ratio, &a.good_ratio].map(|s| notes.value(s, percent));
    if alone == together && a.good_ratio.value.is_none() {
        return together;
    }
    format!("{alone} -> {together}")
}

fn goodput(test: &TestReport, notes: &mut Notes) -> String {
    notes.interval(&test.aggregate.goodput_rps)
}

/// Lines, and with an `[slo]` those that it adds.
fn with_slo(
    report: &Report,
    lines: &[(&'static str, Write1)],
    added: &[(&'static str, Write1)],
) -> Vec<(&'static str, Write1)> {
    let added = added.iter().filter(|_| report.slo.is_some());
    lines.iter().chain(added).copied().collect()
}

fn skew(test: &TestReport, notes: &mut Notes) -> String {
    notes.value(&test.aggregate.start_skew_ms, text)
}

fn slowdowns(test: &TestReport, notes: &mut Notes) -> String {
    let agents = &test.aggregate.agents;
    let each: Vec<String> = agents
        .iter()
        .map(|agent| format!("{} {}", agent.agent, notes.value(&agent.slowdown, text)))
        .collect();
    if each.is_empty() {
        return notes.value(&test.aggregate.slowdown, text);
    }
    each.join("\n")
}

fn picture(report: &Report, paper: Paper, notes: &mut Notes) -> String {
    let mut table = paper.table();
    if report.tests.len() <= MAX_COLUMNS {
        let right = |text: &String| Cell::new(text).set_alignment(CellAlignment::Right);
        let labels = report.tests.iter().map(|test| right(&test.label));
        table.set_header(std::iter::once(Cell::new(&report.name)).chain(labels));
        let lines = with_slo(report, &LINES, &SLO_LINES);
        for (name, write) in &lines {
            let mut row = vec![Cell::new(*name)];
            for test in &report.tests {
                let cell = Cell::new(write(test, notes)).set_alignment(CellAlignment::Right);
                row.push(emphasis(name, test, cell));
            }
            table.add_row(row);
        }
        let names = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + PADDING;
        let room = usize::from(paper.width).saturating_sub(names) / report.tests.len().max(1);
        if room >= MIN_COLUMN
            && let Some(first) = table.column_mut(0)
        {
            first.set_constraint(ColumnConstraint::ContentWidth);
        }
    } else {
        many(report, paper, notes, &mut table);
    }
    table.trim_fmt()
}

/// Many tests, a row each: as much as fits beside a label that can be read.
fn many(report: &Report, paper: Paper, notes: &mut Notes, table: &mut Table) {
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let mut columns: Vec<Column> = with_slo(report, &BRIEF, &SLO_BRIEF)
        .into_iter()
        .map(|(name, write)| Column::of(report, name, write, notes))
        .collect();
    let wide = |columns: &[Column]| columns.iter().map(|c| c.width + PADDING - 1).sum::<usize>();
    let room = usize::from(paper.width).saturating_sub(MIN_LABEL + 3 * PADDING);
    for name in FIRST_TO_GO {
        if wide(&columns) > room {
            columns.retain(|column| column.name != name);
        }
    }
    let fits = wide(&columns) <= room;
    let names = columns.iter().map(|column| right(column.name.to_owned()));
    let begin = [Cell::new("test"), Cell::new(&report.name)];
    table.set_header(begin.into_iter().chain(names));
    for (at, test) in report.tests.iter().enumerate() {
        let mut row = vec![right(test.id.clone()), Cell::new(&test.label)];
        for column in &columns {
            let text = column.cells.get(at).cloned().unwrap_or_default();
            row.push(emphasis(column.name, test, right(text)));
        }
        table.add_row(row);
    }
    // Labels wrap, figures do not.
    let figures = (0..columns.len() + 2).filter(|column| fits && *column != 1);
    for column in figures {
        if let Some(column) = table.column_mut(column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
}

/// A column of a table of many.
struct Column {
    name: &'static str,
    cells: Vec<String>,
    width: usize,
}

impl Column {
    fn of(report: &Report, name: &'static str, write: Write1, notes: &mut Notes) -> Self {
        let cells: Vec<String> = report.tests.iter().map(|test| write(test, notes)).collect();
        let width = cells.iter().map(|cell| cell.len()).max().unwrap_or(0);
        Self {
            name,
            width: width.max(name.len()),
            cells,
        }
    }
}

/// The gain in colour: only where its interval tells on which side of 1 it lies.
fn emphasis(name: &str, test: &TestReport, cell: Cell) -> Cell {
    if name != GAIN && name != GAIN_BRIEF {
        return cell;
    }
    let cell = cell.add_attribute(Attribute::Bold);
    match test.aggregate.concurrency_gain.ci95 {
        Some([low, _]) if low > 1.0 => cell.fg(Color::Green),
        Some([_, high]) if high < 1.0 => cell.fg(Color::Red),
        _ => cell,
    }
}

fn invalid_runs(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for test in &report.tests {
        for run in test.runs.iter().filter(|run| !run.valid) {
            let why = run.invalid.first().map_or_else(
                || {
                    run.invalid_reason
                        .clone()
                        .unwrap_or_else(|| "no reason was given".to_owned())
                },
                |why| format!("{} ({})", why.reason, why.detail),
            );
            lines.push(format!("run {} of '{}': {why}", run.run, test.label));
        }
    }
    let more = lines.len().saturating_sub(MAX_INVALID);
    if more > 0 {
        lines.truncate(MAX_INVALID);
        lines.push(format!("and {more} more, see report.md"));
    }
    lines
}

/// Breaks a sentence between words; a word that is longer than a line stays whole, so that a path can
/// be copied.
pub(crate) fn wrap(sentence: &str, width: u16) -> String {
    let width = usize::from(width);
    let indent = sentence.len() - sentence.trim_start().len();
    let mut lines = Vec::new();
    let mut line = " ".repeat(indent);
    let mut filled = indent;
    for word in sentence.split_whitespace() {
        let length = word.chars().count();
        let fresh = filled == indent;
        if !fresh && filled + 1 + length > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            filled = indent;
        }
        if filled > indent {
            line.push(' ');
            filled += 1;
        }
        line.push_str(word);
        filled += length;
    }
    lines.push(line);
    lines.join("\n")
}

/// A table of words without lines, for lists that a person skims and `awk` cuts.
pub(crate) fn plain(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .force_no_tty();
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
