//! `chimera` as a person or a script meets it: exit codes, standard output, standard error, files.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; helpers outside #[test] too"
)]

mod bundles;
mod dry_run;
mod history;
mod imports;
mod judge;
mod plan;
mod probe;
mod servers;
mod support;
mod usage;
