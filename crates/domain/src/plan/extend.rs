//! A plan that grows: phases that take over what an earlier one showed to be best, and repeats
//! until an interval is narrow enough. What is added, and on what evidence, is a record of the
//! log; the plan of an experiment is the submitted one with its extensions, in order.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Plan, PlannedLeg, PlannedTest};
use crate::ids::RunId;
use crate::metric::Metric;

/// A phase whose tests wait for what an earlier phase will show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaterPhase {
    /// Phase number, from 1.
    pub phase: u32,
    /// What it takes over, and from where.
    pub select: Select,
    /// Ids and labels that its tests will have, by rising id; what is chosen reads `best`.
    pub tests: Vec<(u32, String)>,
    /// Legs that it will have.
    pub legs: u32,
    /// Legs that it may come to if each test is repeated as often as its goal allows. `None`: none
    /// is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legs_at_most: Option<u32>,
}

/// Which options a phase takes over from the best test of an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Select {
    /// Number of the earlier phase.
    pub from_phase: u32,
    /// Among its tests of this scenario; `None`: among all.
    pub scenario: Option<String>,
    /// Best by the mean of this, over the valid runs.
    pub by: Metric,
    /// Names of the options taken over (`num_gpu`).
    pub options: Vec<String>,
}

/// What was chosen, and how clearly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Choice {
    /// Id of the test chosen.
    pub test: u32,
    /// Mean of the metric there.
    pub value: f64,
    /// Id and mean of the next best test; `None`: there was no other with the metric.
    pub runner_up: Option<(u32, f64)>,
    /// Whether the 95 % interval of the difference to the next best leaves out zero.
    /// `None`: there is no interval.
    pub clear: Option<bool>,
    /// Options taken over: name and value as a spec writes it. An option that the chosen test does
    /// not send is absent.
    pub options: Vec<(String, String)>,
}

/// When a test has been repeated often enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Goal {
    /// The metric whose 95 % interval is watched.
    pub metric: Metric,
    /// Half the interval over the absolute mean must be at most this.
    pub relative_half_width: f64,
    /// Most runs, whatever the interval.
    pub max_runs: u32,
}

/// Why a plan grew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Extension {
    /// A later phase took over what an earlier one showed.
    Selected {
        /// The later phase.
        phase: u32,
        /// What was chosen.
        choice: Choice,
    },
    /// A test's interval was still wider than its goal.
    Repeated {
        /// The test.
        test: u32,
        /// Half its interval over its mean; `None`: there was no interval.
        relative_half_width: Option<f64>,
    },
}

impl Plan {
    /// Takes in what an extension added. Doing so twice changes nothing.
    pub fn extend(&mut self, why: &Extension, tests: &[PlannedTest], legs: &[PlannedLeg]) {
        if let Extension::Selected { phase, .. } = why {
            self.later.retain(|later| later.phase != *phase);
        }
        let known: BTreeSet<u32> = self.tests.iter().map(|test| test.id).collect();
        let new = tests.iter().filter(|test| !known.contains(&test.id));
        self.tests.extend(new.cloned());
        self.tests.sort_by_key(|test| test.id);
        self.tests.dedup_by_key(|test| test.id);

        let mut known: BTreeSet<RunId> = self.legs.iter().map(|leg| leg.run_id.clone()).collect();
        for leg in legs {
            if !known.insert(leg.run_id.clone()) {
                continue;
            }
            let at = self.tests.binary_search_by_key(&leg.test, |test| test.id);
            if let Some(test) = at.ok().and_then(|at| self.tests.get_mut(at)) {
                test.runs = test.runs.max(leg.run);
            }
            self.legs.push(leg.clone());
        }
    }
}
