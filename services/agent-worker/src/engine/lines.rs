//! Frames to lines.

use memchr::memchr;

use chimera_domain::event::{RequestError, RequestErrorKind};

use super::answer::failure;

/// Splits a byte stream at line feeds, whatever frames it arrives in.
///
/// A line that lies whole in one frame is passed on without a copy; only a line that spans frames
/// is put together. A carriage return before the line feed is dropped.
#[derive(Debug)]
pub(super) struct Lines {
    carry: Vec<u8>,
    cap: usize,
}

impl Lines {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            carry: Vec::new(),
            cap,
        }
    }

    /// Calls `each` for every line that `frame` completes, in order.
    ///
    /// # Errors
    /// Those of `each`, and a line over the cap: known before it is whole, so a carry never grows
    /// beyond the cap.
    pub(super) fn push(
        &mut self,
        frame: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        let mut rest = frame;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if self.carry.is_empty() {
                self.check(line.len())?;
                each(strip(line))?;
            } else {
                self.check(self.carry.len().saturating_add(line.len()))?;
                self.carry.extend_from_slice(line);
                each(strip(&self.carry))?;
                self.carry.clear();
            }
        }
        if !rest.is_empty() {
            self.check(self.carry.len().saturating_add(rest.len()))?;
            self.carry.extend_from_slice(rest);
        }
        Ok(())
    }

    /// What came after the last line feed.
    pub(super) fn rest(&self) -> &[u8] {
        strip(&self.carry)
    }

    fn check(&self, len: usize) -> Result<(), RequestError> {
        if len <= self.cap {
            return Ok(());
        }
        let detail = format!("a line of the stream is longer than {} bytes", self.cap);
        Err(failure(RequestErrorKind::LineTooLong, &detail))
    }
}

fn strip(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
