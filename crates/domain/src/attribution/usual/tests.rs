use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::*;
use crate::event::EngineTimes;
use crate::ids::{RequestId, Role};
use crate::options::{EngineKind, EngineOptions};
use crate::plan::Topology;
use crate::units::MonoNs;

fn agent(name: &str, context: u32) -> PlannedAgent {
    PlannedAgent {
        id: AgentId::try_new(name).unwrap(),
        role: Role::try_new("collector").unwrap(),
        engine: EngineKind::Openai,
        model: "m".to_owned(),
        options: EngineOptions {
            num_ctx: context,
            ..EngineOptions::default()
        },
        instance: None,
        think_ms: 0,
    }
}

/// Agents of which the first `alike` are identical, the others each different.
fn test_of(count: usize, alike: usize) -> PlannedTest {
    let number = |count: usize| u32::try_from(count).unwrap();
    let context = |at: usize| {
        if at < alike { 512 } else { 1024 + number(at) }
    };
    PlannedTest {
        id: 1,
        phase: 1,
        scenario: "custom".to_owned(),
        label: String::new(),
        agents: (0..count)
            .map(|at| agent(&format!("a{at}"), context(at)))
            .collect(),
        max_concurrent: number(count),
        runs: 5,
        topology: Topology::Pinned,
        until: None,
    }
}

fn record(prompt: u32, output: u32) -> RequestRecord {
    RequestRecord {
        request_id: RequestId::try_new("r").unwrap(),
        step: "analysis".to_owned(),
        sent: MonoNs(0),
        head_ns: None,
        chunk_ns: Vec::new(),
        done_ns: None,
        prompt_sha256: String::new(),
        prompt_tokens: Some(prompt),
        cached_tokens: Some(0),
        output_tokens: Some(output),
        output_sha256: String::new(),
        finish: None,
        engine_times: EngineTimes::default(),
        client_wait_ns: None,
        error: None,
    }
}

fn parts(prefill: f64, decode: f64) -> Parts {
    Parts {
        client_ms: Some(0.1),
        queue_ms: Some(0.0),
        load_ms: Some(1.0),
        prefill_ms: Some(prefill),
        decode_ms: Some(decode),
        stall_ms: Some(0.0),
        unsplit_ms: 3.0,
        ..Parts::default()
    }
}

fn leg(record: &RequestRecord, parts: Parts) -> Requests<'_> {
    vec![Taken { record, parts }]
}

/// An agent whose solo legs took these decode times, together `decode`.
fn judge(alone_ms: &[f64], together: Parts) -> Vec<Excess> {
    let test = test_of(1, 1);
    let record = record(100, 51);
    let mut alone = Alone::default();
    for decode in alone_ms {
        alone.add(0, leg(&record, parts(200.0, *decode)));
    }
    let agents = [(&test.agents[0], leg(&record, together))];
    compare(&test, &alone, &agents).remove(0)
}

fn of(excess: &[Excess], part: Part) -> &Excess {
    excess.iter().find(|excess| excess.part == part).unwrap()
}

#[test]
fn twice_the_usual_is_beyond_chance_and_comes_first() {
    let found = judge(
        &[1000.0, 1010.0, 990.0, 1005.0, 995.0],
        parts(200.0, 2000.0),
    );
    assert_eq!(found[0].part, Part::Decode);
    assert!(found[0].beyond_chance);
    assert!((found[0].excess_ms - 1000.0).abs() < 1e-9);
    assert_eq!(found[0].usual_n, 5);
    assert!(found[1..].iter().all(|excess| !excess.beyond_chance));
}

#[test]
fn a_sure_excess_that_does_not_matter_is_not_called_slow() {
    let found = judge(
        &[1000.0, 1000.1, 999.9, 1000.0, 1000.0],
        parts(200.0, 1020.0),
    );
    let decode = of(&found, Part::Decode);
    assert!(decode.p.unwrap() < 1e-4);
    assert!(!decode.beyond_chance);
}

#[test]
fn one_solo_leg_tells_nothing_of_chance() {
    let found = judge(&[1000.0], parts(200.0, 9000.0));
    assert_eq!(of(&found, Part::Decode).p, None);
    assert_eq!(of(&found, Part::Decode).usual_sd_ms, None);
    assert!(found.iter().all(|excess| !excess.beyond_chance));
    assert!(judge(&[], parts(200.0, 9000.0)).is_empty());
}

