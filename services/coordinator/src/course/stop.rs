//! Why an experiment is stopped, for the person who must make it go on.

use chimera_domain::control::{Invalid, InvalidReason};
use chimera_domain::ids::RunId;

/// One sentence: what happened, the last reason, the remedy, and the key that sets the limit.
pub(super) fn sentence(what: &str, run: &RunId, why: &Invalid, limit: &str) -> String {
    format!(
        "{what} ({limit} sets the limit); the last was {run}: {}: {}; {}, then start it again",
        why.reason.as_str(),
        why.detail,
        remedy(why.reason)
    )
}

fn remedy(reason: InvalidReason) -> &'static str {
    match reason {
        InvalidReason::NoGang => {
            "start the workers that it waits for (`chimera workers` lists those there are)"
        }
        InvalidReason::WorkerLost | InvalidReason::LeaseLost => {
            "look into the log of the worker for what took it away"
        }
        InvalidReason::NoRoom => "do what the refusal says, or raise schedule.wait_s",
        InvalidReason::NotReady => {
            "see that the engine runs, has the model and the memory for it (`chimera doctor`)"
        }
        InvalidReason::StartSkew => {
            "leave the machine alone while it measures, or raise limits.start_skew_ms"
        }
        InvalidReason::RequestFailed => {
            "look into the log of the engine, and ask it once with `chimera probe`"
        }
        InvalidReason::AgentFailed => "look into the log of the worker",
        InvalidReason::Reload | InvalidReason::PinChanged | InvalidReason::OptionDrift => {
            "keep every other client away from the engines"
        }
        InvalidReason::DataLoss | InvalidReason::Storage => {
            "free space on the disk of the bus and of the workers"
        }
        InvalidReason::Truncated => "raise num_ctx, or ask for shorter answers",
        InvalidReason::Timeout => "raise the limit that it names (`[limits]`), or ask for less",
        InvalidReason::SoloInvalid
        | InvalidReason::Missing
        | InvalidReason::Cancelled
        | InvalidReason::CoordinatorRestart => "look into the log of the coordinator",
    }
}
