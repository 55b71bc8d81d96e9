//! What every Chimera process needs and no process should write twice.
//!
//! - [`clock`]: the monotonic and the wall clock, a precise sleep
//! - [`config`]: flag > environment > file > default; finding programs
//! - [`exit`]: how a binary ends

pub mod clock;
pub mod config;
pub mod exit;
