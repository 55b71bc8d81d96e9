//! Calls of `chimera` that end by themselves.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{binaries, process};

/// Longest time for a call.
const LIMIT: Duration = Duration::from_secs(60);

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Told {
    /// Fails unless it exited with this code.
    ///
    /// # Errors
    /// With everything that it wrote.
    pub fn expect(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == Some(code),
            "exit code {:?} instead of {code}\nstdout:\n{}\nstderr:\n{}",
            self.code,
            self.out,
            self.err
        );
        Ok(self)
    }

    /// Standard output as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out)
            .with_context(|| format!("no JSON:\n{}\n{}", self.out, self.err))
    }
}

/// Runs `chimera` to its end in folder `dir`, with an environment of its own.
///
/// # Errors
/// When it cannot be started or does not end in time; it is then killed.
pub async fn chimera<A: AsRef<str>>(dir: &Path, arguments: &[A]) -> Result<Told> {
    let mut command = tokio::process::Command::new(binaries::program("chimera")?);
    for name in process::inherited() {
        command.env_remove(name);
    }
    command
        .args(arguments.iter().map(AsRef::as_ref))
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .env("XDG_DATA_HOME", dir.join("data"))
        .current_dir(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .context("chimera did not end in time")?
        .context("chimera cannot be started")?;
    Ok(Told {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
