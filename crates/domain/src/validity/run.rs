//! Whether one run - a together leg and its solo legs - may count.

use super::findings::{Refusal, invalid, model_changes};
use super::leg::{ValidAgent, ValidLeg};
use crate::control::{Invalid, InvalidReason};
use crate::ids::AgentId;
use crate::plan::{LegKind, PlannedAgent, PlannedLeg, PlannedTest};

/// One planned leg and what became of it; `None`: it was never executed.
pub type LegResult<'a> = (&'a PlannedLeg, Option<Result<ValidLeg<'a>, Refusal>>);

/// Where an agent's solo baseline comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoloSource<'a> {
    /// A solo leg of its own.
    Own,
    /// The solo leg of another agent of the test that is alike ([`PlannedAgent::is_like`]).
    Shared(&'a AgentId),
    /// The plan has none for it.
    None,
}

/// Where the plan takes an agent's solo baseline from, in one run.
#[must_use]
pub fn solo_source<'a>(
    test: &'a PlannedTest,
    agent: &PlannedAgent,
    has_solo: impl Fn(&AgentId) -> bool,
) -> SoloSource<'a> {
    if has_solo(&agent.id) {
        return SoloSource::Own;
    }
    let twin = test
        .agents
        .iter()
        .find(|other| has_solo(&other.id) && other.is_like(agent));
    twin.map_or(SoloSource::None, |twin| SoloSource::Shared(&twin.id))
}

/// An agent's solo baseline in a valid run.
#[derive(Debug, Clone, Copy)]
pub struct Solo<'r, 'a> {
    /// The agent alone.
    pub agent: &'r ValidAgent<'a>,
    /// Set if the leg is that of an identical agent.
    pub shared_with: Option<&'a AgentId>,
}

/// A run that may enter an average. Made by [`check_run`] alone.
#[derive(Debug, Clone)]
pub struct ValidRun<'a> {
    test: &'a PlannedTest,
    run: u32,
    together: ValidLeg<'a>,
    solo: Vec<ValidLeg<'a>>,
}

impl<'a> ValidRun<'a> {
    /// The configuration.
    #[must_use]
    pub fn test(&self) -> &'a PlannedTest {
        self.test
    }

    /// Number of the run within the test.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.run
    }

    /// All agents at once.
    #[must_use]
    pub fn together(&self) -> &ValidLeg<'a> {
        &self.together
    }

    /// The agent by itself. *Undefined when* the plan has no solo leg for it.
    #[must_use]
    pub fn solo(&self, agent: &PlannedAgent) -> Option<Solo<'_, 'a>> {
        let alone = |id: &AgentId| {
            self.solo
                .iter()
                .flat_map(ValidLeg::agents)
                .find(|alone| alone.id() == id)
        };
        match solo_source(self.test, agent, |id| alone(id).is_some()) {
            SoloSource::Own => Some(Solo {
                agent: alone(&agent.id)?,
                shared_with: None,
            }),
            SoloSource::Shared(twin) => Some(Solo {
                agent: alone(twin)?,
                shared_with: Some(twin),
            }),
            SoloSource::None => None,
        }
    }
}

/// Decides whether a run may count.
///
/// *Shape*: `legs` are all legs that the plan has for the run.
///
/// # Errors
/// Every reason against it, when there is one; those of the together leg come first.
pub fn check_run<'a>(
    test: &'a PlannedTest,
    run: u32,
    legs: Vec<LegResult<'a>>,
) -> Result<ValidRun<'a>, Refusal> {
    let mut found: Vec<Invalid> = Vec::new();
    let mut verdict = Vec::new();
    let mut together = None;
    let mut solo = Vec::new();
    let mut planned_together = false;
    for (leg, result) in legs {
        match (&leg.kind, result) {
            (LegKind::Together, Some(Ok(valid))) => together = Some(valid),
            (LegKind::Together, Some(Err(refusal))) => verdict.extend(refusal.all().cloned()),
            (LegKind::Solo { .. }, Some(Ok(valid))) => solo.push(valid),
            (LegKind::Solo { agent }, Some(Err(refusal))) => {
                found.extend(refusal.all().map(|why| {
                    let detail = format!("solo {agent}: {}: {}", why.reason.as_str(), why.detail);
                    invalid(InvalidReason::SoloInvalid, detail)
                }));
            }
            (kind, None) => {
                let name = match kind {
                    LegKind::Together => "together".to_owned(),
                    LegKind::Solo { agent } => format!("solo {agent}"),
                };
                let detail = format!("the {name} leg was never executed");
                found.push(invalid(InvalidReason::Missing, detail));
            }
        }
        planned_together |= leg.kind == LegKind::Together;
    }
    if !planned_together {
        found.push(invalid(
            InvalidReason::Missing,
            "the plan has no together leg".to_owned(),
        ));
    }
    // The together leg's own order is kept: its coordinator's verdict leads.
    let mut verdict = verdict.into_iter();
    let first = verdict.next();
    let mut rest: Vec<Invalid> = verdict.collect();
    let Some(together) = together else {
        rest.append(&mut found);
        return Err(Refusal::from_findings(first, rest)
            .unwrap_or_else(|| Refusal::one(InvalidReason::Missing, "there is no together leg")));
    };
    let valid = ValidRun {
        test,
        run,
        together,
        solo,
    };
    found.extend(against_pairs(&valid));
    match Refusal::from_findings(first, found) {
        Some(refusal) => Err(refusal),
        None => Ok(valid),
    }
}

/// An agent's two legs must have done the same steps on the same model.
fn against_pairs(run: &ValidRun<'_>) -> Vec<Invalid> {
    let mut found = Vec::new();
    for together in run.together.agents() {
        let Some(solo) = run.solo(together.planned()) else {
            continue;
        };
        let who = together.id();
        let changes = model_changes(solo.agent.pin(), together.pin());
        if !changes.is_empty() {
            found.push(invalid(
                InvalidReason::PinChanged,
                format!("{who}: alone and together differ in {}", changes.join(", ")),
            ));
        }
        let steps = |agent: &ValidAgent<'_>| {
            agent
                .requests()
                .iter()
                .map(|request| request.step.clone())
                .collect::<Vec<_>>()
        };
        if steps(solo.agent) != steps(together) {
            found.push(invalid(
                InvalidReason::SoloInvalid,
                format!("{who}: alone it asked for other steps than together"),
            ));
        }
    }
    found
}