#[test]
fn what_never_occurs_alone_is_found_where_it_occurs() {
    let reload = Parts {
        load_ms: Some(900.0),
        ..parts(200.0, 1000.0)
    };
    let found = judge(&[1000.0, 1010.0, 990.0], reload);
    assert!(of(&found, Part::Load).beyond_chance);
    let queued = Parts {
        queue_ms: Some(700.0),
        ..parts(200.0, 1000.0)
    };
    assert!(of(&judge(&[1000.0, 1010.0, 990.0], queued), Part::Queue).beyond_chance);
}

#[test]
fn decode_is_judged_per_token_and_prefill_per_uncached_token() {
    let test = test_of(1, 1);
    let (short, long) = (record(100, 51), record(300, 101));
    let mut alone = Alone::default();
    for jitter in [0.0, 1.0, 2.0] {
        alone.add(0, leg(&short, parts(200.0, 1000.0 + jitter)));
    }
    let agents = [(&test.agents[0], leg(&long, parts(600.0, 2002.0)))];
    let found = compare(&test, &alone, &agents).remove(0);
    assert!((of(&found, Part::Decode).usual_ms - 2002.0).abs() < 1e-9);
    assert!((of(&found, Part::Prefill).usual_ms - 600.0).abs() < 1e-9);
    assert!(found.iter().all(|excess| !excess.beyond_chance));
    let usual = alone.of_request(&test, &test.agents[0], 0, &agents[0].1[0]);
    assert!((usual[&Part::Decode].mean_ms - 2002.0).abs() < 1e-9);
    assert_eq!(usual[&Part::Decode].n, 3);
}

#[test]
fn a_part_that_an_engine_does_not_state_is_not_compared() {
    let silent = Parts {
        prefill_ms: None,
        ..parts(0.0, 1000.0)
    };
    let found = judge(&[1000.0, 1001.0, 999.0], silent);
    assert!(found.iter().all(|excess| excess.part != Part::Prefill));
    assert!(found.iter().all(|excess| excess.part != Part::Transport));
}

#[test]
fn legs_with_other_steps_or_failures_say_nothing() {
    let test = test_of(1, 1);
    let (own, mut other) = (record(100, 51), record(100, 51));
    other.step = "report".to_owned();
    let mut alone = Alone::default();
    alone.add(0, leg(&other, parts(200.0, 1.0)));
    alone.add(0, Vec::new());
    alone.add(0, leg(&own, parts(200.0, 1000.0)));
    alone.add(0, leg(&own, parts(200.0, 1002.0)));
    let agents = [(&test.agents[0], leg(&own, parts(200.0, 1000.0)))];
    let found = compare(&test, &alone, &agents).remove(0);
    assert_eq!(of(&found, Part::Decode).usual_n, 2);
    assert!((of(&found, Part::Decode).usual_ms - 1001.0).abs() < 1e-9);
}

#[test]
fn identical_agents_share_their_solo_legs() {
    let test = test_of(2, 2);
    assert_eq!(configuration(&test, &test.agents[1]), 0);
    let test = test_of(2, 1);
    assert_eq!(configuration(&test, &test.agents[1]), 1);
}

/// Draws for the simulation.
struct Noise(ChaCha8Rng);

