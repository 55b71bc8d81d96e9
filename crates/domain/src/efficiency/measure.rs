//! The metrics of one valid run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::activity::{Activity, Span, activity};
use super::jain;
use super::work::{Rates, SAME_WORK_TOLERANCE, Work};
use crate::event::RequestRecord;
use crate::ids::AgentId;
use crate::latency::{TokenSource, output_tokens};
use crate::stats::{Provenance, mean};
use crate::units::ns_to_s;
use crate::validity::{StartSkew, ValidAgent, ValidRun};

/// How the numerator of the gain came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GainRule {
    /// Both legs did the same work: measured solo durations.
    SameWork,
    /// They did not: solo time of the work really done together, by each agent's solo rates.
    PerUnitOfWork,
    /// Tokens were not all counted, the work could not be compared: measured solo durations.
    WorkUnknown,
}

impl GainRule {
    /// What a figure by this rule may be called.
    #[must_use]
    pub fn provenance(self, counted_by: TokenSource) -> Provenance {
        match (self, counted_by) {
            (Self::WorkUnknown, _) | (Self::PerUnitOfWork, TokenSource::Chunks) => {
                Provenance::Estimated
            }
            (Self::SameWork, _) => Provenance::Measured,
            (Self::PerUnitOfWork, TokenSource::Engine) => Provenance::Derived,
        }
    }
}

/// An agent alone.
#[derive(Debug, Clone)]
pub struct SoloMeasure<'a> {
    /// Its own start to its finish, s.
    pub duration_s: f64,
    /// Solo time of the work that it did together, s. *Undefined when* tokens were not all counted.
    pub work_s: Option<f64>,
    /// How far the two legs' work is apart, as a part of the solo time. 0 if all counts are equal.
    pub work_difference: Option<f64>,
    /// Error of the model behind `work_s` on the solo leg's own requests ([`Rates::residual`]).
    pub residual: Option<f64>,
    /// Output tokens over the duration, 1/s.
    pub tokens_per_s: Option<f64>,
    /// Its requests.
    pub requests: &'a [&'a RequestRecord],
    /// Set if the leg is that of an identical agent.
    pub shared_with: Option<&'a AgentId>,
}

/// An agent among others.
#[derive(Debug, Clone)]
pub struct AgentMeasure<'a> {
    /// Who.
    pub agent: ValidAgent<'a>,
    /// Its own start to its finish, s.
    pub duration_s: f64,
    /// From the run's first start to its own, s.
    pub start_offset_s: f64,
    /// Actual minus planned start, s: how late it left the barrier. Positive is late.
    pub start_late_s: f64,
    /// Time that the cap held it back, s. `None`: it was not queued.
    pub queue_wait_s: Option<f64>,
    /// From its finish to the run's last, s.
    pub idle_tail_s: f64,
    /// Steps without the model, s.
    pub local_s: f64,
    /// Own time outside steps and requests, s.
    pub other_s: f64,
    /// Output tokens of all its requests. *Undefined when* one was not counted.
    pub output_tokens: Option<u64>,
    /// Output tokens over the duration, 1/s.
    pub tokens_per_s: Option<f64>,
    /// The agent alone. *Undefined when* no solo leg was planned for it.
    pub solo: Option<SoloMeasure<'a>>,
    /// Solo time that the run's rule takes for it, s.
    pub reference_s: Option<f64>,
    /// Duration over `reference_s`: 1 is undisturbed, 2 is half as fast as alone.
    pub slowdown: Option<f64>,
    /// Duration over the measured solo duration, whatever the work.
    pub raw_slowdown: Option<f64>,
}

