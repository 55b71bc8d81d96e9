//! End to end: the real binaries, a real nats-server, and everything that we promise to survive.
//!
//! One binary, because each would link everything again. Needs nats-server (`scripts/setup.sh`);
//! without it the tests say so and pass, unless `CHIMERA_REQUIRE_NATS=1` or `CI=true`.
//!
//! - `gain`: what a known engine must measure as. `bundle`: results that can be checked.
//! - `crashes`, `stalls`: processes and connections that die or stand still.
//! - `faults`: engines that fail. `records`: records that cannot be read.
//! - `gang`: who may run, and how many at once. `topology`: agents that share an instance, or pause.
//! - `study`: retries and stops. `growth`: plans that grow. `resume`: what is cut short and goes on.
//! - `person`: wrong input, Ctrl-C. `real`: a real model, where there is one.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

mod bundle;
mod crashes;
mod faults;
mod gain;
mod gang;
mod growth;
mod person;
mod real;
mod records;
mod resume;
mod stalls;
mod study;
mod support;
mod topology;
