//! Technical Report 110's raw runs, read into our own report; and a run of ours in its terms.
//!
//! TR110 keeps one `metrics.json` per run under `phase_P_test_TTT/run_R/`. [`parse`] reads one of
//! them, [`report`] makes a [`crate::report::Report`] of all. Rules of the import:
//! - unknown fields are ignored; a field that is absent or `null` is absent in the report;
//! - a number that cannot be (negative, infinite, of another type) refuses the whole import, and every
//!   such field of every file is named at once;
//! - a run that says of itself that it failed, or in which an agent did nothing, is shown and not averaged;
//! - the text that an agent wrote is judged where it lies beside the figures ([`RunFile::judge`]);
//! - a figure that needs what TR110 did not record (a solo leg, single requests, the engine's own
//!   times) has no value and says why. Nothing is filled in.
//!
//! [`figures`] computes TR110's figures with its signs, for imported runs and for our own.

mod failed;
mod faults;
mod fields;
pub mod figures;
mod import;
mod layout;
mod scenario;

pub use faults::{Fault, ImportError};
pub use import::{About, report};
pub use layout::{MAX_FILE_BYTES, RunFile, RunPath, StatedAgent, parse};

/// TR110's contention rule as its data shows it: the flag is set wherever the speed-up is below this.
pub const CONTENTION_BELOW: f64 = 1.5;
