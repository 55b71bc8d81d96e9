//! What crosses a process arrives unchanged or is refused, and never makes a reader panic.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a panic is how one fails"
)]

mod bytes;
mod descriptors;
mod plan_strategies;
mod refused;
mod round_trip;
mod session_strategies;
mod strategies;
mod subjects;
