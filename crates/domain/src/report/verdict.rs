//! What the figures mean, in sentences. A sentence never says more than its interval allows.

use super::number::{percent, text, with_interval, word};
use super::types::{Contrast, RunReport, TestReport};
use crate::plan::Topology;
use crate::stats::{Provenance, Summary, welch_interval};

/// Two values of TR110's formula closer than this part look the same to its reader.
const SAME_BALANCE: f64 = 0.1;

/// What a test shows.
pub(super) fn verdict(test: &TestReport) -> String {
    let gain = &test.aggregate.concurrency_gain;
    if test.runs_valid == 0 {
        return nothing(test);
    }
    let Some(value) = gain.value else {
        return "Without a solo leg for every agent there is no gain to report: only times and rates."
            .to_owned();
    };
    let tail = format!(
        "{}{}",
        test.aggregate
            .tr110_speedup
            .value
            .map_or_else(String::new, |tr110| format!(
                "; TR110's formula would have said {}.",
                text(tr110)
            )),
        caveats(test)
    );
    let count = test.agents.len();
    if count == 1 {
        return format!(
            "One agent by itself gives {}, which is 1 but for the noise between two legs{tail}",
            with_interval(Some(value), gain.ci95)
        );
    }
    let who = capitalised(&word(count));
    let cap = if (test.max_concurrent as usize) < count {
        format!(", at most {} at once,", word(test.max_concurrent as usize))
    } else {
        String::new()
    };
    let place = match test.topology {
        Topology::Pinned => String::new(),
        Topology::Shared { slots: 1 } => ", in the queue of one instance,".to_owned(),
        Topology::Shared { slots } => {
            let slots = word(usize::try_from(slots).unwrap_or(usize::MAX));
            format!(", on one instance with {slots} slots,")
        }
    };
    let interval = match gain.ci95 {
        Some([low, high]) => {
            format!(
                " (95 % interval {} to {}, {} valid runs)",
                text(low),
                text(high),
                gain.n
            )
        }
        None => " (one valid run, no interval)".to_owned(),
    };
    format!(
        "{who} agents together{place}{cap} finish {}x as fast as one after the other{interval}: {}{tail}",
        text(value),
        meaning(gain, value, count),
    )
}

fn meaning(gain: &Summary, value: f64, count: usize) -> String {
    let [low, high] = gain.ci95.unwrap_or([value, value]);
    let hedge = if gain.ci95.is_none() {
        " on this one run"
    } else {
        ""
    };
    if low > 1.0 {
        format!(
            "running them together saves time{hedge}, {} of what {} undisturbed agents would gain",
            percent(value / count as f64),
            word(count)
        )
    } else if high < 1.0 {
        format!("running them together costs time{hedge}")
    } else {
        "the interval holds 1, so these runs do not tell whether running them together saves or costs \
         time"
            .to_owned()
    }
}

fn caveats(test: &TestReport) -> String {
    let gain = &test.aggregate.concurrency_gain;
    let raw = test
        .aggregate
        .raw_gain
        .value
        .map_or_else(String::new, |raw| {
            format!(" (the ratio of the plain times is {})", text(raw))
        });
    match gain.provenance {
        Provenance::Derived => format!(
            " The agents did not write equally much alone and together: the gain is per unit of work{raw}."
        ),
        Provenance::Estimated => {
            " The engine did not count its tokens: that both legs did the same work was not checked."
                .to_owned()
        }
        Provenance::Imported => {
            " Another tool measured it: nothing of its records could be checked.".to_owned()
        }
        Provenance::Measured | Provenance::NotMeasured => String::new(),
    }
}

