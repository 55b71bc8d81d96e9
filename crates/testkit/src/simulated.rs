//! Whole experiments as records, of which it is known what was wrong.
//!
//! A seeded generator in virtual time: a small model of a machine (cores and their scheduler, GPUs
//! with compute time, memory, bandwidth, clocks and heat, engines with one slot each, the way between
//! agent and engine, the agent's thread) serves the requests of a few agents, token by token; what
//! the real services would write of it is what comes out. Causes are injected as physical
//! quantities ([`Injection`]); nothing in the records says which. The same functions that make
//! the report of a real experiment then say what they see.
//!
//! Non-goals: no figure of this machine is a figure of a real one, and nothing is written that a real
//! engine or driver does not tell: llama.cpp states no load and no total, Ollama's load holds its
//! scheduler's wait, a host without a GPU has no GPU telemetry.
//!
//! - `case`: what is to be simulated. `scenario`, `trouble`: what is drawn for it. `device`, `engine`,
//!   `client`: how fast things go, and the requests. `meter`, `sampler`: telemetry. `records`: control
//!   log and streams. `world`: virtual time. `dice`: random numbers.

mod case;
mod client;
mod device;
mod dice;
mod engine;
mod meter;
mod records;
mod sampler;
mod scenario;
mod trouble;
mod world;

use std::collections::BTreeSet;

use chimera_domain::attribution::Cause;
use chimera_domain::control::ControlEvent;
use chimera_domain::event::AgentEvent;
use chimera_domain::telemetry::TelemetryBatch;

pub use case::{Case, CaseError, Injection, MAX_STRENGTH, MIN_STRENGTH, causes, impossible, pairs};
pub use world::Ledger;

/// An experiment, and what is true of it.
#[derive(Debug)]
pub struct Experiment {
    /// The coordinator's log: one test of four to six runs.
    pub control: Vec<ControlEvent>,
    /// What the workers wrote.
    pub events: Vec<AgentEvent>,
    /// What the host's sampler wrote, at 20 Hz.
    pub telemetry: Vec<TelemetryBatch>,
    /// By run, from run 1: the causes that acted in its together leg.
    pub truth: Vec<BTreeSet<Cause>>,
    /// By run, from run 1: the time that each cause took in its together leg.
    pub ledgers: Vec<Ledger>,
    /// The machine in a few words.
    pub machine: String,
}

/// Simulates a case. The same case gives the same records.
///
/// # Errors
/// When the case names what cannot be injected, or causes that cannot act together.
pub fn simulate(case: &Case) -> Result<Experiment, CaseError> {
    runs_of(case, u32::MAX)
}

/// The first runs of a case.
fn runs_of(case: &Case, most: u32) -> Result<Experiment, CaseError> {
    case.check()?;
    let mut scenario = scenario::Scenario::draw(case);
    scenario.runs = scenario.runs.min(most);
    let struck = world::struck(
        case,
        scenario.runs,
        &mut dice::Dice::new(case.seed ^ 0x57u64),
    );
    let past = world::World::run(&scenario, case, &struck)?;
    let injected: BTreeSet<Cause> = case
        .injections
        .iter()
        .map(|injection| injection.cause)
        .collect();
    let truth = struck.iter().map(|struck| {
        if *struck {
            injected.clone()
        } else {
            BTreeSet::new()
        }
    });
    Ok(Experiment {
        control: past.book.control,
        events: past.book.events,
        telemetry: past.sampler.batches,
        truth: truth.collect(),
        ledgers: past.ledgers,
        machine: scenario.words,
    })
}

#[cfg(test)]
mod tests;
