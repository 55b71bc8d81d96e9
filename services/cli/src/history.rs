//! `list`, `history` and the ids of `report`: what was measured on this machine.

use std::io;
use std::path::{Path, PathBuf};

use analyzer::bundle;
use analyzer::history::{self, Entry, HISTORY_VARIABLE, History, HistoryError, Keep};
use anyhow::Context as _;
use chimera_domain::report::Report;
use chimera_domain::report::number::opt;
use chimera_runtime::clock;
use chimera_runtime::config::env;
use chimera_runtime::exit::{UsageError, chain};
use serde_json::json;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::args::{HistoryArgs, HistoryCommand, ListArgs, PruneArgs};
use crate::{output, table};

/// Entries listed unless told otherwise.
const LISTED: u32 = 50;

/// The file, if a history is kept.
fn path() -> Option<PathBuf> {
    history::path(env(HISTORY_VARIABLE).as_deref())
}

/// The history, if there is one.
fn open() -> Result<Option<History>, HistoryError> {
    path().map_or(Ok(None), |path| History::open_existing(&path))
}

/// Enters a report that was written without an analyzer. It stands without it: trouble is only told.
pub(crate) fn enter(report: &Report, folder: &Path) {
    let entered = path().map_or(Ok(()), |path| history::enter(&path, report, folder));
    if let Err(error) = entered {
        output::hint(&format!(
            "the report is written, but not in the history: {}",
            chain(&error)
        ));
    }
}

/// `chimera list` without a coordinator.
pub(crate) fn list(args: &ListArgs, json: bool) -> anyhow::Result<()> {
    let entries = match open()? {
        Some(history) => history.list(args.last.unwrap_or(LISTED))?,
        None => Vec::new(),
    };
    if json {
        return output::print_json(&entries);
    }
    if entries.is_empty() {
        output::hint(
            "nothing was measured on this machine yet: `chimera bench --quick` does; `chimera list \
             --server URL` lists the experiments of a coordinator",
        );
        return Ok(());
    }
    let rows = entries.iter().map(|entry| {
        vec![
            entry.experiment.clone(),
            written(entry.finished_unix_ms),
            entry.tests.to_string(),
            format!("{} of {}", entry.runs_valid, entry.runs_attempted),
            gains(entry),
            entry.outcome.clone(),
            entry.folder.display().to_string(),
        ]
    });
    let header = [
        "EXPERIMENT",
        "WRITTEN (UTC)",
        "TESTS",
        "VALID RUNS",
        "GAIN",
        "OUTCOME",
        "FOLDER",
    ];
    output::print(table::plain(&header, rows).as_bytes()).map(|_| ())
}

/// `0.561 to 1.83`, or one number, or a dash.
fn gains(entry: &Entry) -> String {
    match (opt(entry.gain_worst), opt(entry.gain_best)) {
        (worst, best) if worst == best => best,
        (worst, best) => format!("{worst} to {best}"),
    }
}

/// An instant as people read it.
fn written(unix_ms: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1000)).ok();
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]");
    at.and_then(|at| at.format(format).ok())
        .unwrap_or_else(|| "-".to_owned())
}

/// The folder of an experiment that was measured here. `None`: the history does not know it.
pub(crate) fn folder_of(id: &str) -> anyhow::Result<Option<PathBuf>> {
    let Some(history) = open()? else {
        return Ok(None);
    };
    match history.find(id) {
        Ok(entry) if entry.folder.is_dir() => Ok(Some(entry.folder)),
        Ok(entry) => Err(UsageError(format!(
            "{} was measured here, but its folder {} is gone: give the folder where it is now, or \
             `chimera history prune` forgets old entries",
            entry.experiment,
            entry.folder.display()
        ))
        .into()),
        Err(HistoryError::Unknown(_)) => Ok(None),
        Err(error @ HistoryError::Ambiguous { .. }) => Err(UsageError(error.to_string()).into()),
        Err(error) => Err(error.into()),
    }
}

/// `chimera history`.
pub(crate) fn run(args: &HistoryArgs, json: bool) -> anyhow::Result<()> {
    match &args.command {
        HistoryCommand::Prune(args) => prune(args, json),
    }
}

fn prune(args: &PruneArgs, json: bool) -> anyhow::Result<()> {
    let keep = match (args.keep, args.older_than) {
        (Some(count), _) => Keep::Newest(count),
        (None, Some(age)) => {
            let now_ms = i64::try_from(clock::wall_unix_ns() / 1_000_000)?;
            let age_ms = i64::try_from(age.0.as_millis()).unwrap_or(i64::MAX);
            Keep::Since(now_ms.saturating_sub(age_ms))
        }
        (None, None) => {
            return Err(UsageError("give --keep N or --older-than AGE".to_owned()).into());
        }
    };
    let Some(mut history) = open()? else {
        output::hint("there is no history on this machine: nothing to forget");
        return if json {
            output::print_json(&json!({ "forgotten": [], "deleted": [] }))
        } else {
            Ok(())
        };
    };
    let old = history.beyond(keep)?;
    let (mut forgotten, mut deleted) = (Vec::new(), Vec::new());
    for entry in old {
        if args.delete_files {
            match delete(&entry) {
                Ok(true) => deleted.push(entry.folder.clone()),
                Ok(false) => {}
                // It stays in the list, so that a person can look at it.
                Err(error) => {
                    output::hint(&format!("kept {}: {error:#}", entry.experiment));
                    continue;
                }
            }
        }
        forgotten.push(entry);
    }
    history.forget(&forgotten)?;
    if json {
        let ids: Vec<&str> = forgotten
            .iter()
            .map(|entry| entry.experiment.as_str())
            .collect();
        return output::print_json(&json!({ "forgotten": ids, "deleted": deleted }));
    }
    let plural = |n: usize| if n == 1 { "y" } else { "ies" };
    let files = if args.delete_files {
        format!(", {} folder(s) deleted", deleted.len())
    } else {
        "; their folders stay".to_owned()
    };
    let text = format!(
        "{} entr{} forgotten{files}\n",
        forgotten.len(),
        plural(forgotten.len())
    );
    output::print(text.as_bytes()).map(|_| ())
}

/// Deletes the folder of an entry, if it holds that very bundle. `false`: it is gone already.
fn delete(entry: &Entry) -> anyhow::Result<bool> {
    let folder: &Path = &entry.folder;
    match folder.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot look at {}", folder.display()));
        }
        Ok(found) => anyhow::ensure!(found.is_dir(), "{} is no folder", folder.display()),
    }
    let found = bundle::manifest(folder)?.experiment;
    anyhow::ensure!(
        found.as_str() == entry.experiment,
        "{} holds another experiment, {found}",
        folder.display()
    );
    std::fs::remove_dir_all(folder)
        .with_context(|| format!("cannot delete {}", folder.display()))?;
    Ok(true)
}
