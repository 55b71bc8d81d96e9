//! SHA-256 of model files, once per file: two workers of one process load the same GGUF.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OnceCell};

/// A file as long as nobody writes to it.
type FileKey = (PathBuf, u64, Option<SystemTime>);
type Cell = Arc<OnceCell<String>>;

static KNOWN: Mutex<Option<HashMap<FileKey, Cell>>> = Mutex::const_new(None);

/// Hex SHA-256 of a file's bytes.
///
/// # Errors
/// When the file cannot be read.
pub(crate) async fn sha256_of_file(path: &Path) -> std::io::Result<String> {
    let meta = std::fs::metadata(path)?;
    let key = (path.to_owned(), meta.len(), meta.modified().ok());
    let cell = KNOWN
        .lock()
        .await
        .get_or_insert_default()
        .entry(key)
        .or_default()
        .clone();
    let path = path.to_owned();
    let digest = cell
        .get_or_try_init(|| async {
            tokio::task::spawn_blocking(move || hash(&path))
                .await
                .map_err(std::io::Error::other)?
        })
        .await?;
    Ok(digest.clone())
}

fn hash(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            n => hasher.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_digest_is_that_of_the_bytes_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, b"abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_of_file(&path).await.unwrap(), abc);
        std::fs::write(&path, b"abcd").unwrap();
        assert_ne!(sha256_of_file(&path).await.unwrap(), abc);
        assert!(sha256_of_file(&dir.path().join("none")).await.is_err());
    }
}
