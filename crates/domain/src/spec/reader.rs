//! Takes typed, bounded values out of a table by key. What nobody asked for is an unknown key.

use std::ops::RangeInclusive;

use super::error::{At, Sink};
use super::node::{Entry, Kind, Node, quote};

/// A table being read. Call [`Table::finish`] at the end.
#[derive(Debug)]
pub(super) struct Table<'n> {
    node: &'n Node,
    path: String,
    entries: &'n [Entry],
    asked: Vec<&'static str>,
}

/// A value being read, with its path.
#[derive(Debug, Clone)]
pub(super) struct Item<'n> {
    pub(super) node: &'n Node,
    pub(super) path: String,
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// A key as a message may show it: a hostile one is quoted and cut.
fn shown(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if key.len() <= 40 && !key.is_empty() && key.chars().all(plain) {
        key.to_owned()
    } else {
        quote(key)
    }
}

impl<'n> Table<'n> {
    pub(super) fn root(node: &'n Node, sink: &mut Sink) -> Option<Self> {
        Item {
            node,
            path: String::new(),
        }
        .table(sink)
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The table itself.
    pub(super) fn item(&self) -> Item<'n> {
        Item {
            node: self.node,
            path: self.path.clone(),
        }
    }

    fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|e| e.key == key)
    }

    /// The value of a key, if it is given.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Item<'n>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.entry(key).map(|e| Item {
            node: &e.node,
            path: self.path_of(key),
        })
    }

    /// The value of a key that must be given. `example` is a value, as TOML writes it.
    pub(super) fn need(
        &mut self,
        key: &'static str,
        example: &str,
        sink: &mut Sink,
    ) -> Option<Item<'n>> {
        let item = self.take(key);
        if item.is_none() {
            let hint = match self.node.at {
                At::Flag(_) => format!("for example {}", example.trim_matches('"')),
                At::Byte(_) | At::Nowhere => format!("for example {key} = {example}"),
            };
            sink.push(self.node.at, &self.path_of(key), "is required", &hint);
        }
        item
    }

    /// Keys of the table in the order written.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'n str> {
        self.entries.iter().map(|e| e.key.as_str())
    }

    /// Reports every key that nobody asked for, with the nearest one that is known.
    pub(super) fn finish(self, sink: &mut Sink) {
        for entry in self.entries {
            if self.asked.contains(&entry.key.as_str()) {
                continue;
            }
            let path = join(&self.path, &shown(&entry.key));
            sink.push_with(entry.at, &path, "unknown key", || {
                Some(match nearest(&entry.key, &self.asked) {
                    Some(known) => format!("did you mean {known}?"),
                    None => format!("known keys here: {}", self.asked.join(", ")),
                })
            });
        }
    }
}

impl<'n> Item<'n> {
    fn wrong<T>(&self, wanted: &str, sink: &mut Sink) -> Option<T> {
        let problem = format!("expected {wanted}, found {}", self.node.kind.describe());
        sink.push(self.node.at, &self.path, problem, "");
        None
    }

    /// Notes a fault of this value.
    pub(super) fn fault(&self, problem: impl Into<String>, hint: &str, sink: &mut Sink) {
        sink.push(self.node.at, &self.path, problem, hint);
    }

