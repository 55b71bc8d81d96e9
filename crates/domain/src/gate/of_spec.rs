//! The `[gate]` table of a spec.

use toml::{Table, Value};

use super::threshold::Threshold;
use crate::spec::SpecFormat;

/// The rules of a spec's `[gate]` table, by name; none if it has no such table. The rest of the spec is
/// not looked at.
///
/// # Errors
/// Everything that is wrong with the table, or that the text is no TOML or JSON.
///
/// ```
/// use chimera_domain::gate::of_spec;
/// let rules = of_spec("[gate]\nconcurrency_gain = \">= 1.2 ci\"\n").unwrap();
/// assert_eq!(rules[0].to_string(), "concurrency_gain >= 1.2 ci");
/// ```
pub fn of_spec(text: &str) -> Result<Vec<Threshold>, Vec<String>> {
    let read: Result<Table, String> = match SpecFormat::of(text) {
        SpecFormat::Toml => toml::from_str(text).map_err(|error| error.to_string()),
        SpecFormat::Json => serde_json::from_str(text).map_err(|error| error.to_string()),
    };
    let spec = read.map_err(|error| vec![format!("the spec cannot be read: {error}")])?;
    let table = match spec.get("gate") {
        None => return Ok(Vec::new()),
        Some(Value::Table(table)) => table,
        Some(_) => return Err(vec!["'gate' is no table".to_owned()]),
    };
    let (mut rules, mut faults) = (Vec::new(), Vec::new());
    for (name, rule) in table {
        let parsed = rule.as_str().map_or_else(
            || {
                Err(format!(
                    "the rule of {name} is no text; write it like \">= 1.5\""
                ))
            },
            |rule| Threshold::parse(name, rule),
        );
        match parsed {
            Ok(rule) => rules.push(rule),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        Ok(rules)
    } else {
        Err(faults)
    }
}
