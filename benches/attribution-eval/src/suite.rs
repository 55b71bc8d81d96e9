//! Which cases the suite holds.

use chimera_domain::attribution::Cause;
use chimera_testkit::simulated::{Case, MAX_STRENGTH, MIN_STRENGTH, causes, pairs};

/// How strong the causes of a case are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Strength(pub(crate) f64);

impl Strength {
    /// Weak, medium and strong.
    pub(crate) fn all() -> Vec<Self> {
        vec![Self(0.5), Self(1.0), Self(2.0)]
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let strength = match text {
            "weak" => 0.5,
            "medium" => 1.0,
            "strong" => 2.0,
            number => number.parse().ok()?,
        };
        (MIN_STRENGTH..=MAX_STRENGTH)
            .contains(&strength)
            .then_some(Self(strength))
    }
}

/// A part of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// One cause.
    Single,
    /// Two.
    Pair,
    /// None.
    Clean,
}

/// All parts, in their order.
pub(crate) fn parts() -> [Part; 3] {
    [Part::Single, Part::Pair, Part::Clean]
}

/// A case to simulate.
#[derive(Debug, Clone)]
pub(crate) struct Labelled {
    pub(crate) case: Case,
}

impl Labelled {
    /// Its causes and their strength in words.
    pub(crate) fn name(&self) -> String {
        let causes: Vec<&str> = self
            .case
            .injections
            .iter()
            .map(|injection| injection.cause.as_str())
            .collect();
        match self.case.injections.first() {
            None => "none".to_owned(),
            Some(first) => format!("{} at {}", causes.join(" + "), first.strength),
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) strengths: Vec<Strength>,
    pub(crate) repeats: u32,
    pub(crate) clean_runs: u32,
    /// One case alone: these causes. Empty: nothing wrong.
    pub(crate) only: Option<Vec<Cause>>,
}

impl Plan {
    /// The cases of a part. Of clean ones more than enough: an experiment has four runs at least.
    pub(crate) fn cases(&self, part: Part) -> Vec<Labelled> {
        let of_size = |count: usize| {
            self.only
                .iter()
                .filter(move |only| only.len() == count)
                .cloned()
        };
        let sets: Vec<Vec<Cause>> = match (part, &self.only) {
            (Part::Single, None) => causes().into_iter().map(|cause| vec![cause]).collect(),
            (Part::Pair, None) => pairs().into_iter().map(|(a, b)| vec![a, b]).collect(),
            (Part::Single, Some(_)) => of_size(1).collect(),
            (Part::Pair, Some(_)) => of_size(2).collect(),
            (Part::Clean, Some(only)) if !only.is_empty() => Vec::new(),
            (Part::Clean, _) => {
                let case = |place: u64| Labelled {
                    case: Case::clean(mixed(self.seed, &[], 0.0, place)),
                };
                return (0..u64::from(self.clean_runs.div_ceil(4)))
                    .map(case)
                    .collect();
            }
        };
        let repeats = if part == Part::Single {
            self.repeats
        } else {
            self.repeats.div_ceil(3)
        };
        let mut cases = Vec::new();
        for set in sets {
            for strength in &self.strengths {
                for place in 0..u64::from(repeats) {
                    let seed = mixed(self.seed, &set, strength.0, place);
                    cases.push(Labelled {
                        case: Case::of(&set, strength.0, seed),
                    });
                }
            }
        }
        cases
    }
}

/// A seed of its own for each case. *Source*: the finaliser of `SplitMix64`.
fn mixed(seed: u64, causes: &[Cause], strength: f64, place: u64) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let names = causes.iter().flat_map(|cause| cause.as_str().bytes());
    let parts = names
        .map(u64::from)
        .chain([strength.to_bits(), seed, place]);
    for part in parts {
        state = state.wrapping_add(part).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    state
}
