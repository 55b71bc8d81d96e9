//! Section 7.1: which configuration for which use.

use super::group;
use super::{By, Cell, Draft, Form, Table};
use crate::advise::{self, Goal};
use crate::report::{Report, TestReport};

/// Section 7.1.
pub(super) fn use_cases(report: &Report) -> Table {
    let mut draft = Draft::new(
        "7.1",
        "Configuration by use",
        "TR110 picks by its speed-up, which says nothing of throughput or latency: the most balanced pair \
         can be the slowest. Ours picks by what the goal asks for, as measured, and says where nothing \
         was.",
    )
    .columns(By::Row, &["Use"])
    .columns(By::Tr110, &["Most balanced test", "Speed-up"])
    .columns(
        By::Ours,
        &["Picked by", "Test", "Value (95 %)", "Concurrency gain (95 %)"],
    );
    let playbook = advise::playbook(report);
    for recipe in &playbook.recipes {
        let candidates = report
            .tests
            .iter()
            .filter(|test| recipe.goal.admits(test) && test.agents.len() > 1);
        let balanced = candidates
            .filter_map(|test| Some((test.aggregate.tr110_speedup.value?, test)))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let named = |test: &TestReport| Cell::text(group::name(report, test));
        let mut row = vec![Cell::text(recipe.goal.name())];
        match balanced {
            Some((_, test)) if recipe.goal != Goal::Memory => {
                row.push(named(test));
                row.push(Cell::mean(&test.aggregate.tr110_speedup, Form::Fixed(3)));
            }
            _ => row.extend([
                Cell::text("-"),
                Cell::number(
                    None,
                    Form::Fixed(3),
                    crate::stats::Provenance::NotMeasured,
                    "TR110 picks by memory that it estimated",
                ),
            ]),
        }
        row.push(Cell::text(recipe.by.clone()));
        match &recipe.pick {
            Some(pick) => {
                let test = report.tests.iter().find(|test| test.id == pick.test);
                row.push(test.map_or_else(|| Cell::text(pick.test.clone()), named));
                row.push(Cell::interval(&pick.value));
                row.push(Cell::interval(&pick.gain));
            }
            None => {
                let why = recipe.not_measured.as_deref().unwrap_or_default();
                let no = || {
                    Cell::number(
                        None,
                        Form::Significant,
                        crate::stats::Provenance::NotMeasured,
                        why,
                    )
                };
                row.extend([Cell::text(format!("not measured: {why}")), no(), no()]);
            }
        }
        draft.row(row);
    }
    draft.finish("no test has a valid run")
}
