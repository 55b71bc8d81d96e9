//! `chimera plan`: from a model's file, and against what a real engine logs.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use chimera_runtime::config::{self, find_program};
use serde_json::Value;

use crate::support::{Told, chimera, nobody, text, told};

const MIB: f64 = 1_048_576.0;
/// How far a plan may be off what the engine says.
const TOLERANCE: f64 = 0.02;

/// A model of four layers without any values: a plan needs none.
fn small_model(dir: &Path) -> PathBuf {
    let text = |text: &str| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes
    };
    let mut values = Vec::new();
    values.extend(text("general.architecture"));
    values.extend(8_u32.to_le_bytes());
    values.extend(text("llama"));
    let numbers = [
        ("llama.block_count", 4_u32),
        ("llama.embedding_length", 4096),
        ("llama.attention.head_count", 32),
        ("llama.attention.head_count_kv", 8),
    ];
    for (key, number) in numbers {
        values.extend(text(key));
        values.extend(4_u32.to_le_bytes());
        values.extend(number.to_le_bytes());
    }
    let mut tensors = Vec::new();
    let names = [
        "token_embd",
        "blk.0.ffn_up",
        "blk.1.ffn_up",
        "blk.2.ffn_up",
        "blk.3.ffn_up",
    ];
    for name in names {
        tensors.extend(text(&format!("{name}.weight")));
        tensors.extend(2_u32.to_le_bytes());
        tensors.extend(4096_u64.to_le_bytes());
        tensors.extend(131_072_u64.to_le_bytes());
        tensors.extend(1_u32.to_le_bytes());
        tensors.extend(0_u64.to_le_bytes());
    }
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((names.len() as u64).to_le_bytes());
    bytes.extend((numbers.len() as u64 + 1).to_le_bytes());
    bytes.extend(values);
    bytes.extend(tensors);
    let path = dir.join("small.gguf");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_plan_says_what_fits_and_how_many_layers_where_not_all_do() {
    let dir = tempfile::tempdir().unwrap();
    let model = text(&small_model(dir.path()));
    let arguments = [
        "plan", "--model", &model, "--gpu", "12GiB", "--agents", "1..3", "--ctx", "2048",
    ];
    let told_text = told(&arguments).expect(0).out;
    for part in [
        "weights",
        "5120.0 (d)",
        "compute buffer",
        "(e)",
        "comfortable",
        "TR110's formula",
    ] {
        assert!(told_text.contains(part), "no '{part}' in:\n{told_text}");
    }
    let plan = told(&[&arguments[..], &["--json"]].concat())
        .expect(0)
        .json();
    // 2048 cells of 8 heads, 128 values, key and value, 2 bytes, 4 layers.
    let memory = &plan["agents"][0]["memory"];
    assert_eq!(
        memory["kv_cache"]["device"]["bytes"],
        2048 * 8 * 128 * 2 * 2 * 4
    );
    assert_eq!(memory["kv_cache"]["device"]["provenance"], "derived");
    assert_eq!(memory["compute"]["provenance"], "estimated");
    assert_eq!(plan["agents"][0]["largest_count"], 2);
    let cells = plan["cells"].as_array().unwrap();
    assert_eq!(cells[0]["fit"]["fits"], true);
    assert_eq!(cells[0]["layer_budget"], Value::Null);
    assert_eq!(cells[2]["fit"]["fits"], false);
    // Two agents of 5.6 GiB fit; of three each may have the output and two layers, of 1 GiB each.
    assert_eq!(cells[2]["layer_budget"]["layers"], 3);
    assert_eq!(cells[2]["layer_budget"]["of"], 5);
}

