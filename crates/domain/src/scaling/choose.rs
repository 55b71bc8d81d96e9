//! Fits every law, chooses by AICc, and resamples.

use super::advice::{plateau, sentence, worth};
use super::law::{Fitted, Law, Mean};
use super::{LawFit, Level, MOST_AGENTS, NoFit, Parameter, Point, Scaling, Settings, Skipped};
use crate::stats::{Resampler, mean, quantile, t_interval_95, weighted_interval};

/// Resamples behind the intervals.
const RESAMPLES: u32 = 400;
/// Residuals below this part of the mean are rounding: without a floor an exact fit would have an
/// AICc of minus infinity, and of two exact fits the one with more numbers could win.
const ROUNDING: f64 = 1e-6;
/// Fewest numbers of agents, and fewest runs, of any law.
const FEWEST_LEVELS: usize = 3;
const FEWEST_RUNS: usize = 5;

/// Fits every law to the runs of a series, and chooses.
///
/// Several points with the same number of agents are taken together; points without a value are left
/// out. The same points and settings give the same result on every machine.
///
/// # Errors
/// With fewer than 3 numbers of agents or 5 runs, or totals that are not above 0.
///
/// ```
/// use chimera_domain::scaling::{Law, Point, Settings, fit};
/// // One server: 100 a second alone, and never more than 160.
/// let runs = |agents: u32, total: f64| Point { agents, values: vec![total - 1.0, total, total + 1.0] };
/// let points = [runs(1, 100.0), runs(2, 160.0), runs(3, 160.0), runs(4, 160.0)];
/// let scaling = fit(&points, Settings::default()).unwrap();
/// assert_eq!(scaling.law, Law::ClosedQueue);
/// assert_eq!(scaling.worth.agents, 2);
/// ```
pub fn fit(points: &[Point], settings: Settings) -> Result<Scaling, NoFit> {
    let groups = grouped(points)?;
    let runs: usize = groups.iter().map(|(_, values)| values.len()).sum();
    if groups.len() < FEWEST_LEVELS {
        return Err(NoFit::TooFewLevels(groups.len()));
    }
    if runs < FEWEST_RUNS {
        return Err(NoFit::TooFewRuns(runs));
    }
    let (laws, skipped) = fitting(groups.len(), runs);
    let sample = Sample::of(&groups);
    let mut ranked = sample.rank(&laws);
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    let Some(&(best, lowest)) = ranked.first() else {
        return Err(NoFit::TooFewLevels(groups.len()));
    };
    let resamples = resample(&groups, &laws, settings.seed);
    let relative: Vec<f64> = ranked
        .iter()
        .map(|(_, aicc)| (-0.5 * (aicc - lowest)).exp())
        .collect();
    let total: f64 = relative.iter().sum();
    let fits: Vec<LawFit> = ranked
        .iter()
        .zip(&relative)
        .map(|((fitted, aicc), likelihood)| LawFit {
            law: fitted.law,
            parameters: parameters(fitted, &resamples),
            aicc: *aicc,
            delta: aicc - lowest,
            weight: likelihood / total,
            chosen: share(fitted.law, &resamples),
            r2: sample.r2(fitted),
            predicted: predicted(fitted, &groups),
            ceiling: fitted.ceiling(),
        })
        .collect();
    let first = groups.first().map_or(1, |(agents, _)| *agents);
    let last = groups.last().map_or(1, |(agents, _)| *agents);
    let chosen: Vec<Fitted> = resamples.iter().filter_map(|r| r.best).collect();
    let mut scaling = Scaling {
        law: best.law,
        range: [first, last],
        runs: u32::try_from(runs).unwrap_or(u32::MAX),
        levels: levels(&groups),
        fits,
        skipped,
        plateau: plateau(&best, &chosen, [first, last]),
        worth: worth(&best, &chosen, [first, last], settings.worth),
        settings,
        resamples: u32::try_from(resamples.len()).unwrap_or(u32::MAX),
        sentence: String::new(),
    };
    scaling.sentence = sentence(&scaling);
    Ok(scaling)
}

/// Runs by rising number of agents.
type Groups = Vec<(u32, Vec<f64>)>;

