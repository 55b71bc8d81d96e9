//! How the total grows with the agents, for `report.md`; the page draws it.

use super::table::{Table, escape};
use crate::report::number::{opt, percent, text, with_interval};
use crate::scaling::{Scaling, Series};

/// One series after the other: what it comes to, what was measured, and the laws. Empty without one.
pub(super) fn section(laws: &[(Series, Scaling)]) -> String {
    if laws.is_empty() {
        return String::new();
    }
    let mut out = "## More agents\n\n".to_owned();
    for (series, scaling) in laws {
        if laws.len() > 1 {
            out.push_str(&format!("**{}**\n\n", escape(&series.label)));
        }
        out.push_str(&format!("{}\n\n", scaling.sentence));
        let mut levels = Table::new(&[
            "Agents",
            "Runs",
            "Gain (95 %)",
            "Efficiency",
            "Each further agent added (all hold together with 95 %)",
        ]);
        for level in &scaling.levels {
            levels.row([
                level.agents.to_string(),
                level.n.to_string(),
                with_interval(Some(level.mean), level.ci95),
                level.efficiency.map_or_else(|| "-".to_owned(), percent),
                with_interval(level.added, level.added_ci95),
            ]);
        }
        out.push_str(&levels.finish("nothing was measured"));
        let mut fits = Table::new(&[
            "Law",
            "Weight (AICc)",
            "AICc above the best",
            "R2",
            "Ends at",
        ]);
        for fit in &scaling.fits {
            fits.row([
                fit.law.name().to_owned(),
                percent(fit.weight),
                text(fit.delta),
                opt(fit.r2),
                opt(fit.ceiling),
            ]);
        }
        out.push_str(&fits.finish("no law could be fitted"));
    }
    out
}
