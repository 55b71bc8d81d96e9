//! Memory on the GPU: of the loaded models as the engines state it, and in use while the agents ran as
//! telemetry saw it; never an estimate.

use super::super::chart::{Layout, Scale, Svg};
use super::super::view::{Cell, Figure, Key, Table};
use super::plot::{Frame, Words, both};
use crate::ids::AgentId;
use crate::render::memory::{Device, devices};
use crate::report::number::text;
use crate::report::{Environment, TestReport};
use crate::stats::Provenance;

const GIB: f64 = 1_073_741_824.0;

/// One agent of one test. Bytes are the largest that an instance stated when it voted ready.
struct Row<'a> {
    test: &'a TestReport,
    agent: &'a AgentId,
    model: Option<u64>,
    vram: Option<u64>,
}

/// GPU memory by test and agent.
pub(in super::super) fn memory(
    tests: &[&TestReport],
    environment: &Environment,
    note: Option<&String>,
) -> Figure {
    let rows: Vec<Row<'_>> = tests.iter().flat_map(|test| of(test)).collect();
    let drawn = rows.iter().any(|row| row.vram.is_some());
    let mut notes = Vec::new();
    if drawn {
        notes.extend(note.cloned());
    } else {
        let why = environment
            .gpu_absent
            .as_deref()
            .unwrap_or("the engines do not say how much of the model lies in GPU memory");
        notes.push(format!("GPU memory was not measured: {why}."));
        if rows.iter().any(|row| row.model.is_some()) {
            notes.push(
                "The size of the loaded model, which the engines do state, is in the table."
                    .to_owned(),
            );
        }
    }
    Figure {
        id: "memory".to_owned(),
        title: "GPU memory".to_owned(),
        lead: "Bytes of each loaded model in GPU memory, as its engine stated them when it was ready. The \
               outline is the whole model: what lies outside GPU memory is computed on the processor."
            .to_owned(),
        drawings: if drawn {
            let bars: Vec<Bar<'_>> = rows.iter().map(Row::bar).collect();
            both(|layout| draw(layout, "GPU memory in GiB.", &bars))
        } else {
            Vec::new()
        },
        keys: if drawn {
            vec![
                Key {
                    class: "k-decode",
                    text: "in GPU memory",
                },
                Key {
                    class: "k-outline",
                    text: "whole model",
                },
            ]
        } else {
            Vec::new()
        },
        notes,
        table: table(&rows),
    }
}

