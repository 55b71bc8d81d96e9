//! Section 6.2: TR110's "universal scaling law" for layers, and what explains efficiency.

use super::group;
use super::{By, Cell, Draft, Form, Table};
use crate::report::{Report, TestReport};
use crate::scaling::{Scaling, Series};
use crate::stats::{Provenance, mean};

const NO_LAW: &str = "TR110's law is of layers alone";

/// A straight line through points.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    intercept: f64,
    slope: f64,
    /// Part of the variance that it explains.
    r2: f64,
}

/// Least squares. *Undefined* below three points, or where either coordinate has no spread.
fn line(points: &[(f64, f64)]) -> Option<Line> {
    (points.len() >= 3).then_some(())?;
    let xs: Vec<f64> = points.iter().map(|(x, _)| *x).collect();
    let ys: Vec<f64> = points.iter().map(|(_, y)| *y).collect();
    let (mean_x, mean_y) = (mean(&xs)?, mean(&ys)?);
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        points.iter().map(|(x, y)| of(x - mean_x, y - mean_y)).sum()
    };
    let (xx, yy, xy) = (sum(&|x, _| x * x), sum(&|_, y| y * y), sum(&|x, y| x * y));
    (xx > 0.0 && yy > 0.0).then(|| Line {
        intercept: mean_y - xy / xx * mean_x,
        slope: xy / xx,
        r2: xy * xy / (xx * yy),
    })
}

/// Section 6.2.
pub(super) fn scaling(report: &Report, laws: &[(Series, Scaling)]) -> Table {
    let mut draft = Draft::new(
        "6.2",
        "What a law of layers explains",
        "TR110's law, min(layers of the model, (memory - 4.4 GB) / (0.15 GB x agents)), gives one number of \
         layers for a machine and no efficiency of a test, so no R2 follows from it: a prediction that is \
         the same for every test explains nothing (R2 0). Beside it is the best straight line through \
         the tests, and where tests differ in the number of agents, the laws fitted to them.",
    )
    .columns(By::Row, &["Efficiency of", "On", "Tests"])
    .columns(By::Tr110, &["R2 of its law"])
    .columns(By::Ours, &["R2", "Slope per unit"]);
    type Of = fn(&TestReport) -> crate::stats::Summary;
    let figures: [(&str, Of); 2] = [
        ("TR110 (balance)", group::balance),
        ("ours (gain / agents)", group::efficiency),
    ];
    type On = fn(&TestReport) -> Option<f64>;
    let axes: [(&str, On); 3] = [
        ("num_gpu", |test| {
            Some(f64::from(group::reference(test)?.num_gpu?))
        }),
        ("num_ctx", |test| {
            Some(f64::from(group::reference(test)?.num_ctx?))
        }),
        ("number of agents", |test| Some(test.agents.len() as f64)),
    ];
    for (whose, of) in figures {
        for (axis, on) in axes {
            let tests: Vec<(&TestReport, f64, f64)> = report
                .tests
                .iter()
                .filter_map(|test| Some((test, on(test)?, of(test).value?)))
                .collect();
            let points: Vec<(f64, f64)> = tests.iter().map(|(_, x, y)| (*x, *y)).collect();
            let Some(line) = line(&points) else { continue };
            let provenance = group::over(tests.iter().map(|(test, ..)| *test), of)
                .provenance
                .max(Provenance::Derived);
            // The law speaks of layers alone, and gives the same for every test of a report.
            let law = (axis == "num_gpu" && whose.starts_with("TR110")).then_some(0.0);
            draft.row([
                Cell::text(whose),
                Cell::text(axis),
                Cell::text(points.len().to_string()),
                Cell::number(
                    law,
                    Form::Fixed(2),
                    Provenance::Derived,
                    "the law is of layers alone",
                ),
                Cell::number(Some(line.r2), Form::Fixed(2), provenance, ""),
                Cell::number(Some(line.slope), Form::Significant, provenance, ""),
            ]);
        }
    }
    for (series, found) in laws {
        for fit in &found.fits {
            let chosen = if fit.law == found.law { ", chosen" } else { "" };
            draft.row([
                Cell::text("ours (gain)"),
                Cell::text(format!("number of agents, {}{chosen}", fit.law.name())),
                Cell::text(series.tests.len().to_string()),
                Cell::number(None, Form::Fixed(2), Provenance::Derived, NO_LAW),
                Cell::number(
                    fit.r2,
                    Form::Fixed(2),
                    Provenance::Derived,
                    "no spread to explain",
                ),
                Cell::number(
                    None,
                    Form::Significant,
                    Provenance::Derived,
                    "no straight line",
                ),
            ]);
        }
    }
    draft.finish(
        "a line needs three tests with an efficiency and different values of num_gpu, num_ctx or the number \
         of agents",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_explains_what_lies_on_it() {
        let found = line(&[(1.0, 3.0), (2.0, 5.0), (4.0, 9.0)]).unwrap();
        assert!((found.r2 - 1.0).abs() < 1e-12);
        assert!((found.slope - 2.0).abs() < 1e-12 && (found.intercept - 1.0).abs() < 1e-12);
        assert_eq!(line(&[(1.0, 3.0), (1.0, 5.0), (1.0, 9.0)]), None);
        assert_eq!(line(&[(1.0, 3.0), (2.0, 5.0)]), None);
    }
}
