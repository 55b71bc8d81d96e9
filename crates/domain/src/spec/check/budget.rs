//! `[budget]`: what is done about legs that turn out invalid, and between legs.

use super::super::error::Sink;
use super::super::reader::Table;
use super::{MAX_LEGS, MAX_LIMIT_S};
use crate::plan::Budget;

/// Most attempts at one leg beyond the first.
const MAX_RETRIES_PER_LEG: u32 = 10;
/// Most attempts of an experiment beyond the planned ones.
const MAX_RETRIES: u32 = 10_000;
/// Longest row of failures that is waited for.
const MAX_IN_A_ROW: u32 = 1_000;

/// Reads the table; what is wrong or absent has its default.
pub(super) fn read(mut table: Table<'_>, sink: &mut Sink) -> Budget {
    let default = Budget::default();
    let mut read = |key: &'static str, most: u32| -> Option<u32> {
        table.take(key).and_then(|i| i.whole(0..=most, sink))
    };
    let failures_most = u32::try_from(MAX_LEGS).unwrap_or(u32::MAX);
    let budget = Budget {
        retries_per_leg: read("retries_per_leg", MAX_RETRIES_PER_LEG)
            .unwrap_or(default.retries_per_leg),
        retries_total: read("retries_total", MAX_RETRIES).unwrap_or(default.retries_total),
        failures: read("failures", failures_most).or(default.failures),
        consecutive_failures: read("consecutive_failures", MAX_IN_A_ROW)
            .unwrap_or(default.consecutive_failures),
        cool_down_s: read("cool_down_s", MAX_LIMIT_S).unwrap_or(default.cool_down_s),
    };
    table.finish(sink);
    budget
}
