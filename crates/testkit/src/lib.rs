//! Test doubles and real test servers; dev only.

pub mod nats;

pub mod fake_engine;
