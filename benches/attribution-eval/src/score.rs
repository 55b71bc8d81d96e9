//! Precision, recall and F1 of what was named.

use std::collections::BTreeMap;

use chimera_domain::attribution::Cause;
use chimera_domain::stats::wilson_interval;
use chimera_testkit::simulated::causes;
use serde::Serialize;

use crate::observe::Seen;
use crate::suite::Part;

/// Worst runs that are kept to be shown.
const WORST: usize = 12;

/// How well one cause was named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Tally {
    /// Acted and named.
    pub(crate) hits: u32,
    /// Did not act and was named.
    pub(crate) false_hits: u32,
    /// Acted and was not named.
    pub(crate) misses: u32,
}

impl Tally {
    /// Of what was named, how much was right. `None`: never named.
    pub(crate) fn precision(self) -> Option<f64> {
        ratio(self.hits, self.hits + self.false_hits)
    }

    /// Of what acted, how much was named. `None`: it never acted.
    pub(crate) fn recall(self) -> Option<f64> {
        ratio(self.hits, self.hits + self.misses)
    }

    /// `None`: it never acted.
    pub(crate) fn f1(self) -> Option<f64> {
        self.recall()?;
        ratio(2 * self.hits, 2 * self.hits + self.false_hits + self.misses)
    }
}

/// How the runs of a case were named.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Named {
    pub(crate) runs: u32,
    /// Runs that were named exactly as they were.
    pub(crate) exact: u32,
    pub(crate) missed: BTreeMap<Cause, u32>,
    pub(crate) wrong: BTreeMap<Cause, u32>,
}

/// What is known so far.
#[derive(Debug)]
pub(crate) struct Score {
    seed: u64,
    single: BTreeMap<Cause, Tally>,
    pairs: BTreeMap<Cause, Tally>,
    /// By what acted alone (`none` too), how often each was named.
    confusion: BTreeMap<String, BTreeMap<String, u32>>,
    cases: BTreeMap<String, Named>,
    runs: BTreeMap<&'static str, u32>,
    alarms: u32,
    worst: Vec<Seen>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// Mean F1 over the causes, runs with one of them.
    pub(crate) macro_f1_single: Option<f64>,
    /// Mean F1 over the causes, runs with two.
    pub(crate) macro_f1_pairs: Option<f64>,
    /// Part of the clean runs in which anything was named.
    pub(crate) false_alarm_rate: Option<f64>,
    /// What acted alone, against what was named; `runs` counts the runs of the row. A run counts in
    /// each column that it named, or in `nothing`.
    pub(crate) confusion: BTreeMap<String, BTreeMap<String, u32>>,
    /// 95 % interval of `false_alarm_rate`. *Source*: Wilson 1927.
    pub(crate) false_alarm_interval: Option<[f64; 2]>,
    /// Clean runs, and those in which something was named.
    pub(crate) clean_runs: u32,
    pub(crate) false_alarms: u32,
    pub(crate) single_runs: u32,
    pub(crate) pair_runs: u32,
    pub(crate) single: BTreeMap<Cause, Tally>,
    pub(crate) pairs: BTreeMap<Cause, Tally>,
    /// By case.
    pub(crate) cases: BTreeMap<String, Named>,
    pub(crate) seed: u64,
}

impl Outcome {
    /// Whether the figures are what the product promises. A part that was not run does not count.
    pub(crate) fn is_good_enough(&self) -> bool {
        self.macro_f1_single.is_none_or(|f1| f1 >= 0.95)
            && self.macro_f1_pairs.is_none_or(|f1| f1 >= 0.85)
            && self.false_alarm_rate.is_none_or(|rate| rate <= 0.01)
    }
}

