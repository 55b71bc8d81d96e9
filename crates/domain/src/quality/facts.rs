//! The figures of the data that a report was written from, and which of them it states.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Most digits of a figure that are read.
const MAX_DIGITS: usize = 18;
/// A printed figure with few digits stands for a wide range of values; one that is further from a
/// fact than this part of it is not that fact, whatever rounding would allow.
const MAX_DISTANCE: f64 = 0.02;

/// Figures and names of ingested data.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Counts of rows and files, and figures of columns within single files.
    figures: Vec<f64>,
    /// Figures of each numeric column: count, mean, sd, smallest, median, largest.
    columns: BTreeMap<String, Vec<f64>>,
    /// Names of files and of columns, in lower case.
    names: BTreeSet<String>,
}

/// The part of an aggregates value that is read; what is unknown in it is passed over.
#[derive(Debug, Deserialize)]
struct Aggregates {
    rows: Option<f64>,
    #[serde(default)]
    files: Vec<FileAggregate>,
    #[serde(default)]
    columns: Vec<Column>,
}

#[derive(Debug, Deserialize)]
struct FileAggregate {
    name: String,
    rows: Option<f64>,
    #[serde(default)]
    columns: Vec<Column>,
}

#[derive(Debug, Deserialize)]
struct Column {
    name: String,
    count: Option<f64>,
    mean: Option<f64>,
    sd: Option<f64>,
    min: Option<f64>,
    median: Option<f64>,
    max: Option<f64>,
}

impl Column {
    fn figures(&self) -> impl Iterator<Item = f64> {
        let all = [
            self.count,
            self.mean,
            self.sd,
            self.min,
            self.median,
            self.max,
        ];
        all.into_iter()
            .flatten()
            .filter(|figure| figure.is_finite())
    }
}

/// How a text's figures meet the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap {
    /// Figures of the text that are in the data.
    pub in_data: u32,
    /// Part of the numeric columns of which a figure is stated. `None`: there are none.
    pub columns_covered: Option<f64>,
}

impl Facts {
    /// Reads an agent's `aggregates` output. `None`: it is none.
    #[must_use]
    pub fn from_json(json: &str) -> Option<Self> {
        let read: Aggregates = serde_json::from_str(json).ok()?;
        let mut facts = Self::default();
        facts.figures.extend(read.rows);
        facts.figures.push(read.files.len() as f64);
        facts.figures.push(read.columns.len() as f64);
        for file in read.files {
            facts.figures.extend(file.rows);
            for column in &file.columns {
                facts.figures.extend(column.figures());
            }
            facts.names.insert(file.name.to_lowercase());
        }
        for column in read.columns {
            facts.names.insert(column.name.to_lowercase());
            // A column of texts has a count and nothing else.
            if column.min.is_some() || column.mean.is_some() {
                facts
                    .columns
                    .insert(column.name.clone(), column.figures().collect());
            } else {
                facts.figures.extend(column.figures());
            }
        }
        Some(facts)
    }

    /// Whether a word is the name of a file or column, marks around it aside.
    #[must_use]
    pub fn names(&self, word: &str) -> bool {
        self.names.contains(&bare(word))
    }

    /// Compares figures of a text with the data.
    ///
    /// A figure is in the data if a fact, rounded to the decimals that the text prints, is that
    /// figure, and lies within 2 % of it. What the figure is said to be is not read.
    #[must_use]
    pub fn overlap(&self, stated: &[Stated]) -> Overlap {
        let anywhere = |number: &&Stated| {
            let all = self.columns.values().flatten().chain(&self.figures);
            all.into_iter().any(|fact| number.is(*fact))
        };
        let in_data = stated.iter().filter(anywhere).count();
        let touched = |figures: &&Vec<f64>| {
            figures
                .iter()
                .any(|fact| stated.iter().any(|number| number.is(*fact)))
        };
        let covered = self.columns.values().filter(touched).count();
        Overlap {
            in_data: u32::try_from(in_data).unwrap_or(u32::MAX),
            columns_covered: (!self.columns.is_empty())
                .then(|| covered as f64 / self.columns.len() as f64),
        }
    }
}

/// A word without the marks around it, in lower case.
pub(super) fn bare(word: &str) -> String {
    let marks = |c: char| !c.is_alphanumeric() && c != '_';
    word.trim_matches(marks).to_lowercase()
}

/// A figure as a text prints it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stated {
    /// Its value.
    pub value: f64,
    /// Its decimals.
    pub decimals: u32,
}

impl Stated {
    /// Whether a fact is this figure at the decimals printed.
    #[must_use]
    pub fn is(&self, fact: f64) -> bool {
        let half = 0.5 * 10_f64.powi(-i32::try_from(self.decimals).unwrap_or(i32::MAX));
        let distance = (self.value - fact).abs();
        // A hair more than half: 0.685 printed of 0.6845 is right either way.
        distance <= half * (1.0 + 1e-9) + f64::EPSILON * fact.abs()
            && distance <= MAX_DISTANCE * fact.abs().max(f64::MIN_POSITIVE)
            || distance <= f64::EPSILON
    }
}

