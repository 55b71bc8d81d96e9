//! What must keep a run out of every average.

use chimera_domain::control::{ControlRecord, InvalidReason, LegVerdict};
use chimera_domain::event::{
    AgentFailure, AgentRecord, EngineState, EngineWatch, PinMoment, RequestError, RequestErrorKind,
    ResidentModel,
};
use chimera_domain::ids::AgentKey;
use chimera_domain::plan::{LegKind, Topology};
use chimera_domain::report::{Input, Integrity, Report, build, build_counted};
use chimera_domain::timeline::StreamId;
use chimera_domain::units::{BootId, MonoNs};

use crate::support::{
    MS, Pace, World, against, agent_id, environment, experiment, planned_test, run_id,
};

fn world() -> World {
    let mut world = World::new(vec![planned_test(1, &["a", "b"], 2)]);
    for run in 1..=2 {
        world.run(1, run, &[pace(), pace()], &[pace(), pace()]);
    }
    world.close();
    world
}

fn pace() -> Pace {
    Pace::new(200 * MS, 20 * MS, 20)
}

fn together(run: u32) -> chimera_domain::ids::RunId {
    run_id(1, run, &LegKind::Together)
}

fn solo(run: u32, agent: &str) -> chimera_domain::ids::RunId {
    run_id(
        1,
        run,
        &LegKind::Solo {
            agent: agent_id(agent),
        },
    )
}

/// Run 1 is out for `reason`, run 2 alone is counted, and nothing of run 1 compares anything.
fn refused(report: &Report, reason: InvalidReason) -> String {
    let test = &report.tests[0];
    assert_eq!((test.runs_valid, test.runs_attempted), (1, 2));
    let run = &test.runs[0];
    assert!(!run.valid);
    assert_eq!(
        run.invalid_reason.as_deref(),
        Some(reason.as_str()),
        "{:?}",
        run.invalid
    );
    assert_eq!(
        (run.concurrency_gain, run.tr110_speedup, run.fairness),
        (None, None, None)
    );
    assert!(test.runs[1].valid);
    assert_eq!(test.aggregate.concurrency_gain.n, 1);
    assert_eq!(test.aggregate.ttft_ms.n, 1);
    run.invalid[0].detail.clone()
}

fn request(
    record: &mut AgentRecord,
    change: impl FnOnce(&mut chimera_domain::event::RequestRecord),
) {
    if let AgentRecord::Request(request) = record {
        change(request);
    }
}

#[test]
fn the_coordinators_verdict_comes_first() {
    let mut world = World::new(vec![planned_test(1, &["a", "b"], 2)]);
    for agent in ["a", "b"] {
        let kind = LegKind::Solo {
            agent: agent_id(agent),
        };
        world.leg(1, 1, &kind, &[(agent_id(agent), pace())]);
    }
    let gang = [(agent_id("a"), pace()), (agent_id("b"), pace())];
    let lost = against(InvalidReason::WorkerLost);
    world.attempt(1, 1, &LegKind::Together, &gang, (1, 1), lost);
    world.events.retain(|event| {
        event.key.run != together(1) || event.key.agent != agent_id("b") || event.n < 4
    });
    world.run(1, 2, &[pace(), pace()], &[pace(), pace()]);
    let report = world.report();
    refused(&report, InvalidReason::WorkerLost);
    let run = &report.tests[0].runs[0];
    assert!(
        run.invalid.iter().any(|why| why.reason == "data_loss"),
        "{:?}",
        run.invalid
    );
    // What is known is shown.
    assert!(run.agents[0].duration_s.is_some() && run.agents[1].duration_s.is_none());
    assert_eq!(run.wall_s, None);
    assert_eq!(
        report.validity.streams_complete,
        report.validity.streams - 1
    );
}

#[test]
fn a_missing_record_is_named() {
    let mut world = world();
    world.events.retain(|event| {
        event.key.run != together(1) || event.key.agent != agent_id("a") || event.n != 4
    });
    assert_eq!(
        refused(&world.report(), InvalidReason::DataLoss),
        "a: record 4 is missing"
    );
}

#[test]
fn a_missing_end_or_begin_is_named() {
    for (n, what) in [
        (0, "the opening record is missing"),
        (9, "the closing record is missing"),
    ] {
        let mut world = world();
        let last = world
            .events
            .iter()
            .filter(|e| e.key.run == together(1))
            .map(|e| e.n)
            .max();
        let n = if n == 0 { 0 } else { last.unwrap() };
        world
            .events
            .retain(|e| e.key.run != together(1) || e.key.agent != agent_id("b") || e.n != n);
        let detail = refused(&world.report(), InvalidReason::DataLoss);
        assert!(detail.contains(what), "{detail}");
    }
}

