//! What crosses a process: protobuf messages, gRPC services and NATS subjects, and the only
//! conversions between them and the types of `chimera-domain`. Nothing here opens a socket.
//!
//! - [`subject`]: every subject, stream name, consumer filter and message id of the bus.
//! - [`codec`]: bus payloads to bytes and back, and the hash over a stream of them.
//! - [`events`], [`control`], [`session`], [`plan`], [`memory`], [`telemetry`]: conversions, one module per
//!   proto file or shared part.
//! - [`api`]: the requests and answers of the gRPC services as typed values.
//! - [`pb`]: generated code.
//! - [`error`]: why a message is refused.
//!
//! A conversion towards the wire cannot fail (but for a plan, which travels as JSON); one from the
//! wire is a `TryFrom` that checks ids, enumerations and required fields and never panics,
//! whatever the bytes.

pub mod api;
pub mod codec;
mod common;
pub mod control;
pub mod error;
pub mod events;
pub mod memory;
pub mod pb;
pub mod plan;
pub mod session;
pub mod subject;
pub mod telemetry;

pub use error::WireError;
pub use pb::{
    analysis_client, analysis_server, control_client, control_server, worker_sessions_client,
    worker_sessions_server,
};

/// The encoded `FileDescriptorSet` of all messages and services, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
