//! `[gate]`: what a result must reach.

use super::super::error::Sink;
use super::super::reader::{Item, Table};
use super::slo;
use crate::gate::{Quantity, Threshold};

/// Longest rule: it may end in the label of a test.
const MAX_RULE: usize = 200;

/// Reads the table, in the order written. `has_slo` is `None` if the `[slo]` could not be read.
pub(super) fn read(mut table: Table<'_>, has_slo: Option<bool>, sink: &mut Sink) -> Vec<Threshold> {
    let given: Vec<&'static str> = table
        .keys()
        .filter_map(|key| {
            Quantity::all()
                .map(Quantity::name)
                .find(|name| *name == key)
        })
        .collect();
    let mut found = Vec::with_capacity(given.len());
    for name in given {
        if let Some(item) = table.take(name)
            && let Some(rule) = rule(name, &item, sink)
        {
            if let Quantity::Metric(metric) = rule.quantity {
                slo::needs(&item, metric, has_slo, sink);
            }
            found.push(rule);
        }
    }
    // What is asked for is what an unknown key is told to have meant.
    for quantity in Quantity::all() {
        drop(table.take(quantity.name()));
    }
    table.finish(sink);
    found
}

fn rule(name: &str, item: &Item<'_>, sink: &mut Sink) -> Option<Threshold> {
    let given = item.line(MAX_RULE, sink)?;
    match Threshold::parse(name, &given) {
        Ok(rule) => Some(rule),
        Err(problem) => {
            let hint = "a comparison and a number, then ci, optional, in TEST";
            item.fault(problem, hint, sink);
            None
        }
    }
}
