//! What was measured on this machine, in one SQLite file: an index of reports, not their archive.
//!
//! Every report that this machine writes is entered once; `chimera list` shows the entries and
//! `chimera report ID` finds the folder. Losing the file loses no result: the folders have them all.
//! Several processes may use it at once (write-ahead log; a writer waits for another up to
//! `BUSY_TIMEOUT`). The layout is numbered in `user_version`; an older one is brought up to date in
//! one transaction, a newer one is refused, and what is no database is named with its remedy, never
//! overwritten.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chimera_domain::report::Report;
use chimera_runtime::clock;
use chimera_runtime::config::data_dir;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, TransactionBehavior, params};

mod entry;
mod error;

use error::sqlite;

pub use entry::Entry;
pub use error::HistoryError;

/// Layout of the file.
pub const HISTORY_VERSION: i64 = 1;
/// Name of the file in the data folder.
pub const HISTORY_FILE: &str = "history.sqlite";
/// How long a writer waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The variable that names another file, or says that there is to be none.
pub const HISTORY_VARIABLE: &str = "CHIMERA_HISTORY";
/// What the variable or flag says where no history is to be kept.
const OFF: &str = "off";
/// What marks a SQLite file as ours: "chim" as a number. SQLite keeps it in the header.
const APPLICATION_ID: i64 = 0x6368_696d;
/// Most ids named where a prefix is not enough.
const MAX_NAMED: usize = 8;

const SCHEMA: &str = "
CREATE TABLE report (
    experiment        TEXT PRIMARY KEY NOT NULL,
    name              TEXT NOT NULL,
    finished_unix_ms  INTEGER NOT NULL,
    outcome           TEXT NOT NULL,
    host              TEXT,
    model             TEXT,
    tests             INTEGER NOT NULL,
    runs_valid        INTEGER NOT NULL,
    runs_attempted    INTEGER NOT NULL,
    gain_best         REAL,
    gain_worst        REAL,
    folder            TEXT NOT NULL,
    git_revision      TEXT,
    software          TEXT
) STRICT;
CREATE INDEX report_finished ON report (finished_unix_ms DESC);
";

const COLUMNS: &str = "experiment, name, finished_unix_ms, outcome, host, model, tests, runs_valid, \
     runs_attempted, gain_best, gain_worst, folder, git_revision, software";

/// Where the history is: what is `chosen`, else `history.sqlite` in the data folder.
///
/// *Undefined when* `off` is chosen, or there is no data folder (`None`: no history is kept).
#[must_use]
pub fn path(chosen: Option<&str>) -> Option<PathBuf> {
    match chosen {
        Some(OFF) => None,
        Some(chosen) => Some(PathBuf::from(chosen)),
        None => data_dir().map(|folder| folder.join(HISTORY_FILE)),
    }
}

/// Enters a report into the history at `path`; `folder` has its files.
///
/// # Errors
/// When the history cannot be opened or written to. The report itself is not touched.
pub fn enter(path: &Path, report: &Report, folder: &Path) -> Result<(), HistoryError> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let now_ms = i64::try_from(clock::wall_unix_ns() / 1_000_000).unwrap_or(i64::MAX);
    History::open(path)?.record(&Entry::of(report, &folder, now_ms))
}

/// What a pruning keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The newest so many.
    Newest(u32),
    /// Those written at or after this instant, milliseconds since 1970.
    Since(i64),
}

/// The history, open.
#[derive(Debug)]
pub struct History {
    connection: Connection,
    path: PathBuf,
}

