//! Two JSON documents compared as values: what only the newer one says, and what both say
//! otherwise.
//!
//! *Rule*: a member that only the newer document has is growth, and so are further entries in a list
//! of objects or lists whose old entries are all still there in their order. A sentence that was put
//! otherwise and keeps its numbers is wording. Everything else is a change: another number, flag or
//! label, something that is gone, a figure where `null` stood. Numbers are compared to the last digit.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// How two documents differ. Empty: not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Places that only the newer document has, entries of lists as `[]`.
    pub added: BTreeSet<String>,
    /// Places of sentences that were put otherwise, entries of lists as `[]`.
    pub reworded: BTreeSet<String>,
    /// Places where a value differs or is gone, in the order of the older document.
    pub changed: Vec<Change>,
}

/// A value that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where (`tests[0].aggregate.concurrency_gain.value`).
    pub place: String,
    /// What the older document has there, in short.
    pub was: String,
    /// What the newer one has there, in short; `nothing`: it has no such place.
    pub is: String,
}

/// Letters of a value that are shown.
const SHOWN: usize = 60;

impl Comparison {
    /// Compares a document with a newer one.
    #[must_use]
    pub fn of(old: &Value, new: &Value) -> Self {
        let mut found = Self::default();
        found.value(&Place::default(), old, new);
        found
    }

    fn value(&mut self, at: &Place, old: &Value, new: &Value) {
        match (old, new) {
            (Value::Object(old), Value::Object(new)) => self.object(at, old, new),
            (Value::Array(old), Value::Array(new)) => self.array(at, old, new),
            (Value::Number(a), Value::Number(b)) if a == b || a.as_f64() == b.as_f64() => {}
            (Value::String(a), Value::String(b)) if a != b && is_rewording(a, b) => {
                self.reworded.insert(at.general.clone());
            }
            _ if old == new => {}
            _ => self.change(at, old, Some(new)),
        }
    }

    fn object(&mut self, at: &Place, old: &Map<String, Value>, new: &Map<String, Value>) {
        for (name, was) in old {
            let place = at.member(name);
            match new.get(name) {
                Some(is) => self.value(&place, was, is),
                // `null` and absent both say: not measured.
                None if was.is_null() => {}
                None => self.change(&place, was, None),
            }
        }
        for name in new.keys().filter(|name| !old.contains_key(*name)) {
            self.added.insert(at.member(name).general);
        }
    }

    fn array(&mut self, at: &Place, old: &[Value], new: &[Value]) {
        if old.len() == new.len() {
            for (index, (was, is)) in old.iter().zip(new).enumerate() {
                self.value(&at.entry(index), was, is);
            }
            return;
        }
        let Some(grown) = grown(at, old, new) else {
            self.changed.push(Change {
                place: at.exact.clone(),
                was: entries(old.len()),
                is: entries(new.len()),
            });
            return;
        };
        self.added.extend(grown.added);
        self.reworded.extend(grown.reworded);
        self.added.insert(at.entry(0).general);
    }

    fn change(&mut self, at: &Place, was: &Value, is: Option<&Value>) {
        self.changed.push(Change {
            place: at.exact.clone(),
            was: short(was),
            is: is.map_or_else(|| "nothing".to_owned(), short),
        });
    }
}

/// Finds every old entry again among more new ones, in order. `None`: one is not there, or the
/// entries are plain values, whose number is a figure itself.
fn grown(at: &Place, old: &[Value], new: &[Value]) -> Option<Comparison> {
    let nested = |v: &Value| v.is_object() || v.is_array();
    if !new.iter().all(nested) {
        return None;
    }
    let mut all = Comparison::default();
    let mut rest = new.iter();
    for (index, was) in old.iter().enumerate() {
        let found = rest.find_map(|is| {
            let mut one = Comparison::default();
            one.value(&at.entry(index), was, is);
            one.changed.is_empty().then_some(one)
        })?;
        all.added.extend(found.added);
        all.reworded.extend(found.reworded);
    }
    Some(all)
}

/// Where in a document; entries of lists by number, and as any of them.
#[derive(Debug, Clone, Default)]
struct Place {
    exact: String,
    general: String,
}

impl Place {
    fn member(&self, name: &str) -> Self {
        let dot = if self.exact.is_empty() { "" } else { "." };
        Self {
            exact: format!("{}{dot}{name}", self.exact),
            general: format!("{}{dot}{name}", self.general),
        }
    }