#[test]
fn a_second_different_record_is_a_conflict_whichever_came_first() {
    let mut world = world();
    let mut copy = world
        .events
        .iter()
        .find(|e| e.key.run == together(1) && matches!(e.record, AgentRecord::Request(_)))
        .unwrap()
        .clone();
    request(&mut copy.record, |request| request.output_tokens = Some(19));
    world.events.push(copy.clone());
    let after = world.report();
    assert!(refused(&after, InvalidReason::DataLoss).contains("two different records"));
    world.events.pop();
    world.events.insert(0, copy);
    assert_eq!(world.report(), after);
}

#[test]
fn bytes_that_disagree_with_their_hash_or_cannot_be_decoded() {
    let world = world();
    let key = AgentKey {
        experiment: experiment(),
        run: together(1),
        attempt: 1,
        agent: agent_id("a"),
    };
    let input = |integrity| {
        Input::new(&world.control, &world.events, environment()).with_integrity(integrity)
    };
    let mut integrity = Integrity::default();
    integrity.hashes.insert(
        StreamId {
            key: key.clone(),
            epoch: 1,
        },
        false,
    );
    let report = build(&input(integrity)).unwrap();
    assert!(refused(&report, InvalidReason::DataLoss).contains("hash"));
    assert_eq!(report.validity.streams_hash_checked, 1);
    let mut integrity = Integrity::default();
    integrity.dead_letters.insert(key, 2);
    let report = build(&input(integrity)).unwrap();
    assert!(refused(&report, InvalidReason::DataLoss).contains("2 messages could not be decoded"));
    assert_eq!(report.validity.dead_letters, 2);
}

#[test]
fn start_skew_over_the_limit() {
    for (late, valid) in [(10 * MS, true), (10 * MS + 1, false)] {
        let mut world = World::new(vec![planned_test(1, &["a", "b"], 2)]);
        let mut slow = pace();
        slow.late = late;
        world.run(1, 1, &[pace(), pace()], &[pace(), slow]);
        world.run(1, 2, &[pace(), pace()], &[pace(), pace()]);
        let report = world.report();
        assert_eq!(report.tests[0].runs[0].valid, valid);
        let skew = report.tests[0].runs[0].start_skew_ms.unwrap();
        assert!((skew - 10.0).abs() < 0.001);
        if !valid {
            refused(&report, InvalidReason::StartSkew);
        }
    }
}

#[test]
fn a_reload_inside_a_measured_request() {
    let mut world = world();
    world.change(&solo(1, "b"), "b", |record| {
        request(record, |request| {
            request.engine_times.load_ns = Some(900 * MS)
        });
    });
    let detail = refused(&world.report(), InvalidReason::SoloInvalid);
    assert!(
        detail.starts_with("solo b: reload: b, analysis: the engine loaded for 900 ms"),
        "{detail}"
    );
}

/// Of a shared instance the engine's load duration may be its queue; a load lets nobody write.
#[test]
fn a_wait_for_a_shared_engine_is_no_reload_and_a_reload_of_it_is_one() {
    // Both send after 100 ms. `a` has its first token 200 ms later and decodes for 3 s, twice; `b`
    // has to wait.
    let run = |load_ms: u64, shared: bool, prefill_ms: u64| {
        let mut test = planned_test(1, &["a", "b"], 1);
        if shared {
            test.topology = Topology::Shared { slots: 1 };
        }
        let mut world = World::new(vec![test]);
        let paces = [
            Pace::new(200 * MS, 30 * MS, 100),
            Pace::new(2_000 * MS, 30 * MS, 100),
        ];
        world.run(1, 1, &paces, &paces);
        world.close();
        for (agent, prefill) in [("a", prefill_ms), ("b", 10)] {
            world.change(&together(1), agent, |record| {
                request(record, |request| {
                    request.engine_times.prompt_eval_ns = Some(prefill * MS);
                });
            });
        }
        world.change(&together(1), "b", |record| {
            request(record, |request| {
                if request.step == "analysis" {
                    request.engine_times.load_ns = Some(load_ms * MS);
                }
            });
        });
        world.report().tests[0].runs[0].invalid_reason.clone()
    };
    let reload = Some("reload".to_owned());
    assert_eq!(run(1_500, false, 150), reload, "pinned: nobody else's work");
    assert_eq!(run(1_500, true, 150), None, "in the queue behind a's work");
    let stretch = run(3_900, true, 150);
    assert_eq!(stretch, None, "behind both requests of a");
    assert_eq!(run(9_000, true, 150), reload, "a had long ended");
}

