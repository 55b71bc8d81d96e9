//! Values as people write them.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

/// A duration written with its unit: `5s`, `250ms`, `1m 30s`. A bare number is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DurationText(pub Duration);

impl FromStr for DurationText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|error| {
            format!("'{text}' is not a duration ({error}): write it like 5s, 250ms or 1m30s")
        })
    }
}

impl TryFrom<String> for DurationText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl From<DurationText> for String {
    fn from(duration: DurationText) -> Self {
        duration.to_string()
    }
}

impl From<DurationText> for Duration {
    fn from(duration: DurationText) -> Self {
        duration.0
    }
}

/// A text that no log, error or debug output shows. Not serializable, on purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a secret could not be read.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret file '{path}'")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file holds nothing.
    #[error("the secret file '{0}' is empty")]
    Empty(String),
}

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// Reads a secret from a file, without the white space around it. Secrets come from files
    /// because flags and variables of a process are visible to others.
    ///
    /// # Errors
    /// When the file cannot be read or is empty.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| SecretError::Read {
            path: shown.clone(),
            source,
        })?;
        match text.trim() {
            "" => Err(SecretError::Empty(shown)),
            secret => Ok(Self(secret.to_owned())),
        }
    }

    /// The secret itself. Do not log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A URL without its user, password, query and fragment; what is no URL comes back unchanged.
#[must_use]
pub fn redact_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        return text.to_owned();
    };
    // Only URLs that can carry credentials accept these changes; for the others there is nothing
    // to hide.
    if !url.username().is_empty() && url.set_username("***").is_err() {
        return "***".to_owned();
    }
    if url.password().is_some() && url.set_password(None).is_err() {
        return "***".to_owned();
    }
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    url.set_fragment(None);
    let shown = url.to_string();
    // The parser adds a slash that the person did not write.
    if text.ends_with('/') {
        shown
    } else {
        shown.trim_end_matches('/').to_owned()
    }
}