/// The figures that a text states, in order.
///
/// *Shape*: digits with at most one point, groups of three digits parted by commas joined; digits
/// that are part of a name (`q4_K_M`, `phase2`, `a.b.c`) are none, nor are whole numbers of one digit,
/// which the data would hold by chance, nor the numbers of list items (`3.`), nor anything in square
/// brackets: references (`[2]`) and the prompt's session mark.
#[must_use]
pub fn numbers(text: &str) -> Vec<Stated> {
    let mut found = Vec::new();
    for line in text.lines().map(without_brackets) {
        for (index, word) in line.split_whitespace().enumerate() {
            // The number of a list item.
            if index == 0
                && word.trim_end_matches(['.', ')']).len() < word.len()
                && word
                    .trim_end_matches(['.', ')'])
                    .chars()
                    .all(|c| c.is_ascii_digit())
            {
                continue;
            }
            for part in word.split(['/', '|', '=', '~', ':', '(', ')', '\u{2013}', '\u{d7}']) {
                found.extend(number(part));
            }
        }
    }
    found
}

/// A line without what stands in square brackets; a bracket that is not closed ends it.
fn without_brackets(line: &str) -> String {
    let mut inside = false;
    line.chars()
        .filter(|c| {
            let shown = !inside && *c != '[';
            inside = (inside || *c == '[') && *c != ']';
            shown
        })
        .collect()
}

/// A word as a figure, with its sign, a currency or unit around it aside.
fn number(word: &str) -> Option<Stated> {
    if word.starts_with('[') {
        return None;
    }
    let word = word.trim_matches(|c: char| {
        matches!(
            c,
            '*' | '_'
                | '`'
                | '"'
                | '\''
                | ','
                | ';'
                | '!'
                | '?'
                | '<'
                | '>'
                | '\u{2248}'
                | '\u{b1}'
                | ']'
        )
    });
    let (negative, word) = match word.strip_prefix(['-', '\u{2212}']) {
        Some(rest) => (true, rest),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let digits_end = word
        .char_indices()
        .find(|(_, c)| !(c.is_ascii_digit() || *c == '.' || *c == ','))
        .map_or(word.len(), |(at, _)| at);
    let (digits, unit) = word.split_at_checked(digits_end)?;
    let digits = digits.trim_end_matches(['.', ',']);
    let is_unit = unit.is_empty()
        || (unit
            .chars()
            .all(|c| c.is_alphabetic() || matches!(c, '%' | '\u{b0}' | '.' | '`' | '*'))
            && unit.chars().count() <= 8);
    if digits.is_empty() || digits.len() > MAX_DIGITS || !is_unit {
        return None;
    }
    let digits = grouped(digits)?;
    let decimals = digits
        .split_once('.')
        .map_or(0, |(_, decimals)| decimals.len());
    let value: f64 = digits.parse().ok()?;
    if decimals == 0 && value < 10.0 {
        return None;
    }
    Some(Stated {
        value: if negative { -value } else { value },
        decimals: u32::try_from(decimals).ok()?,
    })
}

/// Digits without the commas between groups of three. `None` where the commas part something else.
fn grouped(digits: &str) -> Option<String> {
    if digits.matches('.').count() > 1 || digits.starts_with('.') {
        return None;
    }
    if !digits.contains(',') {
        return Some(digits.to_owned());
    }
    let whole = digits.split_once('.').map_or(digits, |(whole, _)| whole);
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let fits = (1..=3).contains(&first.len()) && groups.all(|group| group.len() == 3);
    // No commas behind the point.
    let behind = digits
        .split_once('.')
        .is_some_and(|(_, behind)| behind.contains(','));
    (fits && !behind).then(|| digits.replace(',', ""))
}

/// References of a text: names of ingested files and columns, `[1]`, and links.
#[must_use]
pub fn citations(text: &str, facts: Option<&Facts>) -> u32 {
    let named = super::text::words(text)
        .into_iter()
        .filter(|word| facts.is_some_and(|facts| facts.names(word)))
        .count();
    let mut bracketed = 0_usize;
    for (at, _) in text.match_indices('[') {
        let rest = text.get(at + 1..).unwrap_or_default();
        let Some((inside, after)) = rest.split_once(']') else {
            continue;
        };
        let is_number =
            (1..=3).contains(&inside.len()) && inside.chars().all(|c| c.is_ascii_digit());
        bracketed += usize::from(is_number || after.starts_with('('));
    }
    u32::try_from(named + bracketed).unwrap_or(u32::MAX)
}
