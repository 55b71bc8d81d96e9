//! A plan for a person to read.

use std::fmt::Write as _;

use chimera_domain::memory::{Amount, EngineSettings, Layout, ModelFacts, Provenance};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::{Cell, Plan};

/// The plan as text, with a newline at its end.
pub(super) fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for (name, what) in [
        ("Model", model(&plan.model, &plan.model_from)),
        ("Engine", engine(&plan.settings)),
        ("GPU", gpu(plan)),
    ] {
        line(&mut text, format_args!("{name:<8}{what}"));
    }
    line(&mut text, format_args!("\nOne agent, MiB on the GPU:"));
    line(&mut text, format_args!("{}", parts(plan)));
    line(&mut text, format_args!("\nAgents together:"));
    line(&mut text, format_args!("{}", cells(plan)));
    line(
        &mut text,
        format_args!(
            "\nRegimes are those of TR110 4.4 (below 67 %, to 83 %, above). (d) derived from the model's file,\n\
             (e) estimated: docs/memory.md says how, and how far it was off."
        ),
    );
    if !plan.against.is_empty() {
        line(&mut text, format_args!("\nPlanned beside measured:"));
        line(&mut text, format_args!("{}", compared(plan)));
    }
    text
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let written = writeln!(text, "{what}");
    debug_assert!(written.is_ok());
}

fn model(facts: &ModelFacts, from: &str) -> String {
    let name = facts.name.as_deref().unwrap_or("unnamed");
    let quantisation = facts.file_type.as_deref().unwrap_or("mixed types");
    let windowed = facts.attention.iter().filter(|l| l.window.is_some());
    let windows = match facts.attention.iter().find_map(|l| l.window) {
        Some(window) => format!(", {} with a window of {window}", windowed.count()),
        None if facts.windows == Provenance::Estimated => {
            ", its windows unknown here: planned as if it had none".to_owned()
        }
        None => String::new(),
    };
    format!(
        "{name} ({}, {quantisation}), {} layers{windows}, {} MiB in tensors; {from}",
        facts.architecture,
        facts.layers(),
        mib(facts.bytes.total())
    )
}

fn engine(settings: &EngineSettings) -> String {
    let (name, share) = match settings.layout {
        Layout::LlamaCpp => ("llama.cpp", "that share the context"),
        Layout::Ollama => ("Ollama", "with the context each"),
    };
    let slots = match settings.slots {
        1 => "1 slot".to_owned(),
        n => format!("{n} slots {share}"),
    };
    let layers = settings
        .gpu_layers
        .map_or("all layers".to_owned(), |n| format!("{n} layers"));
    let mut all = format!(
        "as {name} lays it out: {slots}, KV cache {}, batches of {}, {layers} on the GPU",
        settings.cache.kv_type.name(),
        settings.batch
    );
    for (set, what) in [
        (settings.cache.swa_full, ", windows kept whole"),
        (settings.cache.unified, ", one cache for all slots"),
        (!settings.flash_attention, ", no flash attention"),
    ] {
        if set {
            all.push_str(what);
        }
    }
    all
}

fn gpu(plan: &Plan) -> String {
    let gpu = &plan.gpu;
    let others = match gpu.others_bytes {
        0 => String::new(),
        bytes => format!(", {} in use", gib(bytes)),
    };
    format!(
        "{} ({}); {} reserved by the driver ({}){others}, {} kept free: {} for agents",
        gib(gpu.total_bytes),
        plan.gpu_from,
        gib(gpu.reserved.bytes),
        gpu.reserved.provenance.name(),
        gib(gpu.margin_bytes),
        gib(gpu.available_bytes())
    )
}

fn table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header);
    table
}

fn right(mut table: Table, columns: std::ops::Range<usize>) -> String {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// A part of an agent's memory, to be found in its plan.
type Part = fn(&super::AgentMemory) -> Amount;

/// What one agent takes, a column for each context.
fn parts(plan: &Plan) -> String {
    let columns = plan.agents.len();
    let mut header = vec!["context".to_owned()];
    header.extend(plan.agents.iter().map(|agent| agent.context.to_string()));
    let mut table = table(header);
    let rows: [(&str, Part); 6] = [
        ("weights", |m| m.weights.device),
        ("KV cache", |m| m.kv_cache.device),
        ("compute buffer", |m| m.compute),
        ("CUDA context", |m| m.overhead),
        ("together", |m| m.device_total()),
        ("in the host's memory", |m| m.host_total()),
    ];
    for (name, part) in rows {
        let mut row = vec![name.to_owned()];
        row.extend(plan.agents.iter().map(|agent| amount(part(&agent.memory))));
        table.add_row(row);
    }
    let mut row = vec!["most agents that fit".to_owned()];
    row.extend(plan.agents.iter().map(|agent| {
        agent
            .largest_count
            .map_or("no limit".to_owned(), |count| count.to_string())
    }));
    table.add_row(row);
    right(table, 1..columns.saturating_add(1))
}

/// Every number of agents with every context.
fn cells(plan: &Plan) -> String {
    let header = ["context", "agents", "MiB", "of the GPU", "regime", "fits"];
    let mut table = table(header.map(str::to_owned).to_vec());
    for cell in &plan.cells {
        table.add_row(vec![
            cell.context.to_string(),
            cell.agents.to_string(),
            amount(cell.fit.needed),
            format!("{:.0} %", cell.fit.share * 100.0),
            cell.fit.regime.name().to_owned(),
            verdict(cell),
        ]);
    }
    right(table, 0..4)
}

fn verdict(cell: &Cell) -> String {
    match cell.layer_budget {
        None => "yes".to_owned(),
        Some(budget) => {
            let tr110 = format!("TR110's formula: {}", budget.tr110);
            match budget.layers {
                0 => format!("no, not with one layer each ({tr110})"),
                layers => format!(
                    "no; with {layers} of {} layers each ({}; {tr110})",
                    budget.of,
                    budget.provenance.name()
                ),
            }
        }
    }
}

fn compared(plan: &Plan) -> String {
    let header = ["what", "context", "slots", "planned", "measured", "error"];
    let mut table = table(header.map(str::to_owned).to_vec());
    for row in &plan.against {
        table.add_row(vec![
            format!("{} ({})", row.what.name(), row.source),
            row.context.to_string(),
            row.slots.to_string(),
            amount(row.planned),
            mib(row.measured_bytes),
            format!("{:+.1} %", row.error * 100.0),
        ]);
    }
    right(table, 1..6)
}

fn amount(amount: Amount) -> String {
    let mark = match amount.provenance {
        Provenance::Derived => "d",
        Provenance::Estimated => "e",
    };
    format!("{} ({mark})", mib(amount.bytes))
}

#[expect(clippy::cast_precision_loss, reason = "2^53 bytes are 9 petabytes")]
fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1_u32 << 20))
}

#[expect(clippy::cast_precision_loss, reason = "2^53 bytes are 9 petabytes")]
fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1_u32 << 30))
}
