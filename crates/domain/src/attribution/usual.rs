//! What agents take alone, and what is beyond it.
//!
//! Rule. The usual of an agent is what it, or an identical agent ([`PlannedAgent::is_like`]), took in
//! the solo legs of all runs of the test. Requests are matched by step and position; each solo leg
//! gives, per part, one value: its parts, scaled request by request to the work that was done together,
//! summed. So what hangs together within a leg counts once. Decode is scaled by the tokens written
//! after the first, prefill by the prompt tokens that were not cached; other parts are taken as they are.
//!
//! Detection. The value together is tested, one-sided, as one more draw from the distribution that the
//! n solo legs were drawn from: t = (y - mean) / (s sqrt(1 + 1/n)). A part that takes more than the
//! floor of relevance even alone is compared by its logarithm, since noise of a machine makes times
//! longer by factors; a smaller one in milliseconds. s is the larger of the agent's own spread and that
//! pooled over the differently configured agents of the test, with the pooled degrees of freedom: on
//! one machine they are shaken alike, and where one is shaken more, its own spread counts. The p values
//! of a run are adjusted by Holm, over all agents and all parts that took any time. An excess counts if its adjusted p is below
//! [`FALSE_ALARM_RATE`] and it is above the floor.
//!
//! Non-goals: no pairing with the solo leg of the same run (that would need to know how one run's
//! contention differs from another's), no detection with fewer than two solo legs.

use std::collections::BTreeMap;

use super::FALSE_ALARM_RATE;
use super::parts::{Around, take_apart};
use super::types::{Excess, Part, Parts};
use super::view::{TestView, Usual};
use crate::event::RequestRecord;
use crate::ids::{AgentId, RunId};
use crate::latency::{output_tokens, prefilled_tokens};
use crate::plan::{PlannedAgent, PlannedTest};
use crate::stats::{holm, mean, prediction_t, sd};

/// An excess matters from this share of the agent's usual request time on: what repeats of a good
/// benchmark differ by anyway, and less than any remedy is worth.
pub const RELEVANT_SHARE: f64 = 0.03;

/// The same for stalls. Alone they mostly do not occur, so n solo legs cannot say how often a single
/// hiccup of the machine is to be expected: it must be large to be called more than that.
pub const RELEVANT_STALL_SHARE: f64 = 0.10;

/// No excess below this matters, ms: a tick of the scheduler.
pub const RELEVANT_MS: f64 = 2.0;

/// A part below the floor is taken to spread by at least this share of the floor: the spread that a
/// few legs show of something small and rare is too small too often.
const LEAST_SPREAD: f64 = 0.1;

/// A request and its parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken<'a> {
    pub(super) record: &'a RequestRecord,
    pub(super) parts: Parts,
}

/// An agent's requests in one leg, in order.
pub(super) type Requests<'a> = Vec<Taken<'a>>;

/// All solo legs of a test, by configuration: the index of the first agent of the test that is alike.
#[derive(Debug, Clone, Default)]
pub(super) struct Alone<'a> {
    legs: BTreeMap<usize, Vec<Requests<'a>>>,
}

/// The index of the first agent of the test that is like this one.
fn configuration(test: &PlannedTest, agent: &PlannedAgent) -> usize {
    let alike = |other: &PlannedAgent| other.is_like(agent);
    test.agents.iter().position(alike).unwrap_or(usize::MAX)
}

impl<'a> Alone<'a> {
    /// Takes the solo legs of all runs apart. A leg that serves several agents counts once.
    pub(super) fn of(view: &TestView<'a>) -> Self {
        let mut seen: BTreeMap<&'a RunId, ()> = BTreeMap::new();
        let mut alone = Self::default();
        for leg in view.runs.iter().flat_map(|run| run.solo.values()) {
            if seen.insert(&leg.log.leg.run_id, ()).is_some() {
                continue;
            }
            for agent in &leg.agents {
                let around = Around::of(leg, agent, view.test.topology);
                let requests = agent.timeline.requests.iter();
                let taken = requests.map(|record| Taken {
                    record,
                    parts: take_apart(record, &around),
                });
                alone.add(configuration(view.test, agent.planned), taken.collect());
            }
        }
        alone
    }

    fn add(&mut self, configuration: usize, requests: Requests<'a>) {
        self.legs.entry(configuration).or_default().push(requests);
    }