/// Sums over the agents' solo legs. *Undefined as a whole when* an agent has none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoloSum {
    /// Sum of the measured solo durations, s.
    pub total_s: f64,
    /// The numerator of the gain, s.
    pub reference_s: f64,
    /// How it came about.
    pub rule: GainRule,
    /// `reference_s` over wall.
    pub gain: f64,
    /// `total_s` over wall.
    pub raw_gain: f64,
    /// Gain per unit of work, whether the rule takes it or not. *Undefined when* tokens were not all
    /// counted.
    pub work_gain: Option<f64>,
    /// The largest difference of work among the agents.
    pub work_difference: Option<f64>,
    /// The largest residual among the agents' models.
    pub residual: Option<f64>,
    /// Gain over the number of agents.
    pub parallel_efficiency: f64,
    /// Mean of the agents' solo throughputs, tokens/s.
    pub tokens_per_s: Option<f64>,
    /// Aggregate throughput over N times the mean solo throughput.
    pub throughput_ratio: Option<f64>,
    /// Jain's index of the agents' progress, 1 / slowdown.
    pub fairness: Option<f64>,
    /// Provenance of the gain and of what is computed from it.
    pub provenance: Provenance,
}

/// The metrics of one valid run.
#[derive(Debug, Clone)]
pub struct RunMeasure<'a> {
    /// First agent's start to last agent's finish, s.
    pub wall_s: f64,
    /// Bound on the error of the wall time from clock offsets, s; 0 within one boot.
    pub wall_error_s: f64,
    /// How far apart agents started that were released together. *Undefined* below two.
    pub skew: Option<StartSkew>,
    /// Who counted the output tokens, the weakest source.
    pub counted_by: TokenSource,
    /// All output tokens over wall, 1/s. *Undefined when* a request was not counted.
    pub aggregate_tokens_per_s: Option<f64>,
    /// Part of the wall time with two or more agents active. *Undefined* below two agents.
    pub overlap_fraction: Option<f64>,
    /// Time at the end in which the machine's places are not all taken ([`Activity::tail`]), s.
    pub idle_tail_s: f64,
    /// Wall minus the longest agent, s. *Undefined when* the cap holds agents back.
    pub harness_overhead_s: Option<f64>,
    /// TR110's formula: sum of the durations while together over wall. Also the mean number of
    /// active agents.
    pub tr110_speedup: f64,
    /// The same over N.
    pub tr110_efficiency: f64,
    /// What that formula must give if all start at once: sum of the durations over the longest; with
    /// two agents 1 + min/max.
    pub balance_identity: f64,
    /// Against the solo legs.
    pub solo: Option<SoloSum>,
    /// The agents, in pin order.
    pub agents: Vec<AgentMeasure<'a>>,
}

/// Computes the metrics of a run.
///
/// *Undefined when* the run took no time, or an agent's clock is not one of the gang's.
#[must_use]
pub fn measure<'a>(run: &ValidRun<'a>) -> Option<RunMeasure<'a>> {
    let leg = run.together();
    let spans: Vec<Span> = leg
        .agents()
        .iter()
        .map(|agent| span(run, agent))
        .collect::<Option<_>>()?;
    let count = spans.len();
    let places = usize::try_from(run.test().max_concurrent)
        .unwrap_or(usize::MAX)
        .max(1);
    let Activity {
        wall,
        overlap,
        tail,
        ..
    } = activity(&spans, places)?;
    let wall_s = Some(ns_to_s(wall)).filter(|wall| *wall > 0.0)?;
    let begin = spans.iter().map(|span| span.start).min()?;
    let end = spans.iter().map(|span| span.finish).max()?;

    let mut agents: Vec<AgentMeasure<'a>> = leg
        .agents()
        .iter()
        .zip(&spans)
        .map(|(agent, span)| agent_measure(run, agent, *span, (begin, end)))
        .collect();
    let requests = leg.agents().iter().flat_map(ValidAgent::requests);
    let counted_by = weakest(requests.copied());
    let tokens: Option<u64> = agents.iter().map(|agent| agent.output_tokens).sum();
    let aggregate_tokens_per_s = tokens.map(|tokens| tokens as f64 / wall_s);
    let durations: f64 = agents.iter().map(|agent| agent.duration_s).sum();
    let longest = agents
        .iter()
        .map(|agent| agent.duration_s)
        .fold(0.0, f64::max);
    let solo = solo_sum(&mut agents, wall_s, aggregate_tokens_per_s, counted_by);
    Some(RunMeasure {
        wall_s,
        wall_error_s: ns_to_s(wall_error_ns(run, begin, end)),
        skew: leg.skew(),
        counted_by,
        aggregate_tokens_per_s,
        overlap_fraction: (count > 1).then(|| ns_to_s(overlap) / wall_s),
        idle_tail_s: ns_to_s(tail),
        harness_overhead_s: (places >= count).then_some(wall_s - longest),
        tr110_speedup: durations / wall_s,
        tr110_efficiency: durations / wall_s / count as f64,
        balance_identity: if longest > 0.0 {
            durations / longest
        } else {
            count as f64
        },
        solo,
        agents,
    })
}

