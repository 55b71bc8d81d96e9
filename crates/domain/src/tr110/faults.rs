//! What is wrong with files that cannot be imported.

use std::collections::BTreeSet;
use std::fmt;

/// One thing that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Path of the file, relative to the folder that is imported.
    pub file: String,
    /// Path of the field in it (`summary.baseline_duration`). `None`: the file as a whole.
    pub field: Option<String>,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl Fault {
    /// Of the file as a whole.
    #[must_use]
    pub fn of_file(file: &str, problem: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            field: None,
            problem: problem.into(),
        }
    }

    /// Of one field.
    #[must_use]
    pub fn of_field(file: &str, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            field: Some(field.into()),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{}: {field}: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

/// Why nothing was imported: every fault of every file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportError {
    faults: Vec<Fault>,
}

impl ImportError {
    /// Of these faults, sorted by file. *Shape*: one or more.
    #[must_use]
    pub fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        let sorted: BTreeSet<Fault> = faults.into_iter().collect();
        Self {
            faults: sorted.into_iter().collect(),
        }
    }

    /// What is wrong, by file.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: BTreeSet<&str> = self
            .faults
            .iter()
            .map(|fault| fault.file.as_str())
            .collect();
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let (faults, files) = (self.faults.len(), files.len());
        write!(
            f,
            "{faults} fault{} in {files} file{}",
            plural(faults),
            plural(files)
        )?;
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ImportError {}
