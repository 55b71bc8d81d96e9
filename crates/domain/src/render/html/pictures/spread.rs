//! Request times alone and together: every value as a point, the median, and quartiles once there
//! are enough values for them to mean something.

use super::super::chart::{Layout, Scale, Svg, time_unit};
use super::super::view::{Cell, Figure, Key, Table};
use super::plot::{Frame, Words, both};
use crate::report::number::{opt, text};
use crate::report::{AgentRun, RequestReport, TestReport};
use crate::stats::{Provenance, quantile};

/// Fewest values for which quartiles are drawn.
const BOX_FROM: usize = 8;
/// Most points drawn in one strip; more are thinned to evenly spaced ranks.
const MAX_POINTS: usize = 64;

/// Times to first token.
pub(in super::super) fn ttft(tests: &[&TestReport], note: Option<&String>) -> Figure {
    figure(
        tests,
        note,
        &Kind {
            id: "ttft",
            title: "Time to first token",
            lead: "From sending a request to its first token, as the client saw it. A shift to the right \
                   from alone to together is what the agents cost each other before a word is written.",
            of: |request| request.ttft_ms,
            stated: |agent| agent.ttft_ms,
        },
    )
}

/// Times per output token.
pub(in super::super) fn tpot(tests: &[&TestReport], note: Option<&String>) -> Figure {
    figure(
        tests,
        note,
        &Kind {
            id: "tpot",
            title: "Time per output token",
            lead: "The pace after the first token: (E2E \u{2212} TTFT) / (output tokens \u{2212} 1).",
            of: |request| request.tpot_ms,
            stated: |_| None,
        },
    )
}

struct Kind {
    id: &'static str,
    title: &'static str,
    lead: &'static str,
    of: fn(&RequestReport) -> Option<f64>,
    /// What an agent of an imported run states of all its requests.
    stated: fn(&AgentRun) -> Option<f64>,
}

/// Rising values of one test, alone and together.
struct Row<'a> {
    test: &'a TestReport,
    solo: Vec<f64>,
    among: Vec<f64>,
    /// Whether values are means of an agent's requests: no single request is recorded.
    is_mean: bool,
}

impl<'a> Row<'a> {
    fn of(test: &'a TestReport, kind: &Kind) -> Option<Self> {
        let Kind { of, stated, .. } = *kind;
        let mut row = Self {
            test,
            solo: Vec::new(),
            among: Vec::new(),
            is_mean: false,
        };
        let agents = || {
            let runs = test.runs.iter().filter(|run| run.valid);
            runs.flat_map(|run| &run.agents)
        };
        for agent in agents() {
            row.among.extend(agent.requests.iter().filter_map(of));
            // A leg that several agents share counts once.
            if agent.solo_shared_with.is_none() {
                row.solo.extend(agent.solo_requests.iter().filter_map(of));
            }
        }
        if row.among.is_empty() && row.solo.is_empty() {
            row.among.extend(agents().filter_map(stated));
            row.is_mean = true;
        }
        for values in [&mut row.solo, &mut row.among] {
            values.retain(|value| value.is_finite());
            values.sort_by(f64::total_cmp);
        }
        (!row.among.is_empty() || !row.solo.is_empty()).then_some(row)
    }
}

fn figure(tests: &[&TestReport], note: Option<&String>, kind: &Kind) -> Figure {
    let rows: Vec<Row<'_>> = tests
        .iter()
        .filter_map(|test| Row::of(test, kind))
        .collect();
    let mut notes: Vec<String> = note.into_iter().cloned().collect();
    if rows.is_empty() {
        notes.push(
            "Not measured: the records of the valid runs hold no single requests with this time."
                .to_owned(),
        );
    } else if kind.id == "ttft" {
        notes.push(format!(
            "Every request of the valid runs; quartiles from {BOX_FROM} values on, of more than \
             {MAX_POINTS} values evenly spaced ranks are drawn. Requests of one run are not independent: \
             this describes, it does not test."
        ));
    }
    if rows.iter().any(|row| row.is_mean) {
        notes.push(
            "No single request is recorded: each point is an agent\u{2019}s mean in a run, as its file \
             states it."
                .to_owned(),
        );
    }
    Figure {
        id: kind.id.to_owned(),
        title: kind.title.to_owned(),
        lead: kind.lead.to_owned(),
        drawings: if rows.is_empty() {
            Vec::new()
        } else {
            both(|layout| draw(layout, &rows, kind))
        },
        keys: if rows.is_empty() {
            Vec::new()
        } else {
            vec![
                Key {
                    class: "k-strip-solo",
                    text: "alone",
                },
                Key {
                    class: "k-strip",
                    text: "together",
                },
                Key {
                    class: "k-median",
                    text: "median",
                },
            ]
        },
        notes,
        table: table(&rows),
    }
}

