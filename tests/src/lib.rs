//! The harness of the end-to-end tests: the real binaries as processes, a real nats-server, fake
//! engines that know the truth, and an oracle that believes neither.
//!
//! - [`binaries`]: where the programs under test are. [`process`]: one of them, running.
//! - [`stack`]: all of them together. [`spec`]: what they are asked to measure.
//! - [`observe`]: what the bus holds, read by the test itself. [`proxy`]: a connection that stalls.
//! - [`cli`]: calls of `chimera`. [`bundle`]: an experiment's folder, and damage to it.
//! - [`oracle`]: what must hold after every test, whatever was done to the services.
//! - [`gate`]: who may run beside whom.

pub mod binaries;
pub mod bundle;
pub mod cli;
pub mod gate;
pub mod observe;
pub mod oracle;
pub mod process;
pub mod proxy;
pub mod spec;
pub mod stack;

use std::fmt::Display;

/// Prints a measured figure in the one form that notes and reports are pasted from.
#[expect(
    clippy::print_stdout,
    reason = "figures for people, shown with --nocapture"
)]
pub fn measured(name: &str, value: impl Display) {
    println!("MEASURED {name}={value}");
}

/// Prints why a test did not do what it is there for.
pub fn skipped(test: &str, why: impl Display) {
    eprintln!("SKIPPED {test}: {why}");
}
