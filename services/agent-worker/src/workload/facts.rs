//! The aggregates as short rows for a prompt, most telling first, so that cutting from the end
//! costs least.

use serde::Serialize;

use super::aggregate::Aggregates;
use super::data::{ColumnAggregate, ColumnValues};

/// Most rows of one list offered to a template; what lies beyond counts as left out.
pub const MAX_ROWS_PER_LIST: usize = 48;

/// Longest name or text shown, in characters.
const MAX_SHOWN_CHARS: usize = 40;

/// What a prompt template can show. All numbers are texts, rounded to four digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Files, by rising name.
    pub files: Vec<FileRow>,
    /// Numeric columns over all files: those in most files first.
    pub columns: Vec<ColumnRow>,
    /// Numeric columns whose mean differs between files: those in most files first.
    pub contrasts: Vec<ContrastRow>,
    /// Text columns over all files: those in most files first.
    pub categories: Vec<CategoryRow>,
    /// Rows left out at the end of each list.
    pub omitted: Omitted,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileRow {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Its columns.
    pub columns: usize,
}

/// A numeric column. A value that is not defined reads `n/a`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnRow {
    /// Its name.
    pub name: String,
    /// Values.
    pub n: u64,
    /// Cells without one.
    pub missing: u64,
    /// Mean.
    pub mean: String,
    /// Standard deviation.
    pub sd: String,
    /// Smallest.
    pub min: String,
    /// Median.
    pub median: String,
    /// Largest.
    pub max: String,
}

/// Between which files a column's mean differs most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContrastRow {
    /// The column.
    pub name: String,
    /// Lowest mean.
    pub low: String,
    /// The file that has it; the first of equals.
    pub low_file: String,
    /// Highest mean.
    pub high: String,
    /// The file that has it; the first of equals.
    pub high_file: String,
}

/// A text column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CategoryRow {
    /// Its name.
    pub name: String,
    /// Different texts, `n/a` if there are too many to count.
    pub distinct: String,
    /// The most frequent one, `n/a` if there are too many to count.
    pub top: String,
    /// In how many cells it stands.
    pub top_n: String,
}

/// How many rows were left out of each list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Omitted {
    /// Of the files.
    pub files: usize,
    /// Of the numeric columns.
    pub columns: usize,
    /// Of the contrasts.
    pub contrasts: usize,
    /// Of the text columns.
    pub categories: usize,
}

/// A list of [`Facts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// [`Facts::files`].
    Files,
    /// [`Facts::columns`].
    Columns,
    /// [`Facts::contrasts`].
    Contrasts,
    /// [`Facts::categories`].
    Categories,
}

impl List {
    /// All lists, the one to be shortened first in front.
    pub const BY_WORTH: [Self; 4] = [
        Self::Categories,
        Self::Contrasts,
        Self::Files,
        Self::Columns,
    ];

    /// What a note calls the rows of the list.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Columns => "columns",
            Self::Contrasts => "contrasts",
            Self::Categories => "text columns",
        }
    }
}

impl Facts {
    /// Picks and orders the facts.
    #[must_use]
    pub fn new(aggregates: &Aggregates) -> Self {
        let mut ordered: Vec<&ColumnAggregate> = aggregates.columns.iter().collect();
        // Stable: equals stay in the order of their first appearance.
        ordered.sort_by_key(|column| std::cmp::Reverse(column.files));
        let files = aggregates
            .files
            .iter()
            .map(|file| FileRow {
                name: shown(&file.name),
                rows: file.rows,
                columns: file.columns.len(),
            })
            .collect();
        let mut facts = Self {
            files,
            columns: ordered
                .iter()
                .filter_map(|column| column_row(column))
                .collect(),
            contrasts: ordered
                .iter()
                .filter_map(|column| contrast(column, aggregates))
                .collect(),
            categories: ordered
                .iter()
                .filter_map(|column| category(column))
                .collect(),
            omitted: Omitted::default(),
        };
        for list in List::BY_WORTH {
            facts.keep(list, MAX_ROWS_PER_LIST);
        }
        facts
    }

    /// Rows in a list.
    #[must_use]
    pub fn len(&self, list: List) -> usize {
        match list {
            List::Files => self.files.len(),
            List::Columns => self.columns.len(),
            List::Contrasts => self.contrasts.len(),
            List::Categories => self.categories.len(),
        }
    }

    /// Cuts a list to its first `n` rows and counts the rest as left out.
    pub fn keep(&mut self, list: List, n: usize) {
        let cut = self.len(list).saturating_sub(n);
        match list {
            List::Files => {
                self.files.truncate(n);
                self.omitted.files += cut;
            }
            List::Columns => {
                self.columns.truncate(n);
                self.omitted.columns += cut;
            }
            List::Contrasts => {
                self.contrasts.truncate(n);
                self.omitted.contrasts += cut;
            }
            List::Categories => {
                self.categories.truncate(n);
                self.omitted.categories += cut;
            }
        }
    }

