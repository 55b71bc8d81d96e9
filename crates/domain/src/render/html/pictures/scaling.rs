//! Gain over the number of agents.

use std::collections::BTreeMap;

use super::super::chart::{Anchor, Layout, Scale, Svg};
use super::super::view::{Cell, Figure, Key, Table, clean, interval, spoken, tone};
use super::plot::both;
use crate::report::number::text;
use crate::report::{Report, TestReport};
use crate::scaling::{LawFit, Scaling, Series};

/// Laws whose AICc is less than this above the best are drawn too: they can hardly be told apart.
const CLOSE: f64 = 2.0;

/// Tests by number of agents.
type ByCount<'a> = BTreeMap<usize, Vec<&'a TestReport>>;

/// Gain over the number of agents. `None` below two different numbers with a gain.
pub(in super::super) fn scaling(report: &Report, laws: &[(Series, Scaling)]) -> Option<Figure> {
    let mut by_count: ByCount<'_> = BTreeMap::new();
    for test in &report.tests {
        if test.aggregate.concurrency_gain.value.is_some() {
            by_count.entry(test.agents.len()).or_default().push(test);
        }
    }
    if by_count.len() < 2 {
        return None;
    }
    let fits: Vec<&Scaling> = laws.iter().map(|(_, found)| found).collect();
    let mut keys = vec![
        Key {
            class: "k-gain",
            text: "mean over valid runs, coloured by its interval",
        },
        Key {
            class: "k-run",
            text: "one run",
        },
        Key {
            class: "k-ideal",
            text: "undisturbed",
        },
    ];
    if !fits.is_empty() {
        keys.push(Key {
            class: "k-fit",
            text: "law with the lowest AICc",
        });
    }
    let close = |fit: &LawFit| fit.delta > 0.0 && fit.delta < CLOSE;
    if fits.iter().flat_map(|scaling| &scaling.fits).any(close) {
        keys.push(Key {
            class: "k-fit-other",
            text: "other laws that can hardly be told from it",
        });
    }
    Some(Figure {
        id: "scaling".to_owned(),
        title: "More agents".to_owned(),
        lead: "Gain by number of agents, with 95 % intervals. On the dashed line no agent disturbs another; \
               where the points turn flat, one more agent gains nothing."
            .to_owned(),
        drawings: both(|layout| draw(layout, &by_count, &fits)),
        keys,
        notes: fits.iter().map(|fit| clean(&fit.sentence)).collect(),
        table: table(&by_count),
    })
}

