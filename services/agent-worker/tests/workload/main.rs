//! The workload from outside: data to aggregates, aggregates to prompts, all of it to a report.
#![expect(clippy::unwrap_used, reason = "tests")]

mod data;
mod prompts;
mod report;

use std::fs;
use std::path::Path;

use agent_worker::workload::{Aggregates, DataError, DataSource, aggregate, ingest, scan};
use tempfile::TempDir;

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn read(dir: &Path) -> Result<Aggregates, DataError> {
    Ok(aggregate(&ingest(&scan(dir)?)?))
}

fn shipped() -> Aggregates {
    aggregate(&ingest(&DataSource::Shipped.files().unwrap()).unwrap())
}
