//! The telemetry service against what it measures: NVML through the real wrapper and a fake library,
//! a process that burns CPU, and itself.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod bus;
mod fake;
mod host;
mod nvml;
mod nvml_fields;
mod nvml_trouble;
mod service;