#[test]
fn what_cannot_be_planned_is_told_with_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let model = text(&small_model(dir.path()));
    let no_gpu = chimera(&["plan", "--model", &model])
        .env("CHIMERA_TELEMETRY_NVML_LIBRARY", "/nowhere/libnvml.so")
        .output()
        .unwrap();
    let refused = Told::of(&no_gpu).expect(64);
    assert!(refused.err.contains("--gpu 12GiB"), "{}", refused.err);
    let absent = told(&["plan", "--model", "absent.gguf", "--gpu", "12GiB"]).expect(64);
    assert!(
        absent.err.contains("cannot read absent.gguf"),
        "{}",
        absent.err
    );
    let zip = dir.path().join("zip.gguf");
    std::fs::write(&zip, b"PK\x03\x04").unwrap();
    let wrong = told(&["plan", "--model", &text(&zip), "--gpu", "12GiB"]).expect(1);
    assert!(wrong.err.contains("no GGUF file"), "{}", wrong.err);
    let silent = told(&[
        "plan",
        "--model",
        "m",
        "--gpu",
        "1GiB",
        "--ollama",
        &nobody(),
    ])
    .expect(1);
    assert!(silent.err.contains("was asked about 'm'"), "{}", silent.err);
    for bad in [
        ["--gpu", "twelve"],
        ["--agents", "4..1"],
        ["--ctx", "0"],
        ["--kv-type", "f8"],
    ] {
        told(&[&["plan", "--model", &model][..], &bad].concat()).expect(64);
    }
    let against = [
        "plan",
        "--model",
        &model,
        "--gpu",
        "1GiB",
        "--against",
        "nothing",
    ];
    let nothing = told(&against);
    assert_ne!(nothing.code, 0);
    assert!(nothing.err.contains("--against"), "{}", nothing.err);
}

/// What an engine says while it loads, MiB.
#[derive(Debug, Default)]
struct Logged {
    weights: f64,
    kv_cache: f64,
}

/// Says why the real engine was not asked, and fails where it must be.
fn skip(why: &str) {
    assert!(
        !config::env_flag("CHIMERA_REQUIRE_ENGINE"),
        "the plan needs an engine to be held against: {why}"
    );
    eprintln!("SKIPPED plan against the engine: {why}");
}

/// Starts the engine, reads its log until it listens, and ends it. `None`: it refuses to tell.
fn engine_log(program: &Path, model: &str, context: &str, slots: &str) -> Option<Logged> {
    let mut child = Command::new(program)
        .args([
            "--model",
            model,
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--threads",
            "1",
        ])
        .args([
            "--ctx-size",
            context,
            "--parallel",
            slots,
            "--verbosity",
            "4",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let size = |line: &str| {
        let rest = line.split_once("size =")?.1;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    let mut logged = Logged::default();
    for line in BufReader::new(child.stderr.take().unwrap()).split(b'\n') {
        let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
        // A repacked buffer holds tensors of the mapped one a second time.
        if line.contains("model buffer size") && !line.contains("REPACK") {
            logged.weights += size(&line).unwrap();
        } else if line.contains("llama_kv_cache: size =") {
            logged.kv_cache += size(&line).unwrap();
        } else if line.contains("listening on") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    (logged.weights > 0.0 && logged.kv_cache > 0.0).then_some(logged)
}

#[test]
fn weights_and_kv_cache_are_within_two_percent_of_what_the_engine_logs() {
    let program = match find_program("CHIMERA_LLAMA_SERVER", "llama-server") {
        Ok(program) => program,
        Err(error) => return skip(&error.to_string()),
    };
    let named = config::env("CHIMERA_MODEL_GGUF").map(PathBuf::from);
    let cached = || Some(config::cache_dir()?.join("models/gemma3-270m-q4_k_m.gguf"));
    let Some(model) = named.or_else(cached).filter(|path| path.is_file()) else {
        return skip("no weights: run ./scripts/setup.sh, or set CHIMERA_MODEL_GGUF");
    };
    let model = text(&model);
    for (context, slots) in [("512", "1"), ("2048", "1"), ("8192", "1"), ("2048", "2")] {
        let Some(logged) = engine_log(&program, &model, context, slots) else {
            return skip(
                "it does not log its buffers at --verbosity 4: run ./scripts/setup.sh again",
            );
        };
        let plan = told(&[
            "plan",
            "--json",
            "--model",
            &model,
            "--gpu",
            "12GiB",
            "--num-gpu",
            "0",
            "--agents",
            "1",
            "--ctx",
            context,
            "--slots",
            slots,
        ]);
        let plan = plan.expect(0).json();
        let memory = &plan["agents"][0]["memory"];
        for (what, measured) in [("weights", logged.weights), ("kv_cache", logged.kv_cache)] {
            let planned = memory[what]["host"]["bytes"].as_f64().unwrap() / MIB;
            let error = planned / measured - 1.0;
            eprintln!(
                "MEASURED plan.{what}.ctx{context}.slots{slots}: planned {planned:.2} MiB, engine \
                 {measured:.2} MiB, {:+.2} %",
                error * 100.0
            );
            assert!(
                error.abs() <= TOLERANCE,
                "{what} at {context} with {slots}: {error}"
            );
        }
    }
}
