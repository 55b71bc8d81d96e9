//! A report as the history knows it.

use std::path::{Path, PathBuf};

use chimera_domain::report::{OutcomeState, Report};
use rusqlite::Row;
use serde::Serialize;

/// A report as the history knows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Identity of the experiment.
    pub experiment: String,
    /// Its name in the spec.
    pub name: String,
    /// When its report was written, milliseconds since 1970.
    pub finished_unix_ms: i64,
    /// `completed`, `cancelled`, `failed` or `running`.
    pub outcome: String,
    /// Where it was measured.
    pub host: Option<String>,
    /// Model, if all instances had the same.
    pub model: Option<String>,
    /// Tests in its plan.
    pub tests: u32,
    /// Valid runs.
    pub runs_valid: u32,
    /// Runs attempted.
    pub runs_attempted: u32,
    /// Highest mean gain of a test. `None`: no test has one.
    pub gain_best: Option<f64>,
    /// Lowest mean gain of a test.
    pub gain_worst: Option<f64>,
    /// Folder of its files.
    pub folder: PathBuf,
    /// Git revision of the chimera that wrote it.
    pub git_revision: Option<String>,
    /// Version of the same.
    pub software: Option<String>,
}

impl Entry {
    /// The entry of a report.
    #[must_use]
    pub fn of(report: &Report, folder: &Path, finished_unix_ms: i64) -> Self {
        let gains = || {
            let tests = report.tests.iter();
            tests.filter_map(|test| test.aggregate.concurrency_gain.value)
        };
        let outcome = match report.outcome.state {
            OutcomeState::Running => "running",
            OutcomeState::Completed => "completed",
            OutcomeState::Cancelled => "cancelled",
            OutcomeState::Failed => "failed",
        };
        Self {
            experiment: report.experiment.to_string(),
            name: report.name.clone(),
            finished_unix_ms,
            outcome: outcome.to_owned(),
            host: report.environment.host.clone(),
            model: report.environment.model.clone(),
            tests: u32::try_from(report.tests.len()).unwrap_or(u32::MAX),
            runs_valid: report.tests.iter().map(|test| test.runs_valid).sum(),
            runs_attempted: report.tests.iter().map(|test| test.runs_attempted).sum(),
            gain_best: gains().reduce(f64::max),
            gain_worst: gains().reduce(f64::min),
            folder: folder.to_owned(),
            git_revision: report.environment.git_revision.clone(),
            software: report.environment.software.clone(),
        }
    }

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            experiment: row.get(0)?,
            name: row.get(1)?,
            finished_unix_ms: row.get(2)?,
            outcome: row.get(3)?,
            host: row.get(4)?,
            model: row.get(5)?,
            tests: row.get(6)?,
            runs_valid: row.get(7)?,
            runs_attempted: row.get(8)?,
            gain_best: row.get(9)?,
            gain_worst: row.get(10)?,
            folder: PathBuf::from(row.get::<_, String>(11)?),
            git_revision: row.get(12)?,
            software: row.get(13)?,
        })
    }
}
