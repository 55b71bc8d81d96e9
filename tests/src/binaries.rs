//! Where the programs under test are.
//!
//! Cargo builds the binaries of other packages neither for `cargo test -p chimera-tests` nor at all
//! when they are no dependencies, so they are looked for beside the test executable, and built once
//! when one is missing or older than what it is made of: a test of yesterday's program is no test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow, bail};
use chimera_runtime::config;

/// Names a folder that holds the programs; nothing is then looked for or built elsewhere.
pub const FOLDER_VARIABLE: &str = "CHIMERA_E2E_BIN_DIR";

/// Package and program.
const PROGRAMS: [(&str, &str); 5] = [
    ("coordinator", "coordinator"),
    ("agent-worker", "agent-worker"),
    ("analyzer", "analyzer"),
    ("gpu-telemetry", "gpu-telemetry"),
    ("chimera-cli", "chimera"),
];

/// The path of a program.
///
/// # Errors
/// When it is not there and cannot be built, with the compiler's words.
pub fn program(name: &str) -> Result<PathBuf> {
    // The error is kept as words: it cannot be cloned, and every test must be told.
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = FOLDER
        .get_or_init(|| folder().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|words| anyhow!("{words}"))?;
    Ok(folder.join(name))
}

fn folder() -> Result<PathBuf> {
    if let Some(named) = config::env(FOLDER_VARIABLE) {
        let folder = PathBuf::from(named);
        let missing = missing(&folder);
        if !missing.is_empty() {
            bail!(
                "{FOLDER_VARIABLE} is set, but {} lacks {}",
                folder.display(),
                missing.join(", ")
            );
        }
        return Ok(folder);
    }
    // target/<profile>/deps/e2e-<hash>
    let executable = std::env::current_exe().context("cannot find this test's own executable")?;
    let folder = executable
        .parent()
        .and_then(Path::parent)
        .with_context(|| format!("{} is not in a target folder", executable.display()))?;
    let outdated: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(_, program)| !is_fresh(folder, program))
        .map(|(_, program)| *program)
        .collect();
    if !outdated.is_empty() {
        eprintln!(
            "building {}: missing, or older than the sources",
            outdated.join(", ")
        );
        build(folder)?;
        let missing = missing(folder);
        if !missing.is_empty() {
            bail!(
                "the build left no {} in {}",
                missing.join(", "),
                folder.display()
            );
        }
    }
    Ok(folder.to_owned())
}

fn missing(folder: &Path) -> Vec<&'static str> {
    PROGRAMS
        .iter()
        .map(|(_, name)| *name)
        .filter(|name| !folder.join(name).is_file())
        .collect()
}

/// Whether no file that cargo says the program is made of is newer than it.
fn is_fresh(folder: &Path, program: &str) -> bool {
    let Some(built) = modified(&folder.join(program)) else {
        return false;
    };
    let Ok(made_of) = std::fs::read_to_string(folder.join(format!("{program}.d"))) else {
        return false;
    };
    let Some((_, sources)) = made_of.split_once(": ") else {
        return false;
    };
    // Spaces inside a path are escaped; no path of ours holds one, and a wrong cut only costs a
    // look by cargo.
    sources
        .split_whitespace()
        .all(|source| modified(Path::new(source)).is_some_and(|changed| changed <= built))
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|meta| meta.modified())
        .ok()
}

fn build(folder: &Path) -> Result<()> {
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => bail!("{} names no profile", folder.display()),
    };
    let target = folder
        .parent()
        .context("a profile's folder lies in a target folder")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--profile", profile, "--bins", "--target-dir"])
        .arg(target)
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    for (package, _) in PROGRAMS {
        cargo.args(["-p", package]);
    }
    let output = cargo.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!(
            "the programs do not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
