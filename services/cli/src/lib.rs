//! The person's tool.

pub mod args;
