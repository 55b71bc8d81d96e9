//! The pictures, one file each. A picture that the data does not allow says why instead.

mod contention;
mod gain;
mod memory;
mod parts;
mod plot;
mod scaling;
mod spread;
mod timeline;

pub(super) use contention::{configurations, runs};
pub(super) use gain::{efficiency, gain};
pub(super) use memory::{memory, sampled_memory};
pub(super) use parts::parts;
pub(super) use scaling::scaling;
pub(super) use spread::{tpot, ttft};
pub(super) use timeline::timeline;
