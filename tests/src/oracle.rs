//! What must hold after every test, whatever was done to the services (`U` of the fault matrix):
//!
//! 1. the streams of every valid leg are whole: no number missing, the hash agrees;
//! 2. the report's tokens and requests are those that the engines counted themselves;
//! 3. replaying the bundle, and replaying it shuffled and with copies, gives the same bytes;
//! 4. what counts was written under the epoch that the control log names, and no other;
//! 5. each attempt at a leg ends in exactly one close, none is committed twice, and none follows
//!    upon a valid one;
//! 6. no worker is still held.
//!
//! It reads the bus and asks the engines itself; of the services it uses only `chimera replay` and
//! `chimera verify`, which are what it judges.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use chimera_domain::control::{ControlEvent, ControlRecord, LegVerdict};
use chimera_domain::event::RequestErrorKind;
use chimera_domain::ids::{ExperimentId, RunId};
use chimera_domain::report::{LegReport, Report, RequestReport};
use chimera_runtime::clock;
use chimera_testkit::fake_engine::{Ended, FakeEngine, RequestTruth};

use crate::stack::Stack;
use crate::{bundle, cli, observe};

/// Leases are gone that long after the end at the latest.
const LEASE_LIMIT: Duration = Duration::from_secs(10);

/// Checks everything; gives the report, so that the test need not ask twice.
///
/// # Errors
/// The first thing that does not hold.
pub async fn check(
    stack: &Stack,
    experiment: &ExperimentId,
    engines: &[FakeEngine],
) -> Result<Report> {
    let report = stack.report(experiment).await?;
    let control = observe::control(&stack.bus, experiment).await?;
    one_close_per_attempt(&control).context("oracle: closes")?;
    let valid = legs(&report).filter(|leg| leg.valid);
    let valid: BTreeMap<&RunId, &LegReport> = valid.map(|leg| (&leg.leg, leg)).collect();
    whole_and_of_one_epoch(stack, experiment, &control, &valid)
        .await
        .context("oracle: streams")?;
    as_the_engines_counted(&report, engines).context("oracle: truth")?;
    replays(stack, experiment).await.context("oracle: replay")?;
    nothing_held(stack).await.context("oracle: leases")?;
    Ok(report)
}

fn legs(report: &Report) -> impl Iterator<Item = &LegReport> {
    report
        .tests
        .iter()
        .flat_map(|test| &test.runs)
        .flat_map(|run| &run.legs)
}

/// Of every attempt, and of every leg at most one valid: the last.
///
/// # Errors
/// The first attempt of which it is not true.
pub fn one_close_per_attempt(control: &[ControlEvent]) -> Result<()> {
    let mut touched: BTreeSet<(&RunId, u32)> = BTreeSet::new();
    let mut closes: BTreeMap<(&RunId, u32), u32> = BTreeMap::new();
    let mut commits: BTreeMap<(&RunId, u32), u32> = BTreeMap::new();
    let mut valid: BTreeMap<&RunId, u32> = BTreeMap::new();
    for event in control {
        let Some(run) = &event.run else { continue };
        let attempt = (run, event.attempt);
        touched.insert(attempt);
        match &event.record {
            // A verdict that did not stand up to the analyzer's check is no second close.
            ControlRecord::Closed { verdict }
                if valid.get(run) == Some(&event.attempt) && *verdict != LegVerdict::Valid =>
            {
                valid.remove(run);
            }
            ControlRecord::Closed { verdict } => {
                *closes.entry(attempt).or_default() += 1;
                if *verdict == LegVerdict::Valid
                    && let Some(before) = valid.insert(run, event.attempt)
                {
                    bail!("{run} was valid in attempts {before} and {}", event.attempt);
                }
            }
            ControlRecord::Committed { .. } => *commits.entry(attempt).or_default() += 1,
            _ => {}
        }
    }
    for (run, attempt) in &touched {
        let count = closes.get(&(*run, *attempt)).copied().unwrap_or(0);
        ensure!(
            count == 1,
            "attempt {attempt} at {run} was closed {count} times"
        );
        if let Some(valid) = valid.get(run) {
            ensure!(attempt <= valid, "{run} was tried again after it was valid");
        }
    }
    if let Some(((run, attempt), count)) = commits.iter().find(|(_, count)| **count > 1) {
        bail!("attempt {attempt} at {run} was committed {count} times");
    }
    Ok(())
}

