//! Legs, agents and workloads of a plan.

use chimera_domain::plan::{LegKind, PlannedAgent, PlannedLeg, Workload};

use crate::common::{convert, engine_kind, engine_number, id, required};
use crate::error::WireError;
use crate::pb;
use crate::pb::planned_leg::Kind;

impl From<&Workload> for pb::Workload {
    fn from(v: &Workload) -> Self {
        Self {
            template: v.template.clone(),
            data: v.data.clone(),
        }
    }
}

impl TryFrom<pb::Workload> for Workload {
    type Error = WireError;
    fn try_from(v: pb::Workload) -> Result<Self, WireError> {
        Ok(Self {
            template: v.template,
            data: v.data,
        })
    }
}

impl From<&PlannedAgent> for pb::PlannedAgent {
    fn from(v: &PlannedAgent) -> Self {
        Self {
            id: v.id.to_string(),
            role: v.role.to_string(),
            engine: engine_number(v.engine),
            model: v.model.clone(),
            options: Some((&v.options).into()),
            instance: v.instance.clone(),
            think_ms: v.think_ms,
        }
    }
}

impl TryFrom<pb::PlannedAgent> for PlannedAgent {
    type Error = WireError;
    fn try_from(v: pb::PlannedAgent) -> Result<Self, WireError> {
        Ok(Self {
            id: id(v.id, "PlannedAgent.id")?,
            role: id(v.role, "PlannedAgent.role")?,
            engine: engine_kind(v.engine, "PlannedAgent.engine")?,
            model: v.model,
            options: convert(v.options, "PlannedAgent.options")?,
            instance: v.instance,
            think_ms: v.think_ms,
        })
    }
}

impl From<&PlannedLeg> for pb::PlannedLeg {
    fn from(v: &PlannedLeg) -> Self {
        Self {
            run_id: v.run_id.to_string(),
            test: v.test,
            run: v.run,
            kind: Some(match &v.kind {
                LegKind::Solo { agent } => Kind::SoloAgent(agent.to_string()),
                LegKind::Together => Kind::Together(pb::Nothing {}),
            }),
        }
    }
}

impl TryFrom<pb::PlannedLeg> for PlannedLeg {
    type Error = WireError;
    fn try_from(v: pb::PlannedLeg) -> Result<Self, WireError> {
        Ok(Self {
            run_id: id(v.run_id, "PlannedLeg.run_id")?,
            test: v.test,
            run: v.run,
            kind: match required(v.kind, "PlannedLeg.kind")? {
                Kind::SoloAgent(agent) => LegKind::Solo {
                    agent: id(agent, "PlannedLeg.solo_agent")?,
                },
                Kind::Together(pb::Nothing {}) => LegKind::Together,
            },
        })
    }
}
