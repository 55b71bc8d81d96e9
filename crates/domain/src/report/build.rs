//! From records to the report.

use std::collections::{BTreeMap, BTreeSet};

use super::aggregate::{Aggregate, Distributions};
use super::environment::Environment;
use super::explain::explain;
use super::facts::{Timelines, agent_facts, leg_report, run_facts};
use super::types::{
    AgentConfig, AgentDelta, AgentRun, Outcome, OutcomeState, Report, RunReport, TestReport,
    Validity,
};
use super::{SCHEMA_VERSION, causes, findings, host, topology_verdict, verdict};
use crate::control::{self, ControlEvent, ExperimentOutcome, InvalidReason};
use crate::efficiency::{AgentMeasure, RunMeasure, measure};
use crate::event::{AgentEvent, Output};
use crate::ids::{AgentId, AgentKey, RunId};
use crate::plan::{LegKind, PlannedLeg, PlannedTest};
use crate::telemetry::TelemetryBatch;
use crate::timeline::{AgentTimeline, LegLog, Log, LogError, StreamId, StreamIntegrity, Streams};
use crate::units::ns_to_ms;
use crate::validity::{LegResult, Refusal, ValidLeg, check_leg, check_run, solo_source};

/// Why no report can be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The control log cannot be folded.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What the caller found of the streams' bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Integrity {
    /// Whether a stream's payloads agree with its closing hash. Absent: not checked.
    pub hashes: BTreeMap<StreamId, bool>,
    /// Messages of an agent that could not be decoded.
    pub dead_letters: BTreeMap<AgentKey, u64>,
    /// Messages that could not be decoded and name no agent.
    pub stray_dead_letters: u64,
}

/// The records of one experiment, in any order, with any duplicates.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    control: &'a [ControlEvent],
    events: &'a [AgentEvent],
    telemetry: &'a [TelemetryBatch],
    integrity: Integrity,
    environment: Environment,
}

impl<'a> Input<'a> {
    /// Decisions and agents' records, and what the caller knows of the host.
    #[must_use]
    pub fn new(
        control: &'a [ControlEvent],
        events: &'a [AgentEvent],
        environment: Environment,
    ) -> Self {
        Self {
            control,
            events,
            telemetry: &[],
            integrity: Integrity::default(),
            environment,
        }
    }

    /// Adds what the nodes sampled.
    #[must_use]
    pub fn with_telemetry(mut self, telemetry: &'a [TelemetryBatch]) -> Self {
        self.telemetry = telemetry;
        self
    }

    /// Adds what was found of the bytes. Without it no hash counts as checked.
    #[must_use]
    pub fn with_integrity(mut self, integrity: Integrity) -> Self {
        self.integrity = integrity;
        self
    }
}

/// A report and what is true of this delivery of the records alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// Depends on the set of records only.
    pub report: Report,
    /// Further copies of records that were dropped. Depends on the delivery, hence not in the report.
    pub duplicates: u64,
}

/// Computes the report of an experiment. See [`build_counted`] for the number of duplicates.
///
/// # Errors
/// When the control log has no plan, or mixes experiments.
pub fn build(input: &Input<'_>) -> Result<Report, BuildError> {
    build_counted(input).map(|built| built.report)
}

/// Computes the report of an experiment, and counts the duplicates among its records.
///
/// # Errors
/// When the control log has no plan, or mixes experiments.
pub fn build_counted(input: &Input<'_>) -> Result<Built, BuildError> {
    let control = control::grown(input.control);
    let log = Log::fold(&control)?;
    let streams = Streams::sort(input.events);
    let folded = fold_legs(&log, &streams, &input.integrity);
    let nodes = host::Nodes::sort(input.telemetry);
    let mut results: BTreeMap<&RunId, Result<ValidLeg<'_>, Refusal>> = BTreeMap::new();
    for (run_id, timelines) in &folded {
        if let Some(leg) = log.legs.get(*run_id)
            && let Some(test) = log.plan.tests.iter().find(|test| test.id == leg.leg.test)
        {
            results.insert(run_id, check_leg(log.plan, test, leg, timelines));
        }
    }
    let mut explained = explain(&log, &folded, &results, &nodes);
    let validity = count(&log, &streams, &folded, &results, &input.integrity);
    let mut tests: Vec<TestReport> = log
        .plan
        .tests
        .iter()
        .map(|test| test_report(test, &log, &folded, &mut results, &nodes))
        .collect();
    for (test, planned) in tests.iter_mut().zip(&log.plan.tests) {
        for run in &mut test.runs {
            run.attribution = explained.remove(&(planned.id, run.run));
        }
        test.verdict = verdict::verdict(test);
        test.slow = causes::slow(&test.runs);
        test.causes = causes::causes(&test.runs);
        test.times = causes::times(&test.runs);
    }
    let pins = log.legs.values().flat_map(|leg| {
        leg.members
            .iter()
            .filter_map(|member| Some((member, leg.ready.get(&member.agent)?.0)))
    });
    let mut report = Report {
        schema_version: SCHEMA_VERSION,
        experiment: log.experiment.clone(),
        name: log.plan.name.clone(),
        outcome: outcome(log.outcome),
        seed: Some(log.plan.seed),
        workload: Some(log.plan.workload.clone()),
        spec: Some(log.spec_text.to_owned()),
        slo: log.plan.slo,
        source: None,
        environment: nodes
            .describe(software(input.environment.clone(), log.software).with_pins(pins)),
        validity,
        contrast: verdict::contrast(&tests),
        topology: topology_verdict(&tests),
        tests,
        findings: Vec::new(),
    };
    report.findings = findings::findings(&report);
    let in_streams: u64 = folded
        .values()
        .flat_map(BTreeMap::values)
        .map(|timeline| timeline.duplicates)
        .sum();
    Ok(Built {
        report,
        duplicates: log.duplicates.saturating_add(in_streams),
    })
}

