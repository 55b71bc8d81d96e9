//! Whether one leg may count.

use std::collections::BTreeMap;

use super::findings::{Refusal, against, invalid};
use super::reload::AtWork;
use crate::control::{InvalidReason, LegVerdict, Member};
use crate::event::{Begin, Finished, LocalStep, PinFacts, RequestRecord, Started};
use crate::ids::AgentId;
use crate::plan::{LegKind, Plan, PlannedAgent, PlannedTest, Topology};
use crate::timeline::{AgentTimeline, LegLog, Timebase};
use crate::units::ns_to_ms;

/// One agent of a valid leg: all of its facts are there.
#[derive(Debug, Clone)]
pub struct ValidAgent<'a> {
    planned: &'a PlannedAgent,
    timeline: &'a AgentTimeline<'a>,
    begin: &'a Begin,
    pin: &'a PinFacts,
    started: &'a Started,
    finished: &'a Finished,
    duration_ns: u64,
}

impl<'a> ValidAgent<'a> {
    /// What was planned for it.
    #[must_use]
    pub fn planned(&self) -> &'a PlannedAgent {
        self.planned
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> &'a AgentId {
        &self.planned.id
    }

    /// Where and as what it began.
    #[must_use]
    pub fn begin(&self) -> &'a Begin {
        self.begin
    }

    /// Its instance, the same before and after.
    #[must_use]
    pub fn pin(&self) -> &'a PinFacts {
        self.pin
    }

    /// When it was to leave the barrier and when it did.
    #[must_use]
    pub fn started(&self) -> &'a Started {
        self.started
    }

    /// When its last step ended.
    #[must_use]
    pub fn finished(&self) -> &'a Finished {
        self.finished
    }

    /// From its own start to its own finish, ns. *Source*: the worker's monotonic clock.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.duration_ns
    }

    /// Its requests, all successful, in order.
    #[must_use]
    pub fn requests(&self) -> &'a [&'a RequestRecord] {
        &self.timeline.requests
    }

    /// Its steps without the model, in order.
    #[must_use]
    pub fn local(&self) -> &'a [&'a LocalStep] {
        &self.timeline.local
    }
}

/// A leg that may count. Made by [`check_leg`] alone.
#[derive(Debug, Clone)]
pub struct ValidLeg<'a> {
    log: &'a LegLog<'a>,
    agents: Vec<ValidAgent<'a>>,
    timebase: Timebase<'a>,
    skew: Option<StartSkew>,
}

impl<'a> ValidLeg<'a> {
    /// What the coordinator decided.
    #[must_use]
    pub fn log(&self) -> &'a LegLog<'a> {
        self.log
    }

    /// Its agents, in pin order. *Shape*: all that were planned, one or more.
    #[must_use]
    pub fn agents(&self) -> &[ValidAgent<'a>] {
        &self.agents
    }

    /// The time axis of its agents.
    #[must_use]
    pub fn timebase(&self) -> &Timebase<'a> {
        &self.timebase
    }

    /// How far apart its agents started. *Undefined* below two agents released together.
    #[must_use]
    pub fn skew(&self) -> Option<StartSkew> {
        self.skew
    }
}

/// How far apart agents started that were released together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartSkew {
    /// Last start minus first, ns.
    pub ns: u64,
    /// Bound on its error, ns; 0 within one boot.
    pub error_ns: u64,
}

/// How far apart the agents of a leg started, as far as their records tell.
///
/// The starts themselves are compared, on one time axis, rather than each start with its own planned
/// instant: a commit that named different instants would hide in the latter. Agents that the cap held
/// back start later by design and are left out. *Undefined* below two agents.
#[must_use]
pub fn start_skew(
    log: &LegLog<'_>,
    timelines: &BTreeMap<AgentId, AgentTimeline<'_>>,
) -> Option<StartSkew> {
    let timebase = Timebase::of(log.members);
    let released = timelines
        .iter()
        .filter(|(agent, _)| !log.queued.contains(agent));
    let mut starts: Vec<_> = released
        .filter_map(|(_, timeline)| {
            let boot = &timeline.begin?.clock.boot_id;
            Some((timebase.place(boot, timeline.started?.actual)?, boot))
        })
        .collect();
    starts.sort();
    let ((first, first_boot), (last, last_boot)) = (starts.first()?, starts.last()?);
    (starts.len() > 1).then_some(())?;
    Some(StartSkew {
        ns: u64::try_from(last - first).ok()?,
        error_ns: timebase.error_ns(first_boot, last_boot),
    })
}