    /// Takes all rows of a list away and forgets that there were any: for a list that a template
    /// does not show nothing is left out.
    pub fn forget(&mut self, list: List) {
        self.keep(list, 0);
        match list {
            List::Files => self.omitted.files = 0,
            List::Columns => self.omitted.columns = 0,
            List::Contrasts => self.omitted.contrasts = 0,
            List::Categories => self.omitted.categories = 0,
        }
    }

    /// How many rows of a list were left out.
    #[must_use]
    pub fn left_out(&self, list: List) -> usize {
        match list {
            List::Files => self.omitted.files,
            List::Columns => self.omitted.columns,
            List::Contrasts => self.omitted.contrasts,
            List::Categories => self.omitted.categories,
        }
    }
}

fn column_row(column: &ColumnAggregate) -> Option<ColumnRow> {
    let ColumnValues::Numeric(numbers) = &column.values else {
        return None;
    };
    Some(ColumnRow {
        name: shown(&column.name),
        n: numbers.count,
        missing: column.empty + column.non_finite,
        mean: figure(numbers.mean),
        sd: figure(numbers.sd),
        min: figure(Some(numbers.min)),
        median: figure(numbers.median),
        max: figure(Some(numbers.max)),
    })
}

fn contrast(column: &ColumnAggregate, aggregates: &Aggregates) -> Option<ContrastRow> {
    let means = aggregates.files.iter().filter_map(|file| {
        let same = file.columns.iter().find(|c| c.name == column.name)?;
        let ColumnValues::Numeric(numbers) = &same.values else {
            return None;
        };
        Some((numbers.mean?, file.name.as_str()))
    });
    let mut low: Option<(f64, &str)> = None;
    let mut high: Option<(f64, &str)> = None;
    for mean in means {
        if low.is_none_or(|low| mean.0 < low.0) {
            low = Some(mean);
        }
        if high.is_none_or(|high| mean.0 > high.0) {
            high = Some(mean);
        }
    }
    let (low, high) = (low?, high?);
    (low.0 < high.0).then(|| ContrastRow {
        name: shown(&column.name),
        low: figure(Some(low.0)),
        low_file: shown(low.1),
        high: figure(Some(high.0)),
        high_file: shown(high.1),
    })
}

fn category(column: &ColumnAggregate) -> Option<CategoryRow> {
    let ColumnValues::Text(text) = &column.values else {
        return None;
    };
    let na = || "n/a".to_owned();
    Some(CategoryRow {
        name: shown(&column.name),
        distinct: text.distinct.map_or_else(na, |n| n.to_string()),
        top: text
            .most_frequent
            .as_ref()
            .map_or_else(na, |top| shown(&top.value)),
        top_n: text
            .most_frequent
            .as_ref()
            .map_or_else(na, |top| top.count.to_string()),
    })
}

/// A name or text of the data as a prompt or a Markdown table may hold it: one line, no marks that
/// would end a cell or a fence, of bounded length.
#[must_use]
pub fn shown(text: &str) -> String {
    text.chars()
        .take(MAX_SHOWN_CHARS)
        .map(|c| match c {
            '|' => '/',
            '`' => '\'',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect()
}

/// A number with four significant digits, without trailing zeros; `n/a` if there is none.
#[must_use]
pub fn figure(value: Option<f64>) -> String {
    let Some(value) = value else {
        return "n/a".to_owned();
    };
    let size = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e7).contains(&size) {
        return format!("{value:.3e}");
    }
    let decimals = match size {
        s if s >= 1e3 => 0,
        s if s >= 1e2 => 1,
        s if s >= 1e1 => 2,
        s if s >= 1.0 => 3,
        s if s >= 0.1 => 4,
        _ => 6,
    };
    let text = format!("{value:.decimals$}");
    if decimals == 0 {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (12.0, "12"),
            (1234.56, "1235"),
            (123.456, "123.5"),
            (9.876_54, "9.877"),
            (0.123_456, "0.1235"),
            (0.001_234_5, "0.001234"),
            (-45.0, "-45"),
            (12_345_678.0, "1.235e7"),
            (0.000_012_3, "1.230e-5"),
        ] {
            assert_eq!(figure(Some(value)), text);
        }
        assert_eq!(figure(None), "n/a");
    }

    #[test]
    fn what_is_shown_cannot_break_a_table() {
        assert_eq!(shown("a|b`c\nd"), "a/b'c d");
        assert_eq!(shown(&"x".repeat(100)).len(), MAX_SHOWN_CHARS);
    }
}