/// What one agent wrote in one run, together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentOutputs {
    /// [`PlannedTest::id`].
    pub test: u32,
    /// Number of the run within the test.
    pub run: u32,
    /// Who.
    pub agent: AgentId,
    /// Its texts, in order.
    pub outputs: Vec<Output>,
}

/// The texts of the together legs' deciding attempts, by test, run and pin order.
///
/// # Errors
/// As [`build`].
pub fn outputs(
    control: &[ControlEvent],
    events: &[AgentEvent],
) -> Result<Vec<AgentOutputs>, BuildError> {
    let control = control::grown(control);
    let log = Log::fold(&control)?;
    let streams = Streams::sort(events);
    let folded = fold_legs(&log, &streams, &Integrity::default());
    let mut found = Vec::new();
    for test in &log.plan.tests {
        let mut legs: Vec<&PlannedLeg> = log
            .plan
            .legs
            .iter()
            .filter(|leg| leg.test == test.id && leg.kind == LegKind::Together)
            .collect();
        legs.sort_by_key(|leg| leg.run);
        for leg in legs {
            let Some(timelines) = folded.get(&leg.run_id) else {
                continue;
            };
            found.extend(test.agents.iter().filter_map(|agent| {
                Some(AgentOutputs {
                    test: test.id,
                    run: leg.run,
                    agent: agent.id.clone(),
                    outputs: timelines
                        .get(&agent.id)?
                        .outputs
                        .iter()
                        .copied()
                        .cloned()
                        .collect(),
                })
            }));
        }
    }
    Ok(found)
}

pub(super) type Folded<'a> = BTreeMap<&'a RunId, Timelines<'a>>;
pub(super) type Results<'a> = BTreeMap<&'a RunId, Result<ValidLeg<'a>, Refusal>>;

/// The stream of an agent that counts: of the deciding attempt, under its epoch.
fn stream_of(log: &Log<'_>, leg: &LegLog<'_>, agent: &AgentId) -> Option<StreamId> {
    Some(StreamId {
        key: AgentKey {
            experiment: log.experiment.clone(),
            run: leg.leg.run_id.clone(),
            attempt: leg.attempt,
            agent: agent.clone(),
        },
        epoch: leg.epoch?,
    })
}

fn fold_legs<'a>(log: &Log<'a>, streams: &Streams<'a>, integrity: &Integrity) -> Folded<'a> {
    let mut folded = BTreeMap::new();
    for (run_id, leg) in &log.legs {
        let mut timelines = BTreeMap::new();
        for member in leg.members {
            let Some(stream) = stream_of(log, leg, &member.agent) else {
                continue;
            };
            let records = streams.records(&stream);
            if records.is_empty() {
                continue;
            }
            let found = StreamIntegrity {
                hash_ok: integrity.hashes.get(&stream).copied(),
                dead_letters: integrity
                    .dead_letters
                    .get(&stream.key)
                    .copied()
                    .unwrap_or(0),
            };
            let timeline = AgentTimeline::fold(stream, records.iter().copied(), found);
            timelines.insert(member.agent.clone(), timeline);
        }
        folded.insert(*run_id, timelines);
    }
    folded
}

