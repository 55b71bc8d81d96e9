//! Charts as inline SVG: scales with round ticks, measured text, and a writer that escapes.
//!
//! A chart has no colour of its own: every mark carries a class, and the page's style sheet says what
//! it looks like by day, by night and on paper. Each chart is drawn twice, for a wide and for a narrow
//! column, because scaling a picture down scales its words down with it.

mod scale;
mod svg;
mod words;

pub(super) use scale::{Scale, time_unit};
pub(super) use svg::{Anchor, Svg};
pub(super) use words::{fit, width, wrap};

/// Which column a chart is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// A screen or a sheet: labels stand left of the plot.
    Wide,
    /// A phone: labels stand above their row.
    Narrow,
}

impl Layout {
    /// Width of the drawing, in its own units; one unit is one CSS pixel in the column it is for.
    pub(super) fn width(self) -> f64 {
        match self {
            Self::Wide => 880.0,
            Self::Narrow => 344.0,
        }
    }

    /// Class of the drawing: the style sheet shows one of the two.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }

    /// Whether labels stand above their row.
    pub(super) fn is_narrow(self) -> bool {
        self == Self::Narrow
    }
}

#[cfg(test)]
mod tests;
