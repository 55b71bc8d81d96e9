//! TR110's raw runs, imported: its printed digits, its tables, what the data show; and hostile files.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests; helpers outside #[test] too"
)]

mod hostile;
mod ours;
mod phase_one;
mod printed;
mod round_trip;
mod support;
mod synthetic;