fn count(
    log: &Log<'_>,
    streams: &Streams<'_>,
    folded: &Folded<'_>,
    results: &Results<'_>,
    integrity: &Integrity,
) -> Validity {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let counted: Vec<&AgentTimeline<'_>> = folded.values().flat_map(BTreeMap::values).collect();
    let ids: BTreeSet<&StreamId> = counted.iter().map(|timeline| &timeline.stream).collect();
    let planned: BTreeSet<&RunId> = log.plan.legs.iter().map(|leg| &leg.run_id).collect();
    let (mut stale, mut stray) = (0_u64, 0_u64);
    for id in streams.ids().filter(|id| !ids.contains(id)) {
        let ours = id.key.experiment == *log.experiment && planned.contains(&id.key.run);
        let records = streams.distinct(id);
        if ours {
            stale = stale.saturating_add(records);
        } else {
            stray = stray.saturating_add(records);
        }
    }
    let letters: u64 = integrity.dead_letters.values().sum();
    Validity {
        legs_valid: number(results.values().filter(|result| result.is_ok()).count()),
        legs_attempted: number(log.legs.len()),
        legs_planned: number(log.plan.legs.len()),
        streams: number(counted.len()),
        streams_complete: number(
            counted
                .iter()
                .filter(|timeline| timeline.is_complete())
                .count(),
        ),
        streams_hash_checked: number(counted.iter().filter(|t| t.hash_ok.is_some()).count()),
        stale_dropped: stale,
        stray_dropped: stray,
        dead_letters: letters.saturating_add(integrity.stray_dead_letters),
    }
}

fn test_report<'a>(
    test: &'a PlannedTest,
    log: &Log<'a>,
    folded: &Folded<'a>,
    results: &mut Results<'a>,
    nodes: &host::Nodes<'_>,
) -> TestReport {
    let mut by_run: BTreeMap<u32, Vec<&'a PlannedLeg>> = BTreeMap::new();
    for leg in log.plan.legs.iter().filter(|leg| leg.test == test.id) {
        by_run.entry(leg.run).or_default().push(leg);
    }
    let (mut runs, mut measures, mut attempted) = (Vec::new(), Vec::new(), 0_u32);
    for (run, mut legs) in by_run {
        legs.sort_by_key(|leg| leg.kind != LegKind::Together);
        let tries = legs
            .iter()
            .filter_map(|leg| Some(log.legs.get(&leg.run_id)?.attempt))
            .max();
        let Some(tries) = tries else { continue };
        attempted = attempted.saturating_add(tries.max(1));
        let (report, measure) = run_report(test, run, &legs, log, folded, results, nodes);
        runs.push(report);
        measures.extend(measure);
    }
    if let Some(slo) = &log.plan.slo {
        runs.iter_mut().for_each(|run| run.judge_by(slo));
    }
    let ids: Vec<AgentId> = test.agents.iter().map(|agent| agent.id.clone()).collect();
    TestReport {
        id: test.id.to_string(),
        phase: test.phase,
        scenario: test.scenario.clone(),
        label: test.label.clone(),
        folder: format!("phase_{}_test_{:03}", test.phase, test.id),
        agents: test.agents.iter().map(AgentConfig::from).collect(),
        max_concurrent: test.max_concurrent,
        topology: test.topology,
        runs_planned: test.runs,
        runs_attempted: attempted,
        runs_valid: u32::try_from(measures.len()).unwrap_or(u32::MAX),
        aggregate: Aggregate::of(&measures, &ids)
            .with_quality(&runs)
            .with_goodput(&runs, log.plan.slo.as_ref())
            .with_gpu_memory(&runs),
        runs,
        distributions: Distributions::of(&measures),
        verdict: String::new(),
        slow: None,
        causes: Vec::new(),
        times: Vec::new(),
    }
}

fn run_report<'a>(
    test: &'a PlannedTest,
    run: u32,
    legs: &[&'a PlannedLeg],
    log: &Log<'a>,
    folded: &Folded<'a>,
    results: &mut Results<'a>,
    nodes: &host::Nodes<'_>,
) -> (RunReport, Option<RunMeasure<'a>>) {
    let leg_reports = legs.iter().map(|leg| {
        let refusal = results
            .get(&leg.run_id)
            .and_then(|result| result.as_ref().err());
        leg_report(leg, log.legs.get(&leg.run_id), refusal)
    });
    let together = legs.iter().find(|leg| leg.kind == LegKind::Together);
    let together =
        together.and_then(|leg| Some((log.legs.get(&leg.run_id)?, folded.get(&leg.run_id)?)));
    let agents = test.agents.iter().map(|agent| {
        let solo_of = |id: &AgentId| {
            legs.iter()
                .find(|leg| matches!(&leg.kind, LegKind::Solo { agent } if agent == id))
        };
        let source = solo_source(test, agent, |id| solo_of(id).is_some());
        let alone = match source {
            crate::validity::SoloSource::Own => Some(&agent.id),
            crate::validity::SoloSource::Shared(twin) => Some(twin),
            crate::validity::SoloSource::None => None,
        };
        let solo = alone.and_then(|id| folded.get(&solo_of(id)?.run_id)?.get(id));
        let among = together.and_then(|(_, timelines)| timelines.get(&agent.id));
        agent_facts(agent, among, solo, source)
    });
    let mut report = run_facts(run, together, agents.collect(), leg_reports.collect());
    let checked: Vec<LegResult<'a>> = legs
        .iter()
        .map(|leg| (*leg, results.remove(&leg.run_id)))
        .collect();
    let refusal = match check_run(test, run, checked) {
        Err(refusal) => refusal,
        Ok(valid) => match measure(&valid) {
            Some(measure) => {
                fill(&mut report, &measure);
                report.host = nodes.run_host(&valid);
                report.gpu_memory = Some(nodes.run_gpu_memory(&valid));
                return (report, Some(measure));
            }
            None => Refusal::one(InvalidReason::DataLoss, "the run took no time"),
        },
    };
    report.invalid_reason = Some(refusal.first().reason.as_str().to_owned());
    report.invalid = refusal.all().map(Into::into).collect();
    (report, None)
}

