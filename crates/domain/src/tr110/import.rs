//! Runs as their files state them, made a report of ours.

use std::collections::BTreeMap;

use super::faults::{Fault, ImportError};
use super::layout::{RunFile, SAME, StatedAgent};
use super::scenario::{label, scenario};
use crate::control::InvalidReason;
use crate::ids::{AgentId, ExperimentId};
use crate::options::EngineKind;
use crate::plan::Topology;
use crate::quality::Judged;
use crate::report::number::{text, with_interval};
use crate::report::{
    AgentConfig, AgentDelta, AgentOptions, AgentRun, Aggregate, Distributions, Environment,
    ImportedFrom, Outcome, OutcomeState, Reason, Report, RunReport, SCHEMA_VERSION, TestReport,
    Validity, findings,
};
use crate::stats::Provenance;

/// Why a text is not judged. Our own files hold tables around what the model wrote, so of a run of ours
/// only its records tell.
const NO_TEXT: &str =
    "not in the raw data: no text that the agent alone wrote lies beside the run's figures";

/// What the caller says of an import.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// Identity of the report. The same files should have the same.
    pub experiment: ExperimentId,
    /// What a person calls it.
    pub name: String,
    /// Version of Chimera that imports.
    pub software: Option<String>,
    /// Its revision.
    pub git_revision: Option<String>,
}

/// The runs of an experiment in the form of our own reports.
///
/// # Errors
/// When there is no run, two files are the same run of the same test, or a number names two tests.
pub fn report(mut runs: Vec<RunFile>, about: About) -> Result<Report, ImportError> {
    runs.sort_by(|a, b| (a.path, &a.file).cmp(&(b.path, &b.file)));
    refuse(&runs)?;
    let files = u32::try_from(runs.len()).unwrap_or(u32::MAX);
    let notes = notes(&runs);
    let model = agreed(
        runs.iter()
            .flat_map(|run| &run.agents)
            .filter_map(|agent| agent.model.as_ref()),
    );
    let mut by_test: BTreeMap<u32, Vec<RunFile>> = BTreeMap::new();
    for run in runs {
        by_test.entry(run.path.test).or_default().push(run);
    }
    let tests = by_test.into_values().filter_map(|runs| test(&runs));
    let mut report = Report {
        schema_version: SCHEMA_VERSION,
        experiment: about.experiment,
        name: about.name,
        outcome: Outcome {
            state: OutcomeState::Completed,
            detail: Some(
                "imported from TR110's files; whether it was planned so is not known".into(),
            ),
        },
        seed: None,
        workload: None,
        spec: None,
        slo: None,
        source: Some(ImportedFrom {
            layout: "tr110".to_owned(),
            files,
            notes,
        }),
        environment: Environment {
            model,
            gpu_absent: Some("TR110's files do not say on what they were measured".to_owned()),
            software: about.software,
            git_revision: about.git_revision,
            ..Environment::default()
        },
        validity: Validity::default(),
        tests: tests.collect(),
        contrast: None,
        topology: None,
        findings: Vec::new(),
    };
    report.findings = findings::findings(&report);
    Ok(report)
}

