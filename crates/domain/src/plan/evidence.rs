//! What measured values mean for the plan: which test is best, and whether one needs more runs.
//! Pure: the same values give the same answer, so that an experiment that is resumed goes on alike.

use super::{Choice, Goal, PlannedTest, Select};
use crate::spec::{OptionKey, Scenario};
use crate::stats::{mean, t_interval_95, welch_95};

/// Chooses the best test of a phase.
///
/// `tests` holds tests of any phase, each with the values that its valid runs gave for the metric
/// of `select`; only those of its phase and scenario are looked at. Best is the highest mean, or the
/// lowest where less is better; of equal means the lower id wins. The difference to the next best is
/// clear if its interval by [`welch_95`] leaves out zero.
///
/// The options are those of the agent that has the grid's: the first of `chimera_hetero`, whose
/// others override some; else the last, since the first of `baseline_vs_chimera` has the engine's
/// defaults. An option that this agent does not send is absent.
///
/// *Undefined when* no test has a value.
#[must_use]
pub fn choose(select: &Select, tests: &[(&PlannedTest, &[f64])]) -> Option<Choice> {
    let mut ranked: Vec<(&PlannedTest, Vec<f64>, f64)> = tests
        .iter()
        .filter(|(test, _)| is_asked(select, test))
        .filter_map(|(test, values)| {
            let values: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
            let mean = mean(&values)?;
            Some((*test, values, mean))
        })
        .collect();
    ranked.sort_by(|(a, _, mean_a), (b, _, mean_b)| {
        let rising = mean_a.total_cmp(mean_b);
        let best_first = if select.by.higher_is_better() {
            rising.reverse()
        } else {
            rising
        };
        best_first.then(a.id.cmp(&b.id))
    });
    let mut ranked = ranked.into_iter();
    let (test, values, value) = ranked.next()?;
    let next = ranked.next();
    Some(Choice {
        test: test.id,
        value,
        clear: next.as_ref().and_then(|(_, others, _)| {
            let (_, [low, high]) = welch_95(&values, others)?;
            Some(low > 0.0 || high < 0.0)
        }),
        runner_up: next.map(|(test, _, mean)| (test.id, mean)),
        options: options(select, test),
    })
}

fn is_asked(select: &Select, test: &PlannedTest) -> bool {
    let scenario = select.scenario.as_ref();
    test.phase == select.from_phase && scenario.is_none_or(|s| *s == test.scenario)
}

fn options(select: &Select, test: &PlannedTest) -> Vec<(String, String)> {
    let agent = if test.scenario == Scenario::ChimeraHetero.as_str() {
        test.agents.first()
    } else {
        test.agents.last()
    };
    let Some(agent) = agent else {
        return Vec::new();
    };
    let value = |name: &String| -> Option<(String, String)> {
        let setting = OptionKey::from_name(name)?.of(&agent.options)?;
        Some((name.clone(), setting.value_text()))
    };
    select.options.iter().filter_map(value).collect()
}

/// Whether a test is to be repeated once more.
///
/// `values` are what its valid runs gave for the goal's metric, `runs` how many runs are planned so
/// far, valid or not. Not if the interval is narrow enough, and never beyond [`Goal::max_runs`].
/// Where there is no interval yet, or none relative to a mean of zero, evidence is still wanting.
#[must_use]
pub fn wants_more(goal: &Goal, values: &[f64], runs: u32) -> bool {
    runs < goal.max_runs
        && relative_half_width(values).is_none_or(|half| half > goal.relative_half_width)
}

/// Half the 95 % interval of the mean over the absolute mean.
///
/// *Undefined* below two values, and at a mean of zero. *Source*: [`t_interval_95`].
#[must_use]
pub fn relative_half_width(values: &[f64]) -> Option<f64> {
    let [low, high] = t_interval_95(values)?;
    let centre = mean(values)?.abs();
    let relative = (high - low) / 2.0 / centre;
    relative.is_finite().then_some(relative)
}
