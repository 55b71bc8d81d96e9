//! What an agent does: data in, two questions to a model, a report out. No engine in here.
//!
//! The `tr110-report` workload: an agent scans a data folder, reads its CSV files, aggregates them
//! into JSON, asks for an analysis, then for a report that builds on the analysis.
//!
//! - [`data`]: folder to numbers, with everything that can be wrong named.
//! - [`mod@aggregate`]: the numbers as one JSON value.
//! - [`facts`]: the numbers as the short table that fits a prompt.
//! - [`template`]: prompt templates by role, built in or a user's.
//! - [`prompt`]: the agent's step machine, the token budget, the nonce.
//! - [`tokens`]: how many tokens a text takes at most, without a tokenizer.
//! - [`markdown`]: the `<agent>_report.md`.
//!
//! *Same work*: the prompt of a step depends on the data, the role, the options, the nonce (fixed
//! width) and, for the second step, on at most [`prompt::EXCERPT_WORDS`] words of the first
//! answer. It depends neither on what else runs nor on the clock, so a solo leg and a concurrent
//! leg get the same work.

pub mod aggregate;
pub mod data;
pub mod facts;
pub mod markdown;
pub mod prompt;
pub mod template;
pub mod tokens;

pub use aggregate::{Aggregates, aggregate};
pub use data::{DataError, DataSource, ingest, scan};
pub use markdown::{AgentReport, StepReport, report_markdown};
pub use prompt::{Agent, Nonce, Prompt, PromptBudget, STEPS, StepKind};
pub use template::{TemplateError, Templates};

/// Name of the one template set built in, as specs write it.
pub const TR110_REPORT: &str = "tr110-report";

/// What a look at data found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataSummary {
    /// CSV files.
    pub files: usize,
    /// Rows over all files.
    pub rows: u64,
}

/// The sample files built into the binary: name and text, by rising name.
///
/// They are the files of `examples/data`; synthetic, see its README.
#[must_use]
pub fn shipped_data() -> &'static [(&'static str, &'static str)] {
    macro_rules! shipped {
        ($($name:literal),* $(,)?) => {
            &[$(($name, include_str!(concat!("../../../examples/data/", $name)))),*]
        };
    }
    shipped![
        "agent_workflow.csv",
        "cold_start.csv",
        "parameter_sweep.csv",
        "quantization.csv"
    ]
}

/// Reads all of the data once and says what is wrong with it, before anything is reserved.
///
/// # Errors
/// The first thing wrong, as [`scan`] and [`ingest`] find it.
pub fn validate_data(source: &DataSource) -> Result<DataSummary, DataError> {
    let dataset = ingest(&source.files()?)?;
    Ok(DataSummary {
        files: dataset.files().len(),
        rows: dataset.rows(),
    })
}
