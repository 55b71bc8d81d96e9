//! How findings say what they found.

use super::super::types::{Evidence, Excess};
use super::super::view::AgentScene;
use crate::ids::AgentId;

/// A reading in milliseconds.
pub(super) fn ms(
    what: impl Into<String>,
    value: f64,
    against: Option<f64>,
    source: String,
) -> Evidence {
    Evidence {
        what: what.into(),
        value,
        unit: "ms".to_owned(),
        against,
        source,
    }
}

/// A ratio or a count.
pub(super) fn plain(
    what: impl Into<String>,
    value: f64,
    against: Option<f64>,
    source: String,
) -> Evidence {
    Evidence {
        what: what.into(),
        value,
        unit: String::new(),
        against,
        source,
    }
}

/// An excess, as evidence: what was taken together, held against alone.
pub(super) fn excess(excess: &Excess) -> Evidence {
    ms(
        format!("{} of {}, all its requests", excess.part, excess.agent),
        excess.together_ms,
        Some(excess.usual_ms),
        format!("{} solo legs", excess.usual_n),
    )
}

/// Request ids, the first few of them.
pub(super) fn requests<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let ids: Vec<&str> = ids.collect();
    let shown = ids.iter().take(SHOWN).copied().collect::<Vec<_>>();
    let more = ids.len().saturating_sub(SHOWN);
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The same of agents.
pub(super) fn agents(ids: &[AgentId]) -> String {
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
    list(&names)
}

/// Seconds or milliseconds, as a person would say it.
pub(super) fn duration(ms: f64) -> String {
    if ms >= 1_000.0 {
        format!("{:.2} s", ms / 1e3)
    } else if ms >= 10.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{ms:.1} ms")
    }
}

/// An agent's id.
pub(super) fn id(agent: &AgentScene<'_>) -> AgentId {
    agent.view.planned.id.clone()
}
