//! Standard output: results for people and programs, and nothing else. Logs, progress and hints go
//! to standard error.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chimera_runtime::exit::UsageError;
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

/// Writes files into a folder so that it has its name only once all of them are whole and on disk.
///
/// # Errors
/// When the folder exists, which is the caller's to change, or the disk refuses.
pub(crate) fn write_folder(target: &Path, files: &[(String, Vec<u8>)]) -> anyhow::Result<()> {
    refuse_existing(target)?;
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    // Removed again unless it is given its name: a failure leaves nothing behind.
    let draft = tempfile::Builder::new()
        .prefix(".chimera-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot write in {}", parent.display()))?;
    let folder = draft.path().join("whole");
    std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, bytes) in files {
        let path = folder.join(name);
        let write = || {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
    }
    refuse_existing(target)?;
    std::fs::rename(&folder, target)
        .and_then(|()| File::open(parent)?.sync_all())
        .with_context(|| format!("cannot give {} its name", target.display()))
}

/// Refuses to write over results.
///
/// # Errors
/// When something has this name.
pub(crate) fn refuse_existing(target: &Path) -> Result<(), UsageError> {
    if target.symlink_metadata().is_ok() {
        return Err(UsageError(format!(
            "{} exists already: give --out another folder, results are never written over",
            target.display()
        )));
    }
    Ok(())
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

    #[test]
    fn a_folder_has_its_name_only_when_whole_and_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("results/one");
        let files = [("a/b.json".to_owned(), b"{}".to_vec())];
        write_folder(&target, &files).unwrap();
        assert_eq!(std::fs::read(target.join("a/b.json")).unwrap(), b"{}");
        let error = write_folder(&target, &files).unwrap_err();
        assert_eq!(chimera_runtime::exit::code(&error), 64, "{error}");
        // A file in the way of a folder fails, and leaves nothing behind.
        let bad = [("a".to_owned(), Vec::new()), ("a/b".to_owned(), Vec::new())];
        write_folder(&dir.path().join("results/two"), &bad).unwrap_err();
        let left = std::fs::read_dir(dir.path().join("results"))
            .unwrap()
            .count();
        assert_eq!(left, 1);
    }
}
