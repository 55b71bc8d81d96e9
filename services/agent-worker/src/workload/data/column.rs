//! What is kept of a column while its cells go by, and what it comes to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MAX_COUNTED_TEXT_BYTES, MAX_DISTINCT, MAX_EXACT_VALUES};

/// A column's metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnAggregate {
    /// Its name in the header, trimmed.
    pub name: String,
    /// In how many files it was found.
    pub files: u32,
    /// Cells with nothing or blanks in them.
    pub empty: u64,
    /// Cells with `NaN` or an infinity in them.
    pub non_finite: u64,
    /// What the other cells come to.
    #[serde(flatten)]
    pub values: ColumnValues,
}

/// What the cells of a column come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ColumnValues {
    /// Every cell that is there is a finite number.
    Numeric(NumericSummary),
    /// At least one cell is no number.
    Text(TextSummary),
    /// No cell is there.
    Missing,
}

/// Count, mean and spread of numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumericSummary {
    /// How many.
    pub count: u64,
    /// Arithmetic mean. *Undefined when* the sum leaves the range of a double.
    pub mean: Option<f64>,
    /// Sample standard deviation (n - 1). *Undefined when* there are fewer than two values, or the
    /// squares leave the range of a double.
    pub sd: Option<f64>,
    /// Smallest.
    pub min: f64,
    /// Middle value; the mean of the two middle ones of an even count. *Undefined when* there
    /// are more values than [`MAX_EXACT_VALUES`].
    pub median: Option<f64>,
    /// Largest.
    pub max: f64,
}

/// Count and variety of texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSummary {
    /// How many cells are there.
    pub count: u64,
    /// Of these, how many parse as a number.
    pub numeric_cells: u64,
    /// How many different ones. *Undefined when* there are more than [`MAX_DISTINCT`], or one is
    /// longer than [`MAX_COUNTED_TEXT_BYTES`].
    pub distinct: Option<u64>,
    /// The most frequent one; of equals the first in byte order. *Undefined when* `distinct` is.
    pub most_frequent: Option<Frequent>,
}

/// A text and how often it occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frequent {
    /// The text, trimmed.
    pub value: String,
    /// In how many cells.
    pub count: u64,
}

/// Accumulates the cells of one column, in bounded memory.
#[derive(Debug, Clone)]
pub(super) struct ColumnAccumulator {
    name: String,
    files: u32,
    empty: u64,
    non_finite: u64,
    no_number: u64,
    numbers: Numbers,
    /// `None` once there are too many or too long ones.
    texts: Option<BTreeMap<String, u64>>,
}

impl ColumnAccumulator {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            files: 0,
            empty: 0,
            non_finite: 0,
            no_number: 0,
            numbers: Numbers::default(),
            texts: Some(BTreeMap::new()),
        }
    }

    /// Says that a further file has the column.
    pub(super) fn begin_file(&mut self) {
        self.files += 1;
    }

    pub(super) fn push(&mut self, cell: &str) {
        let cell = cell.trim();
        if cell.is_empty() {
            self.empty += 1;
            return;
        }
        match cell.parse::<f64>() {
            Ok(value) if value.is_finite() => self.numbers.push(value),
            Ok(_) => {
                self.non_finite += 1;
                return;
            }
            Err(_) => self.no_number += 1,
        }
        self.count_text(cell);
    }

    fn count_text(&mut self, cell: &str) {
        let Some(texts) = &mut self.texts else { return };
        if let Some(count) = texts.get_mut(cell) {
            *count += 1;
        } else if texts.len() < MAX_DISTINCT && cell.len() <= MAX_COUNTED_TEXT_BYTES {
            texts.insert(cell.to_owned(), 1);
        } else {
            self.texts = None;
        }
    }

    pub(super) fn finish(&self) -> ColumnAggregate {
        let values = if self.no_number > 0 {
            ColumnValues::Text(TextSummary {
                count: self.no_number + self.numbers.count,
                numeric_cells: self.numbers.count,
                distinct: self.texts.as_ref().map(|texts| texts.len() as u64),
                most_frequent: self.texts.as_ref().and_then(most_frequent),
            })
        } else if self.numbers.count > 0 {
            ColumnValues::Numeric(self.numbers.finish())
        } else {
            ColumnValues::Missing
        };
        ColumnAggregate {
            name: self.name.clone(),
            files: self.files,
            empty: self.empty,
            non_finite: self.non_finite,
            values,
        }
    }
}

fn most_frequent(texts: &BTreeMap<String, u64>) -> Option<Frequent> {
    // `max_by_key` keeps the last of equals: from the back that is the first in byte order.
    let (value, count) = texts.iter().rev().max_by_key(|(_, count)| **count)?;
    Some(Frequent {
        value: value.clone(),
        count: *count,
    })
}

/// Welford's running mean and sum of squared deviations, and the values themselves while few.
///
/// *Source*: B. P. Welford, Technometrics 4 (1962) 419-420. Its last bits depend on the order of
/// the values. While all values are kept, the result is computed anew from the sorted ones, so
/// that the order of rows and files cannot change it.
#[derive(Debug, Clone)]
struct Numbers {
    count: u64,
    running: Welford,
    min: f64,
    max: f64,
    /// `None` once there were more than [`MAX_EXACT_VALUES`].
    kept: Option<Vec<f64>>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            count: 0,
            running: Welford::default(),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            kept: Some(Vec::new()),
        }
    }
}

