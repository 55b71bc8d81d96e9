//! The text a person writes, and the only door to a [`ValidSpec`].
//!
//! [`parse`] reads TOML or JSON, [`FlagSpec::to_valid`] and [`quick`] take flags; all go through
//! the same checks. Every fault is reported at once, with its line, its key, what was found and
//! what is allowed. `docs/spec.md` describes every key.
//!
//! Input may be hostile: text, nesting, lists, counts and numbers are bounded before anything is
//! built of them.

mod change;
mod check;
mod error;
mod flags;
mod node;
mod options;
mod phase;
mod reader;
mod valid;
mod write;

#[cfg(test)]
mod tests;

pub use change::Override;
pub use error::{MAX_ERRORS, SpecError, SpecErrors};
pub use flags::{FlagSpec, quick};
pub use options::{Axis, OptionKey, Setting};
pub use phase::{AgentSpec, Agents, Labels, Order, Phase, Placement, Scenario};
pub use valid::{Backend, Instances, Model, Solo, ValidSpec};

pub(crate) use check::cycled_agents;

use error::{At, Sink};

/// Longest text accepted, in bytes.
pub const MAX_TEXT_BYTES: usize = 256 * 1024;

/// The notation of a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecFormat {
    /// TOML 1.0.
    Toml,
    /// JSON, with the same keys.
    Json,
}

impl SpecFormat {
    /// Guesses the notation: JSON starts with a brace, which no TOML text does.
    #[must_use]
    pub fn of(text: &str) -> Self {
        if text.trim_start().starts_with('{') {
            Self::Json
        } else {
            Self::Toml
        }
    }
}

/// Reads and checks a spec.
///
/// # Errors
/// Everything that is wrong with it. A text that is not well-formed is reported as that only: what
/// its keys would have meant is not known.
pub fn parse(text: &str, format: SpecFormat) -> Result<ValidSpec, SpecErrors> {
    let mut sink = Sink::new(if text.len() > MAX_TEXT_BYTES {
        ""
    } else {
        text
    });
    if text.len() > MAX_TEXT_BYTES {
        let problem = format!("the text has {} bytes", text.len());
        sink.push(
            At::Nowhere,
            "",
            problem,
            &format!("at most {MAX_TEXT_BYTES}"),
        );
        return sink.into_result(None);
    }
    let root = match format {
        SpecFormat::Toml => node::from_toml(text, &mut sink),
        SpecFormat::Json => node::from_json(text, &mut sink),
    };
    let spec = root.and_then(|root| check::spec(&root, &mut sink));
    sink.into_result(spec)
}
