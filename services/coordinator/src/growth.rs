//! What follows once all legs are executed: another attempt at those that do not stand up to the
//! analyzer's check, further repeats of a test whose interval is still wide, then the next phase,
//! which takes over the best of an earlier one.
//!
//! The evidence is the analyzer's: it alone decides which runs are valid. What follows from it is
//! a record of the log; after a restart nothing is decided twice.

use std::collections::BTreeMap;

use chimera_domain::control::{ControlRecord, LegVerdict};
use chimera_domain::ids::RunId;
use chimera_domain::metric::Metric;
use chimera_domain::plan::{self, Extension, LaterPhase, Plan, PlannedTest};
use chimera_domain::spec::{self, SpecFormat, ValidSpec};
use chimera_wire::api::RunValue;

use crate::analysis::Analysis;
use crate::experiment::Experiment;

/// What a plan may depend on, for a person; `None`: it is final.
pub(crate) fn depends_on(plan: &Plan) -> Option<String> {
    if let Some(later) = plan.later.first() {
        return Some(format!(
            "phase {} takes over what phase {} shows to be best",
            later.phase, later.select.from_phase
        ));
    }
    let test = plan.tests.iter().find(|test| test.until.is_some())?;
    Some(format!(
        "test {} is repeated until its interval is narrow",
        test.id
    ))
}

/// A record to be written, and the attempt that it is about; `None`: the whole experiment.
pub(crate) type Decision = (Option<(RunId, u32)>, ControlRecord);

/// Decides by what the runs so far show how the plan goes on. *Shape*: in the order in which it is
/// to be written; none: the plan is complete.
///
/// # Errors
/// In words, when the evidence cannot be had, or nothing follows from it.
pub(crate) async fn grow(
    experiment: &Experiment,
    analysis: Option<&Analysis>,
) -> Result<Vec<Decision>, String> {
    let plan = experiment.plan();
    let depends = depends_on(&plan).is_some();
    let refused = match refused(experiment, &plan, analysis).await {
        Ok(refused) => refused,
        // The runs are made, and the report will say what stands against them.
        Err(error) if !depends => {
            tracing::warn!(%error, "legs that the analyzer refuses are not tried again");
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    if !refused.is_empty() || !depends {
        return Ok(refused);
    }
    let mut evidence = Evidence {
        experiment,
        analysis,
        known: BTreeMap::new(),
    };
    let spec = read(&experiment.spec_text)?;
    let mut repeats = Vec::new();
    for test in &plan.tests {
        let repeat = repeat(&plan, &spec, test, &mut evidence).await?;
        repeats.extend(repeat.map(|record| (None, record)));
    }
    if !repeats.is_empty() {
        return Ok(repeats);
    }
    let Some(later) = plan.later.first() else {
        return Ok(Vec::new());
    };
    let values = evidence.of(later.select.by).await?.clone();
    Ok(vec![(None, select(&plan, &spec, later, &values)?)])
}

/// Verdicts against legs that do not stand up to the analyzer's check, where they may be tried
/// again.
async fn refused(
    experiment: &Experiment,
    plan: &Plan,
    analysis: Option<&Analysis>,
) -> Result<Vec<Decision>, String> {
    let Some(analysis) = analysis.filter(|_| plan.budget.retries_per_leg > 0) else {
        return Ok(Vec::new());
    };
    let verdicts = experiment.verdicts();
    let refused = analysis.refusals(&experiment.id, verdicts).await?;
    let refused = refused
        .into_iter()
        .filter(|leg| experiment.may_retry(&leg.run, leg.attempt));
    let decisions = refused.map(|leg| {
        let verdict = LegVerdict::Invalid(leg.why);
        (
            Some((leg.run, leg.attempt)),
            ControlRecord::Closed { verdict },
        )
    });
    Ok(decisions.collect())
}

/// The submitted text was checked before it was taken; a coordinator of another version may differ.
fn read(text: &str) -> Result<ValidSpec, String> {
    spec::parse(text, SpecFormat::of(text)).map_err(|error| {
        format!("the plan cannot grow, because this version does not read its spec: {error}")
    })
}

async fn repeat(
    plan: &Plan,
    spec: &ValidSpec,
    test: &PlannedTest,
    evidence: &mut Evidence<'_>,
) -> Result<Option<ControlRecord>, String> {
    let Some(goal) = &test.until else {
        return Ok(None);
    };
    if test.runs >= goal.max_runs {
        return Ok(None);
    }
    let values = of_test(evidence.of(goal.metric).await?, test.id);
    if !plan::wants_more(goal, &values, test.runs) {
        return Ok(None);
    }
    let legs = plan::repeat(plan, spec, test.id)
        .map_err(|error| format!("test {} cannot be repeated: {error}", test.id))?;
    Ok(Some(ControlRecord::Extended {
        why: Extension::Repeated {
            test: test.id,
            relative_half_width: plan::relative_half_width(&values),
        },
        tests: Vec::new(),
        legs,
    }))
}

fn select(
    plan: &Plan,
    spec: &ValidSpec,
    later: &LaterPhase,
    values: &[RunValue],
) -> Result<ControlRecord, String> {
    let tests: Vec<(&PlannedTest, Vec<f64>)> = plan
        .tests
        .iter()
        .map(|test| (test, of_test(values, test.id)))
        .collect();
    let tests: Vec<(&PlannedTest, &[f64])> = tests
        .iter()
        .map(|(test, values)| (*test, values.as_slice()))
        .collect();
    let select = &later.select;
    let choice = plan::choose(select, &tests).ok_or_else(|| {
        let scenario = select
            .scenario
            .as_ref()
            .map(|scenario| format!(" of scenario {scenario}"))
            .unwrap_or_default();
        format!(
            "phase {} takes over {} from the best test{scenario} of phase {} by {}, but no test \
             there has a valid run with it; the runs say why they are invalid",
            later.phase,
            select.options.join(", "),
            select.from_phase,
            select.by.name()
        )
    })?;
    let (tests, legs) = plan::later(spec, later.phase, &choice)
        .map_err(|error| format!("phase {} cannot be planned: {error}", later.phase))?;
    Ok(ControlRecord::Extended {
        why: Extension::Selected {
            phase: later.phase,
            choice,
        },
        tests,
        legs,
    })
}

fn of_test(values: &[RunValue], test: u32) -> Vec<f64> {
    let of_test = values.iter().filter(|v| v.test == test);
    of_test.map(|v| v.value).collect()
}

/// Each metric is asked for once.
struct Evidence<'a> {
    experiment: &'a Experiment,
    analysis: Option<&'a Analysis>,
    known: BTreeMap<Metric, Vec<RunValue>>,
}

impl Evidence<'_> {
    async fn of(&mut self, metric: Metric) -> Result<&Vec<RunValue>, String> {
        use std::collections::btree_map::Entry;
        match self.known.entry(metric) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let analysis = self.analysis.ok_or(
                    "the plan depends on results, and the coordinator was started without \
                     --analyzer URL",
                )?;
                let verdicts = self.experiment.verdicts();
                let values = analysis
                    .values(&self.experiment.id, metric, verdicts)
                    .await?;
                Ok(place.insert(values))
            }
        }
    }
}
