//! `report`: what was measured, read again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use analyzer::bundle::{self, MANIFEST};
use anyhow::Context as _;
use chimera_domain::render;
use chimera_domain::report::{Report, SCHEMA_VERSION};
use chimera_runtime::exit::UsageError;
use serde::Deserialize;

use crate::args::{DEFAULT_ANALYZER, ReportArgs, ReportFormat};
use crate::{history, output, remote, table, why};

/// Name of the report in a bundle.
pub(crate) const REPORT: &str = "report.json";

/// `chimera report`.
pub(crate) async fn report(args: &ReportArgs, json: bool) -> anyhow::Result<()> {
    let (bytes, files) = if let Some(folder) = local(args)? {
        (from_folder(&folder)?, Some(folder))
    } else {
        let url = args.analyzer.as_deref().unwrap_or(DEFAULT_ANALYZER);
        let wait = Duration::from_secs(u64::from(args.wait.unwrap_or(0)));
        (
            remote::fetch_report(url, &args.target, wait)
                .await?
                .json
                .into_bytes(),
            None,
        )
    };
    if args.why {
        let text = why::explain(&parse(&bytes)?, args, json, table::width())?;
        return output::print(&text).map(|_| ());
    }
    let format = match args.format {
        Some(format) => format,
        None if json => ReportFormat::Json,
        None => ReportFormat::Table,
    };
    // Passed on as it is, whatever its version: other tools know what they read.
    if format == ReportFormat::Json {
        return output::print(&bytes).map(|_| ());
    }
    let report = parse(&bytes)?;
    let text = match format {
        ReportFormat::Json => bytes,
        ReportFormat::Md => render::report_markdown(&report).into_bytes(),
        ReportFormat::Html => render::report_html(&report)?.into_bytes(),
        ReportFormat::Csv => render::runs_csv(&report)?,
        ReportFormat::Table => {
            let mut text = Vec::new();
            table::print_results(&report, args.rule, &mut text)?;
            if let Some(files) = &files {
                table::print_files(files, &mut text)?;
            }
            text
        }
    };
    output::print(&text).map(|_| ())
}

/// The folder that the target names: itself, or that of an experiment measured on this machine. `None`:
/// an analyzer is to be asked.
fn local(args: &ReportArgs) -> anyhow::Result<Option<PathBuf>> {
    let folder = PathBuf::from(&args.target);
    if folder.is_dir() {
        return Ok(Some(folder));
    }
    if args.target.contains('/') {
        return Err(UsageError(format!("there is no folder {}", args.target)).into());
    }
    if args.analyzer.is_some() {
        return Ok(None);
    }
    history::folder_of(&args.target)
}

/// The report of a bundle as it was written; computed from the records where it is missing.
fn from_folder(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let path = folder.join(REPORT);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if !folder.join(MANIFEST).is_file() {
                return Err(UsageError(format!(
                    "{} holds neither {REPORT} nor {MANIFEST}: give the folder that `chimera bench` \
                     wrote",
                    folder.display()
                ))
                .into());
            }
            output::hint(&format!(
                "{} is missing: computed from the records",
                path.display()
            ));
            computed(folder)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The report of a folder, or the report that is this file.
///
/// # Errors
/// When neither is there, or it is no report that this version reads.
pub(crate) fn read(target: &Path) -> anyhow::Result<Report> {
    let bytes = if target.is_dir() {
        from_folder(target)?
    } else if target.is_file() {
        std::fs::read(target).with_context(|| format!("cannot read {}", target.display()))?
    } else {
        return Err(UsageError(format!(
            "there is neither a folder nor a file {}",
            target.display()
        ))
        .into());
    };
    parse(&bytes).with_context(|| format!("cannot use {}", target.display()))
}

/// The report in these bytes.
///
/// # Errors
/// When they are none, or one that this version cannot read.
pub(crate) fn parse(bytes: &[u8]) -> anyhow::Result<Report> {
    #[derive(Deserialize)]
    struct Versioned {
        schema_version: u32,
    }
    let version = serde_json::from_slice::<Versioned>(bytes).context("this is no report")?;
    if version.schema_version != SCHEMA_VERSION {
        anyhow::bail!(
            "the report has schema version {}, this chimera reads {SCHEMA_VERSION}: use the version \
             that wrote it, or --format json, or `chimera replay` on its bundle",
            version.schema_version
        );
    }
    serde_json::from_slice(bytes).context("this is no whole report")
}

/// `report.json` as the records of a bundle compute to it.
///
/// # Errors
/// When it is no bundle that this version reads.
pub(crate) fn computed(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let rendered = bundle::read(folder)?.replay()?;
    let report = rendered.files.into_iter().find(|(path, _)| path == REPORT);
    report
        .map(|(_, bytes)| bytes)
        .context("the records give no report.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_and_other_files_are_refused_with_a_way_out() {
        let error = parse(br#"{"schema_version": 99}"#).unwrap_err().to_string();
        assert!(
            error.contains("schema version 99") && error.contains("--format json"),
            "{error}"
        );
        assert_eq!(parse(b"[]").unwrap_err().to_string(), "this is no report");
    }
}
