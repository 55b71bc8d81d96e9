//! Words and structure of a Markdown text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The start of a text, cut where a character ends.
pub(super) fn bounded(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let cut = (0..=most).rev().find(|at| text.is_char_boundary(*at));
    cut.and_then(|at| text.get(..at)).unwrap_or_default()
}

/// The words of a text: runs without white space that hold a letter or a digit.
#[must_use]
pub fn words(text: &str) -> Vec<&str> {
    text.split_whitespace()
        .filter(|run| run.chars().any(char::is_alphanumeric))
        .collect()
}

/// What a Markdown text is built of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Structure {
    /// Lines that begin with one to six `#` and a blank.
    pub headings: u32,
    /// Headings with words below them before the next one.
    pub sections: u32,
    /// Lines that begin with `-`, `*`, `+` or a number and a dot.
    pub list_items: u32,
    /// Runs of lines that begin with `|`, of two lines or more.
    pub tables: u32,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Heading,
    Item,
    TableRow,
    Words,
    Empty,
}

impl Structure {
    /// Reads the structure of a text. Lines inside code fences are words.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut found = Self::default();
        let (mut open, mut rows, mut fenced) = (false, 0_u32, false);
        for line in text.lines() {
            let line = line.trim();
            if line.starts_with("```") {
                fenced = !fenced;
                continue;
            }
            let kind = if fenced { Kind::Words } else { kind(line) };
            rows = if kind == Kind::TableRow { rows + 1 } else { 0 };
            if rows == 2 {
                found.tables += 1;
            }
            match kind {
                Kind::Heading => {
                    found.headings += 1;
                    open = true;
                }
                Kind::Empty => {}
                Kind::Item | Kind::TableRow | Kind::Words => {
                    found.list_items += u32::from(kind == Kind::Item);
                    found.sections += u32::from(open);
                    open = false;
                }
            }
        }
        found
    }
}

fn kind(line: &str) -> Kind {
    if line.is_empty() {
        return Kind::Empty;
    }
    if line.starts_with('|') {
        return Kind::TableRow;
    }
    let after = line.trim_start_matches('#');
    let marks = line.len() - after.len();
    if (1..=6).contains(&marks) && after.starts_with(' ') && !after.trim().is_empty() {
        return Kind::Heading;
    }
    let bullet = ["- ", "* ", "+ "].iter().any(|mark| line.starts_with(mark));
    let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered =
        digits.len() < line.len() && (digits.starts_with(". ") || digits.starts_with(") "));
    if bullet || numbered {
        Kind::Item
    } else {
        Kind::Words
    }
}
