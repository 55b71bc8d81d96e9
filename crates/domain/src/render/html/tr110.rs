//! TR110's tables, each figure beside ours, folded: few readers want all, and those want every digit.

use serde::Serialize;

use super::view::{Cell, Table, clean};
use crate::stats::Provenance;
use crate::tables::{self, By};

/// A table with what is said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Tr110Table {
    title: String,
    note: String,
    table: Option<Table>,
    /// Why there are no rows.
    empty: Option<String>,
}

/// The tables of TR110's report, as the page shows them.
pub(super) fn tr110(tables: &[tables::Table]) -> Vec<Tr110Table> {
    tables.iter().map(view).collect()
}

fn view(table: &tables::Table) -> Tr110Table {
    let names: Vec<String> = table
        .columns
        .iter()
        .map(|column| match column.by {
            By::Row => clean(&column.name),
            By::Tr110 => format!("TR110: {}", clean(&column.name)),
            By::Ours => format!("Ours: {}", clean(&column.name)),
        })
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let words = table
        .columns
        .iter()
        .take_while(|column| column.by == By::Row);
    let mut shown = Table::new(words.count(), &names);
    for row in &table.rows {
        shown.row(row.iter().map(cell));
    }
    Tr110Table {
        title: format!("{} ({})", clean(&table.title), clean(&table.tr110_section)),
        note: clean(&table.note),
        table: shown.filled(),
        empty: table.empty.as_deref().map(clean),
    }
}

fn cell(cell: &tables::Cell) -> Cell {
    let shown = cell.shown();
    match cell {
        tables::Cell::Text { .. } => Cell::words(shown),
        tables::Cell::Number {
            value,
            provenance,
            reason,
            ..
        } => {
            let own = Cell::number(*value, *provenance).with_text(&shown);
            match reason.as_deref().filter(|_| value.is_none()) {
                Some(reason) => own.with_more(reason),
                None => own,
            }
        }
        tables::Cell::Share { of, provenance, .. } => {
            let provenance = if *of == 0 {
                Provenance::NotMeasured
            } else {
                *provenance
            };
            Cell::number(Some(f64::from(*of)), provenance).with_text(&shown)
        }
    }
}
