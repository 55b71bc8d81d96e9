//! Gain and efficiency by configuration, with TR110's balance index beside them.

use std::fmt::Write as _;

use super::super::chart::{Anchor, Layout, Scale, Svg};
use super::super::view::{Cell, Figure, Key, Table, interval, percent, spoken, tone};
use super::plot::{Frame, Words, both, runs_text};
use crate::report::TestReport;
use crate::report::number::text;
use crate::stats::Summary;

/// One row of the picture.
struct Row<'a> {
    test: &'a TestReport,
    /// The mark that counts.
    value: &'a Summary,
    /// Decides the colour: what the gain says.
    tone: &'static str,
    /// What single runs gave.
    runs: Vec<f64>,
    /// TR110's figure.
    hollow: &'a Summary,
    /// What agents that do not disturb each other reach.
    ideal: f64,
}

/// How a picture differs from the other.
struct Kind {
    axis: &'static str,
    /// Value without any gain, in the middle of the argument; `None`: there is none to draw.
    even: Option<f64>,
    show: fn(f64) -> String,
    tick: fn(&Scale, f64) -> String,
}

fn valid_values(test: &TestReport, of: fn(&crate::report::RunReport) -> Option<f64>) -> Vec<f64> {
    test.runs
        .iter()
        .filter(|run| run.valid)
        .filter_map(of)
        .collect()
}

/// Gain by configuration.
pub(in super::super) fn gain(tests: &[&TestReport], note: Option<&String>) -> Figure {
    let rows: Vec<Row<'_>> = tests
        .iter()
        .map(|test| {
            let a = &test.aggregate;
            Row {
                test,
                value: &a.concurrency_gain,
                tone: tone(a.concurrency_gain.value, a.concurrency_gain.ci95),
                runs: valid_values(test, |run| run.concurrency_gain),
                hollow: &a.tr110_speedup,
                ideal: test.agents.len() as f64,
            }
        })
        .collect();
    let kind = Kind {
        axis: "times as fast as one after the other",
        even: Some(1.0),
        show: |value| format!("{}\u{d7}", text(value)),
        tick: |scale, tick| scale.tick_text(tick),
    };
    let mut figure = figure(&rows, &kind, "What running together gains", "gain");
    "The filled mark is the concurrency gain: how many times as fast the agents finish together as one \
     after the other. The hollow mark is what the formula of Technical Report 110 says of the same runs: \
     it measures how evenly long the agents are, and stays high where running together costs time."
        .clone_into(&mut figure.lead);
    figure.notes.extend(note.cloned());
    figure
}

/// Efficiency by configuration. `None` where no test has one.
pub(in super::super) fn efficiency(tests: &[&TestReport], note: Option<&String>) -> Option<Figure> {
    let has = |test: &&TestReport| test.aggregate.parallel_efficiency.value.is_some();
    tests.iter().any(has).then_some(())?;
    let rows: Vec<Row<'_>> = tests
        .iter()
        .map(|test| {
            let a = &test.aggregate;
            Row {
                test,
                value: &a.parallel_efficiency,
                tone: tone(a.concurrency_gain.value, a.concurrency_gain.ci95),
                runs: valid_values(test, |run| run.parallel_efficiency),
                hollow: &a.tr110_efficiency,
                ideal: 1.0,
            }
        })
        .collect();
    let kind = Kind {
        axis: "part of what undisturbed agents would gain",
        even: None,
        show: percent,
        tick: |_, tick| format!("{:.0} %", tick * 100.0),
    };
    let mut figure = figure(
        &rows,
        &kind,
        "How much of the ideal is reached",
        "efficiency",
    );
    "Parallel efficiency: the gain divided by the number of agents. 100 % means that no agent disturbs \
     another."
        .clone_into(&mut figure.lead);
    figure.notes.extend(note.cloned());
    Some(figure)
}