impl Numbers {
    fn push(&mut self, value: f64) {
        // One zero only: -0 and 0 are equal but print differently.
        let value = if value == 0.0 { 0.0 } else { value };
        self.count += 1;
        self.running.push(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if self
            .kept
            .as_ref()
            .is_some_and(|kept| kept.len() == MAX_EXACT_VALUES)
        {
            self.kept = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.push(value);
        }
    }

    fn finish(&self) -> NumericSummary {
        let (exact, median) = match &self.kept {
            None => (self.running, None),
            Some(kept) => {
                let mut sorted = kept.clone();
                sorted.sort_by(f64::total_cmp);
                let mut exact = Welford::default();
                sorted.iter().for_each(|value| exact.push(*value));
                (exact, median(&sorted))
            }
        };
        NumericSummary {
            count: self.count,
            // Rounding may leave the range by a last bit; the mean itself cannot.
            mean: exact.mean().map(|mean| mean.clamp(self.min, self.max)),
            sd: exact.sd(),
            min: self.min,
            median,
            max: self.max,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Welford {
    n: f64,
    mean: f64,
    m2: f64,
}

impl Welford {
    fn push(&mut self, value: f64) {
        self.n += 1.0;
        let before = value - self.mean;
        self.mean += before / self.n;
        self.m2 += before * (value - self.mean);
    }

    fn mean(&self) -> Option<f64> {
        (self.n > 0.0 && self.mean.is_finite()).then_some(self.mean)
    }

    fn sd(&self) -> Option<f64> {
        let sd = (self.m2 / (self.n - 1.0)).sqrt();
        (self.n > 1.0 && sd.is_finite()).then_some(sd)
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    // Halved before they are added: the sum of two doubles may be none.
    sorted
        .get(half.checked_sub(1)?)
        .map(|lower| lower / 2.0 + upper / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(cells: &[&str]) -> ColumnAggregate {
        let mut column = ColumnAccumulator::new("c");
        column.begin_file();
        cells.iter().for_each(|cell| column.push(cell));
        column.finish()
    }

    fn numeric(cells: &[&str]) -> NumericSummary {
        match column(cells).values {
            ColumnValues::Numeric(summary) => summary,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn known_values() {
        let s = numeric(&["2", "4", "4", "4", "5", "5", "7", "9"]);
        assert_eq!((s.count, s.mean, s.median), (8, Some(5.0), Some(4.5)));
        assert!((s.sd.unwrap() - (32.0_f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!((s.min, s.max), (2.0, 9.0));
    }

    #[test]
    fn one_value_has_no_spread() {
        let s = numeric(&[" 3.5 "]);
        assert_eq!((s.mean, s.sd, s.median), (Some(3.5), None, Some(3.5)));
    }

    #[test]
    fn missing_cells_are_counted_apart() {
        let c = column(&["1", "", "  ", "NaN", "inf", "-Infinity", "1e999", "3"]);
        assert_eq!((c.empty, c.non_finite), (2, 4));
        assert!(matches!(
            c.values,
            ColumnValues::Numeric(NumericSummary { count: 2, .. })
        ));
        assert_eq!(column(&["", "nan"]).values, ColumnValues::Missing);
    }

    #[test]
    fn one_word_makes_a_text_column() {
        let c = column(&["1", "OOM", "1", "b"]);
        assert_eq!(
            c.values,
            ColumnValues::Text(TextSummary {
                count: 4,
                numeric_cells: 2,
                distinct: Some(3),
                most_frequent: Some(Frequent {
                    value: "1".into(),
                    count: 2
                }),
            })
        );
    }

    #[test]
    fn the_first_of_equally_frequent_texts_is_named() {
        let ColumnValues::Text(text) = column(&["b", "a", "b", "a"]).values else {
            panic!()
        };
        assert_eq!(text.most_frequent.unwrap().value, "a");
    }

    #[test]
    fn too_many_or_too_long_texts_are_not_counted() {
        let many: Vec<String> = (0..=MAX_DISTINCT).map(|i| format!("t{i}")).collect();
        let long = "x".repeat(MAX_COUNTED_TEXT_BYTES + 1);
        for cells in [
            many.iter().map(String::as_str).collect::<Vec<_>>(),
            vec![&long],
        ] {
            let ColumnValues::Text(text) = column(&cells).values else {
                panic!()
            };
            assert_eq!((text.distinct, text.most_frequent), (None, None));
            assert_eq!(text.count, cells.len() as u64);
        }
    }

    #[test]
    fn above_the_bound_the_median_is_not_measured_and_the_rest_still_is() {
        let mut numbers = Numbers::default();
        (0..=MAX_EXACT_VALUES).for_each(|i| numbers.push(i as f64));
        let s = numbers.finish();
        assert_eq!(s.median, None);
        assert!((s.mean.unwrap() - MAX_EXACT_VALUES as f64 / 2.0).abs() < 1e-6);
        assert!(s.sd.is_some());
    }

    #[test]
    fn what_leaves_the_range_of_a_double_is_not_measured() {
        let s = numeric(&["1e308", "-1e308", "1.7e308", "-1.7e308"]);
        assert_eq!((s.mean, s.sd), (None, None));
        assert_eq!(s.median, Some(0.0));
    }
}
