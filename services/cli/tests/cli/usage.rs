use std::io::Write as _;
use std::process::Stdio;

use crate::support::{Told, chimera, nobody, text, told};

const COMMANDS: [&str; 20] = [
    "bench",
    "up",
    "submit",
    "list",
    "history",
    "watch",
    "cancel",
    "workers",
    "report",
    "replay",
    "verify",
    "import",
    "advise",
    "plan",
    "compare",
    "gate",
    "probe",
    "doctor",
    "completions",
    "schema",
];

#[test]
fn every_command_explains_itself_with_examples() {
    let top = told(&["--help"]).expect(0);
    for command in COMMANDS {
        assert!(
            top.out.contains(&format!("\n  {command} ")),
            "{command} is not in the help"
        );
        let help = told(&[command, "--help"]).expect(0);
        assert!(help.out.contains("Examples:\n  chimera "), "{}", help.out);
        assert!(
            help.out.contains("--json") && help.out.contains("--log"),
            "{}",
            help.out
        );
        assert!(help.err.is_empty());
    }
    let listed = top
        .out
        .split("Commands:\n")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    assert_eq!(
        listed.lines().count(),
        COMMANDS.len() + 1,
        "a command lacks its test:\n{listed}"
    );
}

#[test]
fn the_version_names_the_software() {
    let version = told(&["--version"]).expect(0);
    assert!(
        version
            .out
            .starts_with(concat!("chimera ", env!("CARGO_PKG_VERSION"))),
        "{}",
        version.out
    );
}

#[test]
fn bad_usage_exits_64_and_writes_nothing_to_standard_output() {
    for arguments in [
        &[][..],
        &["no-such-command"],
        &["bench", "--no-such-flag"],
        &["bench", "--agents", "many"],
        &["bench", "--agents", "-1"],
        &["bench", "examples/quick.toml", "--agents", "2"],
        &["bench", "--engine", "vllm"],
        &["up", "--workers", "0"],
        &["up", "--listen", "nowhere"],
        &["submit"],
        &["watch", "not an id", "--server", "http://127.0.0.1:1"],
        &["list", "--server", "127.0.0.1:7070"],
        &["list", "--log", "=,="],
        &["report", "no/such/folder"],
        &["report", "x", "--format", "pdf"],
        &["probe", "http://127.0.0.1:1", "--model", "m"],
        &["probe", "nowhere", "--engine", "ollama", "--model", "m"],
        &[
            "probe",
            "http://127.0.0.1:1",
            "--engine",
            "openai",
            "--model",
            "m",
            "-c",
            "0",
        ],
        &["completions", "tcsh"],
    ] {
        let told = told(arguments);
        assert_eq!(told.code, 64, "{arguments:?}: {}", told.err);
        assert!(told.out.is_empty(), "{arguments:?}: {}", told.out);
        assert!(!told.err.is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn numbers_out_of_bounds_are_all_told_before_anything_starts() {
    let flags = [
        "bench",
        "--agents",
        "1000000000",
        "--runs",
        "0",
        "--temperature",
        "nan",
    ];
    let told = told(&flags).expect(64);
    for flag in ["--agents", "--runs", "--temperature"] {
        assert!(told.err.contains(flag), "{flag}: {}", told.err);
    }
}

const BAD_SPEC: &str = r#"name = "x"
surprise = 1

[model]
name = "m"

[[phase]]
agents = 1000000000
runs = 0
temperature = nan
"#;

#[test]
fn a_bad_spec_is_told_whole_with_its_lines_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    std::fs::write(&path, BAD_SPEC).unwrap();
    let file = text(&path);
    let submitted = told(&["submit", &file, "--server", &nobody()]).expect(64);
    for part in [
        "mistakes in ",
        "line 2: surprise",
        "line 8: ",
        "line 9: ",
        "line 10: ",
    ] {
        assert!(submitted.err.contains(part), "{part}: {}", submitted.err);
    }
    assert!(submitted.out.is_empty());
    let benched = told(&["bench", &file]).expect(64);
    for line in ["line 2: surprise", "line 8: ", "line 9: ", "line 10: "] {
        assert!(benched.err.contains(line), "{line}: {}", benched.err);
    }
}

#[test]
fn a_spec_may_come_from_standard_input() {
    let mut child = chimera(&["submit", "-", "--server", &nobody()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(BAD_SPEC.as_bytes())
        .unwrap();
    let told = Told::of(&child.wait_with_output().unwrap()).expect(64);
    assert!(told.err.contains("mistakes in -"), "{}", told.err);
    let missing = crate::support::told(&["submit", "no-such.toml"]).expect(64);
    assert!(
        missing.err.contains("cannot read the spec no-such.toml"),
        "{}",
        missing.err
    );
}

#[test]
fn completions_and_schema_are_written() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = told(&["completions", shell]).expect(0);
        assert!(
            script.out.contains("chimera") && script.out.contains("doctor"),
            "{shell}"
        );
    }
    let schema = told(&["schema"]).expect(0).json();
    assert!(schema["properties"]["tests"].is_object());
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    // The schema is larger than a pipe holds, so the write meets the closed end.
    let mut child = chimera(&["schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let told = Told::of(&child.wait_with_output().unwrap()).expect(0);
    assert_eq!(told.err, "");
}

#[test]
fn doctor_says_what_is_there_to_people_and_programs() {
    let findings = told(&["doctor", "--json"]);
    let ready = findings.json()["ready"].as_bool().unwrap();
    assert_eq!(findings.code, if ready { 0 } else { 1 }, "{}", findings.err);
    let json = findings.json();
    let checks = json["checks"].as_array().unwrap();
    let names: Vec<&str> = checks
        .iter()
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "nats-server",
            "engine",
            "ollama",
            "llama-server",
            "model file",
            "cache folder",
            "free disk",
            "cores",
            "memory",
            "gpu",
            "setpriv",
            "clock"
        ]
    );
    for check in checks {
        let well = check["state"] == "ok";
        assert_eq!(well, check["remedy"].is_null(), "{check}");
        assert!(!check["found"].as_str().unwrap().is_empty());
    }
}

#[test]
fn doctor_on_a_bare_machine_names_every_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = chimera(&["doctor"]);
    for name in [
        "CHIMERA_NATS_SERVER",
        "CHIMERA_LLAMA_SERVER",
        "CHIMERA_OLLAMA",
        "CHIMERA_MODEL_GGUF",
    ] {
        command.env_remove(name);
    }
    command
        .env("PATH", dir.path())
        .env("XDG_CACHE_HOME", dir.path())
        .env("HOME", dir.path());
    command.env("OLLAMA_HOST", nobody());
    let bare = Told::of(&command.output().unwrap()).expect(1);
    for lack in ["nats-server", "engine", "llama-server", "model file"] {
        assert!(
            bare.out.contains(&format!("MISSING  {lack} ")),
            "{lack}:\n{}",
            bare.out
        );
    }
    assert!(bare.out.contains("./scripts/setup.sh"), "{}", bare.out);
    assert!(bare.err.contains("cannot run here"), "{}", bare.err);
}
