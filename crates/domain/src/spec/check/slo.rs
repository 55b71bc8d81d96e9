//! `[slo]`: what a request must keep to be good.

use std::ops::RangeInclusive;

use super::super::error::Sink;
use super::super::reader::{Item, Table};
use crate::metric::Metric;
use crate::slo::{Objective, Slo};

/// Shortest and longest limit: a microsecond to a day.
const LIMIT_MS: RangeInclusive<f64> = 0.001..=86_400_000.0;

/// Reads the table. *Undefined when* a limit is wrong, or none is stated.
pub(super) fn read(mut table: Table<'_>, sink: &mut Sink) -> Option<Slo> {
    let before = sink.count();
    let whole = table.item();
    let mut limit = |of: Objective| {
        let item = table.take(of.key());
        item.map(|i| i.real(LIMIT_MS, sink))
    };
    let [ttft, tpot, itl, e2e] = Objective::ALL.map(&mut limit);
    table.finish(sink);
    let given = [ttft, tpot, itl, e2e];
    if sink.count() == before && given.iter().all(Option::is_none) {
        let hint = format!(
            "one or more of {}",
            Objective::ALL.map(Objective::key).join(", ")
        );
        whole.fault(
            "states no limit, so that every request would be good",
            &hint,
            sink,
        );
    }
    let slo = Slo {
        ttft_ms: ttft.flatten(),
        tpot_ms: tpot.flatten(),
        itl_ms: itl.flatten(),
        e2e_ms: e2e.flatten(),
    };
    (sink.count() == before).then_some(slo)
}

/// Notes a metric that counts good requests where nothing says which are good. `stated` is `None` if
/// the table could not be read.
pub(super) fn needs(item: &Item<'_>, metric: Metric, stated: Option<bool>, sink: &mut Sink) {
    if stated == Some(false) && metric.needs_slo() {
        let problem = format!(
            "{} counts requests that keep an [slo], and there is none",
            metric.name()
        );
        let hint = "state the limits, as in [slo] ttft_ms = 2000, or name another metric";
        item.fault(problem, hint, sink);
    }
}