fn grouped(points: &[Point]) -> Result<Groups, NoFit> {
    let mut by_agents: std::collections::BTreeMap<u32, Vec<f64>> =
        std::collections::BTreeMap::new();
    for point in points {
        if point.agents == 0 || point.agents > MOST_AGENTS {
            return Err(NoFit::BadAgents(point.agents));
        }
        if let Some(bad) = point.values.iter().find(|v| !(v.is_finite() && **v > 0.0)) {
            return Err(NoFit::BadValue {
                agents: point.agents,
                value: *bad,
            });
        }
        if !point.values.is_empty() {
            let values = by_agents.entry(point.agents).or_default();
            values.extend_from_slice(&point.values);
        }
    }
    // Sums depend on the order of their terms: one order for every order of the points.
    Ok(by_agents
        .into_iter()
        .map(|(agents, mut values)| {
            values.sort_by(f64::total_cmp);
            (agents, values)
        })
        .collect())
}

/// The laws that so many levels and runs can tell something about.
fn fitting(levels: usize, runs: usize) -> (Vec<Law>, Vec<Skipped>) {
    let (mut laws, mut skipped) = (Vec::new(), Vec::new());
    for law in Law::ALL {
        let degrees = law.degrees();
        // AICc counts the variance as one more number, and needs more runs than that by two.
        if levels <= degrees {
            skipped.push(Skipped {
                law,
                reason: format!(
                    "it has {degrees} free numbers and would fit any {levels} numbers of agents"
                ),
            });
        } else if runs < degrees + 3 {
            skipped.push(Skipped {
                law,
                reason: format!("{runs} runs are too few for {degrees} free numbers"),
            });
        } else {
            laws.push(law);
        }
    }
    (laws, skipped)
}

/// What the fits need of some runs.
struct Sample {
    means: Vec<Mean>,
    runs: f64,
    /// Squares of the runs about the mean of their level.
    within: f64,
    /// Squares of the runs about the mean of all.
    about: f64,
    /// Least sum of squares that is not rounding.
    floor: f64,
}

impl Sample {
    fn of(groups: &[(u32, Vec<f64>)]) -> Self {
        let means: Vec<Mean> = groups
            .iter()
            .filter_map(|(agents, values)| {
                Some(Mean {
                    agents: *agents,
                    runs: values.len() as f64,
                    mean: mean(values)?,
                })
            })
            .collect();
        let runs: f64 = means.iter().map(|mean| mean.runs).sum();
        let centre = means.iter().map(|mean| mean.runs * mean.mean).sum::<f64>() / runs;
        let squares = |values: &[f64], centre: f64| -> f64 {
            values.iter().map(|value| (value - centre).powi(2)).sum()
        };
        let pairs = || groups.iter().zip(&means);
        Self {
            within: pairs()
                .map(|((_, values), mean)| squares(values, mean.mean))
                .sum(),
            about: groups
                .iter()
                .map(|(_, values)| squares(values, centre))
                .sum(),
            floor: runs * (ROUNDING * centre).powi(2),
            runs,
            means,
        }
    }

    fn squares(&self, fitted: &Fitted) -> f64 {
        (self.within + fitted.squares).max(self.floor)
    }

    /// Every law fitted, with its AICc, in the order given.
    fn rank(&self, laws: &[Law]) -> Vec<(Fitted, f64)> {
        laws.iter()
            .map(|law| {
                let fitted = law.fit(&self.means);
                let free = law.degrees() as f64 + 1.0;
                let correction = 2.0 * free * (free + 1.0) / (self.runs - free - 1.0);
                let likelihood = self.runs * (self.squares(&fitted) / self.runs).ln();
                (fitted, likelihood + 2.0 * free + correction)
            })
            .collect()
    }

    fn r2(&self, fitted: &Fitted) -> Option<f64> {
        (self.about > self.floor).then(|| 1.0 - self.squares(fitted) / self.about)
    }
}

/// One resample: every law fitted to it, and the best.
struct Resample {
    fits: Vec<Fitted>,
    best: Option<Fitted>,
}

/// Draws the runs of each level again. Empty if a level has one run: nothing is known of its spread.
fn resample(groups: &[(u32, Vec<f64>)], laws: &[Law], seed: u64) -> Vec<Resample> {
    if groups.iter().any(|(_, values)| values.len() < 2) {
        return Vec::new();
    }
    let mut draws = Resampler::new(seed);
    (0..RESAMPLES)
        .map(|_| {
            let drawn: Groups = groups
                .iter()
                .map(|(agents, values)| (*agents, redraw(values, &mut draws)))
                .collect();
            let ranked = Sample::of(&drawn).rank(laws);
            let best = ranked.iter().min_by(|a, b| a.1.total_cmp(&b.1));
            Resample {
                best: best.map(|(fitted, _)| *fitted),
                fits: ranked.iter().map(|(fitted, _)| *fitted).collect(),
            }
        })
        .collect()
}

