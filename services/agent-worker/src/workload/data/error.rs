//! What can be wrong with data, each with its remedy.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::{MAX_COLUMN_NAMES, MAX_COLUMNS, MAX_FILE_BYTES, MAX_FILES, MAX_NAME_BYTES, MAX_ROWS};

/// Why a data folder cannot be worked on.
///
/// Lines count from 1 and byte offsets from 0, both in the file as it lies on the disk.
#[derive(Debug, Error)]
pub enum DataError {
    /// The folder is missing or closed to us.
    #[error("the data folder '{}' cannot be read: {source}; name a folder that exists and is readable", folder.display())]
    Folder {
        /// The folder asked for.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The path is something else than a folder.
    #[error("'{}' is not a folder; name the folder that holds the .csv files", path.display())]
    NotAFolder {
        /// The path asked for.
        path: PathBuf,
    },
    /// A folder is asked for, and the worker has no data root.
    #[error("the data folder '{}' is asked for, but this worker was started without a data root; give it one, or leave data out to use the shipped files", path.display())]
    NoRoot {
        /// The folder asked for.
        path: PathBuf,
    },
    /// A path or link that leaves the folder it must stay in.
    #[error("'{}' leads out of '{}'; data must lie inside its folder: copy it there", path.display(), root.display())]
    Escapes {
        /// The path or link.
        path: PathBuf,
        /// Where it must stay.
        root: PathBuf,
    },
    /// There is nothing in the folder.
    #[error("the data folder '{}' is empty; put at least one .csv file into it", folder.display())]
    EmptyFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// There is something in the folder, but no CSV.
    #[error("the data folder '{}' holds no .csv file (sub-folders and hidden files are not looked at); put at least one into it", folder.display())]
    NoCsv {
        /// The folder.
        folder: PathBuf,
    },
    /// Over [`MAX_FILES`].
    #[error("the data folder '{}' holds more than {MAX_FILES} .csv files; split it or merge files", folder.display())]
    TooManyFiles {
        /// The folder.
        folder: PathBuf,
    },
    /// A name that a report cannot carry.
    #[error(
        "the file name '{name}' is not usable: it must be UTF-8 without control characters, of at most {MAX_NAME_BYTES} bytes; rename the file"
    )]
    FileName {
        /// The name, with what is not UTF-8 replaced.
        name: String,
    },
    /// A `.csv` that is a folder, pipe, socket or device.
    #[error("{file}: not a regular file; remove or rename it")]
    NotAFile {
        /// Which file.
        file: String,
    },
    /// Over [`MAX_FILE_BYTES`].
    #[error("{file}: {bytes} bytes, more than the {MAX_FILE_BYTES} allowed; split the file")]
    FileTooLarge {
        /// Which file.
        file: String,
        /// Its size, or how far it was read.
        bytes: u64,
    },
    /// Over [`MAX_ROWS`].
    #[error(
        "{file}: with this file the data has more than {MAX_ROWS} rows; leave files out or thin the rows"
    )]
    TooManyRows {
        /// The file in which the limit was passed.
        file: String,
    },
    /// Over [`MAX_COLUMNS`].
    #[error(
        "{file}: {columns} columns, more than the {MAX_COLUMNS} allowed; drop the columns that are not needed"
    )]
    TooManyColumns {
        /// Which file.
        file: String,
        /// How many it has.
        columns: usize,
    },
    /// Over [`MAX_COLUMN_NAMES`].
    #[error(
        "{file}: with this file the data has more than {MAX_COLUMN_NAMES} different column names; split the folder"
    )]
    TooManyNames {
        /// The file in which the limit was passed.
        file: String,
    },
    /// The system refused.
    #[error("{file}: cannot be read: {source}; check that it is still there and readable")]
    Read {
        /// Which file.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Bytes that are no UTF-8 text.
    #[error("{file}: line {line}, byte offset {offset}: not UTF-8 text; save the file as UTF-8")]
    NotUtf8 {
        /// Which file.
        file: String,
        /// Line of the first bad byte.
        line: u64,
        /// Offset of the first bad byte in the file.
        offset: u64,
    },
    /// Nothing in the file.
    #[error(
        "{file}: the header is missing: the file is empty; its first line must name the columns"
    )]
    NoHeader {
        /// Which file.
        file: String,
    },
    /// Only numbers in the first line.
    #[error(
        "{file}: the header is missing: line 1 holds only numbers; its first line must name the columns"
    )]
    HeaderIsData {
        /// Which file.
        file: String,
    },
    /// A column without a usable name.
    #[error("{file}: column {column} of the header has {problem}; name every column")]
    ColumnName {
        /// Which file.
        file: String,
        /// Its place, from 1.
        column: usize,
        /// What is wrong with the name.
        problem: &'static str,
    },
    /// Two columns of one name.
    #[error("{file}: the header names the column '{name}' twice; names must differ")]
    DuplicateColumn {
        /// Which file.
        file: String,
        /// The name.
        name: String,
    },
    /// The cells are not parted by commas.
    #[error("{file}: the header looks separated by {found}; the separator must be a comma")]
    Separator {
        /// Which file.
        file: String,
        /// What was found.
        found: &'static str,
    },
    /// A row of another width.
    #[error(
        "{file}: line {line}: {found} cells where the header has {expected}; complete or quote the row"
    )]
    Ragged {
        /// Which file.
        file: String,
        /// Line at which the row begins.
        line: u64,
        /// Cells in the header.
        expected: u64,
        /// Cells in the row.
        found: u64,
    },
    /// Headers only.
    #[error("the data has no rows: every file ends after its header; add rows")]
    NoRows,
}