#[test]
fn an_instance_that_changed() {
    let mut world = world();
    world.change(&together(1), "a", |record| {
        if let AgentRecord::Pin(pin) = record
            && pin.moment == PinMoment::After
        {
            pin.facts.pid = Some(78);
            pin.facts.context_length = Some(4096);
        }
    });
    let detail = refused(&world.report(), InvalidReason::PinChanged);
    assert!(
        detail.contains("context Some(8192) -> Some(4096)") && detail.contains("pid"),
        "{detail}"
    );
}

#[test]
fn an_instance_whose_layers_fell_or_whose_context_was_cut_is_named_so() {
    let mut world = world();
    world.change(&together(1), "a", |record| {
        if let AgentRecord::Pin(pin) = record {
            let after = pin.moment == PinMoment::After;
            pin.facts.size_vram_bytes = Some(if after { 40 } else { 100 });
            pin.facts.context_length = Some(if after { 2048 } else { 8192 });
        }
    });
    let detail = refused(&world.report(), InvalidReason::PinChanged);
    assert!(detail.contains("layers fell to the CPU"), "{detail}");
    assert!(detail.contains("it was cut"), "{detail}");
}

/// Run 1, with one reading of a's engine `ms` after a's start, in place of the text it wrote.
fn with_state(ms: u64, state: impl Fn(&mut EngineState)) -> World {
    let mut world = world();
    let mut started = MonoNs(0);
    world.change(&together(1), "a", |record| match record {
        AgentRecord::Started(start) => started = start.actual,
        AgentRecord::Pin(pin) => {
            pin.facts.size_bytes = Some(100);
            pin.facts.size_vram_bytes = Some(100);
        }
        AgentRecord::Output(_) => {
            let mut reading = EngineState {
                at: started.plus(ms * MS),
                ..EngineState::default()
            };
            state(&mut reading);
            *record = AgentRecord::Engine(EngineWatch {
                states: vec![reading],
                missed: 0,
            });
        }
        _ => {}
    });
    world
}

#[test]
fn another_client_on_the_instance_is_seen_by_its_requests() {
    let seen = |running, waiting, ms| {
        with_state(ms, |state| {
            state.requests_running = running;
            state.requests_waiting = waiting;
        })
        .report()
    };
    let detail = refused(&seen(Some(2), Some(0), 100), InvalidReason::PinChanged);
    assert!(
        detail.contains("another client") && detail.contains("2 requests at once 100 ms after"),
        "{detail}"
    );
    refused(&seen(Some(1), Some(1), 100), InvalidReason::PinChanged);
    for (running, waiting, ms) in [
        (Some(1), Some(0), 100),
        (Some(0), Some(0), 100),
        (None, Some(7), 100),
        (None, None, 100),
        (Some(2), Some(0), 900_000),
    ] {
        let report = seen(running, waiting, ms);
        let run = &report.tests[0].runs[0];
        assert!(run.valid, "{running:?} {waiting:?} {ms}: {:?}", run.invalid);
    }
}

#[test]
fn agents_that_share_an_instance_are_no_strangers_to_each_other() {
    let mut test = planned_test(1, &["a", "b"], 2);
    test.topology = Topology::Shared { slots: 1 };
    let mut world = World::new(vec![test]);
    for run in 1..=2 {
        world.run(1, run, &[pace(), pace()], &[pace(), pace()]);
    }
    world.close();
    let mut seen = |leg: &chimera_domain::ids::RunId, running, waiting| {
        let mut started = MonoNs(0);
        world.change(leg, "a", |record| match record {
            AgentRecord::Started(start) => started = start.actual,
            AgentRecord::Output(_) | AgentRecord::Engine(_) => {
                *record = AgentRecord::Engine(EngineWatch {
                    states: vec![EngineState {
                        at: started.plus(MS),
                        requests_running: Some(running),
                        requests_waiting: Some(waiting),
                        ..EngineState::default()
                    }],
                    missed: 0,
                });
            }
            _ => {}
        });
        world.report().tests[0].runs[0].valid
    };
    assert!(seen(&together(1), 1, 1), "both are ours");
    assert!(!seen(&together(1), 1, 2), "a third is not");
    assert!(seen(&together(1), 1, 1));
    assert!(!seen(&solo(1, "a"), 1, 1), "alone, a second is not");
}

