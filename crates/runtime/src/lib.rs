//! What every Chimera process needs and no process should write twice.
//!
//! - [`clock`]: the monotonic and the wall clock, a precise sleep

pub mod clock;