fn draw(layout: Layout, rows: &[Row<'_>], kind: &Kind) -> String {
    let all = || {
        rows.iter()
            .flat_map(|row| row.solo.iter().chain(&row.among).copied())
    };
    let (smallest, largest) = (
        all().fold(f64::INFINITY, f64::min),
        all().fold(0.0, f64::max),
    );
    let (over, unit) = time_unit(largest);
    let frame = Frame::new(layout, 50.0, 10.0);
    let about = if layout.is_narrow() { 4 } else { 7 };
    let scale = Scale::times(smallest / over, largest / over, frame.span, about);
    let mut label = format!("{}, {unit}.", kind.title);
    for row in rows.iter().take(12) {
        label.push_str(&format!(
            " {}: median alone {} ms, together {} ms.",
            row.test.label,
            opt(quantile(&row.solo, 0.5)),
            opt(quantile(&row.among, 0.5))
        ));
    }
    let mut svg = Svg::new(layout, &label);
    frame.rules(&mut svg, rows.len());
    let log = if scale.is_log() { ", logarithmic" } else { "" };
    let name = format!("{} ({unit}{log})", kind.title);
    let height = frame.axis(&mut svg, &scale, rows.len(), &name, |tick| {
        scale.tick_text(tick)
    });
    for (index, row) in rows.iter().enumerate() {
        let (_, middle) = frame.place(index);
        let (solo, among) = (quantile(&row.solo, 0.5), quantile(&row.among, 0.5));
        let value = match solo.zip(among).filter(|(solo, _)| *solo > 0.0) {
            Some((solo, among)) => format!("{}\u{d7}", text(among / solo)),
            None => among.map_or_else(
                || "\u{2013}".to_owned(),
                |value| format!("{} ms", text(value)),
            ),
        };
        let more = if solo.is_some() {
            "median ratio"
        } else {
            "median"
        };
        let (id, solo_n, among_n) = (&row.test.id, row.solo.len(), row.among.len());
        let note = format!("test {id}, n = {solo_n} alone, {among_n} together");
        let words = Words {
            name: &row.test.label,
            note: &note,
            value: &value,
            more,
            class: "v",
        };
        frame.label(&mut svg, index, &words);
        strip(&mut svg, &scale, &row.solo, over, (middle - 10.0, " solo"));
        strip(&mut svg, &scale, &row.among, over, (middle + 10.0, ""));
    }
    svg.finish(height)
}

fn strip(svg: &mut Svg, scale: &Scale, values: &[f64], over: f64, (y, kind): (f64, &str)) {
    let at = |p: f64| quantile(values, p).map(|value| scale.place(value / over));
    if values.len() >= BOX_FROM
        && let (Some(low), Some(high)) = (at(0.25), at(0.75))
    {
        svg.rect(
            &format!("box{kind}"),
            (low, y - 7.0),
            (high - low, 14.0),
            2.0,
            None,
        );
    }
    let points = thin(values).map(|value| (scale.place(value / over), y));
    svg.dots(&format!("strip{kind}"), points);
    if let Some(x) = at(0.5) {
        svg.line(&format!("median{kind}"), (x, y - 9.0), (x, y + 9.0));
    }
}

/// At most [`MAX_POINTS`] of the values, the ends among them.
fn thin(values: &[f64]) -> impl Iterator<Item = f64> + '_ {
    let count = values.len().min(MAX_POINTS);
    (0..count).filter_map(move |rank| {
        let index = if count < values.len() {
            rank * (values.len() - 1) / count.saturating_sub(1).max(1)
        } else {
            rank
        };
        values.get(index).copied()
    })
}

fn table(rows: &[Row<'_>]) -> Option<Table> {
    let provenance = |row: &Row<'_>| {
        if row.is_mean {
            Provenance::Imported
        } else {
            Provenance::Measured
        }
    };
    let mut table = Table::new(
        2,
        &[
            "Configuration",
            "Leg",
            "n",
            "min ms",
            "p25",
            "p50",
            "p75",
            "p95",
            "max",
        ],
    );
    for row in rows {
        for (leg, values) in [("alone", &row.solo), ("together", &row.among)] {
            if values.is_empty() {
                continue;
            }
            let figures = [0.0, 0.25, 0.5, 0.75, 0.95, 1.0];
            let figures = figures.map(|p| Cell::number(quantile(values, p), provenance(row)));
            table.row(
                [
                    Cell::words(&row.test.label),
                    Cell::words(leg),
                    Cell::plain(values.len().to_string()),
                ]
                .into_iter()
                .chain(figures),
            );
        }
    }
    table.filled()
}