    fn entry(&self, index: usize) -> Self {
        Self {
            exact: format!("{}[{index}]", self.exact),
            general: format!("{}[]", self.general),
        }
    }
}

/// Two sentences with the same numbers. A single word is a label, and another label another value.
fn is_rewording(a: &str, b: &str) -> bool {
    let sentence = |text: &str| text.trim().contains(' ');
    sentence(a) && sentence(b) && numbers(a).eq(numbers(b))
}

/// `1.86` of `a gain of 1.86.`.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .map(|number| number.trim_matches('.'))
        .filter(|number| !number.is_empty())
}

fn entries(count: usize) -> String {
    match count {
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compared(old: Value, new: Value) -> (Vec<String>, Vec<String>, Vec<String>) {
        let found = Comparison::of(&old, &new);
        let changed = found.changed.iter();
        (
            found.added.into_iter().collect(),
            found.reworded.into_iter().collect(),
            changed
                .map(|c| format!("{} {} -> {}", c.place, c.was, c.is))
                .collect(),
        )
    }

    fn none() -> Vec<String> {
        Vec::new()
    }

    #[test]
    fn new_members_are_growth_and_told_once() {
        let old = json!({"tests": [{"gain": 1.5}, {"gain": 1.6}]});
        let new = json!({"tests": [{"gain": 1.5, "slo": 1}, {"gain": 1.6, "slo": 2}], "more": {}});
        let added = vec!["more".to_owned(), "tests[].slo".to_owned()];
        assert_eq!(compared(old, new), (added, none(), none()));
    }

    #[test]
    fn other_values_are_changes_to_the_last_digit() {
        let old =
            json!({"a": [{"x": 0.1}], "flag": true, "label": "measured", "gone": 1, "n": null});
        let new = json!({"a": [{"x": 0.100_000_000_000_000_02}], "flag": false, "label": "derived", "n": 3});
        let changed = [
            "a[0].x 0.1 -> 0.10000000000000002",
            "flag true -> false",
            "gone 1 -> nothing",
            "label \"measured\" -> \"derived\"",
            "n null -> 3",
        ];
        assert_eq!(
            compared(old, new),
            (none(), none(), changed.map(str::to_owned).to_vec())
        );
        // Neither says anything.
        assert_eq!(
            compared(json!({"a": null}), json!({})),
            (none(), none(), none())
        );
        assert_eq!(compared(json!(1), json!(1.0)), (none(), none(), none()));
    }

    #[test]
    fn a_sentence_may_be_put_otherwise_but_not_its_numbers() {
        let old = json!({"s": "the gain is 1.86 of 2."});
        let same = json!({"s": "a gain of 1.86 (at most 2)"});
        let other = json!({"s": "a gain of 1.85 (at most 2)"});
        assert_eq!(
            compared(old.clone(), same),
            (none(), vec!["s".to_owned()], none())
        );
        assert_eq!(compared(old, other).2.len(), 1);
    }

    #[test]
    fn a_list_grows_by_entries_between_those_it_had() {
        let old = json!([{"id": "a", "v": 1}, {"id": "c", "v": 3}]);
        let new = json!([{"id": "a", "v": 1}, {"id": "b", "v": 2}, {"id": "c", "v": 3, "w": 4}]);
        let added = vec!["[]".to_owned(), "[].w".to_owned()];
        assert_eq!(compared(old.clone(), new), (added, none(), none()));
        // One that it had is another now.
        let new = json!([{"id": "a", "v": 1}, {"id": "b", "v": 2}, {"id": "c", "v": 9}]);
        let changed = vec![" 2 entries -> 3 entries".to_owned()];
        assert_eq!(compared(old.clone(), new), (none(), none(), changed));
        // Fewer, or more plain numbers: another result.
        assert_eq!(compared(old, json!([])).2.len(), 1);
        assert_eq!(compared(json!([1, 2]), json!([1, 2, 3])).2.len(), 1);
    }

    #[test]
    fn a_long_value_is_shown_in_short() {
        let long = "ä".repeat(200);
        let shown = &compared(json!({"s": long}), json!({"s": 1})).2;
        assert!(shown[0].ends_with("... -> 1"), "{shown:?}");
    }
}
