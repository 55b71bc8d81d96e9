//! The only door to a number that may be averaged.
//!
//! [`check_leg`] and [`check_run`] are the only makers of [`ValidLeg`] and [`ValidRun`], and
//! everything in [`crate::efficiency`] takes nothing else. The coordinator's verdict is the first
//! word; what is found here can only add to it. All reasons are collected, the weightiest first.
//!
//! A leg is valid when the coordinator closed it as valid and, for every planned agent: the stream is
//! complete and agrees with its hash; the options at its begin are the planned ones; the instance was
//! looked at before and after and is the same one, loaded alike; it finished without failure; every
//! request succeeded, brought content, fits the context and made the engine load nothing; no reading of
//! the engine's state in between shows another client, or the model gone or loaded otherwise; and the
//! agents released together started within the plan's limit. A run is valid when its together leg
//! and every solo leg planned for it are, and both legs of an agent did the same steps on the same
//! model.
//!
//! Differing token counts do not make a run invalid: [`crate::efficiency`] then compares per unit of
//! work and says so.

mod findings;
mod leg;
mod reload;
mod run;
mod watch;

pub use findings::Refusal;
pub use leg::{StartSkew, ValidAgent, ValidLeg, check_leg, start_skew};
pub use reload::{RELOAD_FLOOR_NS, reload_limit_ns};
pub use run::{LegResult, Solo, SoloSource, ValidRun, check_run, solo_source};
