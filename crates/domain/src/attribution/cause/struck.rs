//! Agents that a cause struck: what most tests of causes gather, agent by agent.

use super::super::types::{Cause, CauseFinding, Evidence, Grade};
use super::super::view::{AgentScene, Scene};
use super::{acts_in, slow_ms, words};
use crate::ids::AgentId;

/// Agents that are slow where a cause acts, and that its test found evidence for.
pub(super) struct Struck {
    cause: Cause,
    agents: Vec<AgentId>,
    evidence: Vec<Evidence>,
    cost_ms: f64,
    /// The best of the agents'.
    pub(super) grade: Grade,
}

impl Struck {
    /// Tests each agent that is slow beyond chance in a part in which the cause acts. `None`: it struck
    /// nobody.
    pub(super) fn by<'a>(
        cause: Cause,
        scene: &Scene<'a>,
        mut test: impl FnMut(&AgentScene<'a>) -> Option<(Grade, Vec<Evidence>)>,
    ) -> Option<Self> {
        let mut struck = Self {
            cause,
            agents: Vec::new(),
            evidence: Vec::new(),
            cost_ms: 0.0,
            grade: Grade::NotTested,
        };
        for agent in &scene.agents {
            let Some(lost_ms) = slow_ms(agent, acts_in(cause)) else {
                continue;
            };
            let Some((grade, found)) = test(agent) else {
                continue;
            };
            struck.grade = struck.grade.min(grade);
            struck.agents.push(words::id(agent));
            struck.evidence.extend(found);
            struck.cost_ms += lost_ms;
        }
        (!struck.agents.is_empty()).then_some(struck)
    }

    /// The agents, as a sentence names them.
    pub(super) fn who(&self) -> String {
        words::agents(&self.agents)
    }

    /// What is said of it.
    pub(super) fn finding(self, sentence: String, settle: &str) -> CauseFinding {
        CauseFinding {
            cause: self.cause,
            grade: self.grade,
            agents: self.agents,
            cost_ms: Some(self.cost_ms),
            evidence: self.evidence,
            sentence,
            settle: Some(settle.to_owned()),
        }
    }
}

/// What is said of a cause whose test needs telemetry that does not cover the run.
pub(super) fn not_tested(cause: Cause, agents: Vec<AgentId>, sentence: String) -> CauseFinding {
    CauseFinding {
        cause,
        grade: Grade::NotTested,
        agents,
        cost_ms: None,
        evidence: Vec::new(),
        sentence,
        settle: Some("run gpu-telemetry on the host of the engines".to_owned()),
    }
}
