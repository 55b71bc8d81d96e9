//! From a folder to numbers: find the CSV files, read them once, keep accumulators and no rows.
//!
//! *Rule*: the first line names the columns; every further line is a row with as many cells. A
//! column is numeric if every cell that is there parses as a finite number; empty cells and
//! `NaN`/`inf` are counted apart as missing. *Memory* is bounded whatever the files hold: one
//! file's accumulators and those over all files, never the rows. *Non-goals*: sub-folders, other
//! separators, guessing encodings, words that stand for "missing" (`NA` makes a text column).

mod column;
mod error;
mod ingest;
mod scan;
mod text;

pub use column::{ColumnAggregate, ColumnValues, Frequent, NumericSummary, TextSummary};
pub use error::DataError;
pub use ingest::{Dataset, FileAggregate, ingest};
pub use scan::{CsvFile, DataSource, scan};

/// Largest file accepted, bytes.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// Most files in one folder.
pub const MAX_FILES: usize = 256;
/// Most rows over all files.
pub const MAX_ROWS: u64 = 1_000_000;
/// Most columns in one file.
pub const MAX_COLUMNS: usize = 128;
/// Most different column names over all files.
pub const MAX_COLUMN_NAMES: usize = 256;
/// Longest column name or file name, bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Up to this many values of a column the median is exact; above it is not measured.
pub const MAX_EXACT_VALUES: usize = 16_384;
/// Up to this many different texts of a column they are counted; above they are not.
pub const MAX_DISTINCT: usize = 256;
/// A text column with a longer cell, in bytes, has its distinct texts not counted.
pub const MAX_COUNTED_TEXT_BYTES: usize = 256;
