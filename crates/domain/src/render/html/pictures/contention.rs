//! Where running together costs: the gain of every run, and of every pair of configurations.

use std::collections::BTreeSet;

use super::super::chart::{Anchor, Layout, Svg, fit, width, wrap};
use super::super::view::{Cell, Figure, Key, Table, stamps};
use super::plot::both;
use crate::report::number::text;
use crate::report::{AgentConfig, RunReport, TestReport};
use crate::stats::{Provenance, mean};

/// Most columns drawn.
const MAX_COLUMNS: usize = 12;
/// Width of the row labels of the wide drawing.
const LABELS: f64 = 250.0;

/// What a cell says.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    /// A gain, among so many agents.
    Gain(f64, usize),
    /// The run is invalid, by this reason.
    Invalid(String),
    /// A run without a gain.
    NoGain,
    /// There is no such run.
    Nothing,
}

/// A picture of cells.
struct Grid {
    rows: Vec<String>,
    columns: Vec<String>,
    /// By row, then column; *shape*: as long as rows and columns say.
    cells: Vec<Vec<Value>>,
    label: String,
    /// Words at the upper left.
    corner: String,
    /// The weakest provenance among the cells.
    provenance: Provenance,
}

/// Test by run.
pub(in super::super) fn runs(tests: &[&TestReport], note: Option<&String>) -> Figure {
    let numbers: BTreeSet<u32> = tests
        .iter()
        .flat_map(|test| &test.runs)
        .map(|run| run.run)
        .collect();
    let mut notes: Vec<String> = note.into_iter().cloned().collect();
    if numbers.len() > MAX_COLUMNS {
        notes.push(format!(
            "The first {MAX_COLUMNS} of {} runs are drawn.",
            numbers.len()
        ));
    }
    let shown: Vec<u32> = numbers.into_iter().take(MAX_COLUMNS).collect();
    let cell = |test: &TestReport, number: u32| {
        test.runs
            .iter()
            .find(|run| run.run == number)
            .map_or(Value::Nothing, |run| of_run(test, run))
    };
    let grid = Grid {
        rows: tests.iter().map(|test| test.label.clone()).collect(),
        columns: shown.iter().map(|run| format!("run {run}")).collect(),
        cells: tests
            .iter()
            .map(|test| shown.iter().map(|run| cell(test, *run)).collect())
            .collect(),
        label: "Gain of every run".to_owned(),
        corner: String::new(),
        provenance: Provenance::Measured,
    };
    let any = |value: &Value| !matches!(value, Value::NoGain | Value::Nothing);
    let drawn = grid.cells.iter().flatten().any(any);
    if grid.columns.is_empty() {
        notes.push("Nothing to draw: no run was executed.".to_owned());
    } else if !drawn {
        notes.push(
            "Nothing to draw: no run has a gain. TR110\u{2019}s balance index stands in the table."
                .to_owned(),
        );
    }
    Figure {
        id: "contention".to_owned(),
        title: "Contention, run by run".to_owned(),
        lead: "The gain of every run. A row of one colour repeats itself; a row of several does not. Crossed \
               out: invalid, not averaged."
            .to_owned(),
        drawings: if drawn { both(|layout| draw(layout, &grid)) } else { Vec::new() },
        keys: keys(&grid),
        notes,
        table: runs_table(tests),
    }
}

fn of_run(test: &TestReport, run: &RunReport) -> Value {
    match (run.valid, run.concurrency_gain) {
        (true, Some(gain)) => Value::Gain(gain, test.agents.len()),
        (true, None) => Value::NoGain,
        (false, _) => Value::Invalid(
            run.invalid_reason
                .clone()
                .unwrap_or_else(|| "no reason is recorded".to_owned()),
        ),
    }
}

