//! The legs of tests, and their order.
//!
//! Rule of the order: phases follow each other. Within a phase, run 1 of every test comes before
//! run 2 of any, so that drift over the session hits all tests alike; within such a round the
//! tests are shuffled, and within a test's run its legs. Legs of one test's run stay together: they
//! share their engines' launch options, and a solo leg is worth most beside the leg it is compared
//! with. The shuffle is Fisher-Yates over ChaCha8 keyed by the seed, one stream a phase, so that a
//! further phase leaves the order of the others as it was. A repeat that evidence asked for has a
//! stream of its own, made of its test and its number: it is the same whenever it is planned.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::build::{PlanError, stated_instances};
use super::{LegKind, Plan, PlannedAgent, PlannedLeg, PlannedTest};
use crate::ids::{AgentId, RunId};
use crate::spec::{Order, Phase, ValidSpec};

/// One further run of a test: its next number, all its legs, in their order.
///
/// The same for the same spec, test and number of runs so far, so that planning it again after a
/// restart gives the same legs.
///
/// # Errors
/// When the plan has no such test, or the spec has no phase for it.
pub fn repeat(plan: &Plan, spec: &ValidSpec, test: u32) -> Result<Vec<PlannedLeg>, PlanError> {
    let planned = plan.test(test).ok_or(PlanError::NoTest(test))?;
    let phase = usize::try_from(planned.phase)
        .ok()
        .and_then(|number| spec.phases().get(number.checked_sub(1)?))
        .ok_or(PlanError::NoTest(test))?;
    let run = planned.runs + 1;
    // The streams of the phases lie below 2^32.
    let stream = (u64::from(run) << 32) | u64::from(test);
    let mut shuffle = Shuffle::new(spec, phase, stream);
    block(&solo_agents(spec, phase, planned), test, run, &mut shuffle)
}

/// The legs of a phase's tests, in the order of execution.
pub(super) fn legs_of_phase(
    spec: &ValidSpec,
    number: u32,
    phase: &Phase,
    tests: &[PlannedTest],
) -> Result<Vec<PlannedLeg>, PlanError> {
    let mut shuffle = Shuffle::new(spec, phase, u64::from(number));
    let measured: Vec<Vec<&AgentId>> = tests.iter().map(|t| solo_agents(spec, phase, t)).collect();
    let mut legs = Vec::new();
    for run in 1..=phase.runs() {
        for at in shuffle.order(tests.len()) {
            if let (Some(test), Some(solo)) = (tests.get(at), measured.get(at)) {
                legs.extend(block(solo, test.id, run, &mut shuffle)?);
            }
        }
    }
    Ok(legs)
}

/// The legs of one run of a test.
fn block(
    solo: &[&AgentId],
    test: u32,
    run: u32,
    shuffle: &mut Shuffle,
) -> Result<Vec<PlannedLeg>, PlanError> {
    let mut block = Vec::with_capacity(solo.len() + 1);
    for agent in solo {
        let kind = LegKind::Solo {
            agent: (*agent).clone(),
        };
        block.push(leg(test, run, kind)?);
    }
    block.push(leg(test, run, LegKind::Together)?);
    let order = shuffle.order(block.len()).into_iter();
    Ok(order.filter_map(|i| block.get(i).cloned()).collect())
}

/// The agents of a test that are measured alone.
pub(super) fn solo_agents<'t>(
    spec: &ValidSpec,
    phase: &Phase,
    test: &'t PlannedTest,
) -> Vec<&'t AgentId> {
    let solo = spec.solo();
    if !solo.enabled() {
        return Vec::new();
    }
    let stated = stated_instances(phase);
    // Who names an instance may mean its hardware: such an agent stands for itself.
    let own = |i: usize| matches!(stated.get(i), Some(Some(_)));
    let mut measured: Vec<(usize, &PlannedAgent)> = Vec::new();
    for (i, agent) in test.agents.iter().enumerate() {
        let stood_for = solo.share_identical()
            && !own(i)
            && measured
                .iter()
                .any(|(k, other)| !own(*k) && other.is_like(agent));
        if !stood_for {
            measured.push((i, agent));
        }
    }
    measured.into_iter().map(|(_, agent)| &agent.id).collect()
}

fn leg(test: u32, run: u32, kind: LegKind) -> Result<PlannedLeg, PlanError> {
    let name = match &kind {
        LegKind::Solo { agent } => format!("t{test}-r{run}-solo-{agent}"),
        LegKind::Together => format!("t{test}-r{run}-together"),
    };
    let run_id = RunId::try_new(name).map_err(PlanError::RunId)?;
    Ok(PlannedLeg {
        run_id,
        test,
        run,
        kind,
    })
}

/// Draws orders from one stream of the seed, or gives them as written.
struct Shuffle {
    rng: ChaCha8Rng,
    order: Order,
}

impl Shuffle {
    fn new(spec: &ValidSpec, phase: &Phase, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(spec.seed());
        rng.set_stream(stream);
        Self {
            rng,
            order: phase.order(),
        }
    }

    fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        if self.order == Order::Randomized {
            fisher_yates(&mut order, &mut self.rng);
        }
        order
    }
}

/// Written out, because a library's shuffle may change with its version and the order is part of
/// an experiment. The bias of the remainder is below 2^-45 for the lengths that occur.
fn fisher_yates(order: &mut [usize], rng: &mut ChaCha8Rng) {
    for i in (1..order.len()).rev() {
        let below = i as u64 + 1;
        let j = usize::try_from(rng.next_u64() % below).unwrap_or(0);
        order.swap(i, j);
    }
}
