//! The tables of Technical Report 110, of any report: imported from TR110 or measured by us.
//!
//! Each table has TR110's figures by TR110's formulas and, in columns that say so, ours beside them,
//! and one sentence on the difference. A table that the data cannot fill has no rows and says why.
//! Groups follow the report's own tests, whatever their options and numbers of agents: nothing in here
//! knows TR110's results.

mod choice;
mod contention;
mod group;
mod hypothesis;
mod law;
mod length;
mod memory;
mod scenario;
mod speedup;

use serde::{Deserialize, Serialize};

use crate::report::Report;
use crate::report::number::{opt, text};
use crate::scaling::{self, Scaling, Series};
use crate::stats::{Provenance, Summary};

/// A table of TR110 with our figures beside its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Closed label (`3.1`, `C.2`).
    pub id: String,
    /// What it shows.
    pub title: String,
    /// Section of TR110 that has it.
    pub tr110_section: String,
    /// Columns, in order.
    pub columns: Vec<Column>,
    /// Rows; each has as many cells as there are columns.
    pub rows: Vec<Vec<Cell>>,
    /// How TR110's figures and ours differ, and rules of the rows.
    pub note: String,
    /// Why there are no rows. `None`: there are.
    pub empty: Option<String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// What it holds, with its unit.
    pub name: String,
    /// By whose definition.
    pub by: By,
}

/// Whose definition a column follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Names what a row is about.
    Row,
    /// TR110's, with its signs.
    Tr110,
    /// Ours.
    Ours,
}

/// A cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cell {
    /// Words.
    Text {
        /// The words.
        text: String,
    },
    /// A number, or why there is none.
    Number {
        /// `None`: not measured.
        value: Option<f64>,
        /// 95 % interval, where one is shown.
        ci95: Option<[f64; 2]>,
        /// How it is written.
        form: Form,
        /// How it came about.
        provenance: Provenance,
        /// Why there is no number, or what it rests on.
        reason: Option<String>,
    },
    /// So many of so many.
    Share {
        /// How many.
        count: u32,
        /// Of how many.
        of: u32,
        /// How they came about.
        provenance: Provenance,
    },
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Three significant digits.
    Significant,
    /// This many decimals.
    Fixed(u8),
    /// This many decimals, with its sign.
    Signed(u8),
    /// A fraction as a percentage with this many decimals.
    Percent(u8),
    /// A probability.
    Probability,
}

impl Form {
    fn write(self, value: f64) -> String {
        match self {
            Self::Significant => text(value),
            Self::Fixed(decimals) => format!("{value:.*}", usize::from(decimals)),
            Self::Signed(decimals) => {
                let decimals = usize::from(decimals);
                let written = format!("{value:+.decimals$}");
                // -0 is how rounding writes a small negative number.
                if written.bytes().any(|b| b.is_ascii_digit() && b != b'0') {
                    written
                } else {
                    format!("{:.decimals$}", 0.0)
                }
            }
            Self::Percent(decimals) => {
                format!("{:.*} %", usize::from(decimals), value * 100.0)
            }
            Self::Probability => crate::report::findings::p_text(value),
        }
    }
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// A statistic without its interval.
    pub(crate) fn mean(summary: &Summary, form: Form) -> Self {
        Self::Number {
            value: summary.value,
            ci95: None,
            form,
            provenance: summary.provenance,
            reason: summary.reason.clone(),
        }
    }

    /// A statistic with its interval.
    pub(crate) fn interval(summary: &Summary) -> Self {
        Self::Number {
            value: summary.value,
            ci95: summary.ci95,
            form: Form::Significant,
            provenance: summary.provenance,
            reason: summary.reason.clone(),
        }
    }

    /// A number of this provenance, or why there is none.
    pub(crate) fn number(
        value: Option<f64>,
        form: Form,
        provenance: Provenance,
        otherwise: &str,
    ) -> Self {
        let value = value.filter(|value| value.is_finite());
        Self::Number {
            value,
            ci95: None,
            form,
            provenance: if value.is_some() {
                provenance
            } else {
                Provenance::NotMeasured
            },
            reason: value.is_none().then(|| otherwise.to_owned()),
        }
    }

    /// As it is written in a table for people.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Text { text } => text.clone(),
            Self::Number {
                value: Some(value),
                ci95: Some([low, high]),
                form,
                ..
            } => format!(
                "{} ({} to {})",
                form.write(*value),
                form.write(*low),
                form.write(*high)
            ),
            Self::Number {
                value: Some(value),
                form,
                ..
            } => form.write(*value),
            Self::Number { value: None, .. } => opt(None),
            Self::Share { of: 0, .. } => opt(None),
            Self::Share { count, of, .. } => format!(
                "{count}/{of} ({:.0} %)",
                f64::from(*count) / f64::from(*of) * 100.0
            ),
        }
    }
}

/// A table while it is put together.
struct Draft(Table);

impl Draft {
    /// Starts a table of a section.
    fn new(id: &str, title: &str, note: impl Into<String>) -> Self {
        Self(Table {
            id: id.to_owned(),
            title: title.to_owned(),
            tr110_section: id.to_owned(),
            columns: Vec::new(),
            rows: Vec::new(),
            note: note.into(),
            empty: None,
        })
    }

    fn columns(mut self, by: By, names: &[&str]) -> Self {
        self.0.columns.extend(names.iter().map(|name| Column {
            name: (*name).to_owned(),
            by,
        }));
        self
    }

    /// Adds a row. *Shape*: as many cells as there are columns.
    fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.0.rows.push(cells.into_iter().collect());
    }

    /// The table; without rows, why there are none.
    fn finish(mut self, otherwise: &str) -> Table {
        if self.0.rows.is_empty() {
            self.0.empty = Some(otherwise.to_owned());
        }
        self.0
    }
}

/// Every table of TR110 of this report, in TR110's order.
#[must_use]
pub fn all(report: &Report) -> Vec<Table> {
    with_laws(report, &scaling::laws(report))
}

/// As [`all`], where the laws of the report are known already.
#[must_use]
pub fn with_laws(report: &Report, laws: &[(Series, Scaling)]) -> Vec<Table> {
    let mut tables = scenario::tables(report);
    tables.extend([
        contention::by_scenario(report),
        contention::by_layers(report),
        memory::vram(report),
        speedup::distribution(report),
        speedup::complexity(report),
        speedup::temperature(report),
        speedup::hierarchy(report),
        law::scaling(report, laws),
        length::context(report),
        length::idle_tail(report),
        contention::by_memory(report),
        choice::use_cases(report),
        hypothesis::tests(report),
        memory::usage(report),
        memory::processor(report),
        memory::bandwidth(report),
    ]);
    tables
}
