//! A reader that lets only UTF-8 text through and knows where text ends.

use std::fmt;
use std::io::{self, ErrorKind, Read};

/// Bytes validated at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Why [`TextReader`] stopped; travels inside an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextFault {
    /// The first byte that is no UTF-8 text, or a NUL.
    NotUtf8 {
        /// Its line, from 1.
        line: u64,
        /// Its offset in the file, from 0.
        offset: u64,
    },
    /// The file goes on past the limit.
    TooLarge {
        /// Bytes seen so far.
        bytes: u64,
    },
}

impl fmt::Display for TextFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for TextFault {}

/// Passes text on; ends with a [`TextFault`] at the first byte that is none.
///
/// A sequence cut by the edge of a chunk is held back until its rest is in. The limit counts what
/// is read, not what the directory says: a file may grow while it is read.
pub(super) struct TextReader<R> {
    inner: R,
    limit: u64,
    chunk: Vec<u8>,
    /// `chunk[start..valid]` is text not yet passed on; `chunk[valid..filled]` is not yet text.
    start: usize,
    valid: usize,
    filled: usize,
    /// Offset of `chunk[0]` in the file, and its line.
    offset: u64,
    line: u64,
}

impl<R: Read> TextReader<R> {
    pub(super) fn new(inner: R, limit: u64) -> Self {
        Self {
            inner,
            limit,
            chunk: vec![0; CHUNK_BYTES],
            start: 0,
            valid: 0,
            filled: 0,
            offset: 0,
            line: 1,
        }
    }

    /// Makes `start..valid` non-empty, unless the file has ended.
    fn fill(&mut self) -> io::Result<()> {
        let passed = self.chunk.get(..self.valid).unwrap_or_default();
        self.line += newlines(passed);
        self.offset += self.valid as u64;
        self.chunk.copy_within(self.valid..self.filled, 0);
        self.filled -= self.valid;
        self.start = 0;
        self.valid = 0;
        while self.valid == 0 {
            let room = self.chunk.get_mut(self.filled..).unwrap_or_default();
            let read = match self.inner.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            self.filled += read;
            let bytes = self.offset + self.filled as u64;
            if bytes > self.limit {
                return Err(fault(TextFault::TooLarge { bytes }));
            }
            let seen = self.chunk.get(..self.filled).unwrap_or_default();
            let (valid, bad) = match std::str::from_utf8(seen) {
                Ok(_) => (self.filled, false),
                Err(error) => (
                    error.valid_up_to(),
                    error.error_len().is_some() || read == 0,
                ),
            };
            // A NUL is valid UTF-8, but in a CSV it means UTF-16 or binary data.
            let nul = seen.iter().take(valid).position(|byte| *byte == 0);
            if bad || nul.is_some() {
                let at = nul.unwrap_or(valid);
                return Err(fault(TextFault::NotUtf8 {
                    line: self.line + newlines(seen.get(..at).unwrap_or_default()),
                    offset: self.offset + at as u64,
                }));
            }
            self.valid = valid;
            if read == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for TextReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start == self.valid {
            self.fill()?;
        }
        let ready = self.chunk.get(self.start..self.valid).unwrap_or_default();
        let n = ready.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..n), ready.get(..n)) {
            to.copy_from_slice(from);
        }
        self.start += n;
        Ok(n)
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn fault(fault: TextFault) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `step` bytes at a time, so that every sequence is cut somewhere.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(out.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn read(bytes: &[u8], step: usize, limit: u64) -> Result<String, TextFault> {
        let mut text = String::new();
        match TextReader::new(Drip(bytes, step), limit).read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(*error
                .get_ref()
                .unwrap()
                .downcast_ref::<TextFault>()
                .unwrap()),
        }
    }

    #[test]
    fn text_passes_whole_however_it_arrives() {
        let text = "a,ü\n€,𝄞\n";
        for step in 1..6 {
            assert_eq!(read(text.as_bytes(), step, 100).unwrap(), text, "{step}");
        }
    }

    #[test]
    fn the_first_bad_byte_is_named_by_line_and_offset() {
        for step in 1..6 {
            assert_eq!(
                read(b"a,b\n1,\xff\n", step, 100),
                Err(TextFault::NotUtf8 { line: 2, offset: 6 }),
                "{step}"
            );
            // Cut short at the end of the file.
            assert_eq!(
                read(b"a\n\xe2\x82", step, 100),
                Err(TextFault::NotUtf8 { line: 2, offset: 2 }),
                "{step}"
            );
        }
        assert_eq!(
            read(b"a\0b\0", 4, 100),
            Err(TextFault::NotUtf8 { line: 1, offset: 1 })
        );
    }

    #[test]
    fn a_long_file_keeps_its_count_of_lines_and_bytes() {
        let mut bytes = b"0123456789\n".repeat(20_000);
        bytes.push(0xc0);
        assert_eq!(
            read(&bytes, 1 << 16, 1 << 30),
            Err(TextFault::NotUtf8 {
                line: 20_001,
                offset: 220_000
            })
        );
    }

    #[test]
    fn the_limit_counts_what_is_read() {
        assert_eq!(read(b"12345", 2, 5).unwrap(), "12345");
        assert_eq!(read(b"123456", 2, 5), Err(TextFault::TooLarge { bytes: 6 }));
    }
}
