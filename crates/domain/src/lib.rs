//! The pure core of Chimera: what an experiment is, what can happen in it, and what it means.
//!
//! Nothing here opens a socket, reads a clock or draws a random number that was not seeded by the
//! caller. The same events therefore give the same report, byte for byte, on any machine.
//!
//! - [`ids`], [`units`]: identities and quantities.
//! - [`options`]: what is asked of an engine, frozen for a run.
//! - [`spec`]: the text a person writes, and the only door to a [`spec::ValidSpec`].
//! - [`plan`]: a valid spec unfolded into tests, runs and legs.
//! - [`event`]: what an agent can report; [`control`]: what the coordinator can decide;
//!   [`telemetry`]: what a node can sample.
//! - [`session`]: what workers and the coordinator say to each other.
//! - [`timeline`]: events of one leg folded into facts, with duplicates, gaps and disorder resolved.
//! - [`validity`]: the only door to a [`validity::ValidRun`].
//! - [`latency`], [`stats`], [`efficiency`]: one function per metric; [`slo`]: which requests are good,
//!   and goodput.
//! - [`metric`]: the metrics that a person may name.
//! - [`quality`]: how good a report is that an agent wrote, by counting.
//! - [`report`]: the report value and its schema; [`render`]: its files.
//! - [`compare`]: two reports side by side; [`gate`]: whether one is good enough; [`scaling`]: how a
//!   total grows with the agents.
//! - [`memory`]: how much memory agents need, before anything is started.
//! - [`attribution`]: where the time of a run went, and why.
//! - [`tr110`]: Technical Report 110's raw runs, read into a report; [`tables`]: its tables, of any
//!   report, each figure beside ours; [`advise`]: which configuration to take for which goal.

pub mod advise;
pub mod attribution;
pub mod compare;
pub mod control;
pub mod efficiency;
pub mod event;
pub mod gate;
pub mod ids;
pub mod latency;
pub mod memory;
pub mod metric;
pub mod options;
pub mod plan;
pub mod quality;
pub mod render;
pub mod report;
pub mod scaling;
pub mod session;
pub mod slo;
pub mod spec;
pub mod stats;
pub mod tables;
pub mod telemetry;
pub mod timeline;
pub mod tr110;
pub mod units;
pub mod validity;
