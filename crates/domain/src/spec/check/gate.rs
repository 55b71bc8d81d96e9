//! `[gate]`: what a result must reach, kept as written once its shape is right.

use super::super::error::Sink;
use super::super::node::quote;
use super::super::reader::{Item, Table};
use crate::metric::Metric;

/// Figures of a whole experiment that are no [`Metric`] of a test.
const FURTHER: [&str; 5] = [
    "contention_rate",
    "ttft_delta_ms",
    "vram_share",
    "quality_delta",
    "invalid_share",
];
/// Longest rule.
const MAX_RULE: usize = 40;

/// Reads the table, in the order written.
pub(super) fn read(mut table: Table<'_>, sink: &mut Sink) -> Vec<(String, String)> {
    let known = || Metric::ALL.into_iter().map(Metric::name).chain(FURTHER);
    let given: Vec<&'static str> = table
        .keys()
        .filter_map(|key| known().find(|name| *name == key))
        .collect();
    let mut found = Vec::with_capacity(given.len());
    for name in given.iter().copied() {
        if let Some(item) = table.take(name)
            && let Some(rule) = rule(&item, sink)
        {
            found.push((name.to_owned(), rule));
        }
    }
    // Asked for, so that they are suggested.
    for name in known().filter(|name| !given.contains(name)) {
        let absent = table.take(name);
        debug_assert!(absent.is_none(), "given keys were read");
    }
    table.finish(sink);
    found
}

fn rule(item: &Item<'_>, sink: &mut Sink) -> Option<String> {
    let given = item.line(MAX_RULE, sink)?;
    if is_rule(&given) {
        return Some(given);
    }
    let hint = "a comparison and a number, as in \">= 1.5\"; \"ci\" behind it asks the whole 95 % \
                interval to pass";
    item.fault(format!("{} is not a rule", quote(&given)), hint, sink);
    None
}

fn is_rule(text: &str) -> bool {
    let text = text.trim();
    let number = [">=", "<=", ">", "<"]
        .into_iter()
        .find_map(|op| text.strip_prefix(op));
    let Some(number) = number else {
        return false;
    };
    let mut words = number.split_whitespace();
    let plain = |word: &str| {
        word.bytes()
            .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
    };
    let is_number = |word: &str| plain(word) && word.parse().is_ok_and(f64::is_finite);
    words.next().is_some_and(is_number)
        && matches!((words.next(), words.next()), (None | Some("ci"), None))
}