/// Refuses what cannot be one experiment.
fn refuse(runs: &[RunFile]) -> Result<(), ImportError> {
    let mut faults = Vec::new();
    if runs.is_empty() {
        faults.push(Fault::of_file(
            "phase_P_test_TTT/run_R/metrics.json",
            "no such file: this folder holds no runs of TR110",
        ));
    }
    let mut phases: BTreeMap<u32, &RunFile> = BTreeMap::new();
    let mut seen: BTreeMap<(u32, u32), &RunFile> = BTreeMap::new();
    for run in runs {
        let first = phases.entry(run.path.test).or_insert(run);
        if first.path.phase != run.path.phase {
            faults.push(Fault::of_file(
                &run.file,
                format!(
                    "test {} is of another phase in {}: a number names one test",
                    run.path.test, first.file
                ),
            ));
            continue;
        }
        if let Some(other) = seen.insert((run.path.test, run.path.run), run) {
            faults.push(Fault::of_file(
                &run.file,
                format!(
                    "run {} of test {} is in {} already: a copy counts no run",
                    run.path.run, run.path.test, other.file
                ),
            ));
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(ImportError::new(faults))
    }
}

/// What the files say of themselves that a reader should know.
fn notes(runs: &[RunFile]) -> Vec<String> {
    let mut notes = Vec::new();
    let renumbered: Vec<&str> = runs
        .iter()
        .filter(|run| run.run_number.is_some_and(|number| number != run.path.run))
        .map(|run| run.file.as_str())
        .collect();
    if let Some(first) = renumbered.first() {
        notes.push(format!(
            "{} files state another run number than their folder, {first} first: the folder's counts.",
            renumbered.len()
        ));
    }
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for run in runs {
        *counts.entry(run.path.test).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or(0);
    let fewer: Vec<String> = counts
        .iter()
        .filter(|(_, count)| **count < most)
        .map(|(test, count)| format!("{count} of test {test}"))
        .collect();
    if let Some(first) = fewer.first() {
        notes.push(format!(
            "{} of {} tests have fewer runs than the {most} of the others ({first} first): what became of \
             them is not known.",
            fewer.len(),
            counts.len()
        ));
    }
    if runs
        .iter()
        .flat_map(|run| &run.agents)
        .any(|agent| agent.quality.is_some())
    {
        notes.push(
            "The agents' texts are judged as their files hold them; the data they were written from is not \
             known, so no figure in them was checked, and their quality compares with no run of ours."
                .to_owned(),
        );
    }
    let disagree: Vec<&str> = runs
        .iter()
        .filter(|run| {
            let stated = run.stated.concurrency_speedup;
            let computed = computed_speedup(run);
            stated
                .zip(computed)
                .is_some_and(|(a, b)| (a - b).abs() > SAME * b.abs())
        })
        .map(|run| run.file.as_str())
        .collect();
    if let Some(first) = disagree.first() {
        notes.push(format!(
            "{} files state another speed-up than their durations and wall time give, {first} first: \
             the stated one counts.",
            disagree.len()
        ));
    }
    notes
}

fn agreed<'a>(mut values: impl Iterator<Item = &'a String>) -> Option<String> {
    let first = values.next()?;
    values.all(|value| value == first).then(|| first.clone())
}

/// Durations summed; `None` as soon as one is missing.
fn total_s(run: &RunFile) -> Option<f64> {
    run.agents.iter().map(|agent| agent.duration_s).sum()
}

fn computed_speedup(run: &RunFile) -> Option<f64> {
    Some(total_s(run)? / run.wall_s?)
}

/// One test of its runs. *Shape*: `runs` by rising number, one or more.
fn test(runs: &[RunFile]) -> Option<TestReport> {
    let first = runs.first()?;
    // The fullest statement of the agents is the test's configuration.
    let told = |run: &RunFile| {
        let options = run.agents.iter().filter(|agent| agent.options.is_some());
        (run.agents.len(), options.count())
    };
    let fullest = runs
        .iter()
        .rev()
        .max_by_key(|run| told(run))
        .unwrap_or(first);
    let agents: Vec<AgentConfig> = fullest.agents.iter().map(config).collect();
    let options: Vec<AgentOptions> = agents.iter().map(|agent| agent.options.clone()).collect();
    let reports: Vec<RunReport> = runs.iter().map(|run| run_report(run, fullest)).collect();
    let valid: Vec<&RunReport> = reports.iter().filter(|run| run.valid).collect();
    let ids: Vec<AgentId> = agents.iter().map(|agent| agent.agent.clone()).collect();
    let count = valid.len();
    let aggregate = Aggregate::of_imported(&valid, &ids).with_quality(&reports);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut report = TestReport {
        id: first.path.test.to_string(),
        phase: first.path.phase,
        scenario: scenario(&fullest.agents, fullest.scenario.as_deref()),
        label: fullest.label.clone().unwrap_or_else(|| label(&options)),
        folder: format!("phase_{}_test_{:03}", first.path.phase, first.path.test),
        // Each agent has an address of its own in every file.
        topology: Topology::Pinned,
        max_concurrent: number(agents.len()),
        agents,
        // As many as the highest number: a folder that is missing shows as a run never made.
        runs_planned: runs.iter().map(|run| run.path.run).max().unwrap_or(0),
        runs_attempted: number(runs.len()),
        runs_valid: number(count),
        runs: reports,
        aggregate,
        distributions: Distributions::default(),
        verdict: String::new(),
        slow: None,
        causes: Vec::new(),
        times: Vec::new(),
    };
    report.verdict = verdict(&report);
    Some(report)
}

fn config(agent: &StatedAgent) -> AgentConfig {
    AgentConfig {
        agent: agent.id.clone(),
        role: agent.role.clone(),
        // The only engine that TR110 knows; its files name the addresses `*_ollama_url`.
        engine: EngineKind::Ollama,
        model: agent.model.clone(),
        options: agent.options.clone().unwrap_or_default(),
        instance: agent.url.clone(),
        think_ms: 0,
        stated_type: agent.kind.clone(),
    }
}

fn run_report(run: &RunFile, test: &RunFile) -> RunReport {
    let durations: Vec<f64> = run
        .agents
        .iter()
        .filter_map(|agent| agent.duration_s)
        .collect();
    let complete = durations.len() == run.agents.len();
    let longest = durations.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shortest = durations.iter().copied().fold(f64::INFINITY, f64::min);
    let speedup = run
        .stated
        .concurrency_speedup
        .or_else(|| computed_speedup(run));
    let count = run.agents.len() as f64;
    let tokens: Option<u64> = run
        .agents
        .iter()
        .map(|agent| agent.tokens.map(u64::from))
        .sum();
    let ended = (complete && longest.is_finite()).then_some(longest);
    let mut agents: Vec<AgentRun> = run
        .agents
        .iter()
        .map(|agent| agent_run(agent, ended))
        .collect();
    deltas(&mut agents);
    let reason = failed(run).or_else(|| drift(run, test));
    RunReport {
        run: run.path.run,
        valid: reason.is_none(),
        invalid_reason: reason.as_ref().map(|reason| reason.reason.clone()),
        invalid: reason.into_iter().collect(),
        wall_s: run.wall_s,
        wall_error_ms: None,
        solo_total_s: run.solo_total_s,
        solo_reference_s: None,
        concurrency_gain: run.gain,
        gain_provenance: if run.gain.is_some() {
            Provenance::Imported
        } else {
            Provenance::NotMeasured
        },
        gain_rule: None,
        raw_gain: None,
        work_gain: None,
        work_difference: None,
        work_residual: None,
        parallel_efficiency: run.gain.map(|gain| gain / count),
        aggregate_tokens_per_s: tokens
            .zip(run.wall_s)
            .map(|(tokens, wall)| tokens as f64 / wall),
        solo_tokens_per_s: None,
        throughput_ratio: None,
        overlap_fraction: None,
        idle_tail_s: ended
            .filter(|_| durations.len() > 1)
            .map(|longest| longest - shortest),
        fairness: None,
        tr110_speedup: speedup,
        tr110_efficiency: speedup.map(|speedup| speedup / count),
        balance_identity: ended
            .filter(|longest| *longest > 0.0)
            .map(|longest| durations.iter().sum::<f64>() / longest),
        start_skew_ms: None,
        start_skew_error_ms: None,
        harness_overhead_ms: ended
            .zip(run.wall_s)
            .map(|(longest, wall)| (wall - longest) * 1e3),
        host: None,
        goodput: None,
        gpu_memory: None,
        agents,
        legs: Vec::new(),
        attribution: None,
        tr110: Some(run.stated.clone()),
    }
}

/// Whether a run states that it did not come about.
fn failed(run: &RunFile) -> Option<Reason> {
    run.failed.as_ref().map(|why| Reason {
        reason: InvalidReason::AgentFailed.as_str().to_owned(),
        detail: format!("{} {why}", run.file),
    })
}

/// Whether a run states other agents or options than its test: it cannot be averaged with the others.
fn drift(run: &RunFile, test: &RunFile) -> Option<Reason> {
    let ids = |run: &RunFile| -> Vec<AgentId> {
        run.agents.iter().map(|agent| agent.id.clone()).collect()
    };
    let differs = |(own, other): (&StatedAgent, &StatedAgent)| match (&own.options, &other.options)
    {
        (Some(own), Some(other)) => own != other,
        _ => false,
    };
    let detail = if ids(run) == ids(test) {
        let (own, _) = run
            .agents
            .iter()
            .zip(&test.agents)
            .find(|pair| differs(*pair))?;
        format!(
            "{} states other options for {} than {}",
            run.file, own.id, test.file
        )
    } else {
        format!("{} states other agents than {}", run.file, test.file)
    };
    Some(Reason {
        reason: InvalidReason::OptionDrift.as_str().to_owned(),
        detail,
    })
}

fn agent_run(agent: &StatedAgent, ended: Option<f64>) -> AgentRun {
    let tokens = agent.tokens.map(u64::from);
    let duration = agent.duration_s.filter(|duration| *duration > 0.0);
    let tokens_per_s = tokens
        .zip(duration)
        .map(|(tokens, duration)| tokens as f64 / duration);
    let mut quality = match &agent.quality {
        Some(quality) => Judged {
            value: Some(quality.clone()),
            reason: None,
            adjusted_tokens_per_s: None,
        },
        None => Judged::absent(NO_TEXT),
    };
    quality.adjust(tokens_per_s);
    AgentRun {
        agent: agent.id.clone(),
        role: agent.role.clone(),
        worker: None,
        instance: None,
        duration_s: agent.duration_s,
        solo_duration_s: None,
        solo_reference_s: None,
        solo_shared_with: None,
        slowdown: None,
        raw_slowdown: None,
        start_offset_s: None,
        start_late_ms: None,
        queue_wait_s: None,
        idle_tail_s: ended.zip(agent.duration_s).map(|(ended, own)| ended - own),
        local_s: None,
        other_s: None,
        output_tokens: tokens,
        tokens_per_s,
        solo_tokens_per_s: None,
        ttft_ms: agent.stated.ttft_ms,
        delta: None,
        failure: None,
        requests: Vec::new(),
        solo_requests: Vec::new(),
        local_steps: Vec::new(),
        quality,
        tr110: Some(agent.stated.clone()),
    }
}

/// This agent minus the first, as everywhere in our reports.
fn deltas(agents: &mut [AgentRun]) {
    let Some((first, others)) = agents.split_first_mut() else {
        return;
    };
    let minus = |own: Option<f64>, other: Option<f64>| Some(own? - other?);
    for agent in others {
        agent.delta = Some(AgentDelta {
            duration_s: minus(agent.duration_s, first.duration_s),
            tokens_per_s: minus(agent.tokens_per_s, first.tokens_per_s),
            ttft_ms: minus(agent.ttft_ms, first.ttft_ms),
        });
    }
}

/// What an imported test shows. It has no gain unless its files state one.
fn verdict(test: &TestReport) -> String {
    let a = &test.aggregate;
    if test.runs_valid == 0 {
        return format!(
            "No valid run in {}: nothing can be said.",
            test.runs_attempted
        );
    }
    let balance = with_interval(a.tr110_speedup.value, a.tr110_speedup.ci95);
    let flagged = super::figures::of_test(test).contention;
    let flag = match flagged {
        (_, 0) => String::new(),
        (count, of) => format!("; its contention flag is set in {count} of {of} runs"),
    };
    let gain = match a.concurrency_gain.value {
        Some(gain) => format!(" The files state a concurrency gain of {}.", text(gain)),
        None => " No agent was run alone, so there is no gain to report.".to_owned(),
    };
    format!(
        "TR110's formula gives {balance} over {} runs, which is balance, not gain{flag}.{gain}",
        test.runs_valid
    )
}
