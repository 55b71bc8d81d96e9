//! What a fitted law advises.

use super::choose::percentiles;
use super::law::Fitted;
use super::{LawFit, Marginal, Plateau, Scaling, Worth};
use crate::report::number::{text, with_interval};
use crate::stats::quantile;

/// The part of the ceiling at which a plateau begins.
const NEAR: f64 = 0.95;
/// Laws whose AICc differ by less can hardly be told apart. *Source*: Burnham and Anderson (2002).
const UNDECIDED: f64 = 2.0;

/// Where the total ends.
pub(super) fn plateau(best: &Fitted, resamples: &[Fitted], [first, last]: [u32; 2]) -> Plateau {
    let ceiling = best.ceiling();
    let totals = best.totals(last);
    let reaches = |agents: &u32| {
        let total = totals.get(*agents as usize).copied();
        total
            .zip(ceiling)
            .is_some_and(|(total, top)| total >= NEAR * top)
    };
    let tops: Vec<f64> = resamples.iter().filter_map(Fitted::ceiling).collect();
    Plateau {
        ceiling,
        ci95: ceiling.and_then(|_| percentiles(tops)),
        from_agents: (first..=last).find(reaches),
    }
}

/// What each agent from the second of the range to its last adds, in parts of what one does alone.
fn added([first, last]: [u32; 2], fitted: &Fitted) -> Vec<f64> {
    let totals = fitted.totals(last);
    let one = totals.get(1).copied().unwrap_or(1.0);
    let from = totals.get(first as usize..).unwrap_or_default();
    from.windows(2)
        .map(|pair| match pair {
            [fewer, more] => (more - fewer) / one,
            _ => 0.0,
        })
        .collect()
}

/// How many of the agents behind these additions are worth it, beginning with the first of the range.
fn worth_running(first: u32, added: &[f64], least: f64) -> u32 {
    let enough = added.iter().take_while(|part| **part >= least).count();
    first.saturating_add(u32::try_from(enough).unwrap_or(u32::MAX))
}

/// How many agents are worth running.
pub(super) fn worth(best: &Fitted, resamples: &[Fitted], range: [u32; 2], least: f64) -> Worth {
    let [first, last] = range;
    let parts = added(range, best);
    let drawn: Vec<Vec<f64>> = resamples
        .iter()
        .map(|fitted| added(range, fitted))
        .collect();
    let agents = worth_running(first, &parts, least);
    let counts: Vec<f64> = drawn
        .iter()
        .map(|parts| f64::from(worth_running(first, parts, least)))
        .collect();
    let marginal = parts.iter().enumerate().zip(first.saturating_add(1)..);
    Worth {
        agents,
        ci95: whole_percentiles(counts),
        at_end_of_range: agents == last,
        marginal: marginal
            .map(|((at, part), agents)| Marginal {
                agents,
                added: *part,
                ci95: percentiles(
                    drawn
                        .iter()
                        .filter_map(|all| all.get(at).copied())
                        .collect(),
                ),
            })
            .collect(),
    }
}

/// The middle 95 % of whole numbers, outwards to whole numbers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between two numbers of agents"
)]
fn whole_percentiles(mut counts: Vec<f64>) -> Option<[u32; 2]> {
    counts.sort_by(f64::total_cmp);
    let (low, high) = (quantile(&counts, 0.025)?, quantile(&counts, 0.975)?);
    Some([low.floor() as u32, high.ceil() as u32])
}

/// What it comes to.
pub(super) fn sentence(scaling: &Scaling) -> String {
    let [first, last] = scaling.range;
    let worth = &scaling.worth;
    let least = format!("{:.0} %", scaling.settings.worth * 100.0);
    let interval = match worth.ci95 {
        Some([low, high]) if low == high => format!(" (in 95 % of resamples {low})"),
        Some([low, high]) => format!(" ({low} to {high} in 95 % of resamples)"),
        None => String::new(),
    };
    let agents = if worth.at_end_of_range {
        format!(
            "All {} agents measured are worth running{interval}: by the law each adds {least} or more of what one does alone, and whether further ones would was not measured",
            worth.agents
        )
    } else if worth.agents == first {
        format!(
            "No agent beyond {first} is worth running{interval}: by the law the next adds less than {least} of what one does alone"
        )
    } else {
        format!(
            "{} agents are worth running{interval}: by the law the next adds less than {least} of what one does alone",
            worth.agents
        )
    };
    let end = match (&scaling.plateau.ceiling, scaling.plateau.from_agents) {
        (Some(top), Some(from)) => format!(
            ". It puts the end of the total at {}, and {:.0} % of that at {from} agents",
            with_interval(Some(*top), scaling.plateau.ci95),
            NEAR * 100.0
        ),
        (Some(top), None) => format!(
            ". It puts the end of the total at {}, beyond the agents measured",
            with_interval(Some(*top), scaling.plateau.ci95)
        ),
        (None, _) => ". The law puts no end to the total".to_owned(),
    };
    let mut rivals = scaling.fits.iter().skip(1);
    let weight = |fit: Option<&LawFit>| fit.map_or_else(String::new, |fit| text(fit.weight));
    let decided = match rivals.next().filter(|rival| rival.delta < UNDECIDED) {
        Some(rival) => format!(
            "{} fits best, but {} fits nearly as well (AICc {} higher)",
            scaling.law.name(),
            rival.law.name(),
            text(rival.delta)
        ),
        None => format!(
            "{} fits best (weight {})",
            scaling.law.name(),
            weight(scaling.fits.first())
        ),
    };
    format!(
        "{agents}{end}. Of {} laws the {decided}; believe it from {first} to {last} agents.",
        scaling.fits.len()
    )
}