impl Noise {
    fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// What clean experiments look like.
#[derive(Debug, Clone, Copy)]
struct Clean {
    runs: usize,
    agents: usize,
    alike: bool,
    /// Standard deviation of the logarithm of a leg's pace, and of one request's about it.
    jitter: f64,
    /// Of the drift from run to run, and its correlation with the run before.
    drift: f64,
    memory: f64,
    /// How often a leg has a hiccup, and how long one is on average, ms.
    hiccups: f64,
    hiccup_ms: f64,
}

/// The share of runs called slow in which nothing is wrong.
fn false_alarms(clean: Clean, experiments: usize, seed: u64) -> (usize, usize) {
    let mut noise = Noise(ChaCha8Rng::seed_from_u64(seed));
    let test = test_of(clean.agents, if clean.alike { clean.agents } else { 1 });
    let records: Vec<RequestRecord> = (0..2).map(|_| record(400, 60)).collect();
    let (mut alarms, mut judged) = (0, 0);
    for _ in 0..experiments {
        let mut drift = noise.normal();
        let mut alone = Alone::default();
        let mut together: Vec<Vec<(&PlannedAgent, Requests<'_>)>> = Vec::new();
        for _ in 0..clean.runs {
            let fresh = (1.0 - clean.memory * clean.memory).sqrt();
            drift = clean.memory * drift + fresh * noise.normal();
            let pace = clean.drift * drift;
            for planned in &test.agents {
                let leg_pace = pace + clean.jitter * noise.normal();
                let requests = clean_leg(&mut noise, &records, clean, leg_pace);
                alone.add(configuration(&test, planned), requests);
            }
            // The agents of the together leg are shaken by the same machine.
            let leg_pace = pace + clean.jitter * noise.normal();
            let agents = test.agents.iter();
            together.push(
                agents
                    .map(|a| (a, clean_leg(&mut noise, &records, clean, leg_pace)))
                    .collect(),
            );
        }
        for agents in &together {
            let found = compare(&test, &alone, agents);
            judged += 1;
            alarms += usize::from(found.iter().flatten().any(|excess| excess.beyond_chance));
        }
    }
    (alarms, judged)
}

fn clean_leg<'a>(
    noise: &mut Noise,
    records: &'a [RequestRecord],
    clean: Clean,
    leg_pace: f64,
) -> Requests<'a> {
    records
        .iter()
        .map(|record| {
            let mut factor = || (leg_pace + clean.jitter * noise.normal()).exp();
            let (prefill, decode) = (250.0 * factor(), 1200.0 * factor());
            let mut small = |ms: f64| ms * (0.7 * noise.normal()).exp();
            let (load, unsplit, client) = (small(2.0), small(4.0), small(0.5));
            let hiccup = noise.uniform() < clean.hiccups / records.len() as f64;
            let stall = if hiccup {
                -clean.hiccup_ms * (1.0 - noise.uniform()).ln()
            } else {
                0.0
            };
            Taken {
                record,
                parts: Parts {
                    client_ms: Some(client),
                    load_ms: Some(load),
                    stall_ms: Some(stall),
                    unsplit_ms: unsplit,
                    ..parts(prefill, decode)
                },
            }
        })
        .collect()
}

fn clean_cases() -> Vec<Clean> {
    let mut cases = Vec::new();
    for runs in [3, 5, 10] {
        for (agents, alike) in [(1, true), (2, true), (2, false), (4, false)] {
            for (jitter, drift, memory, hiccups) in [
                (0.01, 0.0, 0.0, 0.0),
                (0.03, 0.03, 0.7, 0.2),
                (0.10, 0.05, 0.7, 0.2),
                (0.03, 0.10, 0.9, 0.5),
            ] {
                cases.push(Clean {
                    runs,
                    agents,
                    alike,
                    jitter,
                    drift,
                    memory,
                    hiccups,
                    hiccup_ms: 40.0,
                });
            }
        }
    }
    cases
}

/// The promise of [`FALSE_ALARM_RATE`], over all kinds of clean experiments together.
#[test]
fn clean_runs_are_seldom_called_slow() {
    let (mut alarms, mut judged) = (0, 0);
    for (seed, case) in clean_cases().into_iter().enumerate() {
        let (found, of) = false_alarms(case, 20, seed as u64);
        alarms += found;
        judged += of;
    }
    let share = alarms as f64 / judged as f64;
    assert!(share <= FALSE_ALARM_RATE, "{alarms} of {judged}");
}

/// The same, kind by kind, with enough draws to see each.
#[test]
#[ignore = "a minute of draws: run it after a change to the rule"]
fn each_kind_of_clean_run_is_seldom_called_slow() {
    let mut over = Vec::new();
    for (seed, case) in clean_cases().into_iter().enumerate() {
        let (alarms, judged) = false_alarms(case, 600, 1_000 + seed as u64);
        let share = alarms as f64 / judged as f64;
        println!("{share:.4} {case:?}");
        if share > FALSE_ALARM_RATE {
            over.push((share, case));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}
