//! What TR110's files show of how they came about.

use super::{Evidence, Finding, place, runs};
use crate::report::Tr110Run;
use crate::report::number::text;
use crate::report::types::{AgentRun, Report, RunReport, TestReport};
use crate::stats::{Provenance, quantile};
use crate::tr110::CONTENTION_BELOW;
use crate::tr110::figures;

/// How many times the usual TTFT looks like a load of the model.
const RELOAD_TIMES: f64 = 3.0;
/// And how far above the usual one, ms.
const RELOAD_ABOVE_MS: f64 = 1000.0;
/// A request whose figure is below this is stated as zero.
const ZERO: f64 = 1e-6;

fn stated(report: &Report) -> impl Iterator<Item = (&TestReport, &RunReport, &Tr110Run)> {
    runs(report).filter_map(|(test, run)| Some((test, run, run.tr110.as_ref()?)))
}

fn evidence(what: &str, place: Option<String>, value: f64) -> Evidence {
    Evidence {
        what: what.to_owned(),
        place,
        value,
        provenance: Provenance::Imported,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of runs")]
fn count(what: &str, value: usize) -> Evidence {
    evidence(what, None, value as f64)
}

/// Whether the contention flag says anything but that the speed-up is low.
pub(super) fn contention_flag(report: &Report) -> Option<Finding> {
    let flags: Vec<(bool, f64, Option<f64>)> = stated(report)
        .filter_map(|(_, run, stated)| {
            let ttfts = run.agents.iter().filter_map(largest_ttft_ms);
            Some((
                stated.contention?,
                run.tr110_speedup?,
                ttfts.max_by(f64::total_cmp),
            ))
        })
        .collect();
    if flags.is_empty() {
        return None;
    }
    let of = flags.len();
    let agree = flags
        .iter()
        .filter(|(flag, speedup, _)| *flag == (*speedup < CONTENTION_BELOW))
        .count();
    let set = flags.iter().filter(|(flag, ..)| *flag).count();
    let unflagged = flags
        .iter()
        .filter(|(flag, ..)| !flag)
        .filter_map(|(.., ttft)| *ttft)
        .max_by(f64::total_cmp);
    let exactly = if agree == of {
        "is set exactly where the speed-up is below 1.5"
    } else {
        "agrees with 'the speed-up is below 1.5'"
    };
    let ttft = unflagged.map_or_else(String::new, |ttft| {
        format!(
            " The longest TTFT of a run without the flag is {} ms.",
            text(ttft)
        )
    });
    let mut figures = vec![
        count("runs whose flag equals 'speed-up below 1.5'", agree),
        count("runs that state the flag", of),
        count("runs with the flag set", set),
    ];
    figures.extend(unflagged.map(|ttft| evidence("longest TTFT without the flag, ms", None, ttft)));
    Some(Finding::new(
        "contention_flag",
        format!(
            "The contention flag {exactly}: {agree} of {of} runs (it is set in {set}). It restates the \
             balance of the agents' durations.{ttft}"
        ),
        figures,
    ))
}

/// The longest TTFT that is known of an agent: TR110 states the 95th percentile of its few requests,
/// which is their largest; else the mean.
fn largest_ttft_ms(agent: &AgentRun) -> Option<f64> {
    match &agent.tr110 {
        Some(stated) => stated.ttft_p95_ms.or(stated.ttft_ms),
        None => agent
            .requests
            .iter()
            .filter_map(|request| request.ttft_ms)
            .max_by(f64::total_cmp),
    }
}

/// TTFTs so long that the model was probably loaded first.
pub(super) fn reload_like(report: &Report) -> Option<Finding> {
    let all: Vec<(&TestReport, String, f64)> = stated(report)
        .flat_map(|(test, run, _)| {
            run.agents.iter().filter_map(move |agent| {
                let place = format!("{}, {}", place(test, run), agent.agent);
                Some((test, place, largest_ttft_ms(agent)?))
            })
        })
        .collect();
    let mut sorted: Vec<f64> = all.iter().map(|(.., ttft)| *ttft).collect();
    sorted.sort_by(f64::total_cmp);
    // The lower quartile: where most agents wait for a load, the median would call that usual.
    let usual = quantile(&sorted, 0.25)?;
    let limit = (usual * RELOAD_TIMES).max(usual + RELOAD_ABOVE_MS);
    let mut long: Vec<&(&TestReport, String, f64)> =
        all.iter().filter(|(.., ttft)| *ttft >= limit).collect();
    long.sort_by(|a, b| b.2.total_cmp(&a.2));
    let (_, at, longest) = long.first()?;
    let mut scenarios: Vec<&str> = Vec::new();
    for (test, ..) in &long {
        if !scenarios.contains(&test.scenario.as_str()) {
            scenarios.push(&test.scenario);
        }
    }
    let by_scenario: Vec<String> = scenarios
        .iter()
        .map(|scenario| {
            let long = long.iter().filter(|(test, ..)| test.scenario == **scenario);
            let of = all.iter().filter(|(test, ..)| test.scenario == **scenario);
            format!("{} of {} in {scenario}", long.count(), of.count())
        })
        .collect();
    let sentence = format!(
        "{} of {} agents in runs have a TTFT of {} ms or more ({}), up to {} ms ({at}), where a quarter stay \
         within {} ms. Rule: at least 3 times that lower quartile and 1 s above it. Such a TTFT looks like a load \
         of the model; no load time was recorded, so the cause is not measured.",
        long.len(),
        all.len(),
        text(limit),
        by_scenario.join(", "),
        text(*longest),
        text(usual)
    );
    let mut figures = vec![evidence(
        "lower quartile of the agents' longest TTFTs, ms",
        None,
        usual,
    )];
    figures.extend(
        long.iter()
            .map(|(_, place, ttft)| evidence("longest TTFT, ms", Some(place.clone()), *ttft)),
    );
    Some(Finding::new("reload_like_ttft", sentence, figures))
}

/// Agents of two requests whose mean is half their largest: the other request is stated as zero, and
/// was averaged as zero.
pub(super) fn zeroed_requests(report: &Report) -> Option<Finding> {
    let mut found = Vec::new();
    let mut looked = 0_usize;
    for (test, run, _) in stated(report) {
        for agent in &run.agents {
            let Some(stated) = &agent.tr110 else { continue };
            let (Some(2), Some(mean), Some(largest)) = (
                stated.requests,
                stated.tokens_per_s,
                stated.tokens_per_s_p95,
            ) else {
                continue;
            };
            looked += 1;
            // Of two values p95 is the larger, so the other is twice the mean without it.
            if largest > 0.0 && (2.0 * mean - largest).abs() < ZERO {
                let delta = figures::of_run(run).throughput_delta;
                found.push((test, place(test, run), agent, mean, delta));
            }
        }
    }
    let mut tests: Vec<&str> = found.iter().map(|(test, ..)| test.id.as_str()).collect();
    tests.dedup();
    if found.is_empty() {
        return None;
    }
    let places: Vec<String> = found
        .iter()
        .map(|(_, place, agent, ..)| format!("{place}, {}", agent.agent))
        .collect();
    let sentence = format!(
        "{} of {looked} agents in runs state one of their two requests with 0 tokens/s ({}): a request \
         without an answer, averaged as a zero. The throughput and TTFT deltas of test{} {} rest on it.",
        found.len(),
        places.join("; "),
        if tests.len() == 1 { "" } else { "s" },
        tests.join(", "),
    );
    let figures = found.iter().flat_map(|(_, place, agent, mean, delta)| {
        let at = Some(format!("{place}, {}", agent.agent));
        let mut own = vec![evidence("mean of the two rates, tokens/s", at, *mean)];
        own.extend(delta.map(|delta| {
            evidence(
                "throughput delta of the run, tokens/s",
                Some(place.clone()),
                delta,
            )
        }));
        own
    });
    let figures = figures.collect();
    Some(Finding::new("zeroed_requests", sentence, figures))
}

/// Which way round the differences are stated, found by comparing them with their terms.
pub(super) fn signs(report: &Report) -> Option<Finding> {
    let close = |a: f64, b: f64| (a - b).abs() <= ZERO * b.abs().max(1.0);
    type Delta = fn(&Tr110Run) -> Option<f64>;
    type Terms = fn(&AgentRun) -> Option<f64>;
    let tell = |delta: Delta, terms: Terms| {
        let (mut forward, mut backward, mut of) = (0_usize, 0_usize, 0_usize);
        for (_, run, stated) in stated(report) {
            let first = run.agents.first().and_then(terms);
            let second = run.agents.get(1).and_then(terms);
            if let (Some(delta), Some(first), Some(second)) = (delta(stated), first, second) {
                of += 1;
                forward += usize::from(close(delta, second - first));
                backward += usize::from(close(delta, first - second));
            }
        }
        (forward, backward, of)
    };
    let throughput = tell(|run| run.throughput_delta_tokens_per_s, figures::throughput);
    let ttft = tell(|run| run.ttft_delta_ms, figures::ttft_ms);
    if throughput.2 == 0 && ttft.2 == 0 {
        return None;
    }
    let word = |(forward, backward, of): (usize, usize, usize)| {
        if forward >= backward {
            format!("second agent minus first ({forward} of {of} runs)")
        } else {
            format!("first agent minus second ({backward} of {of} runs)")
        }
    };
    let opposite = (throughput.0 >= throughput.1) != (ttft.0 >= ttft.1);
    let conclusion = if opposite {
        " The two have opposite signs: a positive TTFT delta says that the first agent was the slower one. \
         TR110's appendix B.1 defines both as second minus first."
    } else {
        ""
    };
    let evidence = [("throughput", throughput), ("TTFT", ttft)]
        .into_iter()
        .flat_map(|(name, (forward, backward, _))| {
            [
                count(
                    &format!("runs whose {name} delta is second minus first"),
                    forward,
                ),
                count(
                    &format!("runs whose {name} delta is first minus second"),
                    backward,
                ),
            ]
        });
    Some(Finding::new(
        "sign_conventions",
        format!(
            "The throughput delta is {}, the TTFT delta {}.{conclusion}",
            word(throughput),
            word(ttft)
        ),
        evidence.collect(),
    ))
}

/// Agents whose files say that they were not completed and that count all the same.
pub(super) fn not_completed(report: &Report) -> Option<Finding> {
    let (mut not, mut of, mut places) = (0_usize, 0_usize, Vec::new());
    for (test, run, _) in stated(report) {
        let said: Vec<bool> = run
            .agents
            .iter()
            .filter_map(|agent| agent.tr110.as_ref()?.completed)
            .collect();
        of += usize::from(!said.is_empty());
        if said.iter().any(|completed| !completed) {
            not += 1;
            places.push(place(test, run));
        }
    }
    if not == 0 {
        return None;
    }
    Some(Finding::new(
        "not_completed",
        format!(
            "{not} of {of} runs say of an agent 'Execution not completed' and have figures all the same \
             ({} first). They count here as they did in TR110.",
            places.first().map_or("-", String::as_str)
        ),
        vec![count("runs with such an agent", not)],
    ))
}
