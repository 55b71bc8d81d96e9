//! The laws: what a total may do as agents are added.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::least::{smallest, smallest_of_two};

/// How a total X of N agents may grow.
///
/// Each law is a scale times a shape of one or two numbers. In an order in which, of equals, the
/// simpler comes first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Law {
    /// One server that each agent needs for `d`, and `z` elsewhere between: X = min(N / (d + z), 1 / d).
    /// The asymptotic bounds, reached where service times are all alike. *Source*: Denning and Buzen
    /// (1978).
    ClosedQueue,
    /// The same with service times as uneven as an exponential's: exact mean value analysis of one
    /// queue and a delay. *Source*: Reiser and Lavenberg (1980).
    ClosedQueueMva,
    /// A part `sigma` of the work is done by one agent at a time: X = x1 N / (1 + sigma (N - 1)).
    /// *Source*: Amdahl (1967), in the form of Gunther (1993).
    Amdahl,
    /// The same, and `kappa` for what each pair of agents costs: X = x1 N / (1 + sigma (N - 1) +
    /// kappa N (N - 1)); may fall. *Source*: Gunther (2007), the universal scalability law.
    Usl,
    /// X = x1 N^alpha: no ceiling at all.
    Power,
    /// X = c (1 - exp(-N / tau)): the way left to the ceiling shrinks by the same part with each agent.
    Exponential,
}

/// A law fitted to the means of some levels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fitted {
    pub(super) law: Law,
    scale: f64,
    shape: [f64; 2],
    /// Sum of squares between the means, weighted by their runs, and the law.
    pub(super) squares: f64,
}

/// The mean of the runs with this many agents, weighted by the number of runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mean {
    pub(super) agents: u32,
    pub(super) runs: f64,
    pub(super) mean: f64,
}

/// Largest delay in service times, and largest scale of the exponential in measured ranges, that are
/// searched: beyond, the curve is a straight line to the last digit.
const FAR: f64 = 1000.0;

impl Law {
    /// Every law.
    pub const ALL: [Self; 6] = [
        Self::ClosedQueue,
        Self::ClosedQueueMva,
        Self::Amdahl,
        Self::Usl,
        Self::Power,
        Self::Exponential,
    ];

    /// What reports call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ClosedQueue => "closed queue",
            Self::ClosedQueueMva => "closed queue (MVA)",
            Self::Amdahl => "Amdahl",
            Self::Usl => "universal scalability law",
            Self::Power => "power law",
            Self::Exponential => "exponential saturation",
        }
    }

    /// Numbers fitted, the scale included.
    pub(super) fn degrees(self) -> usize {
        match self {
            Self::Usl => 3,
            _ => 2,
        }
    }

    /// Calls `each` with the law at each of the levels, for a scale of 1. *Shape*: levels rise.
    ///
    /// Nothing is allocated: a fit with its resamples evaluates a law some million times.
    fn curve(
        self,
        [first, second]: [f64; 2],
        levels: impl Iterator<Item = u32>,
        mut each: impl FnMut(f64),
    ) {
        if self == Self::ClosedQueueMva {
            return mva(first.exp_m1(), levels, each);
        }
        let exp = first.exp();
        for agents in levels {
            let n = f64::from(agents);
            each(match self {
                Self::ClosedQueue => (n / first).min(1.0),
                Self::Amdahl => n / (1.0 + first * (n - 1.0)),
                Self::Usl => n / (1.0 + first * (n - 1.0) + second * second * n * (n - 1.0)),
                Self::Power => n.powf(first),
                // The recursion above has no closed form for one level.
                Self::Exponential | Self::ClosedQueueMva => -(-n / exp).exp_m1(),
            });
        }
    }

    /// The best scale and shape for these means by least squares.
    ///
    /// The scale enters linearly, so that for each shape its best value is known at once, and only the
    /// shape is searched. *Source*: Golub and Pereyra (1973), variable projection.
    pub(super) fn fit(self, means: &[Mean]) -> Fitted {
        let most = means.last().map_or(1.0, |mean| f64::from(mean.agents));
        // Two passes: squares as a difference of sums would leave rounding where the fit is exact.
        let scale_of = |shape: [f64; 2]| -> f64 {
            let (mut along, mut own, mut at) = (0.0, 0.0, means.iter());
            self.curve(shape, means.iter().map(|mean| mean.agents), |f| {
                if let Some(mean) = at.next() {
                    along += mean.runs * f * mean.mean;
                    own += mean.runs * f * f;
                }
            });
            along / own
        };
        let project = |shape: [f64; 2]| -> (f64, f64) {
            let scale = scale_of(shape);
            let (mut squares, mut at) = (0.0, means.iter());
            self.curve(shape, means.iter().map(|mean| mean.agents), |f| {
                if let Some(mean) = at.next() {
                    let off = mean.mean - scale * f;
                    squares += mean.runs * off * off;
                }
            });
            (scale, squares)
        };
        let one = |bounds: [f64; 2]| {
            let (x, squares) = smallest(bounds, &mut |x| project([x, 0.0]).1);
            ([x, 0.0], squares)
        };
        let (shape, squares) = match self {
            Self::ClosedQueue => one([1.0, most]),
            Self::ClosedQueueMva => one([0.0, FAR.ln_1p()]),
            Self::Amdahl => one([0.0, 1.0]),
            Self::Usl => smallest_of_two([0.0, 1.0], [0.0, 2.0], &|sigma, root| {
                project([sigma, root]).1
            }),
            Self::Power => one([-3.0, 1.2]),
            Self::Exponential => one([-3.0, (FAR * most).ln()]),
        };
        Fitted {
            law: self,
            scale: project(shape).0,
            shape,
            squares,
        }
    }
}

