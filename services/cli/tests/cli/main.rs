//! `chimera` as a person or a script meets it: exit codes, standard output, standard error, files.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; helpers outside #[test] too"
)]

mod bundles;
mod imports;
mod history;
mod judge;
mod probe;
mod servers;
mod support;
mod usage;
