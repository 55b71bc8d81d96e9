//! From a submitted text to what will be executed.

use chimera_domain::ids::ExperimentId;
use chimera_domain::plan::{self, Limits, Plan};
use chimera_domain::spec::{self, SpecFormat};
use chimera_wire::api;

use crate::error::SubmitError;
use crate::lifecycle::LegLimits;

/// Checks a spec and unfolds it.
pub(crate) fn plan(document: &api::SpecDocument) -> Result<Plan, SubmitError> {
    let format = match document.format {
        api::SpecFormat::Toml => SpecFormat::Toml,
        api::SpecFormat::Json => SpecFormat::Json,
    };
    let spec = spec::parse(&document.text, format).map_err(|e| SubmitError::Spec(e.to_string()))?;
    plan::build(&spec).map_err(|e| SubmitError::Spec(e.to_string()))
}

/// The plan's limits as the leg machine wants them.
pub(crate) fn leg_limits(limits: &Limits, start_lead_ms: u64) -> LegLimits {
    let ns = |seconds: u32| u64::from(seconds) * 1_000_000_000;
    LegLimits {
        warm_ns: ns(limits.warm_s),
        run_ns: ns(limits.run_s),
        drain_ns: ns(limits.drain_s),
        start_skew_ns: u64::from(limits.start_skew_ms) * 1_000_000,
        start_lead_ns: start_lead_ms * 1_000_000,
        ..LegLimits::default()
    }
}

/// The `nth` id (from 1) that a submission may be given: the spec's name and the time in seconds,
/// from the second on with a number, since one spec can be submitted twice within a second.
pub(crate) fn fresh_id(
    name: &str,
    wall_unix_ns: u64,
    nth: u32,
) -> Result<ExperimentId, SubmitError> {
    let seconds = wall_unix_ns / 1_000_000_000;
    let id = match nth {
        0 | 1 => format!("{name}-{seconds}"),
        _ => format!("{name}-{seconds}-{nth}"),
    };
    Ok(ExperimentId::try_new(id)?)
}