fn span(run: &ValidRun<'_>, agent: &ValidAgent<'_>) -> Option<Span> {
    let boot = &agent.begin().clock.boot_id;
    let timebase = run.together().timebase();
    Some(Span {
        start: timebase.place(boot, agent.started().actual)?,
        finish: timebase.place(boot, agent.finished().at)?,
    })
}

/// The bound on the error of wall: that of the two boots whose stamps bound it.
fn wall_error_ns(run: &ValidRun<'_>, begin: i128, end: i128) -> u64 {
    let leg = run.together();
    let boots = |edge: fn(&Span) -> i128, at: i128| {
        leg.agents()
            .iter()
            .filter(move |agent| span(run, agent).is_some_and(|span| edge(&span) == at))
            .map(|agent| &agent.begin().clock.boot_id)
            .collect::<Vec<_>>()
    };
    let (first, last) = (
        boots(|span| span.start, begin),
        boots(|span| span.finish, end),
    );
    first
        .iter()
        .flat_map(|a| last.iter().map(|b| leg.timebase().error_ns(a, b)))
        .max()
        .unwrap_or(0)
}

fn agent_measure<'a>(
    run: &ValidRun<'a>,
    agent: &ValidAgent<'a>,
    span: Span,
    (begin, end): (i128, i128),
) -> AgentMeasure<'a> {
    let duration_s = ns_to_s(agent.duration_ns());
    let output_tokens = tokens(agent.requests());
    let local_s: f64 = agent
        .local()
        .iter()
        .filter_map(|step| step.end.since(step.start))
        .map(ns_to_s)
        .sum();
    let asking_s: f64 = agent
        .requests()
        .iter()
        .filter_map(|request| request.done_ns.max(request.chunk_ns.last().copied()))
        .map(ns_to_s)
        .sum();
    let start_offset_s = seconds(span.start - begin);
    let queued = run.together().log().queued.contains(agent.id());
    let started = agent.started();
    let late = i128::from(started.actual.0) - i128::from(started.planned.0);
    AgentMeasure {
        duration_s,
        start_offset_s,
        start_late_s: seconds(late),
        queue_wait_s: queued.then_some(start_offset_s),
        idle_tail_s: seconds(end - span.finish),
        local_s,
        other_s: duration_s - local_s - asking_s,
        output_tokens,
        tokens_per_s: per_second(output_tokens, duration_s),
        solo: run.solo(agent.planned()).map(|solo| {
            let alone_s = ns_to_s(solo.agent.duration_ns());
            let (work_s, work_difference, residual) = compare_work(solo.agent, agent);
            SoloMeasure {
                duration_s: alone_s,
                work_s,
                work_difference,
                residual,
                tokens_per_s: per_second(tokens(solo.agent.requests()), alone_s),
                requests: solo.agent.requests(),
                shared_with: solo.shared_with,
            }
        }),
        reference_s: None,
        slowdown: None,
        raw_slowdown: None,
        agent: agent.clone(),
    }
}

/// Solo time of the work done together, its distance from the solo leg's, and the model's residual.
fn compare_work(
    solo: &ValidAgent<'_>,
    together: &ValidAgent<'_>,
) -> (Option<f64>, Option<f64>, Option<f64>) {
    let (Some(alone), Some(among)) = (Work::of(solo.requests()), Work::of(together.requests()))
    else {
        return (None, None, None);
    };
    let rates = Rates::fit(solo);
    let residual = rates.map(|rates| rates.residual);
    if alone.requests == among.requests {
        return (Some(ns_to_s(solo.duration_ns())), Some(0.0), residual);
    }
    let Some(rates) = rates else {
        return (None, None, None);
    };
    let (alone, among) = (rates.predict_ns(&alone), rates.predict_ns(&among));
    let difference = (alone > 0.0).then(|| (among / alone - 1.0).abs());
    (Some(among / 1e9), difference, residual)
}

