//! What `report.md` has beside the tests: where an imported report comes from, what the data show, and
//! TR110's tables.

use super::table::{Table as Markdown, escape};
use crate::report::Report;
use crate::stats::Provenance;
use crate::tables::{By, Cell, Column, Table};

/// Where an imported report comes from; nothing for one of ours.
pub(super) fn source(report: &Report) -> String {
    let Some(source) = &report.source else {
        return String::new();
    };
    let mut out = format!(
        "**Imported**: {} files of the layout `{}`, measured by another tool. What they do not state is \
         absent here; no agent was run alone in them, so there is no concurrency gain unless they state \
         one.\n\n",
        source.files,
        escape(&source.layout)
    );
    for note in &source.notes {
        out.push_str(&format!("- {}\n", escape(note)));
    }
    if !source.notes.is_empty() {
        out.push('\n');
    }
    out
}

/// What the data show.
pub(super) fn findings(report: &Report) -> String {
    if report.findings.is_empty() {
        return String::new();
    }
    let mut out =
        "## What the data show\n\nComputed from the runs; the figures behind each sentence are \
                   in `report.json` under `findings`.\n\n"
            .to_owned();
    for finding in &report.findings {
        out.push_str(&format!(
            "- `{}`: {}\n",
            finding.id,
            escape(&finding.sentence)
        ));
    }
    out.push('\n');
    out
}

/// TR110's tables; those that the data cannot fill in one line each.
pub(super) fn tables(tables: &[Table]) -> String {
    let mut out = "## The tables of Technical Report 110\n\nTR110's figures by its formulas, and ours \
                   beside them. They are in `tables.json` too, with the provenance of every cell.\n\n"
        .to_owned();
    for table in tables.iter().filter(|table| table.empty.is_none()) {
        out.push_str(&one(table));
    }
    let empty: Vec<String> = tables
        .iter()
        .filter_map(|table| {
            let why = table.empty.as_ref()?;
            Some(format!(
                "- {} ({}): {}.\n",
                table.title,
                table.id,
                escape(why)
            ))
        })
        .collect();
    if !empty.is_empty() {
        out.push_str("Tables that these data cannot fill:\n\n");
        out.extend(empty);
        out.push('\n');
    }
    out
}

fn heading(column: &Column) -> String {
    match column.by {
        By::Row => column.name.clone(),
        By::Tr110 => format!("TR110: {}", column.name),
        By::Ours => format!("Ours: {}", column.name),
    }
}

fn one(table: &Table) -> String {
    let header: Vec<String> = table.columns.iter().map(heading).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut markdown = Markdown::new(&header);
    for row in &table.rows {
        markdown.row(row.iter().map(Cell::shown));
    }
    format!(
        "**{} ({})**\n\n{}{}{}\n\n",
        table.title,
        table.id,
        markdown.finish("Nothing."),
        escape(&table.note),
        provenances(table)
    )
}

/// How the numbers of each column came about, and why some are not there.
fn provenances(table: &Table) -> String {
    let mut by: Vec<(Provenance, Vec<String>)> = Vec::new();
    let mut reasons: Vec<&str> = Vec::new();
    for (place, column) in table.columns.iter().enumerate() {
        let name = heading(column);
        for cell in table.rows.iter().filter_map(|row| row.get(place)) {
            let (found, reason) = match cell {
                Cell::Text { .. } => continue,
                Cell::Share { of: 0, .. } => (Provenance::NotMeasured, None),
                Cell::Share { provenance, .. } => (*provenance, None),
                Cell::Number {
                    value,
                    provenance,
                    reason,
                    ..
                } => (*provenance, reason.as_deref().filter(|_| value.is_none())),
            };
            if let Some(reason) = reason.filter(|reason| !reasons.contains(reason)) {
                reasons.push(reason);
            }
            match by.iter_mut().find(|(known, _)| *known == found) {
                Some((_, names)) if names.contains(&name) => {}
                Some((_, names)) => names.push(name.clone()),
                None => by.push((found, vec![name.clone()])),
            }
        }
    }
    if by.is_empty() {
        return String::new();
    }
    by.sort_by_key(|(provenance, _)| *provenance);
    let parts: Vec<String> = by
        .into_iter()
        .map(|(provenance, names)| {
            let why = if provenance == Provenance::NotMeasured && !reasons.is_empty() {
                format!(" ({})", reasons.join("; "))
            } else {
                String::new()
            };
            format!("{}{why}: {}", provenance.as_str(), names.join(", "))
        })
        .collect();
    format!(" Provenance: {}.", escape(&parts.join("; ")))
}
