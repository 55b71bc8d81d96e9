//! How good a report is that an agent wrote, by counting: no judge, no model, no network.
//!
//! The rules count what can be counted in the text and compare what can be compared with the data it
//! was written from. They tell a report that was cut off, repeats its prompt or invents its figures
//! from one that does not; they cannot tell whether its advice is wise. That is what they are for: a
//! configuration that is fast because its agents write less, or worse, must not win unseen.
//!
//! - [`text`]: words and structure. [`facts`]: the data's figures, and which of them a text states.
//! - [`score`](mod@score): the parts as scores from 0 to 1, their weights, and the composite.
//!
//! Text judged is the model's own ([`REPORT_TEXT`]), not the file around it, in which the worker
//! writes tables of the same data.

pub mod facts;
pub mod score;
pub mod text;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{FinishReason, Output};

pub use facts::Facts;
pub use score::{Scores, WEIGHTS, Weights};
pub use text::Structure;

/// Name of the output that holds what the model wrote as its report.
pub const REPORT_TEXT: &str = "report_text";
/// Name of the output that holds the ingested data's figures.
pub const AGGREGATES: &str = "aggregates";
/// Name of the step that writes the report.
pub const REPORT_STEP: &str = "report";
/// Longest text judged, bytes; what lies beyond is not read.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// One report, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quality {
    /// Words: runs without white space that hold a letter or a digit.
    pub words: u32,
    /// Headings, list items, tables, sections.
    pub structure: Structure,
    /// Technical words per 100 words: numbers, units, names of columns, terms of the field.
    pub technical_per_100_words: Option<f64>,
    /// References: names of ingested files and columns, bracketed numbers, links.
    pub citations: u32,
    /// Figures stated, one-digit whole numbers aside.
    pub numbers_stated: u32,
    /// Of these, figures that are in the data. `null`: the data's figures are not recorded.
    pub numbers_in_data: Option<u32>,
    /// Part of the data's numeric columns of which a figure is stated. `null` as before, or without
    /// such columns.
    pub columns_covered: Option<f64>,
    /// The parts as scores.
    pub scores: Scores,
    /// Weighted mean of the scores that are there, 0 to 1.
    pub composite: f64,
    /// Whether the token budget ended the text (finish reason `length`). With a forced length every
    /// text ends so. `null`: the engine did not say.
    pub cut_at_budget: Option<bool>,
}

/// The quality of a report, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    /// The quality. `null`: there is no text.
    pub value: Option<Quality>,
    /// Why there is none.
    pub reason: Option<String>,
    /// Output tokens per second times the composite: what a fast agent that writes badly loses.
    pub adjusted_tokens_per_s: Option<f64>,
}

/// Why a report written before texts were judged has no quality.
pub(crate) const UNKNOWN: &str = "the report was computed before texts were judged";

impl Judged {
    /// No quality, and why.
    #[must_use]
    pub fn absent(reason: &str) -> Self {
        Self {
            value: None,
            reason: Some(reason.to_owned()),
            adjusted_tokens_per_s: None,
        }
    }

    /// What an older report says of itself.
    pub(crate) fn unknown() -> Self {
        Self::absent(UNKNOWN)
    }

    /// Judges what an agent wrote; `finish` is that of the request that wrote the report.
    #[must_use]
    pub fn of<'a>(
        outputs: impl Iterator<Item = &'a Output> + Clone,
        finish: Option<FinishReason>,
    ) -> Self {
        let named = |name: &str| {
            let mut all = outputs.clone();
            all.find(|output| output.name == name)
                .map(|output| output.text.as_str())
        };
        let Some(text) = named(REPORT_TEXT) else {
            return Self::absent("the records hold no text that the model wrote as its report");
        };
        let facts = named(AGGREGATES).and_then(Facts::from_json);
        Self {
            value: Some(judge(text, facts.as_ref(), finish)),
            reason: None,
            adjusted_tokens_per_s: None,
        }
    }

    /// Adds the quality-adjusted throughput: the agent's output tokens per second times the composite.
    pub fn adjust(&mut self, tokens_per_s: Option<f64>) {
        let composite = self.value.as_ref().map(|quality| quality.composite);
        self.adjusted_tokens_per_s = tokens_per_s.zip(composite).map(|(rate, part)| rate * part);
    }
}

/// Judges a text against the data it was written from.
///
/// *Undefined* without `facts`: the overlap, which then does not enter the composite.
///
/// ```
/// use chimera_domain::quality::{Facts, judge};
/// let facts = Facts::from_json(
///     r#"{"rows": 264, "files": [{"name": "a.csv", "rows": 264}],
///         "columns": [{"name": "ttft_ms", "kind": "numeric", "count": 264, "mean": 542.21}]}"#,
/// );
/// let good = judge("## Findings\n- Mean `ttft_ms` is 542.2 ms over 264 rows (a.csv).", facts.as_ref(), None);
/// let invented = judge("## Findings\n- Mean `ttft_ms` is 317.9 ms over 581 rows (a.csv).", facts.as_ref(), None);
/// assert_eq!(good.numbers_in_data, Some(2));
/// assert_eq!(invented.numbers_in_data, Some(0));
/// assert!(good.composite > invented.composite);
/// ```
#[must_use]
pub fn judge(text: &str, facts: Option<&Facts>, finish: Option<FinishReason>) -> Quality {
    let text = text::bounded(text, MAX_TEXT_BYTES);
    let words = text::words(text);
    let count = u32::try_from(words.len()).unwrap_or(u32::MAX);
    let structure = Structure::of(text);
    let technical = words
        .iter()
        .filter(|word| score::is_technical(word, facts))
        .count();
    let technical_per_100_words = (count > 0).then(|| 100.0 * technical as f64 / f64::from(count));
    let citations = facts::citations(text, facts);
    let numbers = facts::numbers(text);
    let stated = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    let overlap = facts.map(|facts| facts.overlap(&numbers));
    let scores = Scores {
        facts: overlap
            .as_ref()
            .map(|overlap| score::facts(stated, overlap.in_data)),
        structure: score::structure(&structure),
        depth: technical_per_100_words.map_or(0.0, score::depth),
        citations: score::citations(citations),
        length: score::length(count),
    };
    Quality {
        words: count,
        structure,
        technical_per_100_words,
        citations,
        numbers_stated: stated,
        numbers_in_data: overlap.as_ref().map(|overlap| overlap.in_data),
        columns_covered: overlap.and_then(|overlap| overlap.columns_covered),
        composite: scores.composite(),
        scores,
        cut_at_budget: finish.map(|finish| finish == FinishReason::Length),
    }
}

#[cfg(test)]
mod tests;
