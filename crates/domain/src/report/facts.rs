//! Records as the report shows them, valid or not.

use std::collections::BTreeMap;

use super::aggregate::{e2e_ms, mean_of, tpot_ms, ttft_ms};
use super::types::{
    AgentConfig, AgentRun, Attempt, LegReport, LocalReport, ReadyReport, Reason, RequestReport,
    RunReport,
};
use crate::control::Invalid;
use crate::efficiency::activity::{Span, activity};
use crate::event::RequestRecord;
use crate::ids::AgentId;
use crate::latency::{decode_tokens_per_s, engine_tokens_per_s, itl_ns, output_tokens};
use crate::plan::{LegKind, PlannedAgent, PlannedLeg};
use crate::quality::{self, Judged};
use crate::stats::{Distribution, Provenance};
use crate::timeline::{AgentTimeline, LegLog, Timebase};
use crate::units::{MonoNs, ns_to_ms, ns_to_s};
use crate::validity::{Refusal, SoloSource, start_skew};

pub(super) type Timelines<'a> = BTreeMap<AgentId, AgentTimeline<'a>>;

impl From<&Invalid> for Reason {
    fn from(invalid: &Invalid) -> Self {
        Self {
            reason: invalid.reason.as_str().to_owned(),
            detail: invalid.detail.clone(),
        }
    }
}

impl From<&PlannedAgent> for AgentConfig {
    fn from(agent: &PlannedAgent) -> Self {
        Self {
            agent: agent.id.clone(),
            role: agent.role.clone(),
            engine: agent.engine,
            model: Some(agent.model.clone()),
            options: (&agent.options).into(),
            instance: agent.instance.clone(),
            think_ms: agent.think_ms,
            stated_type: None,
        }
    }
}

/// One leg, executed or not.
pub(super) fn leg_report(
    leg: &PlannedLeg,
    log: Option<&LegLog<'_>>,
    refusal: Option<&Refusal>,
) -> LegReport {
    let solo = match &leg.kind {
        LegKind::Solo { agent } => Some(agent.clone()),
        LegKind::Together => None,
    };
    LegReport {
        leg: leg.run_id.clone(),
        solo,
        attempt: log.map(|log| log.attempt),
        epoch: log.and_then(|log| log.epoch),
        valid: log.is_some() && refusal.is_none(),
        invalid: refusal
            .iter()
            .flat_map(|refusal| refusal.all())
            .map(Reason::from)
            .collect(),
        earlier: log
            .iter()
            .flat_map(|log| &log.earlier)
            .map(|earlier| Attempt {
                attempt: earlier.attempt,
                invalid: earlier.why.map(Reason::from),
            })
            .collect(),
        admission: log.and_then(|log| log.admission).cloned(),
        ready: log
            .iter()
            .flat_map(|log| &log.ready)
            .map(|(agent, (facts, warm_ns))| ReadyReport {
                agent: (*agent).clone(),
                warm_ms: ns_to_ms(*warm_ns),
                facts: (*facts).clone(),
            })
            .collect(),
    }
}

/// A run with its facts alone: nothing in it compares legs or agents yet.
pub(super) fn run_facts(
    run: u32,
    together: Option<(&LegLog<'_>, &Timelines<'_>)>,
    agents: Vec<AgentRun>,
    legs: Vec<LegReport>,
) -> RunReport {
    let skew = together.and_then(|(log, timelines)| start_skew(log, timelines));
    let solos: Option<f64> = agents.iter().map(|agent| agent.solo_duration_s).sum();
    RunReport {
        run,
        valid: false,
        invalid_reason: None,
        invalid: Vec::new(),
        wall_s: together.and_then(|(log, timelines)| wall_s(log, timelines, agents.len())),
        wall_error_ms: None,
        solo_total_s: solos.filter(|_| !agents.is_empty()),
        solo_reference_s: None,
        concurrency_gain: None,
        gain_provenance: Provenance::NotMeasured,
        gain_rule: None,
        raw_gain: None,
        work_gain: None,
        work_difference: None,
        work_residual: None,
        parallel_efficiency: None,
        aggregate_tokens_per_s: None,
        solo_tokens_per_s: None,
        throughput_ratio: None,
        overlap_fraction: None,
        idle_tail_s: None,
        fairness: None,
        tr110_speedup: None,
        tr110_efficiency: None,
        balance_identity: None,
        start_skew_ms: skew.map(|skew| ns_to_ms(skew.ns)),
        start_skew_error_ms: skew.map(|skew| ns_to_ms(skew.error_ns)),
        harness_overhead_ms: None,
        host: None,
        goodput: None,
        gpu_memory: None,
        agents,
        legs,
        attribution: None,
        tr110: None,
    }
}

/// First start to last finish, if every agent has both.
fn wall_s(log: &LegLog<'_>, timelines: &Timelines<'_>, agents: usize) -> Option<f64> {
    let timebase = Timebase::of(log.members);
    let spans: Option<Vec<Span>> = timelines
        .values()
        .map(|timeline| {
            let boot = &timeline.begin?.clock.boot_id;
            timeline.duration_ns()?;
            Some(Span {
                start: timebase.place(boot, timeline.started?.actual)?,
                finish: timebase.place(boot, timeline.finished?.at)?,
            })
        })
        .collect();
    let spans = spans.filter(|spans| spans.len() == agents)?;
    Some(ns_to_s(activity(&spans, agents)?.wall))
}

