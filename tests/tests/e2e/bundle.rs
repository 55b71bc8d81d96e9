//! Results that anyone can check: computed again from their records, and told from damaged ones.

use chimera_domain::options::EngineKind;
use chimera_testkit::fake_engine::Script;
use chimera_tests::spec::Spec;
use chimera_tests::stack::Stack;
use chimera_tests::{bundle, cli, gate, measured, oracle};

use crate::support::{LIMIT, attach, engines, ms, reasons};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn replay_is_byte_identical_and_damage_is_named() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Ollama;
    let engines = engines(kind, 2, &Script::timed(ms(10), ms(1)));
    let Some(mut stack) = Stack::start("replay").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let spec = Spec {
        solo: true,
        runs: 2,
        ..Spec::on("replay", kind, &engines)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();
    stack.outcome(&experiment, LIMIT).await.unwrap();
    // Replays as it is, and shuffled with copies.
    let report = oracle::check(&stack, &experiment, &engines).await.unwrap();
    assert_eq!(reasons(&report), [None, None]);
    assert_eq!(report.validity.streams_complete, report.validity.streams);
    assert_eq!(report.validity.streams_hash_checked, 2 * 4);

    let folder = stack.bundle(&experiment);
    let written = std::fs::read(folder.join("report.json")).unwrap();
    let again = stack.dir().join("again.json");
    let arguments = [
        "replay",
        folder.to_str().unwrap(),
        "--out",
        again.to_str().unwrap(),
    ];
    cli::chimera(stack.dir(), &arguments)
        .await
        .unwrap()
        .expect(0)
        .unwrap();
    assert!(
        std::fs::read(&again).unwrap() == written,
        "the bytes differ"
    );
    measured("replay.report_bytes", written.len());

    // One bit, in each file in turn: verify names that file and no other.
    let files = bundle::files(&folder).unwrap();
    measured("replay.bundle_files", files.len());
    let copy = stack.dir().join("damaged");
    for file in files
        .iter()
        .filter(|file| file.to_str() != Some("bundle.json"))
    {
        if std::fs::metadata(folder.join(file)).unwrap().len() == 0 {
            continue;
        }
        bundle::copy(&folder, &copy).unwrap();
        bundle::flip_bit(&copy.join(file)).unwrap();
        let arguments = ["verify", copy.to_str().unwrap(), "--json"];
        let told = cli::chimera(stack.dir(), &arguments)
            .await
            .unwrap()
            .expect(1)
            .unwrap();
        let faults = told.json().unwrap()["faults"].clone();
        let faults = faults.as_array().unwrap();
        assert_eq!(faults.len(), 1, "{faults:?}");
        let named = faults[0].as_str().unwrap();
        assert!(
            named.starts_with(&format!("{}: ", file.display())),
            "{named}"
        );
        std::fs::remove_dir_all(&copy).unwrap();
    }

    // A record that is gone is not made up for.
    bundle::copy(&folder, &copy).unwrap();
    let events = copy.join("records/events.ndjson");
    let text = std::fs::read_to_string(&events).unwrap();
    let (gone, kept): (Vec<_>, Vec<_>) = text.lines().enumerate().partition(|(i, _)| *i == 3);
    assert_eq!(gone.len(), 1);
    let kept: String = kept
        .into_iter()
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    std::fs::write(&events, kept).unwrap();
    let arguments = ["replay", copy.to_str().unwrap()];
    let told = cli::chimera(stack.dir(), &arguments)
        .await
        .unwrap()
        .expect(1)
        .unwrap();
    assert!(told.err.contains("another report"), "{}", told.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_report_is_as_its_schema_says() {
    let _shared = gate::shared().await;
    let kind = EngineKind::Openai;
    let engines = engines(kind, 2, &Script::timed(ms(10), ms(1)));
    let Some(mut stack) = Stack::start("schema").await.unwrap() else {
        return;
    };
    attach(&mut stack, kind, &engines).await;
    let schema = cli::chimera(stack.dir(), &["schema"])
        .await
        .unwrap()
        .expect(0)
        .unwrap();
    let validator = jsonschema::validator_for(&schema.json().unwrap()).unwrap();
    let spec = Spec {
        solo: true,
        runs: 2,
        ..Spec::on("schema", kind, &engines)
    };
    let experiment = stack.submit(&spec.toml()).await.unwrap();
    stack.outcome(&experiment, LIMIT).await.unwrap();
    oracle::check(&stack, &experiment, &engines).await.unwrap();
    let text = std::fs::read(stack.bundle(&experiment).join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&report)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    // The names that other tools read.
    for key in ["schema_version", "experiment", "environment", "tests"] {
        assert!(report.get(key).is_some(), "{key}");
    }
    let run = &report["tests"][0]["runs"][0];
    for key in [
        "run",
        "valid",
        "invalid_reason",
        "wall_s",
        "solo_total_s",
        "concurrency_gain",
        "parallel_efficiency",
        "tr110_speedup",
        "start_skew_ms",
        "agents",
    ] {
        assert!(run.get(key).is_some(), "{key}");
    }
    let agent = &run["agents"][0];
    for key in [
        "role",
        "duration_s",
        "solo_duration_s",
        "slowdown",
        "requests",
    ] {
        assert!(agent.get(key).is_some(), "{key}");
    }
    for key in [
        "ttft_ms",
        "e2e_ms",
        "tpot_ms",
        "output_tokens",
        "load_ms",
        "prompt_eval_ms",
        "eval_ms",
        "error",
    ] {
        assert!(agent["requests"][0].get(key).is_some(), "{key}");
    }
    for key in [
        "concurrency_gain",
        "parallel_efficiency",
        "aggregate_tokens_per_s",
        "solo_tokens_per_s",
        "ttft_ms",
        "tr110_speedup",
    ] {
        let statistic = &report["tests"][0]["aggregate"][key];
        for part in ["value", "sd", "n", "ci95", "provenance"] {
            assert!(statistic.get(part).is_some(), "{key}.{part}");
        }
        assert_eq!(statistic["n"], 2, "{key}");
    }
}