impl Score {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            single: BTreeMap::new(),
            pairs: BTreeMap::new(),
            confusion: BTreeMap::new(),
            cases: BTreeMap::new(),
            runs: BTreeMap::new(),
            alarms: 0,
            worst: Vec::new(),
        }
    }

    /// Counts one run.
    pub(crate) fn take(&mut self, part: Part, seen: Seen) {
        let (name, tallies) = match part {
            Part::Single => ("single", Some(&mut self.single)),
            Part::Pair => ("pairs", Some(&mut self.pairs)),
            Part::Clean => ("clean", None),
        };
        *self.runs.entry(name).or_default() += 1;
        if let Some(tallies) = tallies {
            for cause in causes() {
                let tally = tallies.entry(cause).or_default();
                match (seen.truth.contains(&cause), seen.named.contains(&cause)) {
                    (true, true) => tally.hits += 1,
                    (false, true) => tally.false_hits += 1,
                    (true, false) => tally.misses += 1,
                    (false, false) => {}
                }
            }
        } else if !seen.named.is_empty() {
            self.alarms += 1;
        }
        if part != Part::Pair {
            let row = seen.truth.first().map_or("none", |cause| cause.as_str());
            let row = self.confusion.entry(row.to_owned()).or_default();
            *row.entry("runs".to_owned()).or_default() += 1;
            for cause in &seen.named {
                *row.entry(cause.as_str().to_owned()).or_default() += 1;
            }
            if seen.named.is_empty() {
                *row.entry("nothing".to_owned()).or_default() += 1;
            }
        }
        let exact = seen.truth == seen.named;
        let named = self.cases.entry(seen.case.clone()).or_default();
        named.runs += 1;
        named.exact += u32::from(exact);
        for missed in seen.truth.difference(&seen.named) {
            *named.missed.entry(*missed).or_default() += 1;
        }
        for wrong in seen.named.difference(&seen.truth) {
            *named.wrong.entry(*wrong).or_default() += 1;
        }
        if !exact
            && self
                .worst
                .iter()
                .filter(|other| other.case == seen.case)
                .count()
                < 1
            && self.worst.len() < WORST
        {
            self.worst.push(seen);
        }
    }

    /// The first run of each case that was not named as it was, a few.
    pub(crate) fn worst(&self) -> &[Seen] {
        &self.worst
    }

    pub(crate) fn result(&self) -> Outcome {
        let runs = |name: &str| self.runs.get(name).copied().unwrap_or(0);
        let clean = runs("clean");
        Outcome {
            macro_f1_single: mean(&self.single),
            macro_f1_pairs: mean(&self.pairs),
            false_alarm_rate: ratio(self.alarms, clean),
            confusion: self.confusion.clone(),
            false_alarm_interval: wilson_interval(self.alarms as usize, clean as usize, 0.95),
            clean_runs: clean,
            false_alarms: self.alarms,
            single_runs: runs("single"),
            pair_runs: runs("pairs"),
            single: self.single.clone(),
            pairs: self.pairs.clone(),
            cases: self.cases.clone(),
            seed: self.seed,
        }
    }
}

/// Over the causes that acted at all.
fn mean(tallies: &BTreeMap<Cause, Tally>) -> Option<f64> {
    let f1: Vec<f64> = tallies.values().filter_map(|tally| tally.f1()).collect();
    let count = u32::try_from(f1.len()).ok().filter(|count| *count > 0)?;
    Some(f1.iter().sum::<f64>() / f64::from(count))
}

fn ratio(part: u32, whole: u32) -> Option<f64> {
    (whole > 0).then(|| f64::from(part) / f64::from(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_of_a_cause() {
        let tally = Tally {
            hits: 8,
            false_hits: 2,
            misses: 4,
        };
        assert_eq!(tally.precision(), Some(0.8));
        assert_eq!(tally.recall(), Some(8.0 / 12.0));
        assert_eq!(tally.f1(), Some(16.0 / 22.0));
        let never = Tally {
            hits: 0,
            false_hits: 3,
            misses: 0,
        };
        assert_eq!((never.recall(), never.f1()), (None, None));
        assert_eq!(
            Tally {
                misses: 3,
                ..Tally::default()
            }
            .f1(),
            Some(0.0)
        );
    }
}
