//! What the further agents of a heterogeneous pair have otherwise: a value, or a step from the
//! first agent's.

use super::error::Sink;
use super::node::{Kind, quote};
use super::options::{OptionKey, Setting, each};
use super::reader::{Item, Table};

/// Largest step and factor: beyond every option's bounds.
const MAX_STEP: f64 = 1_048_576.0;

/// One option of an agent that differs from the grid's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Override {
    /// It has this value.
    Set(Setting),
    /// It has the grid's value plus this (`num_gpu = "+20"`).
    Plus(OptionKey, f64),
    /// It has the grid's value times this (`num_ctx = "x2"`).
    Times(OptionKey, f64),
}

impl Override {
    /// Which option differs.
    #[must_use]
    pub fn key(self) -> OptionKey {
        match self {
            Self::Set(setting) => setting.key(),
            Self::Plus(key, _) | Self::Times(key, _) => key,
        }
    }

    /// The option's value where the grid's is `grid`.
    ///
    /// *Undefined when* it is relative and the grid leaves the option to the engine, or it leads out
    /// of the option's bounds; a valid spec holds neither.
    #[must_use]
    pub fn on(self, grid: Option<Setting>) -> Option<Setting> {
        match self {
            Self::Set(setting) => Some(setting),
            Self::Plus(key, step) => key.at(grid?.number() + step),
            Self::Times(key, factor) => key.at(grid?.number() * factor),
        }
    }

    /// The step from the grid's value (`+20`, `x2`); empty for a value.
    #[must_use]
    pub fn step_text(self) -> String {
        match self {
            Self::Set(_) => String::new(),
            Self::Plus(_, step) if step < 0.0 => step.to_string(),
            Self::Plus(_, step) => format!("+{step}"),
            Self::Times(_, factor) => format!("x{factor}"),
        }
    }

    /// Whether it counts from the grid's value.
    pub(super) fn is_relative(self) -> bool {
        !matches!(self, Self::Set(_))
    }

    /// The value as TOML writes it.
    pub(super) fn value_text(self) -> String {
        match self {
            Self::Set(setting) => setting.value_text(),
            Self::Plus(..) | Self::Times(..) => format!("\"{}\"", self.step_text()),
        }
    }
}

/// Reads `[phase.hetero]`, in the order written.
pub(super) fn overrides(table: &mut Table<'_>, sink: &mut Sink) -> Vec<Override> {
    each(table, sink, |key, item, sink| match &item.node.kind {
        Kind::Text(text) => relative(key, text, item, sink),
        _ => key.read(item, sink).map(Override::Set),
    })
}

fn relative(key: OptionKey, text: &str, item: &Item<'_>, sink: &mut Sink) -> Option<Override> {
    let number = |digits: &str| -> Option<f64> {
        let plain = |b: u8| b.is_ascii_digit() || b == b'.';
        let number: f64 = digits.parse().ok()?;
        (digits.bytes().all(plain) && number <= MAX_STEP).then_some(number)
    };
    let read = match text.split_at_checked(1) {
        Some(("+", digits)) => number(digits).map(|n| Override::Plus(key, n)),
        Some(("-", digits)) => number(digits).map(|n| Override::Plus(key, 0.0 - n)),
        Some(("x", digits)) => number(digits)
            .filter(|n| *n > 0.0)
            .map(|n| Override::Times(key, n)),
        _ => None,
    };
    if read.is_none() {
        let problem = format!("{} is neither a value nor a step", quote(text));
        let hint =
            "a number, or a step from the first agent's value as in \"+20\", \"-20\", \"x2\"";
        item.fault(problem, hint, sink);
    }
    read
}