    pub(super) fn table(&self, sink: &mut Sink) -> Option<Table<'n>> {
        match &self.node.kind {
            Kind::Table(entries) => Some(Table {
                node: self.node,
                path: self.path.clone(),
                entries,
                asked: Vec::new(),
            }),
            _ => self.wrong("a table", sink),
        }
    }

    /// The items of a list, `most` at most; one of them at least.
    pub(super) fn list(&self, most: usize, sink: &mut Sink) -> Option<Vec<Self>> {
        let Kind::List(items) = &self.node.kind else {
            return self.wrong("a list", sink);
        };
        if items.is_empty() || items.len() > most {
            let problem = format!("the list has {} entries", items.len());
            self.fault(problem, &format!("allowed: 1 to {most}"), sink);
            return None;
        }
        let item = |(i, node)| Item {
            node,
            path: format!("{}[{i}]", self.path),
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The items of a list, or the value itself as the only one.
    pub(super) fn list_or_one(&self, most: usize, sink: &mut Sink) -> Option<Vec<Self>> {
        match &self.node.kind {
            Kind::List(_) => self.list(most, sink),
            _ => Some(vec![self.clone()]),
        }
    }

    pub(super) fn text(&self, sink: &mut Sink) -> Option<&'n str> {
        match &self.node.kind {
            Kind::Text(text) => Some(text),
            _ => self.wrong("a text", sink),
        }
    }

    /// The whole numbers of a list, or the only one; each within bounds and no two alike.
    pub(super) fn wholes(
        &self,
        most: usize,
        allowed: &RangeInclusive<u32>,
        sink: &mut Sink,
    ) -> Option<Vec<u32>> {
        let items = self.list_or_one(most, sink)?;
        let mut found = Vec::with_capacity(items.len());
        for item in &items {
            match item.whole(allowed.clone(), sink) {
                Some(value) if found.contains(&value) => {
                    let hint = "to repeat a test, raise runs";
                    item.fault(format!("{value} is listed twice"), hint, sink);
                }
                Some(value) => found.push(value),
                None => {}
            }
        }
        (found.len() == items.len()).then_some(found)
    }

    pub(super) fn flag(&self, sink: &mut Sink) -> Option<bool> {
        match &self.node.kind {
            Kind::Flag(flag) => Some(*flag),
            _ => self.wrong("true or false", sink),
        }
    }

    pub(super) fn whole(&self, allowed: RangeInclusive<u32>, sink: &mut Sink) -> Option<u32> {
        let Kind::Int(given) = &self.node.kind else {
            return self.wrong("a whole number", sink);
        };
        let value = u32::try_from(*given).ok().filter(|v| allowed.contains(v));
        if value.is_none() {
            let hint = format!("allowed: {} to {}", allowed.start(), allowed.end());
            self.fault(format!("{given} is out of bounds"), &hint, sink);
        }
        value
    }

    pub(super) fn real(&self, allowed: RangeInclusive<f64>, sink: &mut Sink) -> Option<f64> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "numbers near 2^53 are out of bounds anyway"
        )]
        let given = match &self.node.kind {
            Kind::Int(i) => *i as f64,
            Kind::Real(r) => *r,
            _ => return self.wrong("a number", sink),
        };
        // A range contains no NaN, and none of ours reaches infinity.
        if allowed.contains(&given) {
            // -0.0 and 0.0 are one value: let them also be written as one.
            return Some(given + 0.0);
        }
        let hint = format!("allowed: {} to {}", allowed.start(), allowed.end());
        let problem = if given.is_finite() {
            format!("{given} is out of bounds")
        } else {
            format!("{given} is not a number to measure with")
        };
        self.fault(problem, &hint, sink);
        None
    }

    /// One of a closed set of words.
    pub(super) fn one_of<T: Copy>(
        &self,
        allowed: &[(&'static str, T)],
        sink: &mut Sink,
    ) -> Option<T> {
        let given = self.text(sink)?;
        self.known_word(given, allowed, sink)
    }

    /// The meaning of a word of this value, out of a closed set.
    pub(super) fn known_word<T: Copy>(
        &self,
        given: &str,
        allowed: &[(&'static str, T)],
        sink: &mut Sink,
    ) -> Option<T> {
        let found = allowed
            .iter()
            .find(|(word, _)| *word == given)
            .map(|(_, value)| *value);
        if found.is_none() {
            sink.push_with(
                self.node.at,
                &self.path,
                format!("{} is not known", quote(given)),
                || {
                    let words: Vec<&'static str> = allowed.iter().map(|(word, _)| *word).collect();
                    let list = words
                        .iter()
                        .map(|w| format!("{w:?}"))
                        .collect::<Vec<_>>()
                        .join(", ");
                    Some(match nearest(given, &words) {
                        Some(word) => format!("did you mean {word:?}? Allowed: {list}"),
                        None => format!("allowed: {list}"),
                    })
                },
            );
        }
        found
    }

    /// A name that is safe in subjects, file names and messages: an id of at most `most` bytes.
    pub(super) fn name<T>(
        &self,
        most: usize,
        make: impl Fn(String) -> Result<T, crate::ids::IdError>,
        sink: &mut Sink,
    ) -> Option<T> {
        let given = self.text(sink)?;
        if given.len() > most {
            let hint = format!("at most {most} characters");
            self.fault(format!("{} is too long", quote(given)), &hint, sink);
            return None;
        }
        match make(given.to_owned()) {
            Ok(id) => Some(id),
            Err(_) => {
                let hint = format!("1 to {most} letters, digits, '-' or '_'");
                self.fault(format!("{} is not a name", quote(given)), &hint, sink);
                None
            }
        }
    }

    /// A text for people: one line, `most` characters at most.
    pub(super) fn line(&self, most: usize, sink: &mut Sink) -> Option<String> {
        let given = self.text(sink)?;
        let fits = given.chars().count() <= most;
        if fits && !given.trim().is_empty() && !given.chars().any(char::is_control) {
            return Some(given.to_owned());
        }
        let hint = format!("1 to {most} characters on one line");
        self.fault(format!("{} cannot be used here", quote(given)), &hint, sink);
        None
    }
}

/// The known word that was probably meant.
pub(super) fn nearest(given: &str, known: &[&'static str]) -> Option<&'static str> {
    const LONGEST_TYPO: usize = 40;
    /// Below this share of agreeing characters a suggestion confuses more than it helps.
    const ALIKE: f64 = 0.55;
    if given.len() > LONGEST_TYPO {
        return None;
    }
    let given = given.to_ascii_lowercase().replace('-', "_");
    if let Some(part) = known
        .iter()
        .find(|k| given.len() >= 3 && k.contains(given.as_str()))
    {
        return Some(part);
    }
    known
        .iter()
        .map(|word| (strsim::normalized_damerau_levenshtein(&given, word), *word))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}
