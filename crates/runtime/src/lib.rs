//! What every Chimera process needs and no process should write twice.
//!
//! - [`clock`]: the monotonic and the wall clock, a precise sleep
//! - [`config`]: flag > environment > file > default; finding programs
//! - [`exit`]: how a binary ends: error text and exit code
//! - [`telemetry`]: logs and spans; [`context`]: trace context across processes
//! - [`shutdown`]: signals, the tasks of a service, grace periods
//! - [`bus`]: durable facts on NATS `JetStream`
//! - [`server`]: a gRPC server with health and reflection; [`metrics`]: an endpoint for Prometheus
//! - [`process`]: children that cannot be left behind; [`nats_server`]: the bus of the local stack
//! - [`tls`]: the one TLS provider
//! - [`host`], [`version`]: what this machine and this build are; [`gguf`]: what a model file says
//!
//! A binary's `main`, in order: [`tls::install_provider`], [`exit::parse`], [`telemetry::init`],
//! validate the configuration (exit 64, nothing bound yet), [`shutdown::on_signals`], run, wait,
//! [`exit::report`].

pub mod bus;
pub mod clock;
pub mod config;
pub mod context;
pub mod exit;
pub mod gguf;
pub mod host;
pub mod metrics;
pub mod nats_server;
pub mod process;
pub mod server;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod version;
