//! A real model on real engines, where the machine has them (`scripts/setup.sh`).

use std::path::{Path, PathBuf};

use chimera_domain::latency::TokenSource;
use chimera_domain::report::{Report, RunReport};
use chimera_runtime::config::{self, find_program};
use chimera_runtime::process::ChildSpec;
use chimera_tests::process::{self, Service};
use chimera_tests::{cli, gate, measured, skipped};

use crate::support::{LIMIT, bench, nats_or_skip};

/// Tokens per request.
const TOKENS: u32 = 16;
/// Tries, of which only a late start may cost one: other work on the machine makes starts late.
const TRIES: u32 = 3;

/// Says why a test cannot do what it is there for, and fails it where it must.
fn no_engine(test: &str, why: &str) {
    assert!(
        !config::env_flag("CHIMERA_REQUIRE_ENGINE"),
        "{test} needs an engine: {why}"
    );
    skipped(test, why);
}

/// Runs the main job on a real engine until a start was not late.
async fn measure(
    test: &str,
    nats: &Path,
    arguments: &[String],
    configure: impl Fn(ChildSpec) -> ChildSpec,
) {
    let _alone = gate::alone().await;
    let dir = tempfile::tempdir().unwrap();
    let mut noise = Vec::new();
    for number in 1..=TRIES {
        let out = format!("out-{number}");
        let mut all = arguments.to_vec();
        all.extend(
            [
                "--agents",
                "2",
                "--runs",
                "1",
                "--num-predict",
                "16",
                "--num-thread",
                "1",
                "--num-ctx",
                "512",
                "--out",
            ]
            .map(str::to_owned),
        );
        all.push(out.clone());
        let mut bench = Service::start("bench", configure(bench(dir.path(), nats, &all)))
            .await
            .unwrap();
        let status = bench.ended(LIMIT * 4).await.unwrap();
        let words = bench.log().unwrap();
        let text = std::fs::read(dir.path().join(&out).join("report.json"));
        let text = text.unwrap_or_else(|error| panic!("no report ({error}):\n{words}"));
        let report: Report = serde_json::from_slice(&text).unwrap();
        let run = &report.tests[0].runs[0];
        if !run.valid && run.invalid.iter().all(|why| why.reason == "start_skew") {
            noise.push(run.invalid.clone());
            continue;
        }
        assert_eq!(status.code(), Some(0), "{words}");
        judge(test, &report, run);
        cli::chimera(dir.path(), &["verify", &out])
            .await
            .unwrap()
            .expect(0)
            .unwrap();
        cli::chimera(dir.path(), &["replay", &out])
            .await
            .unwrap()
            .expect(0)
            .unwrap();
        return;
    }
    panic!("every start was late: {noise:?}");
}

fn judge(test: &str, report: &Report, run: &RunReport) {
    assert!(run.valid, "{:?}", run.invalid);
    for agent in &run.agents {
        let requests = agent.requests.iter().chain(&agent.solo_requests);
        assert_eq!(agent.requests.len() + agent.solo_requests.len(), 4);
        for request in requests {
            let tokens = request.output_tokens.unwrap();
            assert!((1..=TOKENS).contains(&tokens), "{tokens}");
            assert_eq!(request.output_tokens_source, Some(TokenSource::Engine));
            assert!(request.chunks >= 1 && request.prompt_tokens.unwrap() > 10);
            assert!(request.ttft_ms.unwrap() > 0.0 && request.prompt_eval_ms.unwrap() > 0.0);
        }
    }
    let environment = &report.environment;
    let digest = environment.model_digest.as_deref().unwrap();
    assert_eq!(digest.trim_start_matches("sha256:").len(), 64, "{digest}");
    assert!(environment.engine.as_ref().unwrap().name.is_some());
    // Each engine's own processor time, by its process.
    let host = run.host.as_ref().unwrap();
    assert_eq!(host.engines.len(), 2);
    for engine in &host.engines {
        let cores = engine.cores_used.unwrap();
        measured(
            &format!("{test}.{}.cores_used", engine.agent),
            format!("{cores:.2}"),
        );
        assert!(cores > 0.2, "an engine that computes uses a core: {host:?}");
    }
    measured(
        &format!("{test}.concurrency_gain"),
        format!("{:.3}", run.concurrency_gain.unwrap()),
    );
    measured(
        &format!("{test}.tr110_speedup"),
        format!("{:.3}", run.tr110_speedup.unwrap()),
    );
    measured(
        &format!("{test}.start_skew_ms"),
        format!("{:.3}", run.start_skew_ms.unwrap()),
    );
    measured(&format!("{test}.model_digest"), digest);
}

/// The weights that set-up fetches, or those that the environment names.
fn weights() -> Option<PathBuf> {
    let named = config::env("CHIMERA_MODEL_GGUF").map(PathBuf::from);
    let cached = || Some(config::cache_dir()?.join("models/gemma3-270m-q4_k_m.gguf"));
    named.or_else(cached).filter(|path| path.is_file())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn real_model_on_llama_cpp() {
    let test = "real_model";
    let program = match find_program("CHIMERA_LLAMA_SERVER", "llama-server") {
        Ok(program) => program,
        Err(error) => return no_engine(test, &error.to_string()),
    };
    let Some(model) = weights() else {
        return no_engine(
            test,
            "no weights: run ./scripts/setup.sh, or set CHIMERA_MODEL_GGUF",
        );
    };
    let Some(nats) = nats_or_skip(test) else {
        return;
    };
    let arguments = ["--engine", "openai", "--model", model.to_str().unwrap()].map(str::to_owned);
    measure(test, &nats, &arguments, |spec| {
        spec.env("CHIMERA_LLAMA_SERVER", &program)
    })
    .await;
}

/// A model that an Ollama on this machine has: the folder of its models, and its name.
fn ollama_model() -> Option<(PathBuf, String)> {
    let named = config::env("OLLAMA_MODELS").map(PathBuf::from);
    let cached = config::cache_dir().map(|cache| cache.join("ollama-models"));
    let home = config::env("HOME").map(|home| Path::new(&home).join(".ollama/models"));
    named
        .into_iter()
        .chain(cached)
        .chain(home)
        .find_map(|folder| {
            let library = folder.join("manifests/registry.ollama.ai/library");
            let mut names: Vec<String> = std::fs::read_dir(library)
                .ok()?
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                // Small enough for a test; whatever else a person keeps is left alone.
                .filter(|name| name.starts_with("gemma3-270m"))
                .collect();
            names.sort();
            Some((folder, names.first()?.clone()))
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn real_model_on_ollama() {
    let test = "real_ollama";
    let program = match find_program("CHIMERA_OLLAMA", "ollama") {
        Ok(program) => program,
        // Optional, so that its absence fails nothing.
        Err(error) => return skipped(test, error),
    };
    let Some((models, name)) = ollama_model() else {
        return skipped(
            test,
            "Ollama is here and no small model: run ./scripts/setup-ollama.sh",
        );
    };
    let Some(nats) = nats_or_skip(test) else {
        return;
    };
    let arguments = ["--engine", "ollama", "--model", &name].map(str::to_owned);
    measure(test, &nats, &arguments, |spec| {
        spec.env("CHIMERA_OLLAMA", &program)
            .env("OLLAMA_MODELS", &models)
    })
    .await;
    let left = process::below(std::process::id());
    assert!(left.iter().all(|child| child.name != "ollama"), "{left:?}");
}