/// Throughput of one queue of service time 1 and a delay, for each number of customers.
fn mva(delay: f64, levels: impl Iterator<Item = u32>, mut each: impl FnMut(f64)) {
    let (mut customers, mut queue, mut throughput) = (0, 0.0, 0.0);
    for level in levels {
        while customers < level {
            customers += 1;
            let residence = 1.0 + queue;
            throughput = f64::from(customers) / (residence + delay);
            queue = throughput * residence;
        }
        each(throughput);
    }
}

impl Fitted {
    /// The total of 0, 1, .. `most` agents.
    pub(super) fn totals(&self, most: u32) -> Vec<f64> {
        let mut totals = vec![0.0];
        let law = self.law;
        law.curve(self.shape, 1..=most, |f| totals.push(f * self.scale));
        totals
    }

    /// The numbers of the law, by the names in its definition.
    pub(super) fn parameters(&self) -> Vec<(&'static str, f64)> {
        let (scale, [first, second]) = (self.scale, self.shape);
        match self.law {
            Law::ClosedQueue => vec![
                ("d", 1.0 / scale),
                ("z", (first - 1.0) / scale),
                ("n_star", first),
            ],
            Law::ClosedQueueMva => vec![
                ("d", 1.0 / scale),
                ("z", first.exp_m1() / scale),
                ("n_star", first.exp()),
            ],
            Law::Amdahl => vec![("x1", scale), ("sigma", first)],
            Law::Usl => vec![("x1", scale), ("sigma", first), ("kappa", second.powi(2))],
            Law::Power => vec![("x1", scale), ("alpha", first)],
            Law::Exponential => vec![("c", scale), ("tau", first.exp())],
        }
    }

    /// What the total cannot exceed, however many agents. `None`: the law has no ceiling, or these
    /// numbers show none.
    pub(super) fn ceiling(&self) -> Option<f64> {
        let (scale, [first, second]) = (self.scale, self.shape);
        match self.law {
            Law::ClosedQueue | Law::ClosedQueueMva | Law::Exponential => Some(scale),
            Law::Amdahl => (first > 0.0).then(|| scale / first),
            Law::Usl if second > 0.0 => {
                let kappa = second.powi(2);
                // Gunther's peak; a total that only falls is highest with one agent.
                let peak = ((1.0 - first) / kappa).sqrt().max(1.0);
                let cost = 1.0 + first * (peak - 1.0) + kappa * peak * (peak - 1.0);
                Some(scale * peak / cost)
            }
            Law::Usl => (first > 0.0).then(|| scale / first),
            Law::Power => None,
        }
    }
}
