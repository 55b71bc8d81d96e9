//! Agents that share an instance, against agents that have one each; and agents that pause.

use chimera_domain::options::EngineKind;
use chimera_domain::plan::Topology;
use chimera_domain::report::{Report, RunReport};
use chimera_testkit::fake_engine::{Capacity, FakeConfig, FakeEngine, Script};
use chimera_tests::spec::Spec;
use chimera_tests::stack::Stack;
use chimera_tests::{gate, measured, oracle};

use crate::support::{LIMIT, attach, engines, ms, reasons, run, until};

/// Rounds until one is good.
const ROUNDS: u32 = 5;
const TOKENS: u32 = 50;

fn engine(kind: EngineKind, script: &Script, slots: Option<u32>, capacity: Capacity) -> FakeEngine {
    FakeEngine::start(FakeConfig {
        script: script.clone(),
        slots,
        capacity,
        ..FakeConfig::new(kind)
    })
    .unwrap()
}

/// Two agents on one instance.
fn shared(name: &str, kind: EngineKind, engine: &[FakeEngine], slots: u32) -> Spec {
    Spec {
        agents: Some(2),
        phase: format!("topology = \"shared\"\nslots = {slots}\n"),
        ..Spec::on(name, kind, engine)
    }
}

async fn measure(stack: &Stack, spec: &Spec, engines: &[FakeEngine]) -> Report {
    let experiment = stack.submit(&spec.toml()).await.unwrap();
    stack.outcome(&experiment, LIMIT).await.unwrap();
    oracle::check(stack, &experiment, engines).await.unwrap()
}

/// What a round of one topology is judged by.
#[derive(Debug)]
struct Round {
    gain: f64,
    ttft_ms: f64,
    ttft_alone_ms: f64,
    tpot_ms: f64,
    skew_ms: f64,
}

/// *Undefined when* the moment was too noisy even for the limit on the skew.
fn round(name: &str, report: &Report) -> Option<Round> {
    let run: &RunReport = run(report, 1);
    if !run.valid {
        measured(&format!("{name}.invalid"), format!("{:?}", run.invalid));
        let noise = |detail: &str, reason: &str| {
            reason == "start_skew" || (reason == "solo_invalid" && detail.contains("start_skew"))
        };
        assert!(
            run.invalid
                .iter()
                .all(|why| noise(&why.detail, &why.reason)),
            "{:?}",
            run.invalid
        );
        return None;
    }
    let aggregate = &report.tests[0].aggregate;
    let round = Round {
        gain: run.concurrency_gain.unwrap(),
        ttft_ms: aggregate.ttft_ms.value.unwrap(),
        ttft_alone_ms: aggregate.ttft_solo_ms.value.unwrap(),
        tpot_ms: aggregate.tpot_ms.value.unwrap(),
        skew_ms: run.start_skew_ms.unwrap(),
    };
    measured(&format!("{name}.round"), format!("{round:?}"));
    Some(round)
}

fn near(value: f64, wanted: f64, tolerance: f64) -> bool {
    (value - wanted).abs() <= tolerance
}

async fn until_good(
    stack: &Stack,
    spec: &Spec,
    engines: &[FakeEngine],
    good: impl Fn(&Round) -> bool,
) {
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        engines.iter().for_each(FakeEngine::clear_truth);
        let spec = Spec {
            name: format!("{}-{number}", spec.name),
            solo: true,
            tokens: TOKENS,
            start_skew_ms: 10,
            ..spec.clone()
        };
        let report = measure(stack, &spec, engines).await;
        if let Some(round) = round(&spec.name, &report) {
            if good(&round) {
                return;
            }
            rounds.push(round);
        }
    }
    panic!("no round of {ROUNDS} is within the bounds: {rounds:#?}");
}

