//! What comparing and gating must find in reports whose truth is known.
#![expect(clippy::unwrap_used, reason = "tests: a panic is the failure")]

#[path = "../report/support.rs"]
mod support;

mod compare;
mod gate;
mod goodput;
mod scaling;
mod world;
