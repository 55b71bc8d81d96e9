//! Which tests and runs are drawn when there are more than a page can hold. Tables hold them all.

use std::collections::BTreeSet;

use crate::report::{RunReport, TestReport};

/// Most tests drawn as rows of a picture.
pub(super) const MAX_ROWS: usize = 40;
/// Most tests whose request times are drawn.
pub(super) const MAX_SPREADS: usize = 16;
/// Most runs drawn as time lines.
pub(super) const MAX_TIMELINES: usize = 12;
/// The same where no request is recorded: bars of whole agents tell less.
const MAX_PLAIN_TIMELINES: usize = 4;

/// The tests drawn, in their order, and the rule if some were left out.
///
/// *Shape*: all of them up to `most`; else half of `most` with the highest and half with the lowest
/// gain, tests without a gain last.
pub(super) fn tests(all: &[TestReport], most: usize) -> (Vec<&TestReport>, Option<String>) {
    if all.len() <= most {
        return (all.iter().collect(), None);
    }
    let mut ranked: Vec<&TestReport> = all.iter().collect();
    ranked.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    let (with, without): (Vec<&TestReport>, Vec<&TestReport>) = ranked
        .into_iter()
        .partition(|test| test.aggregate.concurrency_gain.value.is_some());
    let half = most / 2;
    let kept: BTreeSet<&str> = if with.len() <= most {
        with.iter()
            .chain(&without)
            .take(most)
            .map(|t| t.id.as_str())
            .collect()
    } else {
        let (first, last) = (with.iter().take(half), with.iter().rev().take(most - half));
        first.chain(last).map(|test| test.id.as_str()).collect()
    };
    let note = format!(
        "{most} of {} tests are drawn: half with the highest, half with the lowest gain. The tables hold \
         all.",
        all.len()
    );
    let drawn = all.iter().filter(|test| kept.contains(test.id.as_str()));
    (drawn.collect(), Some(note))
}

fn rank(test: &TestReport) -> f64 {
    test.aggregate
        .concurrency_gain
        .value
        .unwrap_or(f64::NEG_INFINITY)
}

/// A test and its runs drawn as time lines, the most typical one first.
pub(super) type Drawn<'a> = (&'a TestReport, Vec<&'a RunReport>);

/// The runs drawn as time lines, and the rule if some were left out.
///
/// *Shape*: runs that have something to draw. All of them up to [`MAX_TIMELINES`]; else of each
/// test drawn the most typical run: the valid one whose gain (without one: wall time) is nearest to
/// the test's mean.
pub(super) fn timelines(all: &[TestReport]) -> (Vec<Drawn<'_>>, Option<String>) {
    let total: usize = all.iter().map(|test| drawable(test).count()).sum();
    let most = if all.iter().flat_map(drawable).any(has_requests) {
        MAX_TIMELINES
    } else {
        MAX_PLAIN_TIMELINES
    };
    if total <= most {
        let every = all.iter().map(|test| {
            let mut runs: Vec<&RunReport> = drawable(test).collect();
            if let Some(first) = typical(test) {
                runs.retain(|run| run.run != first.run);
                runs.insert(0, first);
            }
            (test, runs)
        });
        return (every.filter(|(_, runs)| !runs.is_empty()).collect(), None);
    }
    let (tests, _) = tests(all, most);
    let drawn: Vec<Drawn<'_>> = tests
        .into_iter()
        .filter_map(|test| Some((test, vec![typical(test)?])))
        .collect();
    let note = format!(
        "{} of {total} runs are drawn: of each test the valid run nearest to its mean{}.",
        drawn.len(),
        if all.len() > most {
            ", for the tests with the highest and the lowest gain"
        } else {
            ""
        }
    );
    (drawn, Some(note))
}

fn drawable(test: &TestReport) -> impl Iterator<Item = &RunReport> {
    test.runs.iter().filter(|run| {
        let mut agents = run.agents.iter();
        agents.any(|agent| agent.duration_s.is_some() || !agent.requests.is_empty())
    })
}

fn has_requests(run: &RunReport) -> bool {
    run.agents.iter().any(|agent| !agent.requests.is_empty())
}

fn typical(test: &TestReport) -> Option<&RunReport> {
    let a = &test.aggregate;
    let distance = |run: &RunReport| {
        let pair = run.concurrency_gain.zip(a.concurrency_gain.value);
        let (own, mean) = pair.or_else(|| run.wall_s.zip(a.wall_s.value))?;
        Some((own - mean).abs())
    };
    drawable(test)
        .filter(|run| run.valid)
        .filter_map(|run| Some((distance(run)?, run)))
        .min_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, run)| run)
}
