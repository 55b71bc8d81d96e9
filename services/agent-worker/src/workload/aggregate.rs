//! A data set's metrics as one JSON value: what the `aggregates` output of an agent holds.

use serde::{Deserialize, Serialize};

use super::data::{ColumnAggregate, Dataset, FileAggregate};

/// Version of [`Aggregates`]; rises when a field changes its meaning.
pub const AGGREGATES_VERSION: u32 = 1;

/// Counts, means and spread per column, per file and over files.
///
/// *Shape*: files by rising name, their columns as in the header; `columns` by first appearance.
/// The order of rows in a file does not change it as long as no column has more values than
/// [`MAX_EXACT_VALUES`](super::data::MAX_EXACT_VALUES); beyond, last bits may differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aggregates {
    /// [`AGGREGATES_VERSION`].
    pub schema_version: u32,
    /// Rows over all files.
    pub rows: u64,
    /// Whether the columns of the single files were left out to keep the value small.
    pub abridged: bool,
    /// Each file.
    pub files: Vec<FileAggregate>,
    /// Each column name over all files that have it.
    pub columns: Vec<ColumnAggregate>,
}

impl Aggregates {
    /// The value as JSON, indented, keys in the order of declaration.
    ///
    /// # Errors
    /// None that the types allow; the signature is that of the serializer.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// The value without the columns of the single files: at most some 100 KiB as JSON, where the
    /// whole may have several MiB.
    #[must_use]
    pub fn abridge(&self) -> Self {
        let files = self
            .files
            .iter()
            .map(|file| FileAggregate {
                columns: Vec::new(),
                ..file.clone()
            })
            .collect();
        Self {
            abridged: true,
            files,
            ..self.clone()
        }
    }
}

/// Sums a data set up.
#[must_use]
pub fn aggregate(dataset: &Dataset) -> Aggregates {
    Aggregates {
        schema_version: AGGREGATES_VERSION,
        rows: dataset.rows(),
        abridged: false,
        files: dataset.files().to_vec(),
        columns: dataset.pooled(),
    }
}
