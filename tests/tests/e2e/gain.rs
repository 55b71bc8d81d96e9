//! Engines with exact timing, and what must be measured on them.
//!
//! Another process on the machine can make a round worse and never better, so one round within the
//! bounds shows what the instrument can do; each round is printed.

use chimera_domain::event::AgentRecord;
use chimera_domain::ids::ExperimentId;
use chimera_domain::options::EngineKind;
use chimera_domain::report::{Report, RunReport};
use chimera_domain::stats::quantile;
use chimera_testkit::fake_engine::{Capacity, FakeEngine, Script};
use chimera_tests::spec::Spec;
use chimera_tests::stack::Stack;
use chimera_tests::{gate, measured, observe, oracle};

use crate::support::{LIMIT, attach, engines_on, ms, run};

/// Rounds until one is good.
const ROUNDS: u32 = 5;
const TOKENS: u32 = 100;

/// The engine of the acceptance: TTFT 200 ms, gap 20 ms.
fn script() -> Script {
    Script::timed(ms(200), ms(20))
}

fn spec(name: &str, kind: EngineKind, engines: &[FakeEngine]) -> Spec {
    // The real limit on the skew: here it is judged.
    Spec {
        solo: true,
        tokens: TOKENS,
        start_skew_ms: 10,
        ..Spec::on(name, kind, engines)
    }
}

/// What a round is judged by.
#[derive(Debug)]
struct Round {
    gain: f64,
    efficiency: f64,
    tr110: f64,
    skew_ms: f64,
    overhead_ms: f64,
    ttft_error_ms: f64,
    tpot_error_ms: f64,
}

impl Round {
    fn print(&self, name: &str) {
        measured(
            &format!("{name}.concurrency_gain"),
            format!("{:.4}", self.gain),
        );
        measured(
            &format!("{name}.parallel_efficiency"),
            format!("{:.4}", self.efficiency),
        );
        measured(
            &format!("{name}.tr110_speedup"),
            format!("{:.4}", self.tr110),
        );
        measured(
            &format!("{name}.start_skew_ms"),
            format!("{:.3}", self.skew_ms),
        );
        measured(
            &format!("{name}.harness_overhead_ms"),
            format!("{:.3}", self.overhead_ms),
        );
        measured(
            &format!("{name}.ttft_error_p99_ms"),
            format!("{:.3}", self.ttft_error_ms),
        );
        measured(
            &format!("{name}.tpot_error_p99_ms"),
            format!("{:.4}", self.tpot_error_ms),
        );
    }

    fn is_exact(&self) -> bool {
        self.skew_ms < 5.0
            && self.overhead_ms < 20.0
            && self.ttft_error_ms < 1.0
            && self.tpot_error_ms < 1.0
    }
}

async fn round(
    stack: &Stack,
    name: &str,
    kind: EngineKind,
    engines: &[FakeEngine],
) -> Option<Round> {
    // Requests of two experiments may have the same id.
    engines.iter().for_each(FakeEngine::clear_truth);
    let experiment = stack
        .submit(&spec(name, kind, engines).toml())
        .await
        .unwrap();
    stack.outcome(&experiment, LIMIT).await.unwrap();
    let report = oracle::check(stack, &experiment, engines).await.unwrap();
    let run: &RunReport = run(&report, 1);
    if !run.valid {
        // Too noisy a moment even for the limit on the skew; nothing else may be wrong.
        measured(&format!("{name}.invalid"), format!("{:?}", run.invalid));
        assert!(
            run.invalid
                .iter()
                .all(|why| is_noise(&why.reason, &why.detail)),
            "{:?}",
            run.invalid
        );
        return None;
    }
    let host = run.host.as_ref().expect("telemetry was there");
    assert!(host.cores_used.is_some() && host.complete, "{host:?}");
    let (ttft_error_ms, tpot_error_ms) = errors(stack, &experiment, &report, engines).await;
    let round = Round {
        gain: run.concurrency_gain.unwrap(),
        efficiency: run.parallel_efficiency.unwrap(),
        tr110: run.tr110_speedup.unwrap(),
        skew_ms: run.start_skew_ms.unwrap(),
        overhead_ms: run.harness_overhead_ms.unwrap(),
        ttft_error_ms,
        tpot_error_ms,
    };
    round.print(name);
    Some(round)
}

fn is_noise(reason: &str, detail: &str) -> bool {
    reason == "start_skew" || (reason == "solo_invalid" && detail.contains("start_skew"))
}