    /// The legs in which all of these requests were made, and none of those failed; each as the
    /// requests that belong to the given ones, in their order.
    fn matching(&self, configuration: usize, requests: &[Taken<'a>]) -> Vec<Requests<'a>> {
        let legs = self.legs.get(&configuration).into_iter().flatten();
        legs.filter_map(|leg| {
            let mut places = requests.iter().enumerate();
            let found: Option<Requests<'a>> = places
                .by_ref()
                .filter(|(_, taken)| taken.record.error.is_none())
                .map(|(place, taken)| {
                    let alone = leg.get(place)?;
                    let alike = alone.record.step == taken.record.step;
                    (alike && alone.record.error.is_none()).then_some(*alone)
                })
                .collect();
            found
        })
        .collect()
    }

    /// What each part of a request is alone, by its agent's configuration and its place.
    pub(super) fn of_request(
        &self,
        test: &PlannedTest,
        agent: &PlannedAgent,
        place: usize,
        taken: &Taken<'a>,
    ) -> BTreeMap<Part, Usual> {
        let legs = self.legs.get(&configuration(test, agent));
        let alone: Vec<&Taken<'a>> = legs
            .into_iter()
            .flatten()
            .filter_map(|leg| leg.get(place))
            .filter(|alone| alone.record.step == taken.record.step && alone.record.error.is_none())
            .collect();
        let usual = |part: Part| {
            let values: Vec<f64> = alone
                .iter()
                .filter_map(|alone| scaled(part, alone, taken))
                .collect();
            let usual = Usual {
                mean_ms: mean(&values)?,
                sd_ms: sd(&values),
                n: u32::try_from(values.len()).unwrap_or(u32::MAX),
            };
            Some((part, usual))
        };
        Part::ALL.into_iter().filter_map(usual).collect()
    }
}

/// A part of a request alone, scaled to the work of the request together, ms. *Undefined when* either
/// does not have it.
fn scaled(part: Part, alone: &Taken<'_>, together: &Taken<'_>) -> Option<f64> {
    together.parts.get(part)?;
    let work = |taken: &Taken<'_>| match part {
        Part::Decode => Some(output_tokens(taken.record)?.0.saturating_sub(1)),
        Part::Prefill => prefilled_tokens(taken.record),
        _ => None,
    };
    let ratio = work(alone)
        .zip(work(together))
        .filter(|(alone, together)| *alone > 0 && *together > 0)
        .map_or(1.0, |(alone, together)| {
            f64::from(together) / f64::from(alone)
        });
    Some(alone.parts.get(part)? * ratio)
}

/// One part of one agent, together and in each solo leg.
#[derive(Debug, Clone)]
struct Cell<'t> {
    agent: &'t AgentId,
    configuration: usize,
    part: Part,
    together: f64,
    alone: Vec<f64>,
    /// An excess below this does not matter, ms.
    floor: f64,
    /// Compared by the logarithm.
    by_factor: bool,
}

impl Cell<'_> {
    /// A value as it is compared.
    fn placed(&self, value: f64) -> f64 {
        if self.by_factor { value.ln() } else { value }
    }

    /// Whether there is anything that could be too much: a part that takes no time, such as the queue
    /// of an instance without other agents, is no test, and must not make the others stricter.
    fn may_be_slow(&self) -> bool {
        self.together > 0.0
    }

    fn samples(&self) -> Vec<f64> {
        self.alone.iter().map(|value| self.placed(*value)).collect()
    }

    /// Sum of squares about the mean, and its degrees of freedom.
    fn scatter(&self) -> (f64, f64) {
        let free = (self.alone.len() as f64 - 1.0).max(0.0);
        let spread = sd(&self.samples()).unwrap_or(0.0);
        (spread * spread * free, free)
    }
}

