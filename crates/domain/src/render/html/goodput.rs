//! Which requests keep the spec's `[slo]`.

use serde::Serialize;

use super::view::{Cell, Table, clean};
use crate::render::goodput::{HOW, counts, rule, share};
use crate::report::Report;
use crate::stats::Summary;

/// The limits and what each test makes of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct GoodputView {
    rule: String,
    how: &'static str,
    table: Option<Table>,
}

/// The section, or nothing without an `[slo]`.
pub(super) fn goodput(report: &Report) -> Option<GoodputView> {
    let slo = report.slo.as_ref()?;
    let mut table = Table::new(
        1,
        &[
            "Configuration",
            "Good together",
            "Good alone",
            "Goodput, requests/s",
            "Good of all",
            "Lacking a figure",
        ],
    );
    for test in &report.tests {
        let a = &test.aggregate;
        let [requests, good, undefined] = counts(test);
        let part = |summary: &Summary| {
            let cell = Cell::summary(summary);
            if summary.value.is_none() {
                return cell;
            }
            match share(summary).split_once(" (") {
                Some((value, rest)) => cell.with_text(value).with_more(rest.trim_end_matches(')')),
                None => cell.with_text(&share(summary)),
            }
        };
        table.row([
            Cell::words(&test.label),
            part(&a.good_ratio).strong(),
            part(&a.good_solo_ratio),
            Cell::summary(&a.goodput_rps),
            Cell::plain(format!("{good} of {requests}")),
            Cell::plain(undefined.to_string()),
        ]);
    }
    Some(GoodputView {
        rule: clean(&rule(slo)),
        how: HOW,
        table: table.filled(),
    })
}
