//! The parts of a quality as scores from 0 to 1, and the composite.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::facts::{Facts, bare, numbers};
use super::text::Structure;

/// Weights of the composite; they add up to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Of the overlap with the data.
    pub facts: f64,
    /// Of structure.
    pub structure: f64,
    /// Of technical depth.
    pub depth: f64,
    /// Of citations.
    pub citations: f64,
    /// Of length.
    pub length: f64,
}

/// The weights, with their reasons.
///
/// Facts weigh most: a report that states what is not in the data is worse than none, whatever it
/// looks like. Depth and structure are what its readers asked for. Length only tells a report from a
/// fragment, and citations are few even in good reports.
pub const WEIGHTS: Weights = Weights {
    facts: 0.40,
    structure: 0.20,
    depth: 0.20,
    citations: 0.10,
    length: 0.10,
};

/// Figures of the data that a full score needs.
const ENOUGH_FACTS: f64 = 5.0;
/// Sections that a full score needs: the prompts ask for four.
const ENOUGH_SECTIONS: f64 = 4.0;
/// List items that a full score needs; a table counts as many.
const ENOUGH_ITEMS: f64 = 4.0;
/// Technical words per 100 that a full score needs.
const ENOUGH_TECHNICAL: f64 = 20.0;
/// Citations that a full score needs.
const ENOUGH_CITATIONS: f64 = 4.0;
/// Words that a full score needs.
const ENOUGH_WORDS: f64 = 150.0;

/// Terms of the field, in lower case.
const TERMS: [&str; 44] = [
    "agent",
    "agents",
    "baseline",
    "batch",
    "bandwidth",
    "benchmark",
    "cache",
    "cold",
    "concurrency",
    "context",
    "cpu",
    "decode",
    "distribution",
    "efficiency",
    "gpu",
    "inference",
    "kv",
    "latency",
    "layers",
    "load",
    "mean",
    "median",
    "memory",
    "model",
    "outlier",
    "outliers",
    "percentile",
    "prefill",
    "prompt",
    "quantization",
    "quantized",
    "rate",
    "regression",
    "sample",
    "samples",
    "sd",
    "temperature",
    "throughput",
    "token",
    "tokens",
    "tpot",
    "ttft",
    "variance",
    "vram",
];

/// Units, in lower case.
const UNITS: [&str; 16] = [
    "%", "b", "gb", "ghz", "gib", "hz", "k", "kb", "mb", "mhz", "mib", "ms", "ns", "s", "tokens/s",
    "w",
];

/// Whether a word is technical: a figure, a unit, a term of the field, or a name in the data.
#[must_use]
pub fn is_technical(word: &str, facts: Option<&Facts>) -> bool {
    let bare_word = bare(word);
    if bare_word.is_empty() {
        return false;
    }
    TERMS.binary_search(&bare_word.as_str()).is_ok()
        || UNITS.contains(&bare_word.as_str())
        || facts.is_some_and(|facts| facts.names(word))
        // An identifier: a setting or a column.
        || bare_word.contains('_')
        || !numbers(word).is_empty()
}

/// The parts of a quality, each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scores {
    /// Overlap with the data. `null`: the data's figures are not recorded.
    pub facts: Option<f64>,
    /// Structure.
    pub structure: f64,
    /// Technical depth.
    pub depth: f64,
    /// Citations.
    pub citations: f64,
    /// Length.
    pub length: f64,
}

impl Scores {
    /// Weighted mean by [`WEIGHTS`] of the scores that are there.
    #[must_use]
    pub fn composite(&self) -> f64 {
        let parts = [
            (self.facts, WEIGHTS.facts),
            (Some(self.structure), WEIGHTS.structure),
            (Some(self.depth), WEIGHTS.depth),
            (Some(self.citations), WEIGHTS.citations),
            (Some(self.length), WEIGHTS.length),
        ];
        let there = || {
            parts
                .iter()
                .filter_map(|(score, weight)| Some((((*score)?), *weight)))
        };
        let weight: f64 = there().map(|(_, weight)| weight).sum();
        let sum: f64 = there().map(|(score, weight)| score * weight).sum();
        (sum / weight).clamp(0.0, 1.0)
    }
}

fn enough(value: f64, full: f64) -> f64 {
    (value / full).clamp(0.0, 1.0)
}

/// Part of the figures stated that are in the data, times how many of them there are, up to five.
///
/// A report without figures states no fact: 0.
#[must_use]
pub fn facts(stated: u32, in_data: u32) -> f64 {
    if stated == 0 {
        return 0.0;
    }
    f64::from(in_data) / f64::from(stated) * enough(f64::from(in_data), ENOUGH_FACTS)
}

/// Mean of sections (four are full) and list items (four are full, a table counts as four).
#[must_use]
pub fn structure(found: &Structure) -> f64 {
    let items = f64::from(found.list_items) + ENOUGH_ITEMS * f64::from(found.tables);
    f64::midpoint(
        enough(f64::from(found.sections), ENOUGH_SECTIONS),
        enough(items, ENOUGH_ITEMS),
    )
}

/// Technical words per 100 words; 20 are full.
#[must_use]
pub fn depth(technical_per_100_words: f64) -> f64 {
    enough(technical_per_100_words, ENOUGH_TECHNICAL)
}

/// Citations; four are full.
#[must_use]
pub fn citations(count: u32) -> f64 {
    enough(f64::from(count), ENOUGH_CITATIONS)
}

/// Words; 150 are full.
#[must_use]
pub fn length(words: u32) -> f64 {
    enough(f64::from(words), ENOUGH_WORDS)
}