#[test]
fn a_model_that_was_gone_or_loaded_otherwise_in_between_is_named() {
    let model = ResidentModel {
        model: "gemma3:270m".to_owned(),
        size_bytes: Some(100),
        size_vram_bytes: Some(100),
        context_length: Some(8192),
    };
    let seen = |resident: Vec<ResidentModel>| {
        with_state(100, |state| state.resident = Some(resident.clone())).report()
    };
    let other = ResidentModel {
        model: "another".to_owned(),
        ..model.clone()
    };
    assert!(seen(vec![other.clone(), model.clone()]).tests[0].runs[0].valid);
    for resident in [vec![], vec![other]] {
        let detail = refused(&seen(resident), InvalidReason::Reload);
        assert!(
            detail.contains("was not in the engine's memory"),
            "{detail}"
        );
    }
    let fell = ResidentModel {
        size_vram_bytes: Some(60),
        ..model.clone()
    };
    let detail = refused(&seen(vec![fell]), InvalidReason::PinChanged);
    assert!(
        detail.contains("layers fell to the CPU: 60 bytes"),
        "{detail}"
    );
    let context = |tokens| ResidentModel {
        context_length: Some(tokens),
        ..model.clone()
    };
    let detail = refused(&seen(vec![context(4096)]), InvalidReason::PinChanged);
    assert!(
        detail.contains("the context was cut: 4096 tokens"),
        "{detail}"
    );
    let detail = refused(&seen(vec![context(16_384)]), InvalidReason::Reload);
    assert!(detail.contains("a reload with another context"), "{detail}");
}

#[test]
fn a_context_beyond_the_model_s_training_is_found() {
    let finding = |trained| {
        let mut world = world();
        for event in &mut world.control {
            if let ControlRecord::Ready { pin, .. } = &mut event.record {
                pin.train_context = Some(trained);
            }
        }
        let findings = world.report().findings;
        findings.into_iter().find(|f| f.id == "no_op_context")
    };
    let asked = world().test(1).agents[0].options.num_ctx;
    let found = finding(asked - 1).unwrap();
    assert!(
        found.sentence.contains(&format!("{asked} for")),
        "{}",
        found.sentence
    );
    assert!((found.evidence[0].value - f64::from(asked - 1)).abs() < 0.5);
    assert_eq!(finding(asked), None, "as much as it was trained with");
}

#[test]
fn another_model_alone_than_together() {
    let mut world = world();
    world.change(&solo(1, "a"), "a", |record| {
        if let AgentRecord::Pin(pin) = record {
            pin.facts.model_digest = Some("44".repeat(32));
        }
    });
    let detail = refused(&world.report(), InvalidReason::PinChanged);
    assert!(
        detail.contains("alone and together differ in digest"),
        "{detail}"
    );
}

#[test]
fn options_that_drifted() {
    let mut world = world();
    world.change(&together(1), "a", |record| {
        if let AgentRecord::Begin(begin) = record {
            begin.options.num_ctx = 4096;
        }
    });
    refused(&world.report(), InvalidReason::OptionDrift);
}

#[test]
fn requests_that_failed_were_cut_or_brought_nothing() {
    for (kind, reason) in [
        (
            Some(RequestErrorKind::CutStream),
            InvalidReason::RequestFailed,
        ),
        (Some(RequestErrorKind::Truncated), InvalidReason::Truncated),
        (None, InvalidReason::RequestFailed),
    ] {
        let mut world = world();
        world.change(&together(1), "a", |record| {
            request(record, |request| {
                request.error = kind.map(|kind| RequestError {
                    kind,
                    detail: "x".to_owned(),
                });
                if kind.is_none() {
                    request.chunk_ns.clear();
                }
            });
        });
        refused(&world.report(), reason);
    }
    let mut world = world();
    world.change(&together(1), "a", |record| {
        request(record, |request| request.prompt_tokens = Some(8190));
    });
    assert!(refused(&world.report(), InvalidReason::Truncated).contains("do not fit 8192"));
}

#[test]
fn an_agent_that_failed_outside_its_requests() {
    let mut world = world();
    world.change(&together(1), "b", |record| {
        if let AgentRecord::Finished(finished) = record {
            finished.failure = Some(AgentFailure {
                label: "data".to_owned(),
                detail: "no CSV".to_owned(),
            });
        }
    });
    assert_eq!(
        refused(&world.report(), InvalidReason::AgentFailed),
        "b: data: no CSV"
    );
}

