//! One case through the analysis.

use std::collections::BTreeSet;

use anyhow::Context;
use chimera_domain::attribution::{Attribution, Cause};
use chimera_domain::report::{Environment, Input, build};
use chimera_testkit::simulated::{Ledger, simulate};

use crate::suite::Labelled;

/// A run: what was wrong, and what was said.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The case in words.
    pub(crate) case: String,
    pub(crate) seed: u64,
    pub(crate) machine: String,
    pub(crate) run: u32,
    pub(crate) truth: BTreeSet<Cause>,
    pub(crate) named: BTreeSet<Cause>,
    /// Time that each cause took, ms.
    pub(crate) ledger: Ledger,
    /// `None`: the analysis said nothing of the run.
    pub(crate) attribution: Option<Attribution>,
}

/// Simulates a case and analyses its records.
///
/// # Errors
/// When the case cannot be simulated, or its records make no report.
pub(crate) fn observe(labelled: &Labelled) -> anyhow::Result<Vec<Seen>> {
    let past = simulate(&labelled.case)?;
    let input = Input::new(&past.control, &past.events, Environment::default())
        .with_telemetry(&past.telemetry);
    let report = build(&input).context("the records make no report")?;
    let mut seen = Vec::new();
    for run in report.tests.into_iter().flat_map(|test| test.runs) {
        let place = usize::try_from(run.run.saturating_sub(1)).unwrap_or(usize::MAX);
        let attribution = run.attribution;
        let named = attribution
            .iter()
            .flat_map(Attribution::named)
            .map(|finding| finding.cause)
            .collect();
        seen.push(Seen {
            case: labelled.name(),
            seed: labelled.case.seed,
            machine: past.machine.clone(),
            run: run.run,
            truth: past.truth.get(place).cloned().unwrap_or_default(),
            named,
            ledger: past.ledgers.get(place).cloned().unwrap_or_default(),
            attribution,
        });
    }
    Ok(seen)
}
