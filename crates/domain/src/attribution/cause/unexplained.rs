//! Slow beyond chance, and no cause has evidence.
//!
//! Rule. An agent's part that is beyond chance is explained if a finding with evidence struck that agent
//! and acts in that part. What is left is said to be unexplained, and names the causes that could not
//! be tested: one of them may be it.

use super::super::types::{Cause, CauseFinding, Excess, Grade, Part};
use super::super::view::Scene;
use super::{acts_in, words};

/// Longer gaps between tokens are a network's doing up to so many times what the way itself costs.
const SYMPTOM: f64 = 2.0;

pub(super) fn test(scene: &Scene<'_>, found: &[CauseFinding]) -> Option<CauseFinding> {
    let explained = |excess: &Excess| {
        found.iter().any(|finding| {
            let struck = finding.agents.is_empty() || finding.agents.contains(&excess.agent);
            finding.grade != Grade::NotTested
                && struck
                && acts_in(finding.cause).contains(&excess.part)
                && !is_more_than_a_symptom(finding, excess)
        })
    };
    let left: Vec<&Excess> = scene
        .agents
        .iter()
        .flat_map(|agent| &agent.excess)
        .filter(|excess| excess.beyond_chance && !explained(excess))
        .collect();
    (!left.is_empty()).then_some(())?;
    let mut agents = Vec::new();
    for excess in &left {
        if !agents.contains(&excess.agent) {
            agents.push(excess.agent.clone());
        }
    }
    let mut parts: Vec<String> = left.iter().map(|excess| excess.part.to_string()).collect();
    parts.sort();
    parts.dedup();
    let untested: Vec<String> = found
        .iter()
        .filter(|finding| finding.grade == Grade::NotTested)
        .map(|finding| finding.cause.to_string())
        .collect();
    let cost: f64 = left.iter().map(|excess| excess.excess_ms).sum();
    Some(CauseFinding {
        cause: Cause::Unexplained,
        grade: Grade::Supported,
        sentence: format!(
            "{} lost {} in {} beyond what chance does, and no cause has evidence for it.",
            words::agents(&agents),
            words::duration(cost),
            words::list(&parts)
        ),
        agents,
        cost_ms: Some(cost),
        evidence: left.iter().map(|excess| words::excess(excess)).collect(),
        settle: Some(if untested.is_empty() {
            "more runs show whether it comes back; the timeline in report.html shows when it was"
                .to_owned()
        } else {
            format!(
                "what could not be tested may be it: {}",
                words::list(&untested)
            )
        }),
    })
}

/// Whether a network would have to cost more between tokens than it does on the whole way: jitter
/// lengthens gaps, but what makes decode many times slower is not what delays a first token a little.
fn is_more_than_a_symptom(finding: &CauseFinding, excess: &Excess) -> bool {
    finding.cause == Cause::Network
        && matches!(excess.part, Part::Decode | Part::Stall)
        && finding
            .cost_ms
            .is_some_and(|cost| excess.excess_ms > SYMPTOM * cost)
}
