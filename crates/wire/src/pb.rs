//! Generated from `proto/bench/v1/`. Service code sees these types only at the edge, in the
//! signatures of the gRPC traits.

#![allow(
    missing_docs,
    unreachable_pub,
    rustdoc::all,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code: its documentation and style are the generator's"
)]

include!(concat!(env!("OUT_DIR"), "/bench.v1.rs"));
