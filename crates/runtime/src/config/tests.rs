use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
struct NatsPart {
    #[arg(long = "nats-url", env = "CHIMERA_TEST_NATS_URL_UNSET")]
    url: Option<String>,
    #[arg(long = "nats-wait")]
    wait: Option<DurationText>,
}

#[derive(Debug, Default, PartialEq, clap::Parser, Serialize, Deserialize)]
struct Raw {
    #[arg(long, env = "CHIMERA_TEST_PORT_FROM_ENV")]
    port: Option<u16>,
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    #[serde(default)]
    nats: NatsPart,
}

fn flags(args: &[&str]) -> Raw {
    Raw::try_parse_from([&["test"], args].concat()).unwrap()
}

#[test]
fn a_flag_wins_over_the_file_and_the_file_fills_the_rest() {
    let file = "port = 1\nname = 'file'\n[nats]\nurl = 'nats://file:1'\nwait = '250ms'\n";
    let merged = layers::merge(
        &flags(&["--port", "2", "--nats-url", "nats://flag:1"]),
        file,
        "f",
    )
    .unwrap();
    assert_eq!(merged.port, Some(2));
    assert_eq!(merged.name.as_deref(), Some("file"));
    assert_eq!(merged.nats.url.as_deref(), Some("nats://flag:1"));
    assert_eq!(
        merged.nats.wait,
        Some(DurationText(Duration::from_millis(250)))
    );
}

#[test]
fn the_environment_lies_between_flag_and_file() {
    // The variable is set for a child, since setting one's own is unsafe.
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "config::tests::child_prints_the_port",
            "--exact",
            "--nocapture",
            "--ignored",
        ])
        .env("CHIMERA_TEST_PORT_FROM_ENV", "7")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("env-over-file=7 flag-over-env=9"), "{text}");
}

#[test]
#[ignore = "run by the_environment_lies_between_flag_and_file with a variable set"]
fn child_prints_the_port() {
    let from_env = layers::merge(&flags(&[]), "port = 1", "f")
        .unwrap()
        .port
        .unwrap();
    let from_flag = layers::merge(&flags(&["--port", "9"]), "port = 1", "f")
        .unwrap()
        .port
        .unwrap();
    println!("env-over-file={from_env} flag-over-env={from_flag}");
}

#[test]
fn nothing_given_stays_nothing() {
    assert_eq!(
        layers::merge(&Raw::default(), "", "f").unwrap(),
        Raw::default()
    );
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once() {
    let file = "port = 'x'\nname = 5\nnmae = 1\n[nats]\nwait = '3'\nurll = 'y'\n";
    let errors = layers::merge(&Raw::default(), file, "chimera.toml").unwrap_err();
    let mut keys: Vec<_> = errors.problems.iter().map(|p| p.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        ["name", "nats.urll", "nats.wait", "nmae", "port"],
        "{errors}"
    );
    assert!(
        errors.to_string().starts_with("5 mistakes in chimera.toml"),
        "{errors}"
    );
}

#[test]
fn broken_toml_names_its_line() {
    let errors = layers::merge(&Raw::default(), "port = 1\nname = \n", "f").unwrap_err();
    assert!(errors.to_string().contains("line 2"), "{errors}");
}

#[test]
fn a_missing_file_is_named() {
    let errors = load(
        &Raw::default(),
        Some(Path::new("/nonexistent/chimera.toml")),
    )
    .unwrap_err();
    assert!(
        errors.to_string().contains("/nonexistent/chimera.toml"),
        "{errors}"
    );
}

#[test]
fn durations_need_a_unit() {
    for (text, ms) in [("5s", 5_000), ("250ms", 250), ("1m30s", 90_000), ("0s", 0)] {
        assert_eq!(
            text.parse::<DurationText>().unwrap().0,
            Duration::from_millis(ms),
            "{text}"
        );
    }
    for bad in ["5", "", "s", "-1s", "5 parsecs"] {
        assert!(
            bad.parse::<DurationText>().unwrap_err().contains("250ms"),
            "{bad}"
        );
    }
    assert_eq!(
        DurationText(Duration::from_millis(1_500)).to_string(),
        "1s 500ms"
    );
}

#[test]
fn secrets_do_not_show() {
    assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    assert_eq!(
        redact_url("nats://bob:hunter2@host:4222"),
        "nats://***@host:4222"
    );
    assert_eq!(
        redact_url("http://127.0.0.1:11434"),
        "http://127.0.0.1:11434"
    );
    assert_eq!(redact_url("http://h/a?token=x"), "http://h/a?***");
    assert_eq!(redact_url("plain words"), "plain words");
    let mut value = serde_json::json!({
        "nats": {"token": "hunter2", "nkey_seed": "SU", "token_file": "/run/token"},
        "urls": ["nats://a:hunter2@h:1"],
        "max_tokens": 5,
    });
    layers::hide(&mut value);
    assert!(!value.to_string().contains("hunter2"), "{value}");
    assert_eq!(value["nats"]["nkey_seed"], "***");
    assert_eq!(value["nats"]["token_file"], "/run/token");
    assert_eq!(value["max_tokens"], 5);
}

#[test]
fn programs_are_found_in_order_and_a_wrong_override_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (on_path, cache) = (dir.path().join("path"), dir.path().join("cache"));
    for place in [on_path.clone(), cache.join("bin")] {
        std::fs::create_dir_all(&place).unwrap();
        let file = place.join("tool");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = Some(on_path.display().to_string());
    let cache = Some(cache);
    assert_eq!(
        find_in("TOOL", "tool", None, path.clone(), cache.clone()).unwrap(),
        on_path.join("tool")
    );
    assert_eq!(
        find_in("TOOL", "tool", None, None, cache.clone()).unwrap(),
        cache.clone().unwrap().join("bin/tool")
    );
    let wrong = find_in("TOOL", "tool", Some("/nonexistent".into()), path, cache);
    assert!(matches!(wrong, Err(ProgramError::BadOverride { .. })));
    let none = find_in("TOOL", "tool", None, None, None).unwrap_err();
    assert!(none.to_string().contains("set TOOL"), "{none}");
}