/// As many values as there are, drawn with replacement and moved away from their mean by
/// sqrt(n / (n - 1)): else the mean of a few runs would vary too little.
/// *Source*: Davison and Hinkley (1997), section 2.3.2 on the bias of the bootstrap variance.
fn redraw(values: &[f64], draws: &mut Resampler) -> Vec<f64> {
    let (count, centre) = (values.len() as f64, mean(values).unwrap_or(0.0));
    let stretch = (count / (count - 1.0)).sqrt();
    (0..values.len())
        .filter_map(|_| draws.pick(values))
        .map(|value| centre + stretch * (value - centre))
        .collect()
}

fn parameters(fitted: &Fitted, resamples: &[Resample]) -> Vec<Parameter> {
    let drawn: Vec<Vec<(&str, f64)>> = resamples
        .iter()
        .filter_map(|r| r.fits.iter().find(|f| f.law == fitted.law))
        .map(Fitted::parameters)
        .collect();
    let named = fitted.parameters().into_iter().enumerate();
    named
        .map(|(at, (name, value))| Parameter {
            name: name.to_owned(),
            value,
            ci95: percentiles(
                drawn
                    .iter()
                    .filter_map(|all| all.get(at).map(|(_, value)| *value))
                    .collect(),
            ),
        })
        .collect()
}

/// The middle 95 % of values. *Undefined when* there are none.
pub(super) fn percentiles(mut values: Vec<f64>) -> Option<[f64; 2]> {
    values.sort_by(f64::total_cmp);
    Some([quantile(&values, 0.025)?, quantile(&values, 0.975)?])
}

fn share(law: Law, resamples: &[Resample]) -> Option<f64> {
    let chosen = resamples
        .iter()
        .filter(|r| r.best.is_some_and(|best| best.law == law));
    (!resamples.is_empty()).then(|| chosen.count() as f64 / resamples.len() as f64)
}

fn predicted(fitted: &Fitted, groups: &[(u32, Vec<f64>)]) -> Vec<f64> {
    let most = groups.last().map_or(1, |(agents, _)| *agents);
    let totals = fitted.totals(most);
    groups
        .iter()
        .filter_map(|(agents, _)| totals.get(*agents as usize).copied())
        .collect()
}

fn levels(groups: &[(u32, Vec<f64>)]) -> Vec<Level> {
    let alone = groups
        .first()
        .filter(|(agents, _)| *agents == 1)
        .map(|(_, values)| values.as_slice());
    let one = alone.and_then(mean);
    let mut before: Option<&(u32, Vec<f64>)> = None;
    // The steps are a family: their intervals hold together with 95 % (Bonferroni).
    let steps = groups.len().saturating_sub(1).max(1) as f64;
    let level = 1.0 - 0.05 / steps;
    groups
        .iter()
        .filter_map(|group| {
            let (agents, values) = group;
            let centre = mean(values)?;
            let step = before.replace(group);
            let added = step.zip(alone).and_then(|((fewer, old), alone)| {
                added(agents - fewer, values, (*fewer, old), alone, level)
            });
            Some(Level {
                agents: *agents,
                n: u32::try_from(values.len()).unwrap_or(u32::MAX),
                mean: centre,
                ci95: t_interval_95(values),
                efficiency: one.map(|one| centre / (f64::from(*agents) * one)),
                added: added.map(|(value, _)| value),
                added_ci95: added.and_then(|(_, interval)| interval),
            })
        })
        .collect()
}

/// What each of `more` agents added, as a part of what one does alone, and its interval.
///
/// Rule: the ratio (new - old) / (more * one) has, by the delta method, the error of its gradient; what
/// one agent does alone is measured too, and where it is the level before, it counts once.
fn added(
    more: u32,
    new: &[f64],
    (fewer, old): (u32, &[f64]),
    alone: &[f64],
    level: f64,
) -> Option<(f64, Option<[f64; 2]>)> {
    let (new_mean, old_mean, one) = (mean(new)?, mean(old)?, mean(alone)?);
    let per = f64::from(more) * one;
    let value = (new_mean - old_mean) / per;
    let parts: [(f64, &[f64]); 3] = if fewer == 1 {
        [
            (1.0 / per, new),
            (-new_mean / (per * one), alone),
            (0.0, &[]),
        ]
    } else {
        [(1.0 / per, new), (-1.0 / per, old), (-value / one, alone)]
    };
    let width = weighted_interval(&parts, level).map(|[low, high]| (high - low) / 2.0);
    Some((value, width.map(|half| [value - half, value + half])))
}