#[test]
fn stamps_that_run_backwards() {
    let mut world = world();
    world.change(&together(1), "b", |record| {
        if let AgentRecord::Finished(finished) = record {
            finished.at = MonoNs(1);
        }
    });
    refused(&world.report(), InvalidReason::DataLoss);
}

#[test]
fn a_leg_that_was_never_executed_or_never_closed() {
    let mut never = world();
    never
        .control
        .retain(|event| event.run != Some(solo(1, "a")));
    never.events.retain(|event| event.key.run != solo(1, "a"));
    let detail = refused(&never.report(), InvalidReason::Missing);
    assert_eq!(detail, "the solo a leg was never executed");
    let mut open = world();
    open.control.retain(|event| {
        event.run != Some(together(1))
            || !matches!(
                event.record,
                chimera_domain::control::ControlRecord::Closed { .. }
            )
    });
    assert_eq!(
        refused(&open.report(), InvalidReason::Missing),
        "the leg was not closed"
    );
}

#[test]
fn a_later_attempt_decides_and_the_earlier_is_shown_and_counted() {
    let mut world = World::new(vec![planned_test(1, &["a", "b"], 1)]);
    for agent in ["a", "b"] {
        let kind = LegKind::Solo {
            agent: agent_id(agent),
        };
        world.leg(1, 1, &kind, &[(agent_id(agent), pace())]);
    }
    let gang = [(agent_id("a"), pace()), (agent_id("b"), pace())];
    let restart = against(InvalidReason::CoordinatorRestart);
    world.attempt(1, 1, &LegKind::Together, &gang, (1, 1), restart);
    world.attempt(1, 1, &LegKind::Together, &gang, (2, 2), LegVerdict::Valid);
    let report = world.report();
    let test = &report.tests[0];
    assert_eq!((test.runs_valid, test.runs_attempted), (1, 2));
    let leg = &test.runs[0].legs[0];
    assert_eq!((leg.attempt, leg.epoch), (Some(2), Some(2)));
    assert_eq!(
        leg.earlier[0].invalid.as_ref().unwrap().reason,
        "coordinator_restart"
    );
    let per_stream = world
        .events
        .iter()
        .filter(|e| e.key.attempt == 1 && e.key.run == together(1));
    assert_eq!(report.validity.stale_dropped, per_stream.count() as u64);
}

#[test]
fn records_of_a_fenced_worker_do_not_count() {
    let mut world = world();
    let clean = world.report();
    let mut zombie: Vec<_> = world
        .events
        .iter()
        .filter(|e| e.key.run == together(1))
        .cloned()
        .collect();
    for event in &mut zombie {
        event.epoch = 0;
        request(&mut event.record, |request| request.output_tokens = Some(1));
    }
    let count = zombie.len() as u64;
    world.events.extend(zombie);
    let report = world.report();
    assert_eq!(report.validity.stale_dropped, count);
    assert_eq!(report.tests, clean.tests);
}

#[test]
fn duplicates_are_counted_beside_the_report() {
    let world = world();
    let twice: Vec<_> = world.events.iter().chain(&world.events).cloned().collect();
    let control: Vec<_> = world
        .control
        .iter()
        .chain(&world.control)
        .cloned()
        .collect();
    let built = build_counted(&Input::new(&control, &twice, environment())).unwrap();
    assert_eq!(
        built.duplicates,
        (world.events.len() + world.control.len()) as u64
    );
    assert_eq!(built.report, world.report());
}

#[test]
fn a_host_that_started_anew() {
    let mut world = world();
    world.change(&together(1), "b", |record| {
        if let AgentRecord::Begin(begin) = record {
            begin.clock.boot_id = BootId("boot-2".to_owned());
        }
    });
    let detail = refused(&world.report(), InvalidReason::PinChanged);
    assert!(detail.contains("started anew"), "{detail}");
}

#[test]
fn a_digest_that_the_plan_does_not_want() {
    let mut world = world();
    world
        .plan
        .model_digests
        .insert("gemma3:270m".to_owned(), "55".repeat(32));
    world.submit();
    let report = world.report();
    assert_eq!(report.tests[0].runs_valid, 0);
    assert_eq!(
        report.tests[0].runs[0].invalid_reason.as_deref(),
        Some("pin_changed")
    );
    assert!(
        report.tests[0].verdict.starts_with("No valid run in 2"),
        "{}",
        report.tests[0].verdict
    );
}
