//! Reads CSV files once and keeps what their columns come to.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use serde::{Deserialize, Serialize};

use super::column::{ColumnAccumulator, ColumnAggregate};
use super::scan::Content;
use super::text::{TextFault, TextReader};
use super::{
    CsvFile, DataError, MAX_COLUMN_NAMES, MAX_COLUMNS, MAX_FILE_BYTES, MAX_NAME_BYTES, MAX_ROWS,
};

/// A file's metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileAggregate {
    /// Name without its folder.
    pub name: String,
    /// Rows below the header.
    pub rows: u64,
    /// Its columns, in the order of the header.
    pub columns: Vec<ColumnAggregate>,
}

/// What was read: accumulators, no rows.
#[derive(Debug, Clone)]
pub struct Dataset {
    files: Vec<FileAggregate>,
    pooled: Vec<ColumnAccumulator>,
    rows: u64,
}

impl Dataset {
    /// The files read, by rising name.
    #[must_use]
    pub fn files(&self) -> &[FileAggregate] {
        &self.files
    }

    /// Rows over all files.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Each column name's metrics over all files, by first appearance.
    #[must_use]
    pub fn pooled(&self) -> Vec<ColumnAggregate> {
        self.pooled.iter().map(ColumnAccumulator::finish).collect()
    }
}

/// Reads `files` in the order of their names, each once and in bounded memory.
///
/// # Errors
/// The first thing wrong with a file (see [`DataError`]), or [`DataError::NoRows`] if all of them
/// end after their headers.
pub fn ingest(files: &[CsvFile]) -> Result<Dataset, DataError> {
    let mut ordered: Vec<&CsvFile> = files.iter().collect();
    ordered.sort_by(|a, b| a.name.cmp(&b.name));
    let mut pool = Pool::default();
    let mut done = Vec::with_capacity(ordered.len());
    for file in ordered {
        done.push(match &file.content {
            Content::Shipped(text) => read(&file.name, text.as_bytes(), &mut pool),
            Content::Path(path) => {
                let opened = File::open(path).map_err(|source| DataError::Read {
                    file: file.name.clone(),
                    source,
                })?;
                read(&file.name, opened, &mut pool)
            }
        }?);
    }
    if pool.rows == 0 {
        return Err(DataError::NoRows);
    }
    Ok(Dataset {
        files: done,
        pooled: pool.columns,
        rows: pool.rows,
    })
}

/// What is kept over all files.
#[derive(Default)]
struct Pool {
    columns: Vec<ColumnAccumulator>,
    index: HashMap<String, usize>,
    rows: u64,
}

impl Pool {
    /// The place of a column name, made if it is new; `None` if there are too many.
    fn place(&mut self, name: &str) -> Option<usize> {
        if let Some(place) = self.index.get(name) {
            return Some(*place);
        }
        let place = self.columns.len();
        if place == MAX_COLUMN_NAMES {
            return None;
        }
        self.columns.push(ColumnAccumulator::new(name));
        self.index.insert(name.to_owned(), place);
        Some(place)
    }
}

fn read(file: &str, bytes: impl Read, pool: &mut Pool) -> Result<FileAggregate, DataError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(true)
        .flexible(false)
        .from_reader(TextReader::new(bytes, MAX_FILE_BYTES));
    let header = reader.headers().map_err(|error| data_error(file, error))?;
    let names = column_names(file, header)?;
    let mut columns: Vec<(ColumnAccumulator, usize)> = Vec::with_capacity(names.len());
    for name in &names {
        let place = pool.place(name).ok_or_else(|| DataError::TooManyNames {
            file: file.to_owned(),
        })?;
        let mut column = ColumnAccumulator::new(name);
        column.begin_file();
        if let Some(pooled) = pool.columns.get_mut(place) {
            pooled.begin_file();
        }
        columns.push((column, place));
    }
    let mut rows = 0;
    let mut row = csv::StringRecord::new();
    while reader
        .read_record(&mut row)
        .map_err(|error| data_error(file, error))?
    {
        rows += 1;
        pool.rows += 1;
        if pool.rows > MAX_ROWS {
            return Err(DataError::TooManyRows {
                file: file.to_owned(),
            });
        }
        for (cell, (column, place)) in row.iter().zip(&mut columns) {
            column.push(cell);
            if let Some(pooled) = pool.columns.get_mut(*place) {
                pooled.push(cell);
            }
        }
    }
    let columns = columns.iter().map(|(column, _)| column.finish()).collect();
    Ok(FileAggregate {
        name: file.to_owned(),
        rows,
        columns,
    })
}

/// Checks a header and gives its names, trimmed.
fn column_names(file: &str, header: &csv::StringRecord) -> Result<Vec<String>, DataError> {
    let file = file.to_owned();
    if header.iter().all(|cell| cell.trim().is_empty()) {
        return Err(DataError::NoHeader { file });
    }
    if header.len() > MAX_COLUMNS {
        return Err(DataError::TooManyColumns {
            file,
            columns: header.len(),
        });
    }
    if header.iter().all(|cell| cell.trim().parse::<f64>().is_ok()) {
        return Err(DataError::HeaderIsData { file });
    }
    if let (1, Some(only)) = (header.len(), header.get(0)) {
        for (separator, found) in [(';', "semicolons"), ('\t', "tabs"), ('|', "bars")] {
            if only.contains(separator) {
                return Err(DataError::Separator { file, found });
            }
        }
    }
    let mut names: Vec<String> = Vec::with_capacity(header.len());
    for (i, cell) in header.iter().enumerate() {
        let name = cell.trim();
        let problem = if name.is_empty() {
            Some("no name")
        } else if name.len() > MAX_NAME_BYTES {
            Some("a name that is too long")
        } else if name.contains(char::is_control) {
            Some("a control character in its name")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(DataError::ColumnName {
                file,
                column: i + 1,
                problem,
            });
        }
        if names.iter().any(|earlier| earlier == name) {
            return Err(DataError::DuplicateColumn {
                file,
                name: name.to_owned(),
            });
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn data_error(file: &str, error: csv::Error) -> DataError {
    let file = file.to_owned();
    match error.into_kind() {
        csv::ErrorKind::Io(source) => {
            match source
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<TextFault>())
            {
                Some(&TextFault::NotUtf8 { line, offset }) => {
                    DataError::NotUtf8 { file, line, offset }
                }
                Some(&TextFault::TooLarge { bytes }) => DataError::FileTooLarge { file, bytes },
                None => DataError::Read { file, source },
            }
        }
        csv::ErrorKind::UnequalLengths {
            pos: Some(pos),
            expected_len,
            len,
        } => DataError::Ragged {
            file,
            line: pos.line(),
            expected: expected_len,
            found: len,
        },
        other => DataError::Read {
            file,
            source: std::io::Error::other(format!("{other:?}")),
        },
    }
}