fn nothing(test: &TestReport) -> String {
    let why = test
        .runs
        .iter()
        .find_map(|run: &RunReport| run.invalid.first());
    let why = why.map_or_else(String::new, |why| {
        format!(" ({}: {})", why.reason, why.detail)
    });
    match test.runs_attempted {
        0 => "Not executed: nothing can be said.".to_owned(),
        attempted => format!("No valid run in {attempted}{why}: nothing can be said."),
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// The tests with the highest and the lowest gain side by side. `None` below two tests with a gain.
pub(super) fn contrast(tests: &[TestReport]) -> Option<Contrast> {
    let gain = |test: &TestReport| test.aggregate.concurrency_gain.value;
    let with_gain = || tests.iter().filter(|test| gain(test).is_some());
    let by_gain = |a: &&TestReport, b: &&TestReport| {
        gain(a)
            .unwrap_or_default()
            .total_cmp(&gain(b).unwrap_or_default())
    };
    // The first of equals on both sides, so that the order of tests decides and nothing else.
    let best = with_gain().rev().max_by(by_gain)?;
    let worst = with_gain()
        .filter(|test| test.id != best.id)
        .min_by(by_gain)?;
    let (high, low) = (gain(best)?, gain(worst)?);
    let values = |test: &TestReport| -> Vec<f64> {
        test.runs
            .iter()
            .filter(|run| run.valid)
            .filter_map(|run| run.concurrency_gain)
            .collect()
    };
    // The two were chosen for being far apart: their interval must hold for whichever pair it had been.
    let count = with_gain().count();
    let pairs = count * count.saturating_sub(1) / 2;
    let level = 1.0 - 0.05 / pairs.max(1) as f64;
    let welch = welch_interval(&values(best), &values(worst), level);
    let difference = high - low;
    let ci95 = welch.map(|(_, interval)| interval);
    Some(Contrast {
        best: best.id.clone(),
        worst: worst.id.clone(),
        difference,
        ci95,
        sentence: sentence((best, high), (worst, low), ci95, count),
    })
}

fn sentence(
    (best, high): (&TestReport, f64),
    (worst, low): (&TestReport, f64),
    ci95: Option<[f64; 2]>,
    of: usize,
) -> String {
    let figures = format!(
        "'{}' finishes {}x as fast together as one after the other, '{}' {}x",
        best.label,
        text(high),
        worst.label,
        text(low)
    );
    let meaning = match ci95 {
        Some([lower, _]) if lower <= 0.0 => {
            " (no difference is shown: these runs scatter as much)".to_owned()
        }
        Some([lower, upper]) => format!(
            " (difference {} to {} at 95 %{}): {}",
            text(lower),
            text(upper),
            if of > 2 {
                format!(", widened for being the farthest apart of {of} tests")
            } else {
                String::new()
            },
            direction(
                &best.aggregate.concurrency_gain,
                &worst.aggregate.concurrency_gain
            )
        ),
        None => " (too few valid runs for an interval)".to_owned(),
    };
    let tr110 = match (
        best.aggregate.tr110_speedup.value,
        worst.aggregate.tr110_speedup.value,
    ) {
        (Some(a), Some(b)) if (a - b).abs() <= SAME_BALANCE * a.max(b) => {
            format!(
                "; TR110's formula says {} and {} and does not see it.",
                text(a),
                text(b)
            )
        }
        (Some(a), Some(b)) => format!("; TR110's formula says {} and {}.", text(a), text(b)),
        _ => ".".to_owned(),
    };
    format!("{figures}{meaning}{tr110}")
}

fn direction(best: &Summary, worst: &Summary) -> &'static str {
    let saves = |gain: &Summary| gain.ci95.is_some_and(|[low, _]| low > 1.0);
    let costs = |gain: &Summary| gain.ci95.is_some_and(|[_, high]| high < 1.0);
    if saves(best) && costs(worst) {
        "running together saves time in the first and costs time in the second"
    } else if costs(best) && costs(worst) {
        "running together costs time in both, more in the second"
    } else if saves(best) && saves(worst) {
        "running together saves time in both, less in the second"
    } else {
        "the first gains more from running together than the second"
    }
}
