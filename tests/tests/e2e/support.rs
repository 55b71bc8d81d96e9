//! What several tests begin with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chimera_domain::options::EngineKind;
use chimera_domain::report::{Report, RunReport};
use chimera_runtime::nats_server::PROGRAM_VARIABLE;
use chimera_runtime::process::ChildSpec;
use chimera_runtime::{clock, config};
use chimera_testkit::fake_engine::{Capacity, FakeConfig, FakeEngine, Script};
use chimera_tests::stack::Stack;
use chimera_tests::{process, skipped};

/// Longest wait for a short experiment; a hundred times what it takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// `count` engines that do not disturb each other.
pub(crate) fn engines(kind: EngineKind, count: usize, script: &Script) -> Vec<FakeEngine> {
    engines_on(kind, count, script, Capacity::independent)
}

/// `count` engines, each on the capacity that `capacity` gives.
pub(crate) fn engines_on(
    kind: EngineKind,
    count: usize,
    script: &Script,
    capacity: impl Fn() -> Capacity,
) -> Vec<FakeEngine> {
    (0..count)
        .map(|_| {
            FakeEngine::start(FakeConfig {
                script: script.clone(),
                capacity: capacity(),
                ..FakeConfig::new(kind)
            })
            .unwrap()
        })
        .collect()
}

/// A worker for each engine, named `w01`, `w02`, ...
pub(crate) async fn attach(stack: &mut Stack, kind: EngineKind, engines: &[FakeEngine]) {
    for (index, engine) in engines.iter().enumerate() {
        stack
            .start_worker(&worker(index), kind, &engine.url())
            .await
            .unwrap();
    }
}

pub(crate) fn worker(index: usize) -> String {
    format!("w{:02}", index + 1)
}

/// The nats-server that `chimera bench` is to start; `None`, said aloud, where there is none and
/// none is required.
pub(crate) fn nats_or_skip(test: &str) -> Option<PathBuf> {
    match config::find_program(PROGRAM_VARIABLE, "nats-server") {
        Ok(program) => Some(program),
        Err(error) => {
            let required = config::env_flag("CHIMERA_REQUIRE_NATS") || config::env_flag("CI");
            assert!(!required, "{test} needs nats-server: {error}");
            skipped(test, error);
            None
        }
    }
}

/// A `chimera bench` in folder `dir`, which is also its cache's.
pub(crate) fn bench(dir: &Path, nats: &Path, arguments: &[String]) -> ChildSpec {
    process::spec("chimera", dir, &dir.join("bench.log"))
        .unwrap()
        .env(PROGRAM_VARIABLE, nats)
        .arg("bench")
        .args(arguments)
}

/// Waits for a condition that the test can see by itself.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let deadline = clock::deadline(LIMIT);
    while !condition() {
        assert!(clock::mono() < deadline, "the condition was not met");
        tokio::time::sleep(ms(5)).await;
    }
}

/// The run of a report's only test.
pub(crate) fn run(report: &Report, number: u32) -> &RunReport {
    report.tests[0]
        .runs
        .iter()
        .find(|run| run.run == number)
        .unwrap()
}

/// Why the runs of a report's only test are invalid: `None` for a valid one.
pub(crate) fn reasons(report: &Report) -> Vec<Option<&str>> {
    report.tests[0]
        .runs
        .iter()
        .map(|run| run.invalid_reason.as_deref())
        .collect()
}
