//! The section of `report.md` on instances of one's own and shared ones.

use super::table::Table;
use crate::report::number::{text, with_interval};
use crate::report::{Difference, TopologyGroup, TopologyVerdict, part};

/// The section, or nothing.
pub(super) fn section(verdict: Option<&TopologyVerdict>) -> String {
    let Some(verdict) = verdict else {
        return String::new();
    };
    let mut out = "## One instance or several\n\n".to_owned();
    for group in &verdict.groups {
        out.push_str(&format!(
            "{}\n\n{}{}",
            group.sentence,
            arms(group),
            pairs(group)
        ));
    }
    out.push_str(
        "The gain of each is against its own agents alone on the same instances, with as many slots. The \
         time to the first token holds any wait for the instance. The intervals of the differences are \
         widened for the number of pairs compared (Bonferroni), so that all pairs of a table hold together \
         with 95 % in each figure; `shown` means that the interval leaves out zero. `no` names the smallest \
         true difference that as many runs of this spread show in four of five experiments (power 80 %, \
         the same correction). The intervals of single means are each at 95 % and not for comparing by eye.\n\n",
    );
    out
}

fn arms(group: &TopologyGroup) -> String {
    let mut table = Table::new(&[
        "The same agents",
        "Test",
        "Wall s",
        "Tokens/s together",
        "Concurrency gain",
        "TTFT ms",
    ]);
    for arm in &group.arms {
        let mean = |summary: &crate::stats::Summary| with_interval(summary.value, summary.ci95);
        table.row([
            arm.name.clone(),
            arm.test.clone(),
            mean(&arm.wall_s),
            mean(&arm.aggregate_tokens_per_s),
            mean(&arm.concurrency_gain),
            mean(&arm.ttft_ms),
        ]);
    }
    table.finish("Nothing to compare.")
}

fn pairs(group: &TopologyGroup) -> String {
    let mut table = Table::new(&[
        "Tests",
        "Wall s, difference (95 % together)",
        "of the other",
        "shown",
        "Tokens/s, difference (95 % together)",
        "of the other",
        "shown",
        "Interval",
    ]);
    for pair in &group.pairs {
        let cells = [&pair.wall_s, &pair.aggregate_tokens_per_s].map(difference);
        table.row(
            [format!("{} minus {}", pair.test, pair.other)]
                .into_iter()
                .chain(cells.into_iter().flatten())
                .chain([pair.wall_s.method.as_str().to_owned()]),
        );
    }
    table.finish("No pair.")
}

fn difference(difference: &Difference) -> [String; 3] {
    let shown = match (difference.shown, difference.detectable) {
        (Some(true), _) => "yes".to_owned(),
        (Some(false), Some(least)) => format!("no; detectable from {}", text(least)),
        (Some(false), None) => "no; too few runs".to_owned(),
        (None, _) => "-".to_owned(),
    };
    [
        difference.text(),
        difference.relative.map_or_else(|| "-".to_owned(), part),
        shown,
    ]
}