fn draw(layout: Layout, by_count: &ByCount<'_>, fits: &[&Scaling]) -> String {
    let most = by_count.keys().next_back().copied().unwrap_or(1) as f64;
    let (height, bottom) = if layout.is_narrow() {
        (300.0, 256.0)
    } else {
        (400.0, 352.0)
    };
    let left = 44.0;
    let x = Scale::linear(0.0, most + 0.4, (left, layout.width() - 14.0), 6);
    let tests = || by_count.values().flatten();
    let top_value = tests()
        .flat_map(|test| {
            let gain = &test.aggregate.concurrency_gain;
            gain.value
                .into_iter()
                .chain(gain.ci95.map(|[_, high]| high))
        })
        .fold(most, f64::max)
        .min(most * 1.4);
    let y = Scale::linear(0.0, top_value, (bottom, 18.0), 6);
    let mut label = "Gain by number of agents.".to_owned();
    for test in tests().take(12) {
        label.push_str(&format!(
            " {} agents, {}: {}.",
            test.agents.len(),
            test.label,
            spoken(&test.aggregate.concurrency_gain)
        ));
    }
    let mut svg = Svg::new(layout, &label);
    for tick in y.ticks() {
        let at = y.place(*tick);
        svg.line("g", (left, at), (layout.width() - 14.0, at));
        svg.text(
            "t",
            (left - 8.0, at + 4.0),
            Anchor::End,
            &y.tick_text(*tick),
        );
    }
    for count in by_count.keys() {
        let at = x.place(*count as f64);
        svg.text("t", (at, bottom + 18.0), Anchor::Middle, &count.to_string());
    }
    let middle = f64::midpoint(left, layout.width());
    svg.text("s", (middle, bottom + 38.0), Anchor::Middle, "agents");
    svg.text("s", (left, 10.0), Anchor::Start, "gain");
    let ideal = most.min(y.high());
    svg.polyline(
        "ref dash",
        [
            (x.place(0.0), y.place(0.0)),
            (x.place(ideal), y.place(ideal)),
        ],
    );
    svg.line(
        "ref",
        (x.place(0.0), y.place(1.0)),
        (layout.width() - 14.0, y.place(1.0)),
    );
    for scaling in fits {
        laws(&mut svg, scaling, (&x, &y));
    }
    for (count, tests) in by_count {
        for (index, test) in tests.iter().enumerate() {
            // Tests of one number stand side by side.
            let shift = (index as f64 - (tests.len() as f64 - 1.0) / 2.0) * 14.0;
            point(&mut svg, test, x.place(*count as f64) + shift, &y);
        }
    }
    if !layout.is_narrow() && by_count.values().all(|tests| tests.len() == 1) {
        for (count, test) in by_count
            .iter()
            .filter_map(|(n, tests)| Some((n, tests.first()?)))
        {
            let at = y.place(test.aggregate.concurrency_gain.value.unwrap_or(0.0));
            let top = test
                .aggregate
                .concurrency_gain
                .ci95
                .map_or(at, |[_, high]| y.place(high));
            let spot = (x.place(*count as f64), top.min(at) - 14.0);
            let gain = text(test.aggregate.concurrency_gain.value.unwrap_or(0.0));
            svg.text("t halo", spot, Anchor::Middle, &format!("{gain}\u{d7}"));
        }
    }
    svg.finish(height)
}

/// The laws of a series through their totals at the numbers measured; the chosen one on top.
fn laws(svg: &mut Svg, scaling: &Scaling, (x, y): (&Scale, &Scale)) {
    let near = scaling.fits.iter().filter(|fit| fit.delta < CLOSE);
    for fit in near.rev() {
        let class = if fit.law == scaling.law {
            "fit"
        } else {
            "fit other"
        };
        let points = scaling.levels.iter().zip(&fit.predicted);
        svg.polyline(
            class,
            points.map(|(level, total)| (x.place(f64::from(level.agents)), y.place(*total))),
        );
    }
}

fn point(svg: &mut Svg, test: &TestReport, x: f64, y: &Scale) {
    let gain = &test.aggregate.concurrency_gain;
    let tone = tone(gain.value, gain.ci95);
    if let Some([low, high]) = gain.ci95 {
        let ends = ((x, y.place(low.max(0.0))), (x, y.place(high)));
        svg.line(&format!("ci {tone}"), ends.0, ends.1);
    }
    let runs = test
        .runs
        .iter()
        .filter(|run| run.valid)
        .filter_map(|run| run.concurrency_gain);
    svg.dots("run", runs.map(|value| (x - 12.0, y.place(value))));
    if let Some(value) = gain.value {
        let tip = format!(
            "{} agents, {}: {}",
            test.agents.len(),
            test.label,
            spoken(gain)
        );
        svg.circle(&format!("dot {tone}"), (x, y.place(value)), 6.0, Some(&tip));
    }
}

fn table(by_count: &ByCount<'_>) -> Option<Table> {
    let mut table = Table::new(
        2,
        &[
            "Agents",
            "Configuration",
            "Gain",
            "95 % interval",
            "n",
            "Gain per agent",
        ],
    );
    for (count, tests) in by_count {
        for test in tests {
            let gain = &test.aggregate.concurrency_gain;
            table.row([
                Cell::words(count.to_string()),
                Cell::words(&test.label),
                Cell::number(gain.value, gain.provenance),
                Cell::plain(
                    gain.ci95
                        .map_or_else(|| "-".to_owned(), |[low, high]| interval(low, high)),
                ),
                Cell::plain(gain.n.to_string()),
                Cell::part(test.aggregate.parallel_efficiency.value, gain.provenance),
            ]);
        }
    }
    table.filled()
}