fn solo_sum(
    agents: &mut [AgentMeasure<'_>],
    wall_s: f64,
    aggregate_tokens_per_s: Option<f64>,
    counted_by: TokenSource,
) -> Option<SoloSum> {
    let count = agents.len() as f64;
    let solos: Vec<&SoloMeasure<'_>> = agents
        .iter()
        .map(|agent| agent.solo.as_ref())
        .collect::<Option<_>>()?;
    let total_s: f64 = solos.iter().map(|solo| solo.duration_s).sum();
    let work_s: Option<f64> = solos.iter().map(|solo| solo.work_s).sum();
    let largest = |of: fn(&SoloMeasure<'_>) -> Option<f64>| -> Option<f64> {
        let all: Option<Vec<f64>> = solos.iter().map(|solo| of(solo)).collect();
        all?.into_iter().reduce(f64::max)
    };
    let work_difference = largest(|solo| solo.work_difference);
    let residual = largest(|solo| solo.residual);
    let counted_by = counted_by.max(weakest(
        solos.iter().flat_map(|solo| solo.requests).copied(),
    ));
    let rates: Option<Vec<f64>> = solos.iter().map(|solo| solo.tokens_per_s).collect();
    let tokens_per_s = rates.and_then(|rates| mean(&rates));

    let rule = match (work_difference, work_s) {
        (Some(difference), _) if difference <= SAME_WORK_TOLERANCE => GainRule::SameWork,
        (_, Some(_)) => GainRule::PerUnitOfWork,
        (_, None) => GainRule::WorkUnknown,
    };
    for agent in agents.iter_mut() {
        let solo = agent.solo.as_ref()?;
        let reference = match rule {
            GainRule::PerUnitOfWork => solo.work_s?,
            GainRule::SameWork | GainRule::WorkUnknown => solo.duration_s,
        };
        let over = |solo_s: f64| (solo_s > 0.0).then(|| agent.duration_s / solo_s);
        agent.raw_slowdown = over(solo.duration_s);
        agent.slowdown = over(reference);
        agent.reference_s = Some(reference);
    }
    let reference_s: f64 = agents.iter().filter_map(|agent| agent.reference_s).sum();
    let progress: Option<Vec<f64>> = agents
        .iter()
        .map(|agent| Some(1.0 / agent.slowdown.filter(|s| *s > 0.0)?))
        .collect();
    let gain = reference_s / wall_s;
    Some(SoloSum {
        total_s,
        reference_s,
        rule,
        gain,
        raw_gain: total_s / wall_s,
        work_gain: work_s.map(|work| work / wall_s),
        work_difference,
        residual,
        parallel_efficiency: gain / count,
        tokens_per_s,
        throughput_ratio: aggregate_tokens_per_s
            .zip(tokens_per_s.filter(|rate| *rate > 0.0))
            .map(|(together, solo)| together / (count * solo)),
        fairness: progress.and_then(|progress| jain(&progress)),
        provenance: rule.provenance(counted_by),
    })
}

fn weakest<'a>(requests: impl Iterator<Item = &'a RequestRecord>) -> TokenSource {
    requests
        .filter_map(|request| output_tokens(request).map(|(_, source)| source))
        .max()
        .unwrap_or(TokenSource::Engine)
}

fn tokens(requests: &[&RequestRecord]) -> Option<u64> {
    requests
        .iter()
        .map(|request| output_tokens(request).map(|(count, _)| u64::from(count)))
        .sum()
}

fn per_second(tokens: Option<u64>, duration_s: f64) -> Option<f64> {
    (duration_s > 0.0)
        .then(|| tokens.map(|tokens| tokens as f64 / duration_s))
        .flatten()
}

fn seconds(ns: i128) -> f64 {
    ns as f64 / 1e9
}
