//! What a report must find, given records whose truth is known.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests: a panic is the failure"
)]

mod attribution;
mod causes;
mod files;
mod golden;
mod goodput;
mod html;
mod memory;
mod properties;
mod support;
mod topology;
mod validity;
