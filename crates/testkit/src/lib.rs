//! Test doubles and real test servers; dev only.

#[cfg(feature = "servers")]
pub mod nats;

#[cfg(feature = "servers")]
pub mod fake_engine;

pub mod simulated;
