//! What the pictures with one row per test share: labels, axes, the value at the end of the row.

use super::super::chart::{Anchor, Layout, Scale, Svg, fit, width, wrap};
use crate::report::TestReport;

/// Size of a row's label.
const LABEL: f64 = 13.0;
/// Size of the smaller words.
const SMALL: f64 = 11.5;
/// Width of the label column.
const LABEL_COLUMN: f64 = 250.0;
/// Width of the value column.
const VALUE_COLUMN: f64 = 112.0;

/// Where rows and their parts lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    pub(super) layout: Layout,
    /// Left and right end of the plot.
    pub(super) span: (f64, f64),
    /// Height of a row.
    pub(super) row: f64,
    /// Upper end of the first row.
    pub(super) top: f64,
}

impl Frame {
    /// A frame whose rows leave `plot` units for their marks.
    pub(super) fn new(layout: Layout, plot: f64, top: f64) -> Self {
        let right = layout.width();
        match layout {
            Layout::Wide => Self {
                layout,
                span: (LABEL_COLUMN + 12.0, right - VALUE_COLUMN - 14.0),
                row: plot.max(46.0),
                top,
            },
            Layout::Narrow => Self {
                layout,
                span: (10.0, right - 12.0),
                row: plot + 44.0,
                top,
            },
        }
    }

    /// Upper end of row `index` and the middle of its plot.
    pub(super) fn place(&self, index: usize) -> (f64, f64) {
        let top = self.top + index as f64 * self.row;
        if self.layout.is_narrow() {
            (top, top + 42.0 + (self.row - 50.0) / 2.0)
        } else {
            (top, top + self.row / 2.0)
        }
    }

    /// Lower end of `rows` rows.
    pub(super) fn bottom(&self, rows: usize) -> f64 {
        self.top + rows as f64 * self.row
    }

    /// Writes a row's name, its note below, and its value with a smaller text.
    pub(super) fn label(&self, svg: &mut Svg, index: usize, row: &Words<'_>) {
        let (top, middle) = self.place(index);
        let right = self.layout.width();
        if self.layout.is_narrow() {
            let value = format!("{} {}", row.value, row.more);
            let room = right - 8.0;
            svg.text(
                "l",
                (4.0, top + 15.0),
                Anchor::Start,
                &fit(row.name, LABEL, room),
            );
            let note_room = (room - width(&value, SMALL + 1.5) - 12.0).max(40.0);
            svg.text(
                "s",
                (4.0, top + 32.0),
                Anchor::Start,
                &fit(row.note, SMALL, note_room),
            );
            let wide = width(row.more, SMALL) + if row.more.is_empty() { 0.0 } else { 6.0 };
            svg.text(
                row.class,
                (right - 4.0 - wide, top + 32.0),
                Anchor::End,
                row.value,
            );
            svg.text("s", (right - 4.0, top + 32.0), Anchor::End, row.more);
            return;
        }
        let lines = wrap(row.name, LABEL, LABEL_COLUMN, 2);
        let height = lines.len() as f64 * 16.0 + if row.note.is_empty() { 0.0 } else { 15.0 };
        let mut y = middle - height / 2.0 + 12.0;
        for line in lines {
            svg.text("l", (0.0, y), Anchor::Start, &line);
            y += 16.0;
        }
        svg.text(
            "s",
            (0.0, y - 1.0),
            Anchor::Start,
            &fit(row.note, SMALL, LABEL_COLUMN),
        );
        let up = if row.more.is_empty() { 5.0 } else { -1.0 };
        svg.text(row.class, (right, middle + up), Anchor::End, row.value);
        svg.text("s", (right, middle + 14.0), Anchor::End, row.more);
    }

    /// Hair lines between rows.
    pub(super) fn rules(&self, svg: &mut Svg, rows: usize) {
        for index in 1..rows {
            let y = self.top + index as f64 * self.row;
            svg.line("h", (0.0, y), (self.layout.width(), y));
        }
    }

    /// Grid lines, ticks and the axis's name below the last row. Gives the height of the drawing.
    pub(super) fn axis(
        &self,
        svg: &mut Svg,
        scale: &Scale,
        rows: usize,
        name: &str,
        text: impl Fn(f64) -> String,
    ) -> f64 {
        let bottom = self.bottom(rows);
        let mut free_from = f64::NEG_INFINITY;
        for tick in scale.ticks() {
            let x = scale.place(*tick);
            svg.line("g", (x, self.top - 4.0), (x, bottom));
            let words = text(*tick);
            let half = width(&words, SMALL) / 2.0;
            // Two labels never touch, whatever the ticks are.
            if x - half < free_from {
                continue;
            }
            free_from = x + half + 6.0;
            svg.text("t", (x, bottom + 16.0), Anchor::Middle, &words);
        }
        let (from, to) = self.span;
        svg.text(
            "s",
            (f64::midpoint(from, to), bottom + 36.0),
            Anchor::Middle,
            name,
        );
        bottom + 44.0
    }
}

/// The words of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) name: &'a str,
    pub(super) note: &'a str,
    pub(super) value: &'a str,
    pub(super) more: &'a str,
    /// Class of the value.
    pub(super) class: &'static str,
}

/// `test 3, 5 runs, all valid`.
pub(super) fn runs_text(test: &TestReport) -> String {
    let (valid, attempted) = (test.runs_valid, test.runs_attempted);
    let plural = if attempted == 1 { "" } else { "s" };
    if valid == attempted {
        format!("test {}, {valid} run{plural}, all valid", test.id)
    } else {
        format!("test {}, {valid} valid of {attempted} run{plural}", test.id)
    }
}

/// Both drawings of a picture.
pub(super) fn both(draw: impl Fn(Layout) -> String) -> Vec<String> {
    vec![draw(Layout::Wide), draw(Layout::Narrow)]
}