/// GPU memory in use while the agents ran, by test and GPU. Nothing if telemetry saw none: the picture
/// of the models' memory says why.
pub(in super::super) fn sampled_memory(
    tests: &[&TestReport],
    note: Option<&String>,
) -> Option<Figure> {
    let seen: Vec<(&TestReport, Device<'_>)> = tests
        .iter()
        .flat_map(|test| devices(test).into_iter().map(|device| (*test, device)))
        .filter(|(_, device)| device.runs > 0)
        .collect();
    if seen.is_empty() {
        return None;
    }
    let bars: Vec<Bar<'_>> = seen
        .iter()
        .map(|(test, device)| Bar {
            name: &test.label,
            note: &device.uuid.0,
            part: device.peak_gib,
            whole: device.total_gib,
        })
        .collect();
    Some(Figure {
        id: "memory-in-use".to_owned(),
        title: "GPU memory while the agents ran".to_owned(),
        lead: "The most memory in use on each GPU in any valid run, whoever held it, as telemetry sampled it \
               while the agents ran. The outline is what the GPU has."
            .to_owned(),
        drawings: both(|layout| draw(layout, "GPU memory in use in GiB.", &bars)),
        keys: vec![
            Key {
                class: "k-decode",
                text: "in use, highest",
            },
            Key {
                class: "k-outline",
                text: "installed",
            },
        ],
        notes: note.cloned().into_iter().collect(),
        table: sampled_table(&seen),
    })
}

fn sampled_table(seen: &[(&TestReport, Device<'_>)]) -> Option<Table> {
    let mut table = Table::new(
        3,
        &[
            "Configuration",
            "GPU",
            "Host",
            "Installed GiB",
            "In use, highest GiB",
            "In use, mean GiB",
            "Engines, highest GiB",
            "Engines, mean GiB",
        ],
    );
    for (test, device) in seen {
        let cell = |gib: Option<f64>| Cell::number(gib, Provenance::Measured);
        table.row([
            Cell::words(&test.label),
            Cell::words(&device.uuid.0),
            Cell::words(device.node.as_str()),
            cell(device.total_gib),
            cell(device.peak_gib),
            cell(device.mean_gib),
            cell(device.engines_peak_gib),
            cell(device.engines_mean_gib),
        ]);
    }
    table.filled()
}

impl<'a> Row<'a> {
    fn bar(&self) -> Bar<'a> {
        Bar {
            name: &self.test.label,
            note: self.agent.as_str(),
            part: self.vram.map(gib),
            whole: self.model.map(gib),
        }
    }
}

/// A bar, and the outline of what it is a part of; GiB.
struct Bar<'a> {
    name: &'a str,
    note: &'a str,
    part: Option<f64>,
    whole: Option<f64>,
}

fn of(test: &TestReport) -> Vec<Row<'_>> {
    let stated = |agent: &AgentId, of: fn(&crate::event::PinFacts) -> Option<u64>| {
        let legs = test.runs.iter().flat_map(|run| &run.legs);
        legs.flat_map(|leg| &leg.ready)
            .filter(|ready| ready.agent == *agent)
            .filter_map(|ready| of(&ready.facts))
            .max()
    };
    test.agents
        .iter()
        .map(|config| Row {
            test,
            agent: &config.agent,
            model: stated(&config.agent, |facts| facts.size_bytes),
            vram: stated(&config.agent, |facts| facts.size_vram_bytes),
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / GIB
}

fn draw(layout: Layout, what: &str, bars: &[Bar<'_>]) -> String {
    let frame = Frame::new(layout, 24.0, 10.0);
    let largest = bars
        .iter()
        .flat_map(|bar| [bar.part, bar.whole])
        .flatten()
        .reduce(f64::max)
        .unwrap_or(1.0);
    let scale = Scale::linear(
        0.0,
        largest,
        frame.span,
        if layout.is_narrow() { 4 } else { 7 },
    );
    let mut label = what.to_owned();
    for bar in bars.iter().take(12) {
        let value = bar.part.map_or_else(|| "not measured".to_owned(), text);
        label.push_str(&format!(" {}, {}: {value}.", bar.name, bar.note));
    }
    let mut svg = Svg::new(layout, &label);
    frame.rules(&mut svg, bars.len());
    let height = frame.axis(&mut svg, &scale, bars.len(), "GiB", |tick| {
        scale.tick_text(tick)
    });
    for (index, bar) in bars.iter().enumerate() {
        let (_, y) = frame.place(index);
        let value = bar.part.map_or_else(
            || "\u{2013}".to_owned(),
            |part| format!("{} GiB", text(part)),
        );
        let more = match (bar.part, bar.whole) {
            (None, _) => "not measured".to_owned(),
            (Some(_), Some(whole)) => format!("of {}", text(whole)),
            (Some(_), None) => String::new(),
        };
        let words = Words {
            name: bar.name,
            note: bar.note,
            value: &value,
            more: &more,
            class: "v",
        };
        frame.label(&mut svg, index, &words);
        let from = scale.place(0.0);
        if let Some(part) = bar.part {
            svg.rect(
                "decode",
                (from, y - 7.0),
                (scale.place(part) - from, 14.0),
                2.0,
                Some(&format!("{}: {value}", bar.note)),
            );
        }
        if let Some(whole) = bar.whole {
            svg.rect(
                "outline",
                (from, y - 7.0),
                (scale.place(whole) - from, 14.0),
                2.0,
                None,
            );
        }
    }
    svg.finish(height)
}

fn table(rows: &[Row<'_>]) -> Option<Table> {
    let mut table = Table::new(
        2,
        &[
            "Configuration",
            "Agent",
            "In GPU memory GiB",
            "Whole model GiB",
        ],
    );
    for row in rows
        .iter()
        .filter(|row| row.model.is_some() || row.vram.is_some())
    {
        let cell = |bytes: Option<u64>| Cell::number(bytes.map(gib), Provenance::Measured);
        table.row([
            Cell::words(&row.test.label),
            Cell::words(row.agent.as_str()),
            cell(row.vram),
            cell(row.model),
        ]);
    }
    table.filled()
}