/// One agent's facts in both legs.
pub(super) fn agent_facts(
    planned: &PlannedAgent,
    together: Option<&AgentTimeline<'_>>,
    solo: Option<&AgentTimeline<'_>>,
    source: SoloSource<'_>,
) -> AgentRun {
    let begin = together.and_then(|timeline| timeline.begin);
    let duration = |timeline: Option<&AgentTimeline<'_>>| {
        timeline.and_then(AgentTimeline::duration_ns).map(ns_to_s)
    };
    let duration_s = duration(together);
    let output_tokens: Option<u64> = together.and_then(|timeline| {
        let requests = timeline.requests.iter();
        requests
            .map(|request| output_tokens(request).map(|(count, _)| u64::from(count)))
            .sum()
    });
    AgentRun {
        agent: planned.id.clone(),
        role: planned.role.clone(),
        worker: begin.map(|begin| begin.worker.clone()),
        instance: begin.map(|begin| begin.instance.clone()),
        duration_s,
        solo_duration_s: duration(solo),
        solo_reference_s: None,
        solo_shared_with: match source {
            SoloSource::Shared(twin) => Some(twin.clone()),
            SoloSource::Own | SoloSource::None => None,
        },
        slowdown: None,
        raw_slowdown: None,
        start_offset_s: None,
        start_late_ms: together
            .and_then(|timeline| timeline.started)
            .map(|started| signed_ms(started.planned, started.actual)),
        queue_wait_s: None,
        idle_tail_s: None,
        local_s: None,
        other_s: None,
        output_tokens,
        tokens_per_s: None,
        solo_tokens_per_s: None,
        ttft_ms: together.and_then(|timeline| mean_of(&timeline.requests, ttft_ms)),
        delta: None,
        failure: together
            .and_then(|timeline| timeline.finished)
            .and_then(|finished| finished.failure.clone()),
        requests: requests(together),
        solo_requests: requests(solo),
        local_steps: local_steps(together),
        quality: judged(together),
        tr110: None,
    }
}

/// The quality of the report written together; what it is per second comes with the rate.
fn judged(timeline: Option<&AgentTimeline<'_>>) -> Judged {
    let Some(timeline) = timeline else {
        return Judged::absent("the agent has no records of its own");
    };
    let mut asked = timeline.requests.iter().rev();
    let finish = asked
        .find(|request| request.step == quality::REPORT_STEP)
        .and_then(|request| request.finish);
    Judged::of(timeline.outputs.iter().copied(), finish)
}

fn signed_ms(planned: MonoNs, actual: MonoNs) -> f64 {
    match actual.since(planned) {
        Some(late) => ns_to_ms(late),
        None => -ns_to_ms(planned.since(actual).unwrap_or(0)),
    }
}

fn requests(timeline: Option<&AgentTimeline<'_>>) -> Vec<RequestReport> {
    let Some(timeline) = timeline else {
        return Vec::new();
    };
    let start = timeline.started.map(|started| started.actual);
    timeline
        .requests
        .iter()
        .map(|request| request_report(request, start))
        .collect()
}

fn request_report(request: &RequestRecord, start: Option<MonoNs>) -> RequestReport {
    let gaps = Distribution::of(itl_ns(request).into_iter().map(ns_to_ms).collect());
    let tokens = output_tokens(request);
    let engine = &request.engine_times;
    RequestReport {
        request_id: request.request_id.clone(),
        step: request.step.clone(),
        sent_s: start
            .and_then(|start| request.sent.since(start))
            .map(ns_to_s),
        ttft_ms: ttft_ms(request),
        e2e_ms: e2e_ms(request),
        tpot_ms: tpot_ms(request),
        itl_p50_ms: gaps.as_ref().map(|gaps| gaps.p50),
        itl_max_ms: gaps.as_ref().map(|gaps| gaps.max),
        head_ms: request.head_ns.map(ns_to_ms),
        done_ms: request.done_ns.map(ns_to_ms),
        decode_tokens_per_s: decode_tokens_per_s(request),
        engine_tokens_per_s: engine_tokens_per_s(request),
        load_ms: engine.load_ns.map(ns_to_ms),
        prompt_eval_ms: engine.prompt_eval_ns.map(ns_to_ms),
        eval_ms: engine.eval_ns.map(ns_to_ms),
        total_ms: engine.total_ns.map(ns_to_ms),
        prompt_tokens: request.prompt_tokens,
        cached_tokens: request.cached_tokens,
        output_tokens: tokens.map(|(count, _)| count),
        output_tokens_source: tokens.map(|(_, source)| source),
        chunks: u32::try_from(request.chunk_ns.len()).unwrap_or(u32::MAX),
        finish: request.finish,
        prompt_sha256: request.prompt_sha256.clone(),
        output_sha256: request.output_sha256.clone(),
        good: None,
        error: request.error.clone(),
    }
}

fn local_steps(timeline: Option<&AgentTimeline<'_>>) -> Vec<LocalReport> {
    let Some(timeline) = timeline else {
        return Vec::new();
    };
    let start = timeline.started.map(|started| started.actual);
    timeline
        .local
        .iter()
        .map(|step| LocalReport {
            step: step.step.clone(),
            start_s: start.and_then(|start| step.start.since(start)).map(ns_to_s),
            duration_ms: step.end.since(step.start).map(ns_to_ms),
            detail: step.detail.clone(),
        })
        .collect()
}
