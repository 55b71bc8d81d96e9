//! What the page template shows: texts ready to print, each number with its provenance.

use serde::Serialize;

use crate::report::RunReport;
use crate::report::number::{opt, text, with_interval};
use crate::stats::{Provenance, Summary};

/// A number's provenance as the template prints it: a mark with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Mark {
    /// Class of the mark.
    class: &'static str,
    /// What it says.
    name: &'static str,
}

/// The mark of a provenance.
pub(super) fn mark(provenance: Provenance) -> Mark {
    let class = match provenance {
        Provenance::Measured => "m",
        Provenance::Imported => "i",
        Provenance::Derived => "d",
        Provenance::Estimated => "e",
        Provenance::NotMeasured => "n",
    };
    Mark {
        class,
        name: provenance.as_str(),
    }
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Cell {
    text: String,
    /// Smaller text behind it: an interval, a reason.
    more: Option<String>,
    mark: Option<Mark>,
    /// Class of the cell.
    class: &'static str,
}

impl Cell {
    /// Words.
    pub(super) fn words(text: impl Into<String>) -> Self {
        Self {
            text: clean(&text.into()),
            more: None,
            mark: None,
            class: "w",
        }
    }

    /// A number, already a text.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self {
            text: clean(&text.into()),
            more: None,
            mark: None,
            class: "r",
        }
    }

    /// A number with its provenance; a dash if there is none.
    pub(super) fn number(value: Option<f64>, provenance: Provenance) -> Self {
        let provenance = if value.is_some() {
            provenance
        } else {
            Provenance::NotMeasured
        };
        Self {
            mark: Some(mark(provenance)),
            ..Self::plain(opt(value))
        }
    }

    /// A measured number.
    pub(super) fn measured(value: Option<f64>) -> Self {
        Self::number(value, Provenance::Measured)
    }

    /// A part of one, as a percentage.
    pub(super) fn part(value: Option<f64>, provenance: Provenance) -> Self {
        let mut cell = Self::number(value, provenance);
        if let Some(value) = value {
            cell.text = percent(value);
        }
        cell
    }

    /// The mean of repeats with its interval, or why there is none.
    pub(super) fn summary(summary: &Summary) -> Self {
        let mut cell = Self::number(summary.value, summary.provenance);
        cell.more = match (&summary.ci95, &summary.reason) {
            (Some([low, high]), _) => Some(interval(*low, *high)),
            (None, Some(reason)) if summary.value.is_none() => Some(clean(reason)),
            _ => None,
        };
        cell
    }

    /// The same cell with smaller text behind it.
    pub(super) fn with_more(mut self, more: impl Into<String>) -> Self {
        self.more = Some(clean(&more.into()));
        self
    }

    /// The same cell with another text.
    pub(super) fn with_text(mut self, text: &str) -> Self {
        self.text = clean(text);
        self
    }

    /// The same cell in bold.
    pub(super) fn strong(mut self) -> Self {
        self.class = if self.class == "w" { "w b" } else { "r b" };
        self
    }
}

/// A table with its header. *Shape*: every row has as many cells as the header.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(super) struct Table {
    head: Vec<Head>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Head {
    text: String,
    class: &'static str,
}

impl Table {
    /// A table whose first `words` columns hold words and the others numbers.
    pub(super) fn new(words: usize, head: &[&str]) -> Self {
        let head = head.iter().enumerate().map(|(column, text)| Head {
            text: (*text).to_owned(),
            class: if column < words { "w" } else { "r" },
        });
        Self {
            head: head.collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows
            .push(cells.into_iter().take(self.head.len()).collect());
    }

    /// The table, if it has rows.
    pub(super) fn filled(self) -> Option<Self> {
        (!self.rows.is_empty()).then_some(self)
    }
}

/// An entry of a legend: a sample of the mark, and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Key {
    pub(super) class: &'static str,
    pub(super) text: &'static str,
}

/// A picture with everything around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Figure {
    /// Anchor within the page.
    pub(super) id: String,
    /// What it shows.
    pub(super) title: String,
    /// How to look at it, in a sentence.
    pub(super) lead: String,
    /// The drawings, wide and narrow. Empty: there is nothing to draw, and `notes` say why.
    pub(super) drawings: Vec<String>,
    /// What the marks mean.
    pub(super) keys: Vec<Key>,
    /// What was left out, and by which rule.
    pub(super) notes: Vec<String>,
    /// The numbers behind it.
    pub(super) table: Option<Table>,
}

/// A number worth a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Card {
    /// Which number.
    pub(super) name: &'static str,
    /// The number.
    pub(super) value: String,
    /// What stands behind it, smaller.
    pub(super) unit: &'static str,
    /// Interval and count, or the reason that there is none.
    pub(super) detail: String,
    /// Of which test.
    pub(super) of: Option<String>,
    /// Its provenance.
    pub(super) mark: Option<Mark>,
    /// `gain`, `loss` or nothing.
    pub(super) tone: &'static str,
}

/// Provenance of what a run states of itself, gains aside.
pub(super) fn stamps(run: &RunReport) -> Provenance {
    if run.tr110.is_some() {
        Provenance::Imported
    } else {
        Provenance::Measured
    }
}

/// What a gain means, by its interval: never more than that allows.
pub(super) fn tone(value: Option<f64>, ci95: Option<[f64; 2]>) -> &'static str {
    match (value, ci95) {
        (Some(_), Some([low, _])) if low > 1.0 => "gain",
        (Some(_), Some([_, high])) if high < 1.0 => "loss",
        _ => "open",
    }
}

/// A fraction as a percentage: whole, but one decimal below ten.
pub(super) fn percent(fraction: f64) -> String {
    let value = fraction * 100.0;
    if value.abs() < 9.95 {
        format!("{value:.1}\u{202f}%")
    } else {
        format!("{value:.0}\u{202f}%")
    }
}

/// `1.64 to 2.02`.
pub(super) fn interval(low: f64, high: f64) -> String {
    format!("{} to {}", text(low), text(high))
}

/// `1.83 (1.64 to 2.02), n = 3, measured`, for tool tips and labels.
pub(super) fn spoken(summary: &Summary) -> String {
    if summary.value.is_none() {
        let reason = summary.reason.as_deref().unwrap_or("no reason is recorded");
        return format!("not measured: {reason}");
    }
    format!(
        "{}, n = {}, {}",
        with_interval(summary.value, summary.ci95),
        summary.n,
        summary.provenance.as_str()
    )
}

/// Text that XML can hold and that keeps its line: names and messages may hold anything.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' | '\r' => ' ',
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => '\u{fffd}',
            c => c,
        })
        .collect()
}
