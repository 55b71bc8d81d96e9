//! How a total grows with the number of agents: laws fitted to raw runs, and what they advise.
//!
//! [`fit`] takes the runs of each number of agents, fits every [`Law`] by least squares, chooses by
//! AICc, and tells where the total ends and how many agents are worth running. R2 is reported and
//! decides nothing: over a few numbers of agents every curve that bends has a high one. All of it may
//! be believed between the fewest and the most agents measured, not beyond.
//!
//! Intervals are percentiles of 400 bootstrap resamples of the runs within each number of agents
//! (case resampling, Davison and Hinkley 1997), drawn from a seed. Each resample chooses its law anew,
//! so that the intervals of the advice hold the doubt about the law as well; those of a law's own
//! numbers do not.

mod advice;
mod choose;
mod law;
mod least;
mod series;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use choose::fit;
pub use law::Law;
pub use series::{Series, laws, series};

/// Most agents of a series: a bound on the work, far above any gang.
pub const MOST_AGENTS: u32 = 4096;

/// The runs with one number of agents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// How many agents ran together.
    pub agents: u32,
    /// The total of each run: a throughput, or a gain over one agent. *Shape*: above 0.
    pub values: Vec<f64>,
}

/// How to fit and to advise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// An agent is worth running if it adds at least this part of what one agent alone does.
    pub worth: f64,
    /// Seed of the resamples.
    pub seed: u64,
}

impl Default for Settings {
    /// A tenth of an agent, seed 42.
    fn default() -> Self {
        Self {
            worth: 0.1,
            seed: 42,
        }
    }
}

/// Why no law was fitted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoFit {
    /// Two numbers of agents fit any law.
    #[error(
        "a scaling law needs at least 3 numbers of agents, and {0} were measured; measure more, for example 1, 2, 3 and 4"
    )]
    TooFewLevels(usize),
    /// Each law would have as many free numbers as there are runs.
    #[error(
        "a scaling law needs at least 5 valid runs over all numbers of agents, and there are {0}; measure more runs"
    )]
    TooFewRuns(usize),
    /// A total is zero, negative or not a number.
    #[error("a total of {value} with {agents} agents cannot be fitted: totals are above 0")]
    BadValue {
        /// With how many agents.
        agents: u32,
        /// The total.
        value: f64,
    },
    /// A number of agents that no gang has.
    #[error("{0} agents cannot be fitted: from 1 to {MOST_AGENTS} can")]
    BadAgents(u32),
}

/// Laws fitted to a series, the best first, and what follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scaling {
    /// The law with the lowest AICc.
    pub law: Law,
    /// Fewest and most agents measured: between them the laws may be believed.
    pub range: [u32; 2],
    /// Runs behind the fits.
    pub runs: u32,
    /// What was measured, by rising number of agents.
    pub levels: Vec<Level>,
    /// Every law that was fitted, by rising AICc.
    pub fits: Vec<LawFit>,
    /// Laws that could not be.
    pub skipped: Vec<Skipped>,
    /// Where the total ends.
    pub plateau: Plateau,
    /// How many agents are worth running.
    pub worth: Worth,
    /// How it was fitted.
    pub settings: Settings,
    /// Resamples behind the intervals; 0: there are none, since some number of agents has one run.
    pub resamples: u32,
    /// What it comes to, in a sentence or two.
    pub sentence: String,
}

/// The runs with one number of agents, summed up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Level {
    /// How many agents.
    pub agents: u32,
    /// Runs.
    pub n: u32,
    /// Mean total.
    pub mean: f64,
    /// 95 % interval of the mean by Student's t. `null` below two runs.
    pub ci95: Option<[f64; 2]>,
    /// Mean total over N times the mean of one agent: 1 is perfect. `null` if one agent was not
    /// measured.
    pub efficiency: Option<f64>,
    /// What each agent since the level before added to the mean, as a part of what one agent alone
    /// does. `null` at the first level, or if one agent was not measured.
    pub added: Option<f64>,
    /// Its interval (delta method, Satterthwaite's degrees of freedom), at 1 - 0.05 / m for the m steps
    /// between levels: all of them hold together with 95 %.
    pub added_ci95: Option<[f64; 2]>,
}

/// A law fitted to a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LawFit {
    /// Which.
    pub law: Law,
    /// Its numbers, by the names in [`Law`].
    pub parameters: Vec<Parameter>,
    /// Akaike's criterion with the correction for few runs; lower is better. *Source*: Hurvich and
    /// Tsai (1989).
    pub aicc: f64,
    /// AICc minus that of the best law. Below 2 the two can hardly be told apart.
    pub delta: f64,
    /// Akaike weight: how probable it is that this law is the best of those fitted.
    pub weight: f64,
    /// Part of resamples that chose it. `null` without resamples.
    pub chosen: Option<f64>,
    /// Part of the variance of the runs that it explains. `null` without variance. Decides nothing.
    pub r2: Option<f64>,
    /// Its total at each measured number of agents, in the order of [`Scaling::levels`].
    pub predicted: Vec<f64>,
    /// What the total cannot exceed by this law. `null`: no ceiling.
    pub ceiling: Option<f64>,
}

/// One number of a fitted law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Parameter {
    /// As in the definition of the law.
    pub name: String,
    /// Best by least squares.
    pub value: f64,
    /// 95 % interval, of resamples fitted with this law. `null` without resamples.
    pub ci95: Option<[f64; 2]>,
}

/// A law that was not fitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Skipped {
    /// Which.
    pub law: Law,
    /// Why not.
    pub reason: String,
}

/// Where a total ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plateau {
    /// What the total cannot exceed by the chosen law. `null`: it has no ceiling.
    pub ceiling: Option<f64>,
    /// 95 % interval over resamples and their laws, of those that have a ceiling.
    pub ci95: Option<[f64; 2]>,
    /// Fewest agents, of those measured or between, that reach 95 % of the ceiling. `null`: none does,
    /// and the ceiling lies beyond what was measured.
    pub from_agents: Option<u32>,
}

/// How many agents are worth running.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worth {
    /// The most agents of which each, down to the second of the range, adds at least
    /// [`Settings::worth`] by the chosen law.
    pub agents: u32,
    /// 95 % interval over resamples and their laws.
    pub ci95: Option<[u32; 2]>,
    /// Whether that is the most that was measured: more may be worth running too.
    pub at_end_of_range: bool,
    /// What each agent adds, from the second of the range to its last.
    pub marginal: Vec<Marginal>,
}

/// What one more agent adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Marginal {
    /// With this agent.
    pub agents: u32,
    /// Total minus that of one agent fewer, as a part of what one agent alone does, by the chosen law.
    pub added: f64,
    /// 95 % interval over resamples and their laws. `null` without resamples.
    pub ci95: Option<[f64; 2]>,
}

#[cfg(test)]
mod tests;
