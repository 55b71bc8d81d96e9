//! TR110's figures of a run and of a test, by its formulas and with its signs.
//!
//! The signs are those of its data, not of its appendix B.1: the throughput delta is **second agent
//! minus first**, the TTFT delta **first minus second**. Of a run of ours a TTFT is the client's and a
//! token rate the client's decode rate; of an imported run both are what its file states. The deltas
//! are of the first two agents: TR110 has no others.

use super::CONTENTION_BELOW;
use crate::report::{AgentRun, RequestReport, RunReport, TestReport};
use crate::stats::{Provenance, Summary, mean};

/// TR110's figures of one run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RunFigures {
    /// Mean TTFT of the first and of the second agent, ms.
    pub ttft_ms: [Option<f64>; 2],
    /// First minus second, ms.
    pub ttft_delta_ms: Option<f64>,
    /// Mean token rate of the requests of the first and of the second agent, 1/s.
    pub throughput: [Option<f64>; 2],
    /// Second minus first, 1/s.
    pub throughput_delta: Option<f64>,
    /// Its flag: as stated in an imported run, else whether the speed-up is below 1.5.
    pub contention: Option<bool>,
}

/// TR110's figures of one test, over its valid runs.
#[derive(Debug, Clone, PartialEq)]
pub struct TestFigures {
    /// "Concurrency speedup": balance.
    pub speedup: Summary,
    /// "Parallel efficiency": balance.
    pub efficiency: Summary,
    /// First agent minus second.
    pub ttft_delta_ms: Summary,
    /// Second agent minus first.
    pub throughput_delta: Summary,
    /// Runs with the flag, and runs that say whether they have it.
    pub contention: (u32, u32),
}

/// Mean TTFT of an agent's requests: as its file states it, else the client's, ms.
#[must_use]
pub fn ttft_ms(agent: &AgentRun) -> Option<f64> {
    match &agent.tr110 {
        Some(stated) => stated.ttft_ms,
        None => mean_of(agent, |request| request.ttft_ms),
    }
}

/// Mean token rate of an agent's requests: as its file states it, else the client's decode rate, 1/s.
#[must_use]
pub fn throughput(agent: &AgentRun) -> Option<f64> {
    match &agent.tr110 {
        Some(stated) => stated.tokens_per_s,
        None => mean_of(agent, |request| request.decode_tokens_per_s),
    }
}

fn mean_of(agent: &AgentRun, of: fn(&RequestReport) -> Option<f64>) -> Option<f64> {
    mean(&agent.requests.iter().filter_map(of).collect::<Vec<_>>())
}

/// TR110's figures of a run.
#[must_use]
pub fn of_run(run: &RunReport) -> RunFigures {
    let pair = |of: fn(&AgentRun) -> Option<f64>| {
        [
            run.agents.first().and_then(of),
            run.agents.get(1).and_then(of),
        ]
    };
    let (ttft_ms, throughput) = (pair(ttft_ms), pair(throughput));
    let minus = |one: Option<f64>, other: Option<f64>| Some(one? - other?);
    let stated = run.tr110.as_ref();
    let [first_ttft, second_ttft] = ttft_ms;
    let [first_rate, second_rate] = throughput;
    RunFigures {
        ttft_ms,
        ttft_delta_ms: stated
            .and_then(|stated| stated.ttft_delta_ms)
            .or_else(|| minus(first_ttft, second_ttft)),
        throughput,
        throughput_delta: stated
            .and_then(|stated| stated.throughput_delta_tokens_per_s)
            .or_else(|| minus(second_rate, first_rate)),
        contention: match stated {
            Some(stated) => stated.contention,
            None => run.tr110_speedup.map(|speedup| speedup < CONTENTION_BELOW),
        },
    }
}

/// TR110's figures of a test.
#[must_use]
pub fn of_test(test: &TestReport) -> TestFigures {
    let runs: Vec<RunFigures> = valid(test).map(of_run).collect();
    let provenance = if valid(test).any(|run| run.tr110.is_some()) {
        Provenance::Imported
    } else {
        Provenance::Measured
    };
    let over = |of: fn(&RunFigures) -> Option<f64>| {
        let values: Vec<f64> = runs.iter().filter_map(of).collect();
        Summary::of(&values, provenance, "needs two agents that state it")
    };
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    TestFigures {
        speedup: test.aggregate.tr110_speedup.clone(),
        efficiency: test.aggregate.tr110_efficiency.clone(),
        ttft_delta_ms: over(|run| run.ttft_delta_ms),
        throughput_delta: over(|run| run.throughput_delta),
        contention: (
            count(
                runs.iter()
                    .filter(|run| run.contention == Some(true))
                    .count(),
            ),
            count(runs.iter().filter(|run| run.contention.is_some()).count()),
        ),
    }
}

/// The valid runs of a test.
pub fn valid(test: &TestReport) -> impl Iterator<Item = &RunReport> {
    test.runs.iter().filter(|run| run.valid)
}
