//! `[gate]`: what a result must reach, kept as written once its shape is right.

use super::super::error::Sink;
use super::super::node::quote;
use super::super::reader::{Item, Table};
use crate::metric::Metric;

/// Figures that a gate can judge and that are no [`Metric`], and whether they are ratios.
const FURTHER: [(&str, bool); 6] = [
    ("contention_rate", true),
    ("tr110_contention_rate", true),
    ("valid_rate", true),
    ("ttft_delta_ms", false),
    ("vram_used_ratio", true),
    ("quality_delta", false),
];
/// Longest rule: it may end in the label of a test.
const MAX_RULE: usize = 200;

/// Reads the table, in the order written.
pub(super) fn read(mut table: Table<'_>, sink: &mut Sink) -> Vec<(String, String)> {
    let metrics = Metric::ALL.map(|m| (m.name(), m.unit().is_empty()));
    let known = || metrics.into_iter().chain(FURTHER);
    let given: Vec<(&'static str, bool)> = table
        .keys()
        .filter_map(|key| known().find(|(name, _)| *name == key))
        .collect();
    let mut found = Vec::with_capacity(given.len());
    for (name, is_ratio) in given.iter().copied() {
        if let Some(item) = table.take(name)
            && let Some(rule) = rule(&item, is_ratio, sink)
        {
            found.push((name.to_owned(), rule));
        }
    }
    // What is asked for is what an unknown key is told to have meant.
    for (name, _) in known() {
        drop(table.take(name));
    }
    table.finish(sink);
    found
}

fn rule(item: &Item<'_>, is_ratio: bool, sink: &mut Sink) -> Option<String> {
    let given = item.line(MAX_RULE, sink)?;
    let problem = match wrong_with(&given, is_ratio) {
        None => return Some(given),
        Some(problem) => format!("{} {problem}", quote(&given)),
    };
    let hint =
        "a comparison and a number, as in \">= 1.5\", \"<= 10 % ci\" or \"> 1 optional in 108\"";
    item.fault(problem, hint, sink);
    None
}

fn wrong_with(text: &str, is_ratio: bool) -> Option<&'static str> {
    let text = text.trim();
    let compared = [">=", "<=", ">", "<"]
        .into_iter()
        .find_map(|op| text.strip_prefix(op));
    let Some(text) = compared.map(str::trim_start) else {
        return Some("does not begin with >=, >, <= or <");
    };
    let end = text.find(|c: char| c.is_whitespace() || c == '%');
    let (number, rest) = text.split_at(end.unwrap_or(text.len()));
    let plain = number
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if !(plain && number.parse().is_ok_and(f64::is_finite)) {
        return Some("has no number behind the comparison");
    }
    let rest = rest.trim_start();
    let words = match rest.strip_prefix('%') {
        Some(_) if !is_ratio => return Some("has a percentage, but the figure is no ratio"),
        Some(words) => words,
        None => rest,
    };
    let mut words = words.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "ci" | "optional" => {}
            "in" if words.next().is_some() => return None,
            "in" => return Some("names no test after in"),
            _ => return Some("may have only ci, optional or in TEST behind the number"),
        }
    }
    None
}
