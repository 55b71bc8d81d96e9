//! The header of a model file, read from disk: no more of the file than the header needs.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use chimera_domain::memory::gguf::{GgufError, Header};
use thiserror::Error;

/// The first piece of a file that is read; then twice as much, until the header is whole. A header is
/// mostly the vocabulary: some MiB.
const FIRST_PIECE: u64 = 1 << 20;
/// No header is longer.
const LAST_PIECE: u64 = 1 << 28;

/// Why there is no header.
#[derive(Debug, Error)]
pub enum HeaderError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is no GGUF file, or one that is not understood.
    #[error(transparent)]
    Gguf(#[from] GgufError),
}

/// Reads the header of a GGUF file. Blocks.
///
/// # Errors
/// When the file cannot be read, or its header is not whole or not understood.
pub fn read_header(path: &Path) -> Result<Header, HeaderError> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    let mut piece = FIRST_PIECE;
    loop {
        let missing = piece.saturating_sub(bytes.len() as u64);
        let got = file.by_ref().take(missing).read_to_end(&mut bytes)?;
        match Header::parse(&bytes) {
            // More of the file may complete it.
            Err(GgufError::Truncated(_)) if got as u64 == missing && piece < LAST_PIECE => {
                piece = piece.saturating_mul(2);
            }
            other => return Ok(other?),
        }
    }
}