/// Configuration of the first agent by that of the second. `None` unless every test has two agents
/// and both sides have at least two configurations.
pub(in super::super) fn configurations(tests: &[TestReport]) -> Option<Figure> {
    let pairs: Vec<(&TestReport, &AgentConfig, &AgentConfig)> = tests
        .iter()
        .filter_map(|test| match test.agents.as_slice() {
            [first, second] => Some((test, first, second)),
            _ => None,
        })
        .collect();
    if pairs.len() != tests.len() {
        return None;
    }
    let all: Vec<&AgentConfig> = pairs.iter().flat_map(|(_, a, b)| [*a, *b]).collect();
    let settings = differing(&all);
    let name = |agent: &AgentConfig| name(agent, &settings);
    let mut rows: Vec<String> = Vec::new();
    let mut columns: Vec<String> = Vec::new();
    for (_, first, second) in &pairs {
        for (names, agent) in [(&mut rows, *first), (&mut columns, *second)] {
            let name = name(agent);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if rows.len() < 2 || columns.len() < 2 || columns.len() > MAX_COLUMNS {
        return None;
    }
    let cell = |row: &String, column: &String| {
        let gains: Vec<f64> = pairs
            .iter()
            .filter(|(_, a, b)| name(a) == *row && name(b) == *column)
            .filter_map(|(test, _, _)| test.aggregate.concurrency_gain.value)
            .collect();
        mean(&gains).map_or(Value::Nothing, |gain| Value::Gain(gain, 2))
    };
    let cells: Vec<Vec<Value>> = rows
        .iter()
        .map(|row| columns.iter().map(|column| cell(row, column)).collect())
        .collect();
    // A grid with nothing but its diagonal shows less than the rows above it.
    let filled = cells
        .iter()
        .flatten()
        .filter(|cell| **cell != Value::Nothing)
        .count();
    if filled == 0 || filled <= rows.len().max(columns.len()) {
        return None;
    }
    let (first, second) = pairs
        .first()
        .map(|(_, a, b)| (a.agent.as_str(), b.agent.as_str()))?;
    let provenances = pairs
        .iter()
        .filter(|(test, _, _)| test.aggregate.concurrency_gain.value.is_some())
        .map(|(test, _, _)| test.aggregate.concurrency_gain.provenance);
    let grid = Grid {
        provenance: provenances.max().unwrap_or(Provenance::Measured),
        label: "Gain by pair of configurations".to_owned(),
        corner: format!("{first} \u{2193}   {second} \u{2192}"),
        rows,
        columns,
        cells,
    };
    Some(Figure {
        id: "pairs".to_owned(),
        title: "Contention, by pair of configurations".to_owned(),
        lead: format!(
            "Mean gain where {first} has the configuration of the row and {second} that of the column."
        ),
        drawings: both(|layout| draw(layout, &grid)),
        keys: keys(&grid),
        notes: Vec::new(),
        table: grid_table(&grid),
    })
}

/// A setting of an agent as words.
type Setting = fn(&AgentConfig) -> String;

/// What two agents can differ in.
const SETTINGS: [Setting; 6] = [
    |agent| {
        agent
            .model
            .clone()
            .unwrap_or_else(|| "model not stated".to_owned())
    },
    |agent| setting("gpu", agent.options.num_gpu),
    |agent| setting("ctx", agent.options.num_ctx),
    |agent| setting("threads", agent.options.num_thread),
    |agent| setting("temp", agent.options.temperature),
    |agent| setting("predict", agent.options.num_predict),
];

fn setting<T: ToString>(name: &str, value: Option<T>) -> String {
    value.map_or_else(
        || format!("{name} default"),
        |value| format!("{name} {}", value.to_string()),
    )
}

fn differing(agents: &[&AgentConfig]) -> Vec<Setting> {
    let different = |setting: &&Setting| {
        agents
            .iter()
            .map(|agent| setting(agent))
            .collect::<BTreeSet<String>>()
            .len()
            > 1
    };
    SETTINGS.iter().filter(different).copied().collect()
}

fn name(agent: &AgentConfig, settings: &[Setting]) -> String {
    let words: Vec<String> = settings.iter().map(|setting| setting(agent)).collect();
    words.join(" \u{b7} ")
}

/// Step of the colour ladder: three below an even gain, one around it, three above.
///
/// *Source*: below 1 by what is lost (a tenth, a third), above by the part of the ideal reached.
fn step(gain: f64, agents: usize) -> usize {
    let ideal = (agents as f64 - 1.0).max(0.05);
    let reached = (gain - 1.0) / ideal;
    match gain {
        g if g < 0.6 => 0,
        g if g < 0.8 => 1,
        g if g < 0.95 => 2,
        g if g <= 1.05 => 3,
        _ if reached < 1.0 / 3.0 => 4,
        _ if reached < 2.0 / 3.0 => 5,
        _ => 6,
    }
}

fn keys(grid: &Grid) -> Vec<Key> {
    let steps: BTreeSet<usize> = grid
        .cells
        .iter()
        .flatten()
        .filter_map(|cell| match cell {
            Value::Gain(gain, agents) => Some(step(*gain, *agents)),
            _ => None,
        })
        .collect();
    let ladder = [
        ("k-h0", "costs time: below 0.6\u{d7}"),
        ("k-h1", "0.6 to 0.8\u{d7}"),
        ("k-h2", "0.8 to 0.95\u{d7}"),
        ("k-h3", "even, within 5 %"),
        ("k-h4", "up to a third of the ideal gain"),
        ("k-h5", "up to two thirds of it"),
        ("k-h6", "more than two thirds of the ideal gain"),
    ];
    ladder
        .into_iter()
        .enumerate()
        .filter(|(index, _)| steps.contains(index))
        .map(|(_, (class, text))| Key { class, text })
        .collect()
}

fn class(step: usize) -> &'static str {
    match step {
        0 => "h0",
        1 => "h1",
        2 => "h2",
        3 => "h3",
        4 => "h4",
        5 => "h5",
        _ => "h6",
    }
}

fn draw(layout: Layout, grid: &Grid) -> String {
    let mut svg = Svg::new(layout, &spoken(grid));
    let narrow = layout.is_narrow();
    let (left, high, top) = if narrow {
        (0.0, 30.0, 30.0)
    } else {
        (LABELS + 10.0, 34.0, 34.0)
    };
    let step_y = if narrow { high + 24.0 } else { high + 4.0 };
    let count = grid.columns.len().max(1) as f64;
    let wide = ((layout.width() - left) / count - 4.0).min(if narrow { 160.0 } else { 130.0 });
    let x = |column: usize| left + column as f64 * (wide + 4.0);
    let columns: Vec<Vec<String>> = grid
        .columns
        .iter()
        .map(|name| wrap(name, 11.0, wide, 2))
        .collect();
    for (index, lines) in columns.iter().enumerate() {
        let mut y = top - 8.0 - 13.0 * lines.len().saturating_sub(1) as f64;
        for line in lines {
            svg.text("s", (x(index) + wide / 2.0, y), Anchor::Middle, line);
            y += 13.0;
        }
    }
    if !narrow {
        svg.text(
            "s",
            (0.0, top - 8.0),
            Anchor::Start,
            &fit(&grid.corner, 11.0, LABELS),
        );
    }
    for (index, (name, cells)) in grid.rows.iter().zip(&grid.cells).enumerate() {
        let row = top + index as f64 * step_y;
        let y = if narrow { row + 18.0 } else { row };
        if narrow {
            svg.text(
                "l",
                (0.0, row + 12.0),
                Anchor::Start,
                &fit(name, 12.5, layout.width()),
            );
        } else {
            let lines = wrap(name, 12.5, LABELS, 2);
            let mut at = y + high / 2.0 + 4.5 - 7.0 * lines.len().saturating_sub(1) as f64;
            for line in lines {
                svg.text("l", (0.0, at), Anchor::Start, &line);
                at += 14.0;
            }
        }
        for (column, value) in cells.iter().enumerate() {
            let tip = format!("{name}, {}: {}", column_name(grid, column), words(value));
            cell(&mut svg, value, (x(column), y), (wide, high), &tip);
        }
    }
    svg.finish(top + grid.rows.len() as f64 * step_y + 6.0)
}

fn column_name(grid: &Grid, column: usize) -> &str {
    grid.columns.get(column).map_or("", String::as_str)
}

fn cell(svg: &mut Svg, value: &Value, (x, y): (f64, f64), (wide, high): (f64, f64), tip: &str) {
    let middle = (x + wide / 2.0, y + high / 2.0 + 4.5);
    match value {
        Value::Gain(gain, agents) => {
            let class = class(step(*gain, *agents));
            svg.rect(class, (x, y), (wide, high), 3.0, Some(tip));
            let words = if width(&text(*gain), 13.0) < wide {
                text(*gain)
            } else {
                format!("{gain:.1}")
            };
            svg.text(&format!("c {class}t"), middle, Anchor::Middle, &words);
        }
        Value::Invalid(_) => {
            svg.rect("hx", (x, y), (wide, high), 3.0, Some(tip));
            svg.line(
                "cross",
                (x + 6.0, y + high - 6.0),
                (x + wide - 6.0, y + 6.0),
            );
        }
        Value::NoGain => {
            svg.rect("hx", (x, y), (wide, high), 3.0, Some(tip));
            svg.text("s", middle, Anchor::Middle, "\u{2013}");
        }
        Value::Nothing => svg.rect("hnone", (x, y), (wide, high), 3.0, None),
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::Gain(gain, _) => format!("gain {}", text(*gain)),
        Value::Invalid(reason) => format!("invalid: {reason}"),
        Value::NoGain => "valid, without a gain".to_owned(),
        Value::Nothing => "none".to_owned(),
    }
}

fn spoken(grid: &Grid) -> String {
    let mut label = format!("{}.", grid.label);
    for (name, cells) in grid.rows.iter().zip(&grid.cells).take(12) {
        let values: Vec<String> = cells.iter().map(words).collect();
        label.push_str(&format!(" {name}: {}.", values.join(", ")));
    }
    label
}

fn runs_table(tests: &[&TestReport]) -> Option<Table> {
    let mut table = Table::new(
        1,
        &[
            "Configuration",
            "Run",
            "Gain",
            "TR110 balance",
            "Wall s",
            "Alone s",
        ],
    );
    for test in tests {
        for run in &test.runs {
            let own = stamps(run);
            let gain = Cell::number(run.concurrency_gain, run.gain_provenance);
            table.row([
                Cell::words(&test.label),
                Cell::plain(run.run.to_string()),
                match &run.invalid_reason {
                    Some(reason) => gain.with_more(format!("invalid: {reason}")),
                    None => gain,
                },
                Cell::number(run.tr110_speedup, own),
                Cell::number(run.wall_s, own),
                Cell::number(run.solo_total_s, own),
            ]);
        }
    }
    table.filled()
}

fn grid_table(grid: &Grid) -> Option<Table> {
    let mut head = vec!["Configuration"];
    head.extend(grid.columns.iter().map(String::as_str));
    let mut table = Table::new(1, &head);
    for (name, cells) in grid.rows.iter().zip(&grid.cells) {
        let values = cells.iter().map(|cell| match cell {
            Value::Gain(gain, _) => Cell::number(Some(*gain), grid.provenance),
            _ => Cell::plain("-"),
        });
        table.row([Cell::words(name)].into_iter().chain(values));
    }
    table.filled()
}
