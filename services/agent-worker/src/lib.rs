//! Owns one engine instance, runs an agent on it, stamps every token.

pub mod engine;
