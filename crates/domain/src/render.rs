//! A report as files: Markdown for people, TR110's layout for its readers, CSV for spreadsheets.
//!
//! Pure: [`files`] returns paths and bytes, the caller writes them. All numbers go through
//! [`crate::report::number`]; units stand in the headers; what was not measured is a dash.

mod comparison;
mod csv;
mod extra;
mod gate;
mod goodput;
mod html;
mod markdown;
mod memory;
mod scaling;
mod statistics;
mod summary;
mod table;
mod topology;
mod tr110;
mod why;

use serde::Serialize;

use crate::report::{AgentOutputs, Report, RunReport, TestReport, schema};
use crate::scaling::{Scaling, Series, laws};
use crate::tables;

pub use comparison::comparison_markdown;
pub use csv::runs_csv;
pub use gate::{gate_junit, gate_markdown};
pub use html::report_html;
pub use markdown::report_markdown;
pub use summary::{summary_json, summary_markdown};
pub use tr110::{agent_report_markdown, combined_report_markdown, metrics_json};
pub use why::{NOTHING_SLOW, evidence_text, nothing_slow, tr110_line, wall_pieces, why_line};

/// Why a report could not be written out.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A value has no JSON.
    #[error("a part of the report cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// A table has no CSV.
    #[error("a part of the report cannot be written as CSV")]
    Csv(#[from] ::csv::Error),
    /// The page cannot be filled in.
    #[error("a part of the report cannot be written as HTML")]
    Html(#[from] minijinja::Error),
}

/// What several documents show and is costly to find: once for all of them.
struct Derived {
    laws: Vec<(Series, Scaling)>,
    tables: Vec<tables::Table>,
}

impl Derived {
    fn of(report: &Report) -> Self {
        let laws = laws(report);
        let tables = tables::with_laws(report, &laws);
        Self { laws, tables }
    }
}

/// A file to be written: its path relative to the output folder, and its content.
pub type File = (String, Vec<u8>);

/// Every file of a report, by rising path. `report.json` is among them.
///
/// # Errors
/// When a part of the report has no textual form, which no report built from records has.
pub fn files(report: &Report, outputs: &[AgentOutputs]) -> Result<Vec<File>, RenderError> {
    let derived = Derived::of(report);
    let page = html::html(report, &derived)?;
    let document = markdown::markdown(report, &derived);
    let mut files: Vec<File> = vec![
        ("report.json".to_owned(), report_json(report)?),
        ("report.schema.json".to_owned(), json(&schema())?),
        ("report.md".to_owned(), document.into_bytes()),
        ("report.html".to_owned(), page.into_bytes()),
        ("tables.json".to_owned(), json(&derived.tables)?),
        ("runs.csv".to_owned(), runs_csv(report)?),
    ];
    for test in &report.tests {
        let folder = &test.folder;
        files.push((
            format!("{folder}/summary.json"),
            json(&summary_json(test)?)?,
        ));
        files.push((
            format!("{folder}/summary.md"),
            summary_markdown(test).into_bytes(),
        ));
        for run in &test.runs {
            let texts: Vec<&AgentOutputs> = outputs
                .iter()
                .filter(|texts| texts.test.to_string() == test.id && texts.run == run.run)
                .collect();
            files.extend(run_files(test, run, &texts)?);
        }
    }
    files.sort();
    Ok(files)
}

fn run_files(
    test: &TestReport,
    run: &RunReport,
    texts: &[&AgentOutputs],
) -> Result<Vec<File>, RenderError> {
    let folder = format!("{}/run_{}", test.folder, run.run);
    let combined = combined_report_markdown(test, run, texts);
    let mut files = vec![
        (
            format!("{folder}/metrics.json"),
            json(&metrics_json(test, run)?)?,
        ),
        (
            format!("{folder}/combined_report.md"),
            combined.into_bytes(),
        ),
    ];
    for agent in &run.agents {
        let own = texts.iter().find(|texts| texts.agent == agent.agent);
        let text = agent_report_markdown(agent, own.copied());
        files.push((
            format!("{folder}/{}_report.md", agent.agent),
            text.into_bytes(),
        ));
    }
    Ok(files)
}

/// `report.json`: indented, fields in the order of the type, one newline at the end.
///
/// # Errors
/// As [`files`].
pub fn report_json(report: &Report) -> Result<Vec<u8>, RenderError> {
    json(report)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, RenderError> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}
