//! Where the time of a run went, and why it was slow: parts, what is unusual in them, and causes.
//!
//! Rule. Each request is taken apart into [`Parts`] that sum to its E2E time. The parts of requests
//! together are compared, per unit of work, with the same requests alone, over all runs of the test:
//! what alone shows is the usual, and its spread says what chance does ([`Usual`]). An agent whose
//! excess is beyond chance is slow, at the stated rate of false alarms ([`FALSE_ALARM_RATE`]). Causes
//! are tested only on what is slow; each test wants the cause's own evidence (records, engine states,
//! telemetry of the run's window), and says how good it is ([`Grade`]). An excess that no cause with
//! evidence explains is `unexplained`.
//!
//! Non-goals: no verdict by a fixed number of seconds (TR110's rule is beside it, in `tr110`), no
//! cause by elimination, no figure over a gap of telemetry: a test that would need one is
//! [`Grade::NotTested`] and says what would settle it.
//!
//! - `view`: what attribution looks at. `parts`: requests taken apart. `usual`: the solo
//!   distribution and what is beyond it. `cause`: one test per cause. `run`: where a run's wall time
//!   went. `types`: what the report shows.

mod cause;
mod parts;
mod run;
mod scene;
mod types;
mod usual;
mod view;

pub use parts::{STALL_FACTOR, window_ns};
pub use run::{THINK_STEP, tr110_speedup};
pub use scene::{TR110_CONTENTION_SPEEDUP, attribute, scenes};
pub use types::{
    AgentTime, Attribution, Cause, CauseFinding, Decomposition, Evidence, Excess, Grade, Part,
    Parts, RequestParts,
};
pub use usual::{RELEVANT_MS, RELEVANT_SHARE, RELEVANT_STALL_SHARE};
pub use view::{AgentScene, AgentView, LegView, RequestScene, RunView, Scene, TestView, Usual};

/// How often a run in which nothing is wrong may be called slow, all agents and parts together.
pub const FALSE_ALARM_RATE: f64 = 0.01;
