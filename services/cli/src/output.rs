//! Standard output: results for people and programs, and nothing else. Logs, progress and hints go
//! to standard error.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

/// Whether anybody still reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Go on.
    There,
    /// It has closed the pipe (`chimera list | head`): stop, all is well.
    Gone,
}

/// Writes to standard output.
///
/// # Errors
/// When it cannot be written, save that its reader has gone.
pub(crate) fn print(bytes: &[u8]) -> anyhow::Result<Reader> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// Writes a JSON document, indented.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    print(&bytes).map(|_| ())
}

/// Writes one line of NDJSON.
pub(crate) fn print_json_line(value: &impl Serialize) -> anyhow::Result<Reader> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    print(&bytes)
}

/// Says something to the person beside the results.
pub(crate) fn hint(text: &str) {
    eprintln!("{text}");
}

/// Where a file is written until it is whole.
pub(crate) fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

/// Writes a file so that it has its name only once it is whole and on disk.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let draft = partial(path);
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_file(&path, b"{}").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{}");
        assert!(!partial(&path).exists());
        let error = write_file(&dir.path().join("no/such/a.json"), b"").unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
    }
}