/// Decides whether a leg may count.
///
/// *Shape*: `timelines` holds the streams of the leg's deciding attempt and epoch.
///
/// # Errors
/// Every reason against it, when there is one.
pub fn check_leg<'a>(
    plan: &Plan,
    test: &'a PlannedTest,
    log: &'a LegLog<'a>,
    timelines: &'a BTreeMap<AgentId, AgentTimeline<'a>>,
) -> Result<ValidLeg<'a>, Refusal> {
    let verdict = match log.verdict {
        Some(LegVerdict::Invalid(why)) => Some(why.clone()),
        Some(LegVerdict::Valid) => None,
        None => Some(invalid(
            InvalidReason::Missing,
            "the leg was not closed".to_owned(),
        )),
    };
    let mut found = Vec::new();
    let mut agents = Vec::new();
    let timebase = Timebase::of(log.members);
    // Pinned, each has an instance of its own; sharing, all agents of a test are on one.
    let ours = match test.topology {
        Topology::Pinned => 1,
        Topology::Shared { .. } => planned_agents(test, &log.leg.kind).count(),
    };
    let ours = u32::try_from(ours).unwrap_or(u32::MAX);
    for planned in planned_agents(test, &log.leg.kind) {
        let who = &planned.id;
        let Some(timeline) = timelines.get(who) else {
            found.push(invalid(
                InvalidReason::DataLoss,
                format!("{who}: it left no records"),
            ));
            continue;
        };
        let digest = plan.model_digests.get(&planned.model).map(String::as_str);
        let others = others_at_work(test, who, timelines);
        let against = against(planned, timeline, digest, &others, ours);
        let clean = against.is_empty();
        found.extend(against);
        let member = log.members.iter().find(|member| member.agent == *who);
        if let (Some(member), Some(begin)) = (member, timeline.begin) {
            found.extend(against_place(member, begin));
        } else if clean {
            found.push(invalid(
                InvalidReason::DataLoss,
                format!("{who}: no gang names it"),
            ));
        }
        agents.extend(whole(planned, timeline));
    }
    let skew = start_skew(log, timelines);
    if let Some(skew) = skew
        && skew.ns > u64::from(plan.limits.start_skew_ms).saturating_mul(1_000_000)
    {
        found.push(invalid(
            InvalidReason::StartSkew,
            format!(
                "the agents started {:.1} ms apart, the limit is {} ms",
                ns_to_ms(skew.ns),
                plan.limits.start_skew_ms
            ),
        ));
    }
    if let Some(refusal) = Refusal::from_findings(verdict, found) {
        return Err(refusal);
    }
    if agents.len() != planned_agents(test, &log.leg.kind).count() || agents.is_empty() {
        return Err(Refusal::one(
            InvalidReason::DataLoss,
            "an agent's records are not whole",
        ));
    }
    Ok(ValidLeg {
        log,
        agents,
        timebase,
        skew,
    })
}

/// What the agent's instance did for the other agents of the leg: all of them are on the same one, and
/// on one worker's clock, or none is.
fn others_at_work(
    test: &PlannedTest,
    agent: &AgentId,
    timelines: &BTreeMap<AgentId, AgentTimeline<'_>>,
) -> AtWork {
    if test.topology == Topology::Pinned {
        return AtWork::default();
    }
    let others = || {
        let others = timelines.iter().filter(|(id, _)| *id != agent);
        others.map(|(_, timeline)| timeline)
    };
    AtWork::on(
        others().flat_map(|timeline| timeline.requests.iter().copied()),
        others().filter_map(|timeline| timeline.pin_before?.facts.warm_load_ns),
    )
}

/// The agents that a leg is to have.
fn planned_agents<'a>(
    test: &'a PlannedTest,
    kind: &LegKind,
) -> impl Iterator<Item = &'a PlannedAgent> {
    let only = match kind {
        LegKind::Solo { agent } => Some(agent.clone()),
        LegKind::Together => None,
    };
    test.agents
        .iter()
        .filter(move |agent| only.as_ref().is_none_or(|only| *only == agent.id))
}

/// An agent's records must come from the worker, instance and boot that were reserved for it.
fn against_place(member: &Member, begin: &Begin) -> Vec<crate::control::Invalid> {
    let who = &member.agent;
    let mut found = Vec::new();
    if begin.instance != member.instance || begin.worker != member.worker {
        found.push(invalid(
            InvalidReason::PinChanged,
            format!(
                "{who}: reserved {} on {}, ran on {} by {}",
                member.instance, member.worker, begin.instance, begin.worker
            ),
        ));
    }
    if begin.clock.boot_id != member.clock.boot_id {
        found.push(invalid(
            InvalidReason::PinChanged,
            format!("{who}: the worker's host started anew between reservation and run"),
        ));
    }
    found
}

fn whole<'a>(planned: &'a PlannedAgent, timeline: &'a AgentTimeline<'a>) -> Option<ValidAgent<'a>> {
    Some(ValidAgent {
        planned,
        timeline,
        begin: timeline.begin?,
        pin: &timeline.pin_before?.facts,
        started: timeline.started?,
        finished: timeline.finished?,
        duration_ns: timeline.duration_ns()?,
    })
}