async fn whole_and_of_one_epoch(
    stack: &Stack,
    experiment: &ExperimentId,
    control: &[ControlEvent],
    valid: &BTreeMap<&RunId, &LegReport>,
) -> Result<()> {
    let streams = observe::agent_streams(&stack.bus, experiment).await?;
    for (run, leg) in valid {
        let members = control
            .iter()
            .find_map(|event| match &event.record {
                ControlRecord::Reserved { members, .. }
                    if event.run.as_ref() == Some(run) && leg.attempt == Some(event.attempt) =>
                {
                    Some((event, members))
                }
                _ => None,
            })
            .with_context(|| format!("{run} counts and was never reserved"))?;
        let (reserved, members) = members;
        ensure!(
            leg.epoch == Some(reserved.epoch),
            "{run} counts under another epoch"
        );
        let closed_valid = control.iter().any(|event| {
            event.run.as_ref() == Some(run)
                && event.attempt == reserved.attempt
                && event.record
                    == ControlRecord::Closed {
                        verdict: LegVerdict::Valid,
                    }
        });
        ensure!(closed_valid, "{run} counts and was not closed as valid");
        for member in members {
            let found = streams.iter().find(|((key, epoch), _)| {
                key.run == **run
                    && key.agent == member.agent
                    && key.attempt == reserved.attempt
                    && *epoch == reserved.epoch
            });
            let (_, stream) =
                found.with_context(|| format!("{run} counts without {}", member.agent))?;
            stream
                .check_whole()
                .with_context(|| format!("{run}, {}", member.agent))?;
            ensure!(
                stream.undecodable == 0,
                "{run} counts with undecodable messages"
            );
        }
    }
    Ok(())
}

/// Every request that the report counts.
pub fn requests(report: &Report) -> impl Iterator<Item = &RequestReport> {
    let agents = report
        .tests
        .iter()
        .flat_map(|test| &test.runs)
        .flat_map(|run| &run.agents);
    // Solo requests of a leg that several runs share would come twice; the truth does not mind.
    agents.flat_map(|agent| agent.requests.iter().chain(&agent.solo_requests))
}

/// What an engine knows of a request.
///
/// # Errors
/// When none of them has seen it.
pub fn truth(engines: &[FakeEngine], request: &RequestReport) -> Result<RequestTruth> {
    let id = request.request_id.as_str();
    engines
        .iter()
        .find_map(|engine| engine.truth_of(id))
        .with_context(|| format!("no engine has seen {id}"))
}

fn as_the_engines_counted(report: &Report, engines: &[FakeEngine]) -> Result<()> {
    if engines.is_empty() {
        return Ok(());
    }
    for request in requests(report) {
        let class = request.error.as_ref().map(|error| error.kind);
        let truth = match (truth(engines, request), class) {
            (Ok(truth), _) => truth,
            // Given up before the engine had read it whole, or never delivered.
            (
                Err(_),
                Some(
                    RequestErrorKind::Cancelled
                    | RequestErrorKind::Connect
                    | RequestErrorKind::ConnectTimeout,
                ),
            ) => continue,
            (Err(error), _) => return Err(error),
        };
        if let Some(class) = class {
            ensure!(
                truth.ended != Ended::Whole || class == RequestErrorKind::Cancelled,
                "{} was answered whole and is reported as {}",
                request.request_id,
                class.as_str()
            );
            continue;
        }
        ensure!(
            truth.ended == Ended::Whole,
            "{} is reported as a success and ended {:?}",
            request.request_id,
            truth.ended
        );
        let written = u32::try_from(truth.tokens.len()).ok();
        ensure!(
            request.output_tokens == written,
            "{}: {:?} tokens reported, {written:?} written",
            request.request_id,
            request.output_tokens
        );
    }
    for run in report
        .tests
        .iter()
        .flat_map(|test| &test.runs)
        .filter(|run| run.valid)
    {
        for agent in &run.agents {
            let sum: u64 = agent
                .requests
                .iter()
                .filter_map(|r| r.output_tokens)
                .map(u64::from)
                .sum();
            ensure!(
                agent.output_tokens == Some(sum),
                "{}: tokens do not add up",
                agent.agent
            );
        }
    }
    Ok(())
}

async fn replays(stack: &Stack, experiment: &ExperimentId) -> Result<()> {
    let folder = stack.bundle(experiment);
    let plain = folder.display().to_string();
    cli::chimera(stack.dir(), &["replay", &plain])
        .await?
        .expect(0)?;
    cli::chimera(stack.dir(), &["verify", &plain])
        .await?
        .expect(0)?;
    let copy = stack.dir().join(format!("shuffled-{experiment}"));
    bundle::copy(&folder, &copy)?;
    for (seed, file) in (1..).zip(bundle::RECORDS) {
        bundle::shuffle_and_duplicate(&copy.join(file), seed)?;
    }
    let shuffled = copy.display().to_string();
    cli::chimera(stack.dir(), &["replay", &shuffled])
        .await?
        .expect(0)
        .context("shuffled")?;
    std::fs::remove_dir_all(&copy).context("cannot remove the shuffled copy")
}

async fn nothing_held(stack: &Stack) -> Result<()> {
    let deadline = clock::deadline(LEASE_LIMIT);
    loop {
        let held: Vec<_> = stack
            .workers()
            .await?
            .into_iter()
            .filter(|w| w.busy_with.is_some())
            .collect();
        if held.is_empty() {
            return Ok(());
        }
        ensure!(clock::mono() < deadline, "still held: {held:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
