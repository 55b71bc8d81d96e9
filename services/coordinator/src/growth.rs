//! What follows once all legs are executed: another attempt at those that do not stand up to the
//! analyzer's check, further repeats of a test whose interval is still wide, then the next phase,
//! which takes over the best of an earlier one.
//!
//! The evidence is the analyzer's: it alone decides which runs are valid. What follows from it is
//! a record of the log; after a restart nothing is decided twice.

use std::collections::BTreeSet;

use chimera_domain::control::{ControlRecord, LegVerdict};
use chimera_domain::ids::RunId;
use chimera_domain::metric::Metric;
use chimera_domain::plan::{self, Extension, LaterPhase, Plan, PlannedTest};
use chimera_domain::spec::{self, SpecFormat, ValidSpec};
use chimera_wire::api::{Evidence, RefusedLeg, RunValue};

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
    let metrics = metrics(&plan);
    let evidence = match ask(experiment, &plan, &metrics, analysis).await {
        Ok(Some(evidence)) => evidence,
        Ok(None) => return Ok(Vec::new()),
        // The runs are made, and the report will say what stands against them.
        Err(error) if metrics.is_empty() => {
            tracing::warn!(%error, "legs that the analyzer refuses are not tried again");
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let may_retry = |leg: &RefusedLeg| experiment.may_retry(&leg.run, leg.attempt);
    decide(&plan, &experiment.spec_text, &evidence, may_retry)
}

/// The metrics that may decide how the plan goes on.
fn metrics(plan: &Plan) -> BTreeSet<Metric> {
    let open = plan.tests.iter().filter_map(|test| {
        let goal = test.until.as_ref()?;
        (test.runs < goal.max_runs).then_some(goal.metric)
    });
    let next = plan.later.first().map(|later| later.select.by);
    open.chain(next).collect()
}

/// Asks the analyzer, once. `None`: nothing depends on what it would say.
async fn ask(
    experiment: &Experiment,
    plan: &Plan,
    metrics: &BTreeSet<Metric>,
    analysis: Option<&Analysis>,
) -> Result<Option<Evidence>, String> {
    if metrics.is_empty() && plan.budget.retries_per_leg == 0 {
        return Ok(None);
    }
    match analysis {
        Some(analysis) => {
            let verdicts = experiment.verdicts();
            let evidence = analysis.evidence(&experiment.id, metrics, verdicts);
            evidence.await.map(Some)
        }
        None if metrics.is_empty() => Ok(None),
        None => Err(
            "the plan depends on results, and the coordinator was started without --analyzer URL"
                .to_owned(),
        ),
    }
}

/// Decides by the evidence. Legs that are refused come first: without them it is not whole.
fn decide(
    plan: &Plan,
    spec_text: &str,
    evidence: &Evidence,
    may_retry: impl Fn(&RefusedLeg) -> bool,
) -> Result<Vec<Decision>, String> {
    let refused: Vec<Decision> = evidence
        .refused
        .iter()
        .filter(|leg| plan.budget.retries_per_leg > 0 && may_retry(leg))
        .map(|leg| {
            let verdict = LegVerdict::Invalid(leg.why.clone());
            let about = (leg.run.clone(), leg.attempt);
            (Some(about), ControlRecord::Closed { verdict })
        })
        .collect();
    if !refused.is_empty() || depends_on(plan).is_none() {
        return Ok(refused);
    }
    let spec = read(spec_text)?;
    let mut repeats = Vec::new();
    for test in &plan.tests {
        let repeat = repeat(plan, &spec, test, evidence)?;
        repeats.extend(repeat.map(|record| (None, record)));
    }
    if !repeats.is_empty() {
        return Ok(repeats);
    }
    let Some(later) = plan.later.first() else {
        return Ok(Vec::new());
    };
    let values = of_metric(evidence, later.select.by)?;
    Ok(vec![(None, select(plan, &spec, later, values)?)])
}

fn of_metric(evidence: &Evidence, metric: Metric) -> Result<&[RunValue], String> {
    let values = evidence.metrics.get(&metric).map(Vec::as_slice);
    values.ok_or_else(|| format!("the analyzer did not say what {} came to", metric.name()))
}

/// The submitted text was checked before it was taken; a coordinator of another version may differ.
fn read(text: &str) -> Result<ValidSpec, String> {
    spec::parse(text, SpecFormat::of(text)).map_err(|error| {
        format!("the plan cannot grow, because this version does not read its spec: {error}")
    })
}

fn repeat(
    plan: &Plan,
    spec: &ValidSpec,
    test: &PlannedTest,
    evidence: &Evidence,
) -> Result<Option<ControlRecord>, String> {
    let Some(goal) = &test.until else {
        return Ok(None);
    };
    if test.runs >= goal.max_runs {
        return Ok(None);
    }
    let values = of_test(of_metric(evidence, goal.metric)?, test.id);
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

#[cfg(test)]
mod tests;