/// What only a valid run has.
fn fill(report: &mut RunReport, measure: &RunMeasure<'_>) {
    report.valid = true;
    report.wall_s = Some(measure.wall_s);
    report.wall_error_ms = Some(measure.wall_error_s * 1e3);
    report.aggregate_tokens_per_s = measure.aggregate_tokens_per_s;
    report.overlap_fraction = measure.overlap_fraction;
    report.idle_tail_s = Some(measure.idle_tail_s);
    report.tr110_speedup = Some(measure.tr110_speedup);
    report.tr110_efficiency = Some(measure.tr110_efficiency);
    report.balance_identity = Some(measure.balance_identity);
    report.start_skew_ms = measure.skew.map(|skew| ns_to_ms(skew.ns));
    report.start_skew_error_ms = measure.skew.map(|skew| ns_to_ms(skew.error_ns));
    report.harness_overhead_ms = measure.harness_overhead_s.map(|overhead| overhead * 1e3);
    if let Some(solo) = &measure.solo {
        report.solo_total_s = Some(solo.total_s);
        report.solo_reference_s = Some(solo.reference_s);
        report.concurrency_gain = Some(solo.gain);
        report.gain_provenance = solo.provenance;
        report.gain_rule = Some(solo.rule);
        report.raw_gain = Some(solo.raw_gain);
        report.work_gain = solo.work_gain;
        report.work_difference = solo.work_difference;
        report.work_residual = solo.residual;
        report.parallel_efficiency = Some(solo.parallel_efficiency);
        report.solo_tokens_per_s = solo.tokens_per_s;
        report.throughput_ratio = solo.throughput_ratio;
        report.fairness = solo.fairness;
    }
    for (agent, measure) in report.agents.iter_mut().zip(&measure.agents) {
        fill_agent(agent, measure);
    }
    let Some((first, others)) = report.agents.split_first_mut() else {
        return;
    };
    for agent in others {
        let minus = |own: Option<f64>, other: Option<f64>| Some(own? - other?);
        agent.delta = Some(AgentDelta {
            duration_s: minus(agent.duration_s, first.duration_s),
            tokens_per_s: minus(agent.tokens_per_s, first.tokens_per_s),
            ttft_ms: minus(agent.ttft_ms, first.ttft_ms),
        });
    }
}

fn fill_agent(agent: &mut AgentRun, measure: &AgentMeasure<'_>) {
    agent.solo_reference_s = measure.reference_s;
    agent.slowdown = measure.slowdown;
    agent.raw_slowdown = measure.raw_slowdown;
    agent.start_offset_s = Some(measure.start_offset_s);
    agent.queue_wait_s = measure.queue_wait_s;
    agent.idle_tail_s = Some(measure.idle_tail_s);
    agent.local_s = Some(measure.local_s);
    agent.other_s = Some(measure.other_s);
    agent.tokens_per_s = measure.tokens_per_s;
    agent.quality.adjust(measure.tokens_per_s);
    agent.solo_tokens_per_s = measure.solo.as_ref().and_then(|solo| solo.tokens_per_s);
}

fn outcome(outcome: Option<&ExperimentOutcome>) -> Outcome {
    let (state, detail) = match outcome {
        None => (OutcomeState::Running, None),
        Some(ExperimentOutcome::Completed) => (OutcomeState::Completed, None),
        Some(ExperimentOutcome::Cancelled) => (OutcomeState::Cancelled, None),
        Some(ExperimentOutcome::Failed { detail }) => (OutcomeState::Failed, Some(detail.clone())),
    };
    Outcome { state, detail }
}

fn software(mut environment: Environment, coordinator: &str) -> Environment {
    environment
        .software
        .get_or_insert_with(|| coordinator.to_owned());
    environment
}
