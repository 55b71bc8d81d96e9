//! A spec's text as a small tree that knows where each value stands. TOML and JSON meet here.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

use super::error::{At, MAX_ERRORS, Sink};

/// Deepest nesting accepted: a valid spec needs 4.
pub(super) const MAX_DEPTH: usize = 16;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) kind: Kind,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Text(String),
    Int(i128),
    Real(f64),
    Flag(bool),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// What no key of a spec can hold, in words.
    Other(&'static str),
}

/// A key of a table. *Shape*: a table's entries are in the order written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: At,
    pub(super) node: Node,
}

impl Kind {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text(text) => format!("the text {}", quote(text)),
            Self::Int(i) => format!("{i}"),
            Self::Real(r) => format!("{r:?}"),
            Self::Flag(b) => format!("{b}"),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
            Self::Other(what) => (*what).to_owned(),
        }
    }
}

/// A text made fit for a message: one line, at most 60 characters.
pub(super) fn quote(text: &str) -> String {
    const SHOWN: usize = 60;
    let cut: String = text.chars().take(SHOWN).collect();
    if cut.len() < text.len() {
        format!("{cut:?}...")
    } else {
        format!("{cut:?}")
    }
}

/// Reads TOML. `None` if it is not TOML; the sink then says why.
pub(super) fn from_toml(text: &str, sink: &mut Sink) -> Option<Node> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let kind = toml_table(table.get_ref(), 1, sink)?;
        return Some(Node {
            at: At::Byte(0),
            kind,
        });
    }
    let mut last = None;
    for error in errors {
        let at = error.span().map_or(At::Nowhere, |s| At::Byte(s.start));
        // Further faults of a broken line follow from the first.
        if last.replace(sink.line(at)) == Some(sink.line(at)) {
            continue;
        }
        sink.push(at, "", format!("not valid TOML: {}", error.message()), "");
        if sink.count() >= MAX_ERRORS {
            // A text this broken is no TOML at all: how often, nobody needs to know.
            break;
        }
    }
    None
}

fn toml_table(table: &DeTable<'_>, depth: usize, sink: &mut Sink) -> Option<Kind> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        entries.push(Entry {
            key: key.get_ref().to_string(),
            at: At::Byte(key.span().start),
            node: toml_value(value, depth, sink)?,
        });
    }
    // The parser sorts by key; the order of the grid is the order written.
    entries.sort_by_key(|e| match e.at {
        At::Byte(byte) => byte,
        At::Flag(_) | At::Nowhere => 0,
    });
    Some(Kind::Table(entries))
}

fn toml_value(value: &toml::Spanned<DeValue<'_>>, depth: usize, sink: &mut Sink) -> Option<Node> {
    let at = At::Byte(value.span().start);
    if depth >= MAX_DEPTH {
        return too_deep(at, sink);
    }
    let kind = match value.get_ref() {
        DeValue::String(s) => Kind::Text(s.to_string()),
        DeValue::Integer(i) => i128::from_str_radix(i.as_str(), i.radix())
            .map_or(Kind::Other("a number beyond all bounds"), Kind::Int),
        DeValue::Float(f) => f
            .as_str()
            .parse()
            .map_or(Kind::Other("a number that cannot be read"), Kind::Real),
        DeValue::Boolean(b) => Kind::Flag(*b),
        DeValue::Datetime(_) => Kind::Other("a date"),
        DeValue::Array(items) => {
            let mut list = Vec::with_capacity(items.len());
            for item in items.iter() {
                list.push(toml_value(item, depth + 1, sink)?);
            }
            Kind::List(list)
        }
        DeValue::Table(table) => toml_table(table, depth + 1, sink)?,
    };
    Some(Node { at, kind })
}

fn too_deep(at: At, sink: &mut Sink) -> Option<Node> {
    sink.push(
        at,
        "",
        "nested too deeply",
        &format!("at most {MAX_DEPTH} levels"),
    );
    None
}

/// Reads JSON. `None` if it is not JSON; the sink then says why.
///
/// `serde_json` keeps no places, but a raw value borrows from the text, so its place is the
/// distance of the two pointers. Each level is scanned once per level above it, at most
/// [`MAX_DEPTH`] times.
pub(super) fn from_json(text: &str, sink: &mut Sink) -> Option<Node> {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => json_value(text, raw, 0, sink),
        Err(error) => json_error(text, At::Nowhere, &error, sink),
    }
}

fn json_error(text: &str, at: At, error: &serde_json::Error, sink: &mut Sink) -> Option<Node> {
    // Positions in the error count from the begin of what was being read.
    let base = match at {
        At::Byte(byte) => byte,
        At::Flag(_) | At::Nowhere => 0,
    };
    let rest = text.get(base..).unwrap_or_default();
    let line_start = match error.line() {
        0 | 1 => 0,
        line => rest
            .match_indices('\n')
            .nth(line - 2)
            .map_or(0, |(i, _)| i + 1),
    };
    let byte = base + line_start + error.column().saturating_sub(1);
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    sink.push(
        At::Byte(byte.min(text.len())),
        "",
        format!("not valid JSON: {message}"),
        "",
    );
    None
}

fn json_value(text: &str, raw: &RawValue, depth: usize, sink: &mut Sink) -> Option<Node> {
    let source = raw.get();
    let byte = (source.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let at = At::Byte(byte);
    if depth >= MAX_DEPTH {
        return too_deep(at, sink);
    }
    let kind = match source.bytes().next() {
        Some(b'{') => {
            let JsonTable(pairs) = match serde_json::from_str(source) {
                Ok(table) => table,
                Err(error) => return json_error(text, at, &error, sink),
            };
            let mut seen = std::collections::BTreeSet::new();
            let mut entries = Vec::with_capacity(pairs.len());
            for (key, value) in pairs {
                let node = json_value(text, value, depth + 1, sink)?;
                if !seen.insert(key.clone()) {
                    sink.push(node.at, &key, "is given twice", "keep one");
                }
                entries.push(Entry {
                    key,
                    at: node.at,
                    node,
                });
            }
            Kind::Table(entries)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = match serde_json::from_str(source) {
                Ok(items) => items,
                Err(error) => return json_error(text, at, &error, sink),
            };
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                list.push(json_value(text, item, depth + 1, sink)?);
            }
            Kind::List(list)
        }
        Some(b'"') => match serde_json::from_str(source) {
            Ok(text) => Kind::Text(text),
            Err(error) => return json_error(text, at, &error, sink),
        },
        Some(b't') => Kind::Flag(true),
        Some(b'f') => Kind::Flag(false),
        Some(b'n') => Kind::Other("null"),
        _ => json_number(source),
    };
    Some(Node { at, kind })
}

fn json_number(source: &str) -> Kind {
    if source.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) {
        return source
            .parse()
            .map_or(Kind::Other("a number that cannot be read"), Kind::Real);
    }
    source
        .parse()
        .map_or(Kind::Other("a number beyond all bounds"), Kind::Int)
}

/// A JSON object's pairs in the order written, duplicates kept.
struct JsonTable<'t>(Vec<(String, &'t RawValue)>);

impl<'t> Deserialize<'t> for JsonTable<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'t> Visitor<'t> for Pairs {
            type Value = JsonTable<'t>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(JsonTable(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