/// The three answers to one question, each on an engine whose truth is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_gained_on_two_instances_on_two_slots_and_in_a_queue() {
    let _alone = gate::alone().await;
    let kind = EngineKind::Openai;
    let script = Script::timed(ms(200), ms(20));
    let own: Vec<FakeEngine> = engines(kind, 2, &script);
    let halves = [engine(kind, &script, Some(2), Capacity::shared(1.0))];
    let queues = [engine(kind, &script, Some(1), Capacity::independent())];
    let Some(mut stack) = Stack::start("topology-gain").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &own).await;
    for (name, engine) in [("w03", &halves[0]), ("w04", &queues[0])] {
        stack.start_worker(name, kind, &engine.url()).await.unwrap();
    }
    until_good(&stack, &Spec::on("pinned", kind, &own), &own, |round| {
        near(round.gain, 2.0, 0.02) && near(round.ttft_ms, 200.0, 8.0)
    })
    .await;
    // Both are under way all the time, each at half the speed.
    let two_slots = shared("slots", kind, &halves, 2);
    until_good(&stack, &two_slots, &halves, |round| {
        near(round.gain, 1.0, 0.02)
            && near(round.ttft_ms, 400.0, 8.0)
            && near(round.tpot_ms, 40.0, 0.5)
            && round.skew_ms < 5.0
    })
    .await;
    // One at a time, each at full speed: three of four requests wait for one of the other agent's,
    // which takes 200 + 49 x 20 ms. What the agents do by themselves overlaps, hence not quite 1.
    let queue = shared("queue", kind, &queues, 1);
    until_good(&stack, &queue, &queues, |round| {
        near(round.gain, 1.0, 0.04)
            && near(round.ttft_alone_ms, 200.0, 8.0)
            && near(round.ttft_ms, 200.0 + 0.75 * 1_180.0, 30.0)
            && near(round.tpot_ms, 20.0, 0.5)
    })
    .await;
}