impl History {
    /// Opens the history, and begins it where there is none.
    ///
    /// # Errors
    /// When the file is no history of this version, is locked, or the disk refuses.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder).map_err(|source| HistoryError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        }
        let failed = |action| move |source| sqlite(path, action, source);
        let mut connection = Connection::open(path).map_err(failed("open"))?;
        connection
            .busy_timeout(BUSY_TIMEOUT)
            .map_err(failed("open"))?;
        let (version, application, empty) = state(&mut connection).map_err(failed("read"))?;
        let is_new = version == 0 && application == 0;
        if is_new && !empty || !is_new && application != APPLICATION_ID {
            return Err(HistoryError::Foreign {
                path: path.to_owned(),
            });
        }
        if version > HISTORY_VERSION {
            return Err(HistoryError::Newer {
                path: path.to_owned(),
                found: version,
            });
        }
        // Readers and one writer side by side. Where a file system cannot, SQLite keeps its old way; and
        // where another process is at the file, for which SQLite does not wait here, the next who opens
        // it will see to that: the mode stays in the file.
        match connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())) {
            Ok(()) => {}
            Err(busy) if busy.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
            Err(other) => return Err(failed("open")(other)),
        }
        if version < HISTORY_VERSION {
            migrate(&mut connection).map_err(failed("set up"))?;
        }
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
    }

    /// Opens a history that is there. `None`: there is none yet.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_existing(path: &Path) -> Result<Option<Self>, HistoryError> {
        if path.is_file() {
            Self::open(path).map(Some)
        } else {
            Ok(None)
        }
    }

    fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> HistoryError + '_ {
        move |source| sqlite(&self.path, action, source)
    }

    /// Enters a report; a second time replaces the first.
    ///
    /// # Errors
    /// When it is locked or the disk refuses.
    pub fn record(&self, entry: &Entry) -> Result<(), HistoryError> {
        let sql = format!(
            "INSERT OR REPLACE INTO report ({COLUMNS}) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
        );
        let values = params![
            entry.experiment,
            entry.name,
            entry.finished_unix_ms,
            entry.outcome,
            entry.host,
            entry.model,
            entry.tests,
            entry.runs_valid,
            entry.runs_attempted,
            entry.gain_best,
            entry.gain_worst,
            entry.folder.to_string_lossy(),
            entry.git_revision,
            entry.software,
        ];
        let written = self.connection.execute(&sql, values);
        written.map(|_| ()).map_err(self.failed("write to"))
    }

    /// The newest entries, the newest first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn list(&self, most: u32) -> Result<Vec<Entry>, HistoryError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM report ORDER BY finished_unix_ms DESC, experiment LIMIT ?1"
        );
        self.select(&sql, params![most])
    }

    fn select(&self, sql: &str, values: impl rusqlite::Params) -> Result<Vec<Entry>, HistoryError> {
        let read = || -> rusqlite::Result<Vec<Entry>> {
            let mut statement = self.connection.prepare(sql)?;
            statement.query_map(values, Entry::read)?.collect()
        };
        read().map_err(self.failed("read"))
    }

    /// The entry of an experiment, by its id or by the begin of it if only one begins so.
    ///
    /// # Errors
    /// When there is none, or several, or it cannot be read.
    pub fn find(&self, prefix: &str) -> Result<Entry, HistoryError> {
        let sql = format!("SELECT {COLUMNS} FROM report WHERE experiment = ?1");
        let exact = self
            .connection
            .query_row(&sql, params![prefix], Entry::read);
        if let Some(entry) = exact.optional().map_err(self.failed("read"))? {
            return Ok(entry);
        }
        // By length and not LIKE, in which _ would stand for any letter.
        let sql = format!(
            "SELECT {COLUMNS} FROM report WHERE substr(experiment, 1, length(?1)) = ?1 \
             ORDER BY finished_unix_ms DESC, experiment LIMIT ?2"
        );
        let most = u32::try_from(MAX_NAMED).unwrap_or(u32::MAX);
        let mut found = if prefix.is_empty() {
            Vec::new()
        } else {
            self.select(&sql, params![prefix, most])?
        };
        match (found.pop(), found.is_empty()) {
            (None, _) => Err(HistoryError::Unknown(prefix.to_owned())),
            (Some(entry), true) => Ok(entry),
            (Some(last), false) => {
                found.push(last);
                Err(HistoryError::Ambiguous {
                    prefix: prefix.to_owned(),
                    candidates: found.into_iter().map(|entry| entry.experiment).collect(),
                })
            }
        }
    }

    /// The entries that a pruning would forget, the newest first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn beyond(&self, keep: Keep) -> Result<Vec<Entry>, HistoryError> {
        match keep {
            Keep::Newest(count) => {
                let sql = format!(
                    "SELECT {COLUMNS} FROM report ORDER BY finished_unix_ms DESC, experiment \
                     LIMIT -1 OFFSET ?1"
                );
                self.select(&sql, params![count])
            }
            Keep::Since(instant) => {
                let sql = format!(
                    "SELECT {COLUMNS} FROM report WHERE finished_unix_ms < ?1 \
                     ORDER BY finished_unix_ms DESC, experiment"
                );
                self.select(&sql, params![instant])
            }
        }
    }

    /// Forgets these entries. Their folders stay.
    ///
    /// # Errors
    /// When it is locked or the disk refuses; then none is forgotten.
    pub fn forget(&mut self, entries: &[Entry]) -> Result<(), HistoryError> {
        let path = self.path.clone();
        let mut work = || -> rusqlite::Result<()> {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            for entry in entries {
                transaction.execute(
                    "DELETE FROM report WHERE experiment = ?1",
                    params![entry.experiment],
                )?;
            }
            transaction.commit()
        };
        work().map_err(|source| sqlite(&path, "prune", source))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Layout, owner and whether the file is empty, read at one instant: another process may be setting
/// the file up right now.
fn state(connection: &mut Connection) -> rusqlite::Result<(i64, i64, bool)> {
    let at_once = connection.transaction()?;
    Ok((
        version(&at_once)?,
        pragma(&at_once, "application_id")?,
        is_empty(&at_once)?,
    ))
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    pragma(connection, "user_version")
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(tables == 0)
}

/// Brings the layout up to date. Two processes that begin at once: the second finds it done.
fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if version(&transaction)? < 1 {
        transaction.execute_batch(SCHEMA)?;
        transaction.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
    }
    transaction.execute_batch(&format!("PRAGMA user_version = {HISTORY_VERSION}"))?;
    transaction.commit()
}

#[cfg(test)]
mod tests;