/// The parts of a run's agents against what they take alone, by agent, in the order given; of each
/// agent those beyond chance first, then the larger.
pub(super) fn compare<'a>(
    test: &PlannedTest,
    alone: &Alone<'a>,
    agents: &[(&PlannedAgent, Requests<'a>)],
) -> Vec<Vec<Excess>> {
    let cells: Vec<Cell<'_>> = agents
        .iter()
        .flat_map(|(agent, requests)| cells(test, alone, agent, requests))
        .collect();
    let p: Vec<Option<f64>> = cells.iter().map(|cell| chance(cell, &cells)).collect();
    let family = cells.iter().zip(&p).filter(|(cell, _)| cell.may_be_slow());
    let tested: Vec<f64> = family.filter_map(|(_, p)| *p).collect();
    let mut adjusted = holm(&tested).into_iter();
    let mut found: Vec<Excess> = Vec::with_capacity(cells.len());
    for (cell, p) in cells.iter().zip(p) {
        let significant = p
            .filter(|_| cell.may_be_slow())
            .and_then(|_| adjusted.next())
            .is_some_and(|p| p < FALSE_ALARM_RATE);
        let usual = mean(&cell.alone).unwrap_or(0.0);
        let excess = cell.together - usual;
        found.push(Excess {
            agent: cell.agent.clone(),
            part: cell.part,
            together_ms: cell.together,
            usual_ms: usual,
            usual_sd_ms: sd(&cell.alone),
            usual_n: u32::try_from(cell.alone.len()).unwrap_or(u32::MAX),
            excess_ms: excess,
            p,
            beyond_chance: significant && excess > cell.floor,
        });
    }
    agents
        .iter()
        .map(|(agent, _)| {
            let own = found.iter().filter(|excess| excess.agent == agent.id);
            let mut own: Vec<Excess> = own.cloned().collect();
            sort(&mut own);
            own
        })
        .collect()
}

/// Those beyond chance first, then the larger.
pub(super) fn sort(excess: &mut [Excess]) {
    excess.sort_by(|a, b| {
        let first = b.beyond_chance.cmp(&a.beyond_chance);
        first.then(b.excess_ms.total_cmp(&a.excess_ms))
    });
}

fn cells<'t, 'a>(
    test: &PlannedTest,
    alone: &Alone<'a>,
    agent: &'t PlannedAgent,
    requests: &Requests<'a>,
) -> Vec<Cell<'t>> {
    let configuration = configuration(test, agent);
    let legs = alone.matching(configuration, requests);
    let together: Vec<&Taken<'a>> = requests
        .iter()
        .filter(|taken| taken.record.error.is_none())
        .collect();
    // Per part: the sum together, and the sum of each leg, over the requests that have it everywhere.
    let sums = |part: Part| -> Option<(f64, Vec<f64>)> {
        let (mut sum, mut alone, mut any) = (0.0, vec![0.0; legs.len()], false);
        for (place, taken) in together.iter().enumerate() {
            let Some(value) = taken.parts.get(part) else {
                continue;
            };
            let each = legs.iter().map(|leg| scaled(part, leg.get(place)?, taken));
            let Some(each) = each.collect::<Option<Vec<f64>>>() else {
                continue;
            };
            any = true;
            sum += value;
            alone
                .iter_mut()
                .zip(each)
                .for_each(|(sum, value)| *sum += value);
        }
        (any && !alone.is_empty()).then_some((sum, alone))
    };
    let known: Vec<(Part, f64, Vec<f64>)> = Part::ALL
        .into_iter()
        .filter_map(|part| sums(part).map(|(together, alone)| (part, together, alone)))
        .collect();
    let usual_ms: f64 = known.iter().filter_map(|(_, _, alone)| mean(alone)).sum();
    known
        .into_iter()
        .map(|(part, together, alone)| {
            let share = if part == Part::Stall {
                RELEVANT_STALL_SHARE
            } else {
                RELEVANT_SHARE
            };
            let floor = (share * usual_ms).max(RELEVANT_MS);
            let positive = together > 0.0 && alone.iter().all(|value| *value > 0.0);
            let large = mean(&alone).is_some_and(|usual| usual > floor);
            Cell {
                agent: &agent.id,
                configuration,
                part,
                together,
                alone,
                floor,
                by_factor: positive && large,
            }
        })
        .collect()
}

/// The probability of a value as large as the one together, by chance. *Undefined when* no spread can
/// be told.
fn chance(cell: &Cell<'_>, all: &[Cell<'_>]) -> Option<f64> {
    let alike = all
        .iter()
        .filter(|other| other.part == cell.part && other.by_factor == cell.by_factor);
    // Identical agents are compared with the same legs: these count once.
    let mut pooled: BTreeMap<usize, (f64, f64)> = alike
        .map(|other| (other.configuration, other.scatter()))
        .collect();
    pooled.insert(cell.configuration, cell.scatter());
    let freedom: f64 = pooled.values().map(|(_, free)| free).sum();
    let squares: f64 = pooled.values().map(|(squares, _)| squares).sum();
    (freedom > 0.0).then_some(())?;
    let samples = cell.samples();
    let own = sd(&samples).unwrap_or(0.0);
    let mut spread = own.max((squares / freedom).sqrt());
    if !cell.by_factor {
        spread = spread.max(LEAST_SPREAD * cell.floor);
    }
    let new = cell.placed(cell.together);
    Some(prediction_t(&samples, spread, freedom, new)?.p_greater)
}

#[cfg(test)]
mod tests;
