//! Whether a file tells of a run that did not come about. Its zeros are no measurements.

use serde_json::{Map, Value};

use super::layout::{MAX_TEXT, StatedAgent};

/// What an object says went wrong: its `error`, if that is anything.
pub(super) fn error(object: &Map<String, Value>) -> Option<String> {
    let told = match object.get("error")? {
        Value::Null | Value::Bool(false) => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let told: String = told
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_TEXT)
        .collect();
    let told = told.trim();
    (!told.is_empty()).then(|| told.to_owned())
}

/// Why a run cannot be averaged with others: it says so itself, an agent of it did nothing, or it
/// states no figure at all.
pub(super) fn why(
    root: &Map<String, Value>,
    summary: &Map<String, Value>,
    agents: &[StatedAgent],
    wall_s: Option<f64>,
) -> Option<String> {
    if let Some(error) = error(root).or_else(|| error(summary)) {
        return Some(format!("states the error '{error}'"));
    }
    for agent in agents {
        let own = root.get(agent.id.as_str()).and_then(Value::as_object);
        if let Some(error) = own.and_then(error) {
            return Some(format!("states the error '{error}' of {}", agent.id));
        }
        if agent.stated.requests == Some(0) {
            return Some(format!("states that {} made no request", agent.id));
        }
        if agent.duration_s.is_some_and(|duration| duration <= 0.0) {
            return Some(format!("states that {} took no time", agent.id));
        }
    }
    let figures = |agent: &StatedAgent| {
        let stated = &agent.stated;
        let any = [agent.duration_s, stated.ttft_ms, stated.tokens_per_s];
        any.iter().any(Option::is_some)
    };
    (wall_s.is_none() && !agents.iter().any(figures))
        .then(|| "states no figure: neither a time nor a rate".to_owned())
}
