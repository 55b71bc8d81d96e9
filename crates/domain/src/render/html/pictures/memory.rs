//! Memory of the loaded models on the GPU, as the engines state it; never an estimate.

use super::super::chart::{Layout, Scale, Svg};
use super::super::view::{Cell, Figure, Key, Table};
use super::plot::{Frame, Words, both};
use crate::ids::AgentId;
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
            both(|layout| draw(layout, &rows))
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

fn draw(layout: Layout, rows: &[Row<'_>]) -> String {
    let frame = Frame::new(layout, 24.0, 10.0);
    let largest = rows
        .iter()
        .filter_map(|row| row.model.max(row.vram))
        .max()
        .map_or(1.0, gib);
    let scale = Scale::linear(
        0.0,
        largest,
        frame.span,
        if layout.is_narrow() { 4 } else { 7 },
    );
    let mut label = "GPU memory in GiB.".to_owned();
    for row in rows.iter().take(12) {
        let value = row
            .vram
            .map_or_else(|| "not measured".to_owned(), |v| text(gib(v)));
        label.push_str(&format!(" {}, {}: {value}.", row.test.label, row.agent));
    }
    let mut svg = Svg::new(layout, &label);
    frame.rules(&mut svg, rows.len());
    let height = frame.axis(&mut svg, &scale, rows.len(), "GiB", |tick| {
        scale.tick_text(tick)
    });
    for (index, row) in rows.iter().enumerate() {
        let (_, y) = frame.place(index);
        let value = row.vram.map_or_else(
            || "\u{2013}".to_owned(),
            |v| format!("{} GiB", text(gib(v))),
        );
        let more = match (row.vram, row.model) {
            (None, _) => "not measured".to_owned(),
            (Some(_), Some(model)) => format!("of {}", text(gib(model))),
            (Some(_), None) => String::new(),
        };
        let words = Words {
            name: &row.test.label,
            note: row.agent.as_str(),
            value: &value,
            more: &more,
            class: "v",
        };
        frame.label(&mut svg, index, &words);
        let from = scale.place(0.0);
        if let Some(vram) = row.vram {
            let wide = scale.place(gib(vram)) - from;
            svg.rect(
                "decode",
                (from, y - 7.0),
                (wide, 14.0),
                2.0,
                Some(&format!("{}: {value}", row.agent)),
            );
        }
        if let Some(model) = row.model {
            svg.rect(
                "outline",
                (from, y - 7.0),
                (scale.place(gib(model)) - from, 14.0),
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
