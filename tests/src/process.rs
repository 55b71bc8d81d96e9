//! One program under test, running.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use chimera_runtime::clock;
use chimera_runtime::process::{ChildProcess, ChildSpec};
use rustix::process::Signal;
use serde_json::Value;

use crate::binaries;

/// How often a log file or a folder is looked at again.
const POLL: Duration = Duration::from_millis(5);
/// How long a program may take until it is ready, or until it is gone. Generous: the machine may be
/// compiling beside us.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running program. Dropping it kills it and its process group.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: ChildProcess,
}

/// What to start, with an environment that holds nothing which a developer may have set.
///
/// *Shape*: the cache folder lies in `dir`, so that claims and stacks of two tests never meet.
///
/// # Errors
/// When the program cannot be found or built.
pub fn spec(program: &str, dir: &Path, log: &Path) -> Result<ChildSpec> {
    let mut spec = ChildSpec::new(binaries::program(program)?, log);
    for name in inherited() {
        spec = spec.without_env(name);
    }
    Ok(spec
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .env("XDG_DATA_HOME", dir.join("data"))
        .current_dir(dir))
}

/// Variables that would configure the programs from outside the test.
pub(crate) fn inherited() -> Vec<std::ffi::OsString> {
    std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| {
            let name = name.to_string_lossy();
            name.starts_with("CHIMERA_") || name.starts_with("OTEL_") || name == "RUST_LOG"
        })
        .collect()
}

impl Service {
    /// Starts it; does not wait until it is ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(name: &str, spec: ChildSpec) -> Result<Self> {
        let child = ChildProcess::spawn(spec)
            .await
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    /// What the test calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Everything that it has written so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let path = self.child.log_path();
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until a line of its JSON log has this message, and gives the line.
    ///
    /// # Errors
    /// When it ends before, or does not say so in time; with the end of its log.
    pub async fn says(&self, message: &str, limit: Duration) -> Result<Value> {
        let deadline = clock::deadline(limit);
        loop {
            // Before the log is read: what it wrote before it ended is still seen.
            let ended = self.child.exited();
            for line in self.log()?.lines() {
                let Ok(line) = serde_json::from_str::<Value>(line) else {
                    continue;
                };
                if line.get("message").and_then(Value::as_str) == Some(message) {
                    return Ok(line);
                }
            }
            if let Some(status) = ended {
                bail!(
                    "{} ended ({status}) and never said '{message}':\n{}",
                    self.name,
                    self.tail()
                );
            }
            if clock::mono() >= deadline {
                bail!(
                    "{} did not say '{message}' within {limit:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until its output holds a text.
    ///
    /// # Errors
    /// When it ends before, or does not write it in time; with the end of its log.
    pub async fn writes(&self, text: &str, limit: Duration) -> Result<()> {
        let deadline = clock::deadline(limit);
        loop {
            let ended = self.child.exited();
            if self.log()?.contains(text) {
                return Ok(());
            }
            if let Some(status) = ended {
                bail!(
                    "{} ended ({status}) and never wrote '{text}':\n{}",
                    self.name,
                    self.tail()
                );
            }
            if clock::mono() >= deadline {
                bail!(
                    "{} did not write '{text}' within {limit:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The end of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        self.child.log_tail()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.child
            .signal(signal)
            .with_context(|| format!("cannot signal {}", self.name))
    }

    /// SIGKILL: no chance to say goodbye. Returns when it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill9(mut self) -> Result<()> {
        self.child.kill();
        self.ended(PATIENCE).await.map(|_| ())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => status.with_context(|| format!("cannot wait for {}", self.name)),
            Err(_) => bail!(
                "{} did not end within {limit:?}:\n{}",
                self.name,
                self.tail()
            ),
        }
    }
}

/// A process as `/proc` shows it; its start tells it from a later one with the same id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// Process id.
    pub pid: u32,
    /// Its program's name, as the kernel has it (cut at 15 characters).
    pub name: String,
    started: u64,
    parent: u32,
}

/// All processes below `pid`: children, their children, and so on.
#[must_use]
pub fn below(pid: u32) -> Vec<Seen> {
    let all = processes();
    let mut found: Vec<Seen> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            if !found.contains(process) {
                parents.push(process.pid);
                found.push(process.clone());
            }
        }
    }
    found
}

/// Those of `before` that still run. A zombie has ended.
#[must_use]
pub fn still_running(before: &[Seen]) -> Vec<Seen> {
    let now = processes();
    before
        .iter()
        .filter(|old| {
            now.iter()
                .any(|new| new.pid == old.pid && new.started == old.started)
        })
        .cloned()
        .collect()
}

fn processes() -> Vec<Seen> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(look).collect()
}

fn look(pid: u32) -> Option<Seen> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let text = std::fs::read_to_string(path).ok()?;
    // The name stands in parentheses and may hold anything, parentheses too.
    let (head, rest) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let state = *fields.first()?;
    (!matches!(state, "Z" | "X")).then_some(())?;
    Some(Seen {
        pid,
        name: name.to_owned(),
        started: fields.get(19)?.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
    })
}
