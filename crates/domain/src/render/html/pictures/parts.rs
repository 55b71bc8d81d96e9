//! Where the agents' wall time went: a stacked bar per agent, and below it what the same requests take
//! alone. Both are means over the runs of the test, on one axis.

use super::super::chart::{Anchor, Layout, Scale, Svg, fit, width};
use super::super::view::{Cell, Figure, Key, Table};
use super::plot::both;
use crate::attribution::{AgentTime, Part};
use crate::render::why::{milliseconds, pieces, share};
use crate::report::number::text;
use crate::report::{MeanTime, TestReport};
use crate::stats::Provenance;

/// Most agents drawn.
const MAX_AGENTS: usize = 16;
/// Height of a bar together.
const BAR: f64 = 18.0;
/// Height of a bar alone.
const ALONE_BAR: f64 = 10.0;
/// Between the two bars of an agent.
const GAP: f64 = 3.0;
/// Width of the label column of the wide drawing.
const LABELS: f64 = 150.0;
/// Width of the column of durations.
const DURATIONS: f64 = 76.0;
/// Upper end of the plot.
const TOP: f64 = 8.0;
/// A stretch shorter than this is not drawn, ms.
const DRAWN_MS: f64 = 0.05;

/// What a stretch looks like, and what it is: as [`pieces`] name them.
const LOOKS: [(&str, &str, &str); 15] = [
    ("client", "w-client", "client: its thread waited for a core"),
    (
        "transport",
        "w-transport",
        "transport between client and engine",
    ),
    ("queue", "w-queue", "queue in the engine"),
    ("load", "w-load", "loading a model"),
    ("prefill", "w-prefill", "prefill"),
    ("decode", "w-decode", "decode"),
    ("stall", "w-stall", "stalls between tokens"),
    ("unsplit", "w-unsplit", "waits that cannot be told apart"),
    ("closing", "w-closing", "end of the stream"),
    ("local", "w-local", "steps without the model"),
    ("think", "w-think", "think time"),
    ("harness", "w-harness", "Chimera itself"),
    (
        "start",
        "w-idle",
        "waiting for the others: start and idle tail",
    ),
    (
        "idle tail",
        "w-idle",
        "waiting for the others: start and idle tail",
    ),
    ("residual", "w-residual", "nobody\u{2019}s"),
];

fn look(name: &str) -> (&'static str, &'static str) {
    let known = LOOKS.iter().find(|(known, _, _)| *known == name);
    known.map_or(("w-residual", ""), |(_, class, text)| (class, text))
}

/// Class of the legend's sample of a stretch.
fn key_class(class: &str) -> &'static str {
    match class {
        "w-client" => "k-w k-client",
        "w-transport" => "k-w k-transport",
        "w-queue" => "k-w k-queue",
        "w-load" => "k-w k-load",
        "w-prefill" => "k-w k-prefill",
        "w-decode" => "k-w k-decode",
        "w-stall" => "k-w k-stall",
        "w-unsplit" => "k-w k-unsplit",
        "w-closing" => "k-w k-closing",
        "w-local" => "k-w k-local",
        "w-think" => "k-w k-think",
        "w-harness" => "k-w k-harness",
        "w-idle" => "k-w k-idle",
        _ => "k-w k-residual",
    }
}

/// The picture of a test. `None`: no run of it could be laid out.
pub(in super::super) fn parts(test: &TestReport) -> Option<Figure> {
    let drawn: Vec<&MeanTime> = test.times.iter().take(MAX_AGENTS).collect();
    let first = drawn.first()?;
    let mut notes = Vec::new();
    if test.times.len() > MAX_AGENTS {
        notes.push(format!(
            "{MAX_AGENTS} of {} agents are drawn.",
            test.times.len()
        ));
    }
    let alone = drawn.iter().any(|time| time.has_alone());
    if !alone {
        notes.push("No agent was run alone, so there is nothing to hold this against.".to_owned());
    }
    let runs = first.runs;
    let plural = if runs == 1 { "" } else { "s" };
    let below = if alone {
        " The thin bar below it is what the same requests take alone."
    } else {
        ""
    };
    Some(Figure {
        id: format!("parts-{}", test.id),
        title: "Where the time went".to_owned(),
        lead: format!(
            "The wall time of {} s, agent by agent, mean over {runs} run{plural}.{below}",
            text(first.wall_ms / 1e3)
        ),
        drawings: both(|layout| draw(layout, test, &drawn)),
        keys: keys(&drawn),
        notes,
        table: table(&drawn),
    })
}

/// The stretches that are drawn, in their order.
fn stretches(time: &AgentTime) -> Vec<(&'static str, f64)> {
    let pieces = pieces(time).into_iter();
    pieces
        .filter_map(|piece| Some((piece.name, piece.ms.filter(|ms| *ms >= DRAWN_MS)?)))
        .collect()
}

fn stretches_alone(time: &MeanTime) -> Vec<(&'static str, f64)> {
    let parts = Part::ALL.into_iter();
    parts
        .filter_map(|part| {
            let ms = time.alone.get(part).filter(|ms| *ms >= DRAWN_MS)?;
            Some((part.as_str(), ms))
        })
        .collect()
}

fn keys(drawn: &[&MeanTime]) -> Vec<Key> {
    let seen: Vec<&str> = drawn
        .iter()
        .flat_map(|time| {
            stretches(&time.together)
                .into_iter()
                .chain(stretches_alone(time))
        })
        .map(|(name, _)| name)
        .collect();
    let mut keys: Vec<Key> = Vec::new();
    for (name, class, text) in LOOKS {
        if seen.contains(&name) && !keys.iter().any(|key| key.text == text) {
            let class = key_class(class);
            keys.push(Key { class, text });
        }
    }
    keys
}