/// One spec, three topologies, one verdict. The engines load their model while both agents warm.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_experiment_gives_one_verdict() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Ollama;
    let script = Script {
        load: ms(400),
        ..Script::timed(ms(60), ms(3))
    };
    // Ollama cannot say how many slots it has, so that one engine can play both of the shared ones.
    let engines: Vec<FakeEngine> = (0..2)
        .map(|_| engine(kind, &script, None, Capacity::shared(1.0)))
        .collect();
    let Some(mut stack) = Stack::start("topology-verdict").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        runs: 3,
        solo: true,
        tokens: 60,
        phase: "topology = [\"pinned\", \"shared\"]\nslots = [2, 1]\n".to_owned(),
        ..Spec::on("verdict", kind, &engines)
    };
    let report = measure(&stack, &spec, &engines).await;
    for test in &report.tests {
        let invalid: Vec<_> = test.runs.iter().flat_map(|run| &run.invalid).collect();
        assert_eq!(test.runs_valid, 3, "{}: {invalid:?}", test.label);
    }
    let topologies: Vec<Topology> = report.tests.iter().map(|test| test.topology).collect();
    assert_eq!(
        topologies,
        [
            Topology::Pinned,
            Topology::Shared { slots: 2 },
            Topology::Shared { slots: 1 }
        ]
    );
    // An agent is on one worker, alone and together; agents that share are on the same one.
    for (test, expected) in
        report
            .tests
            .iter()
            .zip([["w01", "w02"], ["w01", "w01"], ["w01", "w01"]])
    {
        for run in &test.runs {
            let workers: Vec<&str> = run
                .agents
                .iter()
                .map(|agent| agent.worker.as_ref().unwrap().as_str())
                .collect();
            assert_eq!(workers, expected, "{}", test.label);
            let apart = run.agents[0].instance == run.agents[1].instance;
            assert_eq!(apart, test.topology != Topology::Pinned);
        }
    }
    let group = &report.topology.as_ref().unwrap().groups[0];
    measured("topology.sentence", &group.sentence);
    assert!(group.same_work);
    assert_eq!(group.arms.len(), 3);
    let to_slots = &group.pairs[0].wall_s;
    assert_eq!(to_slots.shown, Some(true), "{to_slots:?}");
    assert!(to_slots.relative.unwrap() < -0.3, "{to_slots:?}");
    assert!(
        group
            .sentence
            .starts_with("2 agents on 2 instances finish the same work in"),
        "{}",
        group.sentence
    );
    let folder = stack.bundle(&report.experiment);
    let text = std::fs::read_to_string(folder.join("report.md")).unwrap();
    assert!(text.contains("## One instance or several") && text.contains(&group.sentence));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_instance_with_other_slots_than_asked_for_is_not_ready() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Openai;
    let script = Script::timed(ms(10), ms(1));
    let one_slot = [engine(kind, &script, Some(1), Capacity::independent())];
    let Some(mut stack) = Stack::start("topology-slots").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &one_slot).await;
    let report = measure(&stack, &shared("slots", kind, &one_slot, 2), &one_slot).await;
    assert_eq!(reasons(&report), [Some("not_ready")]);
    let detail = &run(&report, 1).invalid[0].detail;
    assert!(
        detail.contains("works on 1 requests at once and the test asks for 2"),
        "{detail}"
    );
    // The refusal lets go of both agents: the instance serves whoever asks for what it has.
    let report = measure(&stack, &shared("fits", kind, &one_slot, 1), &one_slot).await;
    assert_eq!(reasons(&report), [None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_killed_worker_takes_all_agents_of_its_instance_with_it() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Ollama;
    let engines = engines(kind, 1, &Script::timed(ms(50), ms(20)));
    let Some(mut stack) = Stack::start("topology-killed").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        tokens: 400,
        ..shared("killed", kind, &engines, 2)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();
    let under_way = || {
        let truth = engines[0].truth();
        let of_run = truth.iter().filter(|request| {
            let id = request.request_id.as_deref().unwrap_or_default();
            id.starts_with("t1-r1-") && request.tokens.len() > 3
        });
        of_run.count() == 2
    };
    until(under_way).await;
    stack.kill_worker("w01").await.unwrap();
    stack.outcome(&experiment, LIMIT).await.unwrap();
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    let why = &run(&report, 1).invalid[0];
    assert!(
        why.reason == "worker_lost" || why.reason == "lease_lost",
        "{why:?}"
    );
    let names: Vec<String> = run(&report, 1)
        .agents
        .iter()
        .map(|agent| agent.agent.to_string())
        .collect();
    assert!(why.detail.contains(&names.join(", ")), "{why:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_pause_is_the_agents_time_and_no_requests() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Openai;
    let engines = engines(kind, 2, &Script::timed(ms(40), ms(2)));
    let Some(mut stack) = Stack::start("think").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        solo: true,
        tokens: 20,
        phase: "think_ms = 300\n".to_owned(),
        ..Spec::on("think", kind, &engines)
    };
    let report = measure(&stack, &spec, &engines).await;
    assert_eq!(reasons(&report), [None]);
    assert!(report.tests[0].agents.iter().all(|a| a.think_ms == 300));
    for agent in &run(&report, 1).agents {
        let pauses: Vec<_> = agent
            .local_steps
            .iter()
            .filter(|step| step.step == "think")
            .collect();
        assert_eq!(pauses.len(), 1);
        assert!(agent.local_s.unwrap() >= 0.3, "{:?}", agent.local_s);
        assert!(agent.duration_s.unwrap() >= 0.3 + 2.0 * 0.078);
        assert!(agent.solo_duration_s.unwrap() >= 0.3 + 2.0 * 0.078);
        // The second request is sent after the pause, and its first token comes as if there were none.
        let [first, second] = &agent.requests[..] else {
            panic!("{:?}", agent.requests);
        };
        let between = second.sent_s.unwrap() - first.sent_s.unwrap() - first.e2e_ms.unwrap() / 1e3;
        assert!(between >= 0.3, "{between}");
        measured("think.ttft_ms", second.ttft_ms.unwrap());
        assert!(second.ttft_ms.unwrap() < 300.0, "{:?}", second.ttft_ms);
    }
}
