//! What is wrong with a spec: every fault at once, each with its place and its remedy.

use std::fmt;

/// Most faults listed; further ones are counted.
pub const MAX_ERRORS: usize = 100;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// Line of the text, from 1. `None` for a spec built from flags, or when what is missing has
    /// no place.
    pub line: Option<u32>,
    /// Path of the key (`phase[0].num_ctx`, counted from 0), or the flag (`--num-ctx`). Empty when
    /// the fault is about the text as a whole.
    pub key: String,
    /// What was found.
    pub problem: String,
    /// What is allowed, or what to do.
    pub hint: Option<String>,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Every fault of a spec. *Shape*: one or more, by rising line, at most [`MAX_ERRORS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecErrors {
    errors: Vec<SpecError>,
    unlisted: usize,
}

impl SpecErrors {
    pub(super) fn new(mut errors: Vec<SpecError>, unlisted: usize) -> Self {
        errors.sort_by_key(|e| e.line.unwrap_or(0));
        Self { errors, unlisted }
    }

    /// The faults.
    #[must_use]
    pub fn as_slice(&self) -> &[SpecError] {
        &self.errors
    }

    /// Faults found beyond the listed ones.
    #[must_use]
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        match self.unlisted {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for SpecErrors {}

/// Where something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// At this byte of the text.
    Byte(usize),
    /// In the value of this flag.
    Flag(&'static str),
    /// Nowhere: it is the program's own.
    Nowhere,
}

/// Collects faults and turns places into lines.
#[derive(Debug)]
pub(super) struct Sink {
    line_starts: Vec<usize>,
    errors: Vec<SpecError>,
    unlisted: usize,
}

impl Sink {
    pub(super) fn new(text: &str) -> Self {
        let starts = text
            .bytes()
            .enumerate()
            .filter(|(_, b)| *b == b'\n')
            .map(|(i, _)| i + 1);
        Self {
            line_starts: std::iter::once(0).chain(starts).collect(),
            errors: Vec::new(),
            unlisted: 0,
        }
    }

    /// The line of a place, from 1.
    pub(super) fn line(&self, at: At) -> Option<u32> {
        match at {
            At::Byte(byte) => u32::try_from(self.line_starts.partition_point(|s| *s <= byte)).ok(),
            At::Flag(_) | At::Nowhere => None,
        }
    }

    /// Notes a fault. `hint` is asked for only while the list has room: it may be costly.
    pub(super) fn push_with(
        &mut self,
        at: At,
        key: &str,
        problem: impl Into<String>,
        hint: impl FnOnce() -> Option<String>,
    ) {
        if self.errors.len() >= MAX_ERRORS {
            self.unlisted += 1;
            return;
        }
        let key = match at {
            At::Flag(flag) => flag,
            At::Byte(_) | At::Nowhere => key,
        };
        self.errors.push(SpecError {
            line: self.line(at),
            key: key.to_owned(),
            problem: problem.into(),
            hint: hint(),
        });
    }

    pub(super) fn push(&mut self, at: At, key: &str, problem: impl Into<String>, hint: &str) {
        self.push_with(at, key, problem, || {
            (!hint.is_empty()).then(|| hint.to_owned())
        });
    }

    pub(super) fn count(&self) -> usize {
        self.errors.len() + self.unlisted
    }

    pub(super) fn into_result<T>(self, value: Option<T>) -> Result<T, SpecErrors> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(SpecErrors::new(self.errors, self.unlisted)),
        }
    }
}
