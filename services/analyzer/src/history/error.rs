//! Why the history cannot be used, with what to do about it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

use super::{BUSY_TIMEOUT, HISTORY_VERSION};

/// Why the history cannot be used.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The folder cannot be made.
    #[error("cannot make the folder of the history {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no database, or a damaged one.
    #[error(
        "the history {} is damaged or no database: move it away and a new one begins; the results \
         themselves are in their folders",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        #[source]
        source: rusqlite::Error,
    },
    /// It belongs to something else.
    #[error("{} is a database of something else: name another file for the history", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer chimera wrote it.
    #[error(
        "the history {} has layout {found}, and this chimera reads {HISTORY_VERSION}: use the newer \
         chimera, or another file",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// Another process holds it.
    #[error(
        "the history {} was locked for {} s by another process: try again when that has ended",
        path.display(),
        BUSY_TIMEOUT.as_secs()
    )]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// Anything else that SQLite says.
    #[error("cannot {action} the history {}", path.display())]
    Sqlite {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// No entry.
    #[error("the history knows no experiment '{0}'; `chimera list` shows those it knows")]
    Unknown(String),
    /// Several entries.
    #[error("'{prefix}' is not enough: it could be {}", candidates.join(", "))]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// The newest experiments that begin with it.
        candidates: Vec<String>,
    },
}

/// What an error of SQLite means here.
pub(super) fn sqlite(path: &Path, action: &'static str, source: rusqlite::Error) -> HistoryError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            HistoryError::Damaged { path, source }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => HistoryError::Busy { path },
        _ => HistoryError::Sqlite {
            action,
            path,
            source,
        },
    }
}