/// p99 of the error of the report's TTFT and TPOT, over every request of the run, alone and together.
///
/// TTFT counts from the send, so its truth is from that instant to the fake's first write.
async fn errors(
    stack: &Stack,
    experiment: &ExperimentId,
    report: &Report,
    engines: &[FakeEngine],
) -> (f64, f64) {
    let streams = observe::agent_streams(&stack.bus, experiment)
        .await
        .unwrap();
    let (mut ttft, mut tpot) = (Vec::new(), Vec::new());
    for request in oracle::requests(report) {
        let truth = oracle::truth(engines, request).unwrap();
        let sent = streams
            .values()
            .flat_map(|stream| stream.records.values())
            .find_map(|(event, _)| match &event.record {
                AgentRecord::Request(r) if r.request_id == request.request_id => Some(r.sent),
                _ => None,
            })
            .unwrap();
        let first = truth.tokens[0];
        let true_ttft = to_ms(first.since(sent).unwrap());
        assert!(true_ttft >= 200.0, "the engine is never early");
        let span = truth.tokens.last().unwrap().since(first).unwrap();
        let true_tpot = to_ms(span) / f64::from(TOKENS - 1);
        ttft.push((request.ttft_ms.unwrap() - true_ttft).abs());
        tpot.push((request.tpot_ms.unwrap() - true_tpot).abs());
    }
    (p99(ttft), p99(tpot))
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
fn to_ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn p99(mut errors: Vec<f64>) -> f64 {
    errors.sort_by(f64::total_cmp);
    quantile(&errors, 0.99).unwrap()
}

fn near(value: f64, wanted: f64, tolerance: f64) -> bool {
    (value - wanted).abs() <= tolerance
}

/// Runs rounds until one satisfies `good`.
async fn until_good(
    test: &str,
    kind: EngineKind,
    engines: &[FakeEngine],
    good: impl Fn(&Round) -> bool,
) {
    let _alone = gate::alone().await;
    let Some(mut stack) = Stack::start(test).await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, engines).await;
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        let name = format!("{test}-{number}");
        if let Some(round) = round(&stack, &name, kind, engines).await {
            if good(&round) {
                return;
            }
            rounds.push(round);
        }
    }
    panic!("no round of {ROUNDS} is within the bounds: {rounds:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn gain_of_two_perfectly_parallel_engines() {
    let kind = EngineKind::Ollama;
    let engines = engines_on(kind, 2, &script(), Capacity::independent);
    until_good("parallel2", kind, &engines, |round| {
        near(round.gain, 2.0, 0.02)
            && near(round.efficiency, 1.0, 0.01)
            && near(round.tr110, 2.0, 0.02)
            && round.is_exact()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn gain_of_four_perfectly_parallel_engines() {
    let kind = EngineKind::Openai;
    let engines = engines_on(kind, 4, &script(), Capacity::independent);
    until_good("parallel4", kind, &engines, |round| {
        near(round.gain, 4.0, 0.04) && near(round.efficiency, 1.0, 0.01) && round.is_exact()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn gain_of_an_engine_that_halves() {
    let kind = EngineKind::Ollama;
    let one_machine = Capacity::shared(1.0);
    let engines = engines_on(kind, 2, &script(), || one_machine.clone());
    until_good("halves", kind, &engines, |round| {
        near(round.gain, 1.0, 0.02)
            && near(round.efficiency, 0.5, 0.01)
            && near(round.tr110, 2.0, 0.02)
            && round.is_exact()
    })
    .await;
}

/// More agents than cores, often: a start is a race for the processor that every agent enters at the
/// same instant.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn starts_are_together() {
    const STARTS: u32 = 20;
    let _alone = gate::alone().await;
    let kind = EngineKind::Openai;
    let engines = engines_on(
        kind,
        4,
        &Script::timed(ms(20), ms(1)),
        Capacity::independent,
    );
    let Some(mut stack) = Stack::start("starts").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        runs: STARTS,
        ..Spec::on("starts", kind, &engines)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();
    stack.outcome(&experiment, LIMIT).await.unwrap();
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    let runs = &report.tests[0].runs;
    let mut skews: Vec<f64> = runs.iter().map(|run| run.start_skew_ms.unwrap()).collect();
    skews.sort_by(f64::total_cmp);
    let at = |q| quantile(&skews, q).unwrap();
    measured("starts.skew_p50_ms", format!("{:.3}", at(0.5)));
    measured("starts.skew_p90_ms", format!("{:.3}", at(0.9)));
    measured("starts.skew_max_ms", format!("{:.3}", at(1.0)));
    assert!(at(0.5) < 1.0 && at(0.9) < 5.0, "{skews:?}");
}
