//! Where data comes from: the files shipped in the binary, or a folder.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{DataError, MAX_FILE_BYTES, MAX_FILES, MAX_NAME_BYTES};

/// One CSV file that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvFile {
    /// Name without its folder.
    pub name: String,
    /// Size when it was found, bytes.
    pub bytes: u64,
    pub(super) content: Content,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Path(PathBuf),
    Shipped(&'static str),
}

/// Where a workload's data comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    /// The files built into the binary (`examples/data`).
    Shipped,
    /// A folder of `.csv` files.
    Folder(PathBuf),
}

impl DataSource {
    /// What a workload's `data` means on a worker whose data root is `root`: nothing is the
    /// shipped data, a relative path is a folder below the root.
    ///
    /// # Errors
    /// When the path is absolute, has a `..`, or leads out of the root through a link; when it is
    /// not there; and when a path is given to a worker without a data root.
    pub fn resolve(root: Option<&Path>, data: Option<&str>) -> Result<Self, DataError> {
        let Some(data) = data else {
            return Ok(Self::Shipped);
        };
        let relative = Path::new(data);
        let root = root.ok_or_else(|| DataError::NoRoot {
            path: relative.to_owned(),
        })?;
        let escapes = || DataError::Escapes {
            path: relative.to_owned(),
            root: root.to_owned(),
        };
        if data.is_empty()
            || relative
                .components()
                .any(|c| !matches!(c, Component::Normal(_) | Component::CurDir))
        {
            return Err(escapes());
        }
        let real = |path: &Path| {
            fs::canonicalize(path).map_err(|source| DataError::Folder {
                folder: path.to_owned(),
                source,
            })
        };
        let folder = root.join(relative);
        if !real(&folder)?.starts_with(real(root)?) {
            return Err(escapes());
        }
        Ok(Self::Folder(folder))
    }

    /// The files, by rising name.
    ///
    /// # Errors
    /// As [`scan`]; never for the shipped data.
    pub fn files(&self) -> Result<Vec<CsvFile>, DataError> {
        match self {
            Self::Folder(folder) => scan(folder),
            Self::Shipped => Ok(crate::workload::shipped_data()
                .iter()
                .map(|(name, text)| CsvFile {
                    name: (*name).to_owned(),
                    bytes: text.len() as u64,
                    content: Content::Shipped(text),
                })
                .collect()),
        }
    }
}

/// Finds the `.csv` files (any case) that lie directly in `folder`; hidden files are left alone.
///
/// *Shape*: one or more, by rising name, however the folder lists them.
///
/// # Errors
/// When the folder cannot be read, holds no `.csv` or too many, or one of them is too large, not a
/// regular file, badly named, or a link out of the folder.
pub fn scan(folder: &Path) -> Result<Vec<CsvFile>, DataError> {
    let unreadable = |source| DataError::Folder {
        folder: folder.to_owned(),
        source,
    };
    let root = fs::canonicalize(folder).map_err(unreadable)?;
    if !root.is_dir() {
        return Err(DataError::NotAFolder {
            path: folder.to_owned(),
        });
    }
    let mut files = Vec::new();
    let mut empty = true;
    for entry in fs::read_dir(&root).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        empty = false;
        let csv = path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("csv"));
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !csv || hidden {
            continue;
        }
        if files.len() == MAX_FILES {
            return Err(DataError::TooManyFiles {
                folder: folder.to_owned(),
            });
        }
        files.push(csv_file(&path, &root)?);
    }
    if files.is_empty() {
        let folder = folder.to_owned();
        return Err(if empty {
            DataError::EmptyFolder { folder }
        } else {
            DataError::NoCsv { folder }
        });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn csv_file(path: &Path, root: &Path) -> Result<CsvFile, DataError> {
    let raw = path.file_name().unwrap_or_default();
    let name = match raw.to_str() {
        Some(name) if name.len() <= MAX_NAME_BYTES && !name.contains(char::is_control) => {
            name.to_owned()
        }
        _ => {
            return Err(DataError::FileName {
                name: raw.to_string_lossy().into_owned(),
            });
        }
    };
    let read = |source| DataError::Read {
        file: name.clone(),
        source,
    };
    let real = fs::canonicalize(path).map_err(read)?;
    if !real.starts_with(root) {
        return Err(DataError::Escapes {
            path: path.to_owned(),
            root: root.to_owned(),
        });
    }
    // Before it is opened: opening a pipe would wait for its writer.
    let metadata = fs::metadata(&real).map_err(read)?;
    if !metadata.is_file() {
        return Err(DataError::NotAFile { file: name });
    }
    let bytes = metadata.len();
    if bytes > MAX_FILE_BYTES {
        return Err(DataError::FileTooLarge { file: name, bytes });
    }
    Ok(CsvFile {
        name,
        bytes,
        content: Content::Path(real),
    })
}
