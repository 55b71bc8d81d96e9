//! The report value: what was run, under which conditions, what came out, and how far to trust it.
//!
//! [`build`] is a pure function of the *set* of records: order of arrival and repeated delivery
//! change nothing, byte for byte. What was repeated is therefore not in the report but beside it
//! ([`Built::duplicates`]).
//!
//! Conventions of the JSON: `null` is "not measured" or "undefined", never zero; units are in the
//! names; times are client-observed unless a name begins with `engine_` or is one of `load_ms`,
//! `prompt_eval_ms`, `eval_ms`, which the engine states of itself. Differences between agents are
//! *this agent minus the first agent of the test*, everywhere.

mod aggregate;
mod build;
mod causes;
mod environment;
mod explain;
mod facts;
pub mod findings;
mod goodput;
mod host;
mod imported;
mod memory;
pub mod number;
mod topology;
mod types;
mod verdict;

pub use aggregate::{AgentAggregate, Aggregate, Distributions};
pub use build::{AgentOutputs, BuildError, Built, Input, Integrity, build, build_counted, outputs};
pub use causes::{CauseSummary, MeanTime, SlowRuns};
pub use environment::{Engine, Environment, Instance};
pub use findings::{Evidence, Finding};
pub(crate) use goodput::NO_SLO;
pub use imported::{AgentOptions, ImportedFrom, Tr110Agent, Tr110Run};
pub use memory::{DeviceMemory, RunGpuMemory};
pub(crate) use topology::part;
pub use topology::{
    Difference, DifferenceMethod, TopologyArm, TopologyGroup, TopologyPair, TopologyVerdict,
    topology_verdict,
};
pub use types::{
    AgentConfig, AgentDelta, AgentRun, Attempt, Contrast, EngineHost, LegReport, LocalReport,
    Outcome, OutcomeState, ReadyReport, Reason, Report, RequestReport, RunHost, RunReport,
    TestReport, Validity,
};

use schemars::generate::SchemaSettings;

/// Version of the report's layout. Rises when a field is renamed, removed or changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// JSON Schema (2020-12) of [`Report`] as it is written.
#[must_use]
pub fn schema() -> serde_json::Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings
        .into_generator()
        .into_root_schema_for::<Report>()
        .to_value()
}
