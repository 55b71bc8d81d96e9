//! Markdown tables.

use std::fmt::Write as _;

/// A table under construction. The first column is text, the others are aligned to the right.
pub(super) struct Table {
    text: String,
    columns: usize,
    rows: usize,
}

impl Table {
    /// Starts a table with its header.
    pub(super) fn new(header: &[&str]) -> Self {
        let mut table = Self {
            text: String::new(),
            columns: header.len(),
            rows: 0,
        };
        table.line(header.iter().map(|cell| (*cell).to_owned()));
        table.text.push('|');
        for column in 0..header.len() {
            table
                .text
                .push_str(if column == 0 { " --- |" } else { " ---: |" });
        }
        table.text.push('\n');
        table
    }

    /// Adds a row. *Shape*: as many cells as the header has.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows += 1;
        self.line(cells);
    }

    /// The table, or `otherwise` if it has no rows; a blank line follows.
    pub(super) fn finish(mut self, otherwise: &str) -> String {
        if self.rows == 0 {
            return format!("{otherwise}\n\n");
        }
        self.text.push('\n');
        self.text
    }

    fn line(&mut self, cells: impl IntoIterator<Item = String>) {
        self.text.push('|');
        for cell in cells.into_iter().take(self.columns) {
            // Writing to a string cannot fail.
            if write!(self.text, " {} |", escape(&cell)).is_err() {
                return;
            }
        }
        self.text.push('\n');
    }
}

/// Text that stays in its cell: an error message may hold anything.
pub(super) fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_leave_its_table() {
        let mut table = Table::new(&["a", "b"]);
        table.row(["x|y\nz".to_owned(), "1".to_owned()]);
        assert_eq!(
            table.finish("none"),
            "| a | b |\n| --- | ---: |\n| x\\|y z | 1 |\n\n"
        );
        assert_eq!(Table::new(&["a"]).finish("none"), "none\n\n");
    }
}