/// Height of an agent's row.
fn step(layout: Layout) -> f64 {
    let bars = BAR + GAP + ALONE_BAR;
    if layout.is_narrow() {
        bars + 32.0
    } else {
        bars + 16.0
    }
}

fn draw(layout: Layout, test: &TestReport, drawn: &[&MeanTime]) -> String {
    let total = |stretches: Vec<(&str, f64)>| stretches.iter().map(|(_, ms)| ms).sum::<f64>();
    let longest = drawn
        .iter()
        .flat_map(|time| {
            [
                time.wall_ms,
                total(stretches(&time.together)),
                total(stretches_alone(time)),
            ]
        })
        .fold(0.0, f64::max);
    let span = match layout {
        Layout::Wide => (LABELS, layout.width() - DURATIONS),
        Layout::Narrow => (4.0, layout.width() - 8.0),
    };
    let about = if layout.is_narrow() { 5 } else { 9 };
    let scale = Scale::linear(0.0, (longest / 1e3).max(1e-6), span, about);
    let label = format!("{}: where the wall time of each agent went", test.label);
    let mut svg = Svg::new(layout, &label);
    let bottom = TOP + drawn.len() as f64 * step(layout);
    axis(&mut svg, &scale, layout, bottom);
    for (index, time) in drawn.iter().enumerate() {
        row(&mut svg, &scale, layout, index, time);
    }
    svg.finish(bottom + 30.0)
}

fn axis(svg: &mut Svg, scale: &Scale, layout: Layout, bottom: f64) {
    let last = scale.ticks().len().saturating_sub(1);
    for (index, tick) in scale.ticks().iter().enumerate() {
        let x = scale.place(*tick);
        svg.line("g", (x, TOP), (x, bottom));
        let anchor = match (layout, index) {
            (Layout::Narrow, 0) => Anchor::Start,
            (Layout::Narrow, index) if index == last => Anchor::End,
            _ => Anchor::Middle,
        };
        let words = scale.tick_text(*tick);
        let unit = if index == last { " s" } else { "" };
        svg.text("t", (x, bottom + 16.0), anchor, &format!("{words}{unit}"));
    }
}

fn row(svg: &mut Svg, scale: &Scale, layout: Layout, index: usize, time: &MeanTime) {
    let label = if layout.is_narrow() { 22.0 } else { 8.0 };
    let y = TOP + index as f64 * step(layout) + label;
    let agent = time.together.agent.as_str();
    let length = format!("{} s", text(time.together.requests.total_ms() / 1e3));
    let right = layout.width();
    if layout.is_narrow() {
        let length = format!("{length} in requests");
        let room = right - width(&length, 12.0) - 16.0;
        svg.text("s", (4.0, y - 5.0), Anchor::Start, &fit(agent, 12.0, room));
        svg.text("t", (right - 8.0, y - 5.0), Anchor::End, &length);
    } else {
        let name = fit(agent, 13.0, LABELS - 14.0);
        svg.text("l", (0.0, y + 14.0), Anchor::Start, &name);
        svg.text("t", (right, y + 14.0), Anchor::End, &length);
    }
    let wall = time.wall_ms;
    bar(
        svg,
        scale,
        (y, BAR),
        &stretches(&time.together),
        |name, ms| {
            format!(
                "{agent}, {name}: {} ms, {} of the wall",
                milliseconds(ms),
                share(ms, wall)
            )
        },
    );
    if time.has_alone() {
        let y = y + BAR + GAP;
        let alone = stretches_alone(time);
        if !layout.is_narrow() {
            svg.text("s", (0.0, y + 9.0), Anchor::Start, "alone");
            let sum: f64 = alone.iter().map(|(_, ms)| ms).sum();
            let length = format!("{} s", text(sum / 1e3));
            svg.text("s", (right, y + 9.0), Anchor::End, &length);
        }
        bar(svg, scale, (y, ALONE_BAR), &alone, |name, ms| {
            format!("{agent} alone, {name}: {} ms", milliseconds(ms))
        });
    }
}

fn bar(
    svg: &mut Svg,
    scale: &Scale,
    (y, high): (f64, f64),
    stretches: &[(&'static str, f64)],
    tip: impl Fn(&str, f64) -> String,
) {
    let mut from = 0.0;
    for (name, ms) in stretches {
        let (start, end) = (scale.place(from / 1e3), scale.place((from + ms) / 1e3));
        let (class, _) = look(name);
        let tip = tip(name, *ms);
        svg.rect(class, (start, y), (end - start, high), 0.0, Some(&tip));
        from += ms;
    }
}

fn table(drawn: &[&MeanTime]) -> Option<Table> {
    let head = ["Agent", "Part", "Together ms", "Of the wall", "Alone ms"];
    let mut table = Table::new(2, &head);
    for time in drawn {
        for (place, piece) in pieces(&time.together).into_iter().enumerate() {
            let part = Part::ALL.get(place).copied();
            let alone = part.and_then(|part| time.alone.get(part));
            let both = [piece.ms, alone];
            if !both.iter().flatten().any(|ms| ms.abs() >= DRAWN_MS) && piece.name != "residual" {
                continue;
            }
            let written = |ms: Option<f64>| match ms {
                Some(ms) => Cell::measured(Some(ms)).with_text(&milliseconds(ms)),
                None => Cell::measured(None),
            };
            let of_wall = piece.ms.map(|ms| ms / time.wall_ms);
            table.row([
                Cell::words(time.together.agent.as_str()),
                Cell::words(piece.name),
                written(piece.ms),
                Cell::part(
                    of_wall.filter(|part| part.is_finite()),
                    Provenance::Measured,
                ),
                written(alone),
            ]);
        }
    }
    table.filled()
}
