//! Merging the layers, and reporting every mistake of them at once.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::text::redact_url;

/// How many mistakes of one file are looked for. More would not help a person.
const MAX_PROBLEMS: usize = 50;

/// One mistake in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key (`nats.url`), empty for what concerns the whole file.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// All mistakes in the configuration. *Shape*: not empty. Exit code 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// Where they are: a file's path, or `configuration` for merged values.
    pub place: String,
    /// In the order in which they were found.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.problems.len() == 1 { "" } else { "s" };
        write!(
            f,
            "{} mistake{plural} in {}",
            self.problems.len(),
            self.place
        )?;
        for problem in &self.problems {
            match problem.key.as_str() {
                "" => write!(f, "\n  {}", problem.message)?,
                key => write!(f, "\n  {key}: {}", problem.message)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects mistakes while a raw configuration becomes a validated one.
///
/// ```
/// use chimera_runtime::config::Problems;
///
/// let mut problems = Problems::default();
/// let port = problems.take("server.port", "80x".parse::<u16>());
/// let limit = problems.take("limit", "5".parse::<u32>());
/// if limit == Some(0) {
///     problems.add("limit", "must be at least 1");
/// }
/// assert_eq!(port, None);
/// assert!(problems.finish().is_err());
/// ```
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a mistake.
    pub fn add(&mut self, key: impl Into<String>, message: impl fmt::Display) {
        self.0.push(Problem {
            key: key.into(),
            message: message.to_string(),
        });
    }

    /// The value, or `None` with its error noted.
    pub fn take<T, E: fmt::Display>(
        &mut self,
        key: impl Into<String>,
        result: Result<T, E>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(key, error);
                None
            }
        }
    }

    /// Notes the mistakes of a nested part.
    pub fn extend(&mut self, errors: ConfigErrors) {
        self.0.extend(errors.problems);
    }

    /// The value of a nested part, or `None` with all of its mistakes noted.
    pub fn nested<T>(&mut self, part: Result<T, ConfigErrors>) -> Option<T> {
        part.map_err(|errors| self.extend(errors)).ok()
    }

    /// Ends the collection with a value that is absent only if something was noted.
    ///
    /// # Errors
    /// When anything was noted.
    pub fn finish_with<T>(mut self, value: Option<T>) -> Result<T, ConfigErrors> {
        match value {
            Some(value) => self.finish().map(|()| value),
            None => {
                if self.0.is_empty() {
                    self.add("", "is incomplete");
                }
                Err(ConfigErrors {
                    place: PLACE.to_owned(),
                    problems: self.0,
                })
            }
        }
    }

    /// Ends the collection.
    ///
    /// # Errors
    /// When anything was noted.
    pub fn finish(self) -> Result<(), ConfigErrors> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(ConfigErrors {
            place: PLACE.to_owned(),
            problems: self.0,
        })
    }
}

/// Where a mistake is that no file can be blamed for.
const PLACE: &str = "the configuration";

/// Puts what flags and environment gave over a TOML file.
///
/// *Shape*: every field of `A` is an `Option`, or a nested struct marked `#[serde(default)]` and
/// `#[command(flatten)]`, which is a table of the file. Unknown keys are refused.
///
/// # Errors
/// Every mistake of the file at once: it cannot be read, is no TOML (with line), holds unknown keys
/// or values of a wrong type.
pub fn load<A>(given: &A, file: Option<&Path>) -> Result<A, ConfigErrors>
where
    A: Serialize + DeserializeOwned,
{
    let Some(path) = file else {
        return merge(given, "", "flags and environment");
    };
    let place = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| whole(&place, format!("cannot be read: {error}")))?;
    merge(given, &text, &place)
}

pub(super) fn merge<A>(given: &A, file: &str, place: &str) -> Result<A, ConfigErrors>
where
    A: Serialize + DeserializeOwned,
{
    let mut table: Table = file
        .parse()
        .map_err(|error: toml::de::Error| whole(place, error.to_string()))?;
    check::<A>(table.clone(), place)?;
    let over = Table::try_from(given).map_err(|error| whole(place, error.to_string()))?;
    overlay(&mut table, over);
    Value::Table(table)
        .try_into()
        .map_err(|error: toml::de::Error| whole(place, error.to_string()))
}

fn whole(place: &str, message: String) -> ConfigErrors {
    ConfigErrors {
        place: place.to_owned(),
        problems: vec![Problem {
            key: String::new(),
            message: message.trim_end().to_owned(),
        }],
    }
}

/// Reads the file as `A` again and again, each time without the value that was wrong, so that all
/// wrong values are found.
fn check<A: DeserializeOwned>(mut table: Table, place: &str) -> Result<(), ConfigErrors> {
    let mut problems: Vec<Problem> = Vec::new();
    for _ in 0..MAX_PROBLEMS {
        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let source = Value::Table(table.clone());
        let reader = serde_path_to_error::Deserializer::new(source, &mut track);
        let read: Result<A, _> =
            serde_ignored::deserialize(reader, |path| unknown.push(path.to_string()));
        let Err(error) = read else {
            problems.extend(unknown.into_iter().map(|key| Problem {
                key,
                message: "no such key; see --help for those that exist".to_owned(),
            }));
            break;
        };
        let key = track.path().to_string();
        let removed = remove(&mut table, &key);
        problems.push(Problem {
            key,
            message: error.to_string().trim_end().to_owned(),
        });
        if !removed {
            break;
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(ConfigErrors {
        place: place.to_owned(),
        problems,
    })
}

/// Takes the value at a dotted path away; a path into an array takes the whole array.
fn remove(table: &mut Table, path: &str) -> bool {
    let mut segments = path
        .split('.')
        .map(|part| part.split('[').next().unwrap_or_default());
    let Some(first) = segments.next() else {
        return false;
    };
    let rest = segments.collect::<Vec<_>>().join(".");
    match table.get_mut(first) {
        Some(Value::Table(inner)) if !rest.is_empty() => remove(inner, &rest),
        _ => table.remove(first).is_some(),
    }
}

fn overlay(lower: &mut Table, over: Table) {
    for (key, value) in over {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => overlay(inner, value),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

/// Logs the resolved configuration once, as one JSON field, secrets hidden: values of keys that
/// name a secret, and credentials inside URLs.
pub fn log_resolved<C: Serialize>(service: &str, config: &C) {
    match serde_json::to_value(config) {
        Ok(mut value) => {
            hide(&mut value);
            tracing::info!(service, config = %value, "configuration");
        }
        Err(error) => tracing::warn!(service, %error, "the configuration cannot be shown"),
    }
}

pub(super) fn hide(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = redact_url(text),
        serde_json::Value::Array(items) => items.iter_mut().for_each(hide),
        serde_json::Value::Object(fields) => {
            for (key, field) in fields {
                if field.is_string() && names_a_secret(key) {
                    *field = serde_json::Value::from("***");
                } else {
                    hide(field);
                }
            }
        }
        _ => {}
    }
}

/// A key that ends in `_file` names a path, which may be shown.
fn names_a_secret(key: &str) -> bool {
    const WORDS: [&str; 4] = ["secret", "password", "token", "seed"];
    !key.ends_with("_file")
        && WORDS
            .iter()
            .any(|word| key == *word || key.ends_with(&format!("_{word}")))
}