fn figure(rows: &[Row<'_>], kind: &Kind, title: &str, id: &str) -> Figure {
    let drawn = rows
        .iter()
        .any(|row| row.value.value.is_some() || row.hollow.value.is_some());
    let mut notes = Vec::new();
    if !drawn {
        notes.push("Nothing to draw: no test has a valid run.".to_owned());
    } else if rows.iter().all(|row| row.value.value.is_none()) {
        notes.push(format!(
            "No gain was measured ({}). Only TR110's balance index can be drawn, and it is no gain.",
            rows.first()
                .and_then(|row| row.value.reason.as_deref())
                .unwrap_or("no reason is recorded")
        ));
    }
    Figure {
        id: id.to_owned(),
        title: title.to_owned(),
        lead: String::new(),
        drawings: if drawn {
            both(|layout| draw(layout, rows, kind, title))
        } else {
            Vec::new()
        },
        keys: keys(rows),
        notes,
        table: table(rows, kind),
    }
}

fn keys(rows: &[Row<'_>]) -> Vec<Key> {
    let mut keys = Vec::new();
    for (class, text) in [
        ("k-gain", "saves time (95 % interval above 1)"),
        ("k-loss", "costs time (interval below 1)"),
        ("k-open", "undecided: the interval holds 1, or one run"),
    ] {
        if rows
            .iter()
            .any(|row| row.value.value.is_some() && class.ends_with(row.tone))
        {
            keys.push(Key { class, text });
        }
    }
    if rows.iter().any(|row| !row.runs.is_empty()) {
        keys.push(Key {
            class: "k-run",
            text: "one run",
        });
    }
    if rows.iter().any(|row| row.hollow.value.is_some()) {
        keys.push(Key {
            class: "k-hollow",
            text: "TR110\u{2019}s balance index, no gain",
        });
    }
    keys
}

fn draw(layout: Layout, rows: &[Row<'_>], kind: &Kind, title: &str) -> String {
    let mut svg = Svg::new(layout, &spoken_rows(rows, title));
    let frame = Frame::new(layout, if layout.is_narrow() { 30.0 } else { 54.0 }, 30.0);
    let values = rows.iter().flat_map(|row| {
        let point = row
            .runs
            .iter()
            .copied()
            .chain(row.value.value)
            .chain(row.hollow.value);
        point.chain([row.ideal])
    });
    let highest = values.fold(1.0, f64::max);
    let ends = rows
        .iter()
        .filter_map(|row| row.value.ci95.map(|[_, high]| high));
    // One hopeless interval must not squeeze all others: it is cut, and says so with an arrow.
    let reach = ends.fold(highest, f64::max).min(highest * 1.4);
    let about = if layout.is_narrow() { 5 } else { 8 };
    let scale = Scale::linear(0.0, reach, frame.span, about);
    frame.rules(&mut svg, rows.len());
    let height = frame.axis(&mut svg, &scale, rows.len(), kind.axis, |tick| {
        (kind.tick)(&scale, tick)
    });
    references(&mut svg, &frame, &scale, rows, kind);
    for (index, row) in rows.iter().enumerate() {
        mark(&mut svg, &frame, &scale, index, row, kind);
    }
    svg.finish(height)
}

fn references(svg: &mut Svg, frame: &Frame, scale: &Scale, rows: &[Row<'_>], kind: &Kind) {
    let bottom = frame.bottom(rows.len());
    if let Some(even) = kind.even {
        let x = scale.place(even);
        svg.line("ref", (x, frame.top - 10.0), (x, bottom));
        svg.text("s", (x, frame.top - 16.0), Anchor::Middle, "no gain");
    }
    let mut ideals: Vec<f64> = rows.iter().map(|row| row.ideal).collect();
    ideals.sort_by(f64::total_cmp);
    ideals.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
    let apart = ideals.len() == 1;
    for ideal in ideals
        .into_iter()
        .filter(|ideal| kind.even.is_none() || *ideal > 1.0)
    {
        let x = scale.place(ideal);
        svg.line("ref dash", (x, frame.top - 10.0), (x, bottom));
        // On a phone there is no room for a sentence beside "no gain".
        let narrow = frame.layout.width() < 500.0;
        let label = if apart && kind.even.is_some() && narrow {
            format!("{ideal:.0} agents")
        } else if apart && kind.even.is_some() {
            format!("{ideal:.0} agents, undisturbed")
        } else if apart {
            "undisturbed".to_owned()
        } else {
            format!("N = {ideal:.0}")
        };
        // Near the right end a centred label would leave the drawing.
        let anchor = if x + 70.0 > frame.layout.width() {
            Anchor::End
        } else {
            Anchor::Middle
        };
        svg.text("s", (x, frame.top - 16.0), anchor, &label);
    }
}

fn mark(svg: &mut Svg, frame: &Frame, scale: &Scale, index: usize, row: &Row<'_>, kind: &Kind) {
    let (_, y) = frame.place(index);
    let name = &row.test.label;
    let shown = row
        .value
        .value
        .map_or_else(|| "\u{2013}".to_owned(), kind.show);
    let more = match (row.value.value, row.value.ci95) {
        (None, _) => "not measured".to_owned(),
        (_, Some([low, high])) => match kind.even {
            Some(_) => interval(low, high),
            None => format!("{:.0} to {:.0}\u{202f}%", low * 100.0, high * 100.0),
        },
        (Some(_), None) => "no interval".to_owned(),
    };
    let class = match row.tone {
        "gain" => "v gain",
        "loss" => "v loss",
        _ => "v",
    };
    let note = runs_text(row.test);
    let words = Words {
        name,
        note: &note,
        value: &shown,
        more: &more,
        class,
    };
    frame.label(svg, index, &words);
    if let Some(balance) = row.hollow.value {
        let tip = format!("{name}: TR110's balance index {}", (kind.show)(balance));
        svg.circle("hollow", (scale.place(balance), y), 9.0, Some(&tip));
    }
    if let Some([low, high]) = row.value.ci95 {
        let (from, to) = (scale.place(low.max(0.0)), scale.place(high));
        svg.line(&format!("ci {}", row.tone), (from, y), (to, y));
        if high > scale.high() {
            let end = to;
            svg.polyline(
                &format!("arrow {}", row.tone),
                [(end - 6.0, y - 6.0), (end, y), (end - 6.0, y + 6.0)],
            );
        }
    }
    svg.dots(
        "run",
        row.runs.iter().map(|value| (scale.place(*value), y + 13.0)),
    );
    if let Some(value) = row.value.value {
        let tip = format!("{name}: {}", spoken(row.value));
        svg.circle(
            &format!("dot {}", row.tone),
            (scale.place(value), y),
            6.5,
            Some(&tip),
        );
    }
}

fn spoken_rows(rows: &[Row<'_>], title: &str) -> String {
    let mut words = format!("{title}. ");
    for row in rows.iter().take(12) {
        let added = write!(
            words,
            "{}: {}; TR110's formula: {}. ",
            row.test.label,
            spoken(row.value),
            row.hollow
                .value
                .map_or_else(|| "not measured".to_owned(), text)
        );
        if added.is_err() {
            break;
        }
    }
    if rows.len() > 12 {
        words.push_str("More in the table below.");
    }
    words.trim_end().to_owned()
}

fn table(rows: &[Row<'_>], kind: &Kind) -> Option<Table> {
    let name = if kind.even.is_some() {
        "Gain"
    } else {
        "Efficiency"
    };
    let mut table = Table::new(
        1,
        &[
            "Configuration",
            "Agents",
            name,
            "n",
            "Single runs",
            "TR110 balance",
        ],
    );
    for row in rows {
        let mut value = Cell::summary(row.value);
        if let (Some(mean), None) = (row.value.value, kind.even) {
            value = Cell::part(Some(mean), row.value.provenance);
            if let Some([low, high]) = row.value.ci95 {
                value = value.with_more(format!("{} to {}", percent(low), percent(high)));
            }
        }
        let runs: Vec<String> = row.runs.iter().map(|value| text(*value)).collect();
        table.row([
            Cell::words(&row.test.label),
            Cell::plain(row.test.agents.len().to_string()),
            value,
            Cell::plain(row.value.n.to_string()),
            Cell::plain(runs.join(", ")),
            Cell::number(row.hollow.value, row.hollow.provenance),
        ]);
    }
    table.filled()
}
