//! What is to be simulated: which causes, how strong, from which seed.

use chimera_domain::attribution::Cause;
use chimera_domain::ids::IdError;

/// Weakest strength that the suite takes.
pub const MIN_STRENGTH: f64 = 0.3;
/// Strongest.
pub const MAX_STRENGTH: f64 = 3.0;

/// A cause that is made to act in the together legs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Injection {
    /// Which: any but [`Cause::Unexplained`], which is no cause.
    pub cause: Cause,
    /// How strong: 0.5 weak, 1 medium, 2 strong, [`MIN_STRENGTH`] to [`MAX_STRENGTH`]. What it means
    /// is a physical quantity of its own for each cause (`docs/attribution.md`).
    pub strength: f64,
}

/// One experiment to simulate.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Causes that act; none: nothing is wrong.
    pub injections: Vec<Injection>,
    /// Everything that is drawn follows from it and from the injections.
    pub seed: u64,
}

/// Why a case cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// Not a cause that can be made.
    #[error("'{0}' is no cause that can be injected: name one of the twelve")]
    NoCause(Cause),
    /// Out of bounds.
    #[error(
        "a strength of {0} is out of bounds: take {MIN_STRENGTH} to {MAX_STRENGTH} (0.5 weak, 1 medium, 2 strong)"
    )]
    Strength(f64),
    /// The same cause twice.
    #[error("'{0}' is injected twice: state it once, with the strength that is wanted")]
    Twice(Cause),
    /// The causes cannot act together.
    #[error("{0} and {1} cannot act together: {2}")]
    Impossible(Cause, Cause, &'static str),
    /// An id that the generator made is none: a fault of the generator.
    #[error("the generator made an invalid id")]
    Id(#[from] IdError),
}

impl Case {
    /// Nothing is wrong.
    #[must_use]
    pub fn clean(seed: u64) -> Self {
        Self {
            injections: Vec::new(),
            seed,
        }
    }

    /// The same strength for each of the causes.
    #[must_use]
    pub fn of(causes: &[Cause], strength: f64, seed: u64) -> Self {
        Self {
            injections: causes
                .iter()
                .map(|cause| Injection {
                    cause: *cause,
                    strength,
                })
                .collect(),
            seed,
        }
    }

    /// How strong a cause is. `None`: it does not act.
    #[must_use]
    pub fn strength(&self, cause: Cause) -> Option<f64> {
        self.injections
            .iter()
            .find(|injection| injection.cause == cause)
            .map(|injection| injection.strength)
    }

    pub(super) fn has(&self, cause: Cause) -> bool {
        self.strength(cause).is_some()
    }

    pub(super) fn has_any(&self, causes: &[Cause]) -> bool {
        causes.iter().any(|cause| self.has(*cause))
    }

    pub(super) fn check(&self) -> Result<(), CaseError> {
        for (place, injection) in self.injections.iter().enumerate() {
            let Injection { cause, strength } = *injection;
            if cause == Cause::Unexplained {
                return Err(CaseError::NoCause(cause));
            }
            if !(MIN_STRENGTH..=MAX_STRENGTH).contains(&strength) {
                return Err(CaseError::Strength(strength));
            }
            for other in self.injections.iter().take(place) {
                if other.cause == cause {
                    return Err(CaseError::Twice(cause));
                }
                if let Some(why) = impossible(other.cause, cause) {
                    return Err(CaseError::Impossible(other.cause, cause, why));
                }
            }
        }
        Ok(())
    }
}

/// Causes that can be injected, in the order of reports.
#[must_use]
pub fn causes() -> Vec<Cause> {
    let all = Cause::ALL.into_iter();
    all.filter(|cause| *cause != Cause::Unexplained).collect()
}

/// Pairs that can act together.
#[must_use]
pub fn pairs() -> Vec<(Cause, Cause)> {
    let causes = causes();
    let with = |first: &Cause| {
        let first = *first;
        let later = Cause::ALL.into_iter().filter(move |cause| *cause > first);
        later.map(move |second| (first, second))
    };
    causes
        .iter()
        .flat_map(with)
        .filter(|(first, second)| {
            *second != Cause::Unexplained && impossible(*first, *second).is_none()
        })
        .collect()
}

/// Why two causes cannot act in one run. `None`: they can.
#[must_use]
pub fn impossible(a: Cause, b: Cause) -> Option<&'static str> {
    use Cause::{BandwidthContention, ComputeContention, CpuOffload, Queueing, VramPressure};
    match (a.min(b), a.max(b)) {
        (Queueing, BandwidthContention | ComputeContention) => {
            Some("requests that queue for one slot never run at the same time")
        }
        (Queueing, VramPressure) => {
            Some("agents that share an instance share its memory: it is as full alone")
        }
        (CpuOffload, VramPressure) => Some(
            "moving layers to the processor is what the engine does so that memory does not fill",
        ),
        (CpuOffload, BandwidthContention | ComputeContention) => {
            Some("while an engine computes on the processor it leaves the GPU to the other")
        }
        (BandwidthContention, ComputeContention) => {
            Some("what saturates first slows both down, so that the other never saturates")
        }
        (VramPressure, BandwidthContention | ComputeContention) => {
            Some("an engine that waits for pages leaves the GPU to the other")
        }
        _ => None,
    }
}
