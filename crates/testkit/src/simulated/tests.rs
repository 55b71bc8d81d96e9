use chimera_domain::attribution::Cause;
use chimera_domain::event::AgentRecord;
use chimera_domain::report::{Environment, Input, Report, build};
use chimera_domain::units::ns_to_ms;

use super::*;

fn report(experiment: &Experiment) -> Report {
    let input = Input::new(
        &experiment.control,
        &experiment.events,
        Environment::default(),
    )
    .with_telemetry(&experiment.telemetry);
    build(&input).unwrap()
}

#[test]
fn a_seed_gives_the_same_records() {
    let case = Case::of(&[Cause::HostCpu, Cause::Network], 1.0, 7);
    let (one, two) = (simulate(&case).unwrap(), simulate(&case).unwrap());
    assert_eq!(one.events, two.events);
    assert_eq!(one.telemetry, two.telemetry);
    assert_eq!(one.control, two.control);
    assert_ne!(
        one.events,
        simulate(&Case::of(&[Cause::HostCpu], 1.0, 8))
            .unwrap()
            .events
    );
}

#[test]
fn clean_runs_are_valid_and_every_agent_gains_all_it_can() {
    for seed in 0..12 {
        let experiment = simulate(&Case::clean(seed)).unwrap();
        for test in report(&experiment).tests {
            let agents = f64::from(test.max_concurrent);
            for run in test.runs {
                assert!(run.valid, "seed {seed}: {:?}", run.invalid);
                let efficiency = run.concurrency_gain.unwrap() / agents;
                // Shorter answers leave an idle tail; nobody waits for anybody.
                assert!(
                    efficiency > 0.88,
                    "seed {seed} run {}: {efficiency}",
                    run.run
                );
            }
        }
        for ledger in &experiment.ledgers {
            let lost: f64 = ledger
                .iter()
                .filter(|(cause, _)| **cause != Cause::LengthImbalance)
                .map(|(_, ms)| ms)
                .sum();
            assert!(
                lost < 1.0,
                "seed {seed}, {}: {ledger:?}",
                experiment.machine
            );
        }
    }
}

/// Part of the longest agent's time together that a cause took, in the run where it took least.
fn least_cost(experiment: &Experiment, cause: Cause) -> f64 {
    let mut started = std::collections::BTreeMap::new();
    let mut longest = std::collections::BTreeMap::new();
    for event in &experiment.events {
        match &event.record {
            AgentRecord::Started(started_at) => {
                started.insert(&event.key, started_at.actual);
            }
            AgentRecord::Finished(finished) => {
                let ns = finished.at.since(started[&event.key]).unwrap();
                let ms: &mut f64 = longest.entry(event.key.run.as_str()).or_default();
                *ms = ms.max(ns_to_ms(ns));
            }
            _ => {}
        }
    }
    let runs = (1..).zip(&experiment.truth).zip(&experiment.ledgers);
    let acted = runs.filter(|((_, truth), _)| truth.contains(&cause));
    let costs = acted.map(|((run, _), ledger): ((u32, _), _)| {
        let cost = ledger.get(&cause).copied().unwrap_or(0.0);
        cost / longest[format!("t1-r{run}-together").as_str()]
    });
    costs.fold(f64::INFINITY, f64::min)
}

/// What costs too little to be there at all.
fn too_cheap(causes: &[Cause], strength: f64, seed: u64, least: f64) -> Vec<String> {
    let experiment = runs_of(&Case::of(causes, strength, seed), 2).unwrap();
    let costs = causes
        .iter()
        .map(|cause| (cause, least_cost(&experiment, *cause)));
    let cheap = costs.filter(|(_, cost)| *cost < least);
    let machine = &experiment.machine;
    cheap
        .map(|(cause, cost)| {
            format!("{cause} of {causes:?} at {strength}, seed {seed}, {machine}: {cost:.4}")
        })
        .collect()
}

#[test]
fn what_is_injected_costs_time_even_when_weak() {
    let mut cheap = Vec::new();
    for cause in causes() {
        for seed in 0..3 {
            cheap.extend(too_cheap(&[cause], 0.5, seed, 0.02));
        }
        cheap.extend(too_cheap(&[cause], 2.0, 3, 0.06));
    }
    assert!(cheap.is_empty(), "{cheap:#?}");
}

#[test]
fn both_causes_of_a_pair_cost_time() {
    let mut cheap = Vec::new();
    for ((a, b), seed) in pairs().into_iter().zip(0..) {
        cheap.extend(too_cheap(&[a, b], 1.0, seed, 0.02));
    }
    assert!(cheap.is_empty(), "{cheap:#?}");
}

#[test]
fn engines_state_what_real_ones_state() {
    for seed in 0..6 {
        let experiment = simulate(&Case::clean(seed)).unwrap();
        let gpus = experiment
            .telemetry
            .iter()
            .any(|batch| !batch.gpus.is_empty());
        assert_eq!(gpus, experiment.machine.contains("GPU"));
        for event in &experiment.events {
            if let AgentRecord::Request(request) = &event.record {
                let times = &request.engine_times;
                let ollama = experiment.machine.contains("Ollama");
                assert_eq!(
                    (times.load_ns.is_some(), times.total_ns.is_some()),
                    (ollama, ollama)
                );
                assert!(times.prompt_eval_ns.is_some() && times.eval_ns.is_some());
            }
        }
    }
}

#[test]
fn causes_that_cannot_act_together_are_refused_with_the_reason() {
    let error = simulate(&Case::of(
        &[Cause::Queueing, Cause::ComputeContention],
        1.0,
        1,
    ))
    .unwrap_err();
    assert!(
        error.to_string().contains("never run at the same time"),
        "{error}"
    );
    assert!(simulate(&Case::of(&[Cause::Network], 9.0, 1)).is_err());
    assert!(simulate(&Case::of(&[Cause::Unexplained], 1.0, 1)).is_err());
    assert!(simulate(&Case::of(&[Cause::Network, Cause::Network], 1.0, 1)).is_err());
    assert_eq!(pairs().len(), 57);
    for a in Cause::ALL {
        for b in Cause::ALL {
            assert_eq!(impossible(a, b), impossible(b, a));
        }
    }
}
