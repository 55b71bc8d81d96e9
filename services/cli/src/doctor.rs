//! `doctor`: what this machine has, what it lacks for `chimera bench`, and how to get it.

mod host;
mod programs;

use chimera_runtime::version;
use serde::Serialize;

use crate::output;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Ok,
    /// `chimera bench` runs, but something is worse than it could be.
    Warning,
    /// `chimera bench` cannot run without it.
    Missing,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    /// What is there.
    found: String,
    /// What to do. *Shape*: set unless the state is ok.
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            found: found.into(),
            remedy: None,
        }
    }

    fn warning(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self {
            name,
            state: State::Warning,
            found: found.into(),
            remedy,
        }
    }

    fn missing(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self {
            name,
            state: State::Missing,
            found: found.into(),
            remedy,
        }
    }

    /// Something that only one of several ways needs, while another way is open.
    fn or_warning(self, other_way: bool) -> Self {
        match self.state {
            State::Missing if other_way => Self {
                state: State::Warning,
                ..self
            },
            _ => self,
        }
    }
}

#[derive(Serialize)]
struct Findings {
    /// Whether `chimera bench` can run.
    ready: bool,
    software: String,
    checks: Vec<Check>,
}

/// Looks at everything, and fails if `chimera bench` cannot run.
pub(crate) async fn run(json: bool) -> anyhow::Result<()> {
    let engine = programs::engine().await;
    let other_way = engine.state != State::Missing;
    let mut checks = vec![programs::nats_server().await, engine];
    checks.push(programs::ollama().await.or_warning(other_way));
    checks.push(programs::llama_server().await.or_warning(other_way));
    checks.push(programs::model().or_warning(other_way));
    checks.push(host::cache());
    checks.push(host::disk());
    checks.push(host::cores());
    checks.push(host::memory());
    checks.push(host::gpu().await);
    checks.push(programs::setpriv());
    checks.push(host::clock());
    let missing: Vec<&str> = checks
        .iter()
        .filter(|c| c.state == State::Missing)
        .map(|c| c.name)
        .collect();
    let missing = missing.join(", ");
    let findings = Findings {
        ready: missing.is_empty(),
        software: version::software(),
        checks,
    };
    if json {
        output::print_json(&findings)?;
    } else {
        output::print(text(&findings).as_bytes())?;
    }
    anyhow::ensure!(
        findings.ready,
        "`chimera bench` cannot run here; to be mended: {missing}"
    );
    Ok(())
}

fn text(findings: &Findings) -> String {
    let width = findings
        .checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for check in &findings.checks {
        let state = match check.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Missing => "MISSING",
        };
        text.push_str(&format!(
            "{state:<8} {:<width$}  {}\n",
            check.name, check.found
        ));
        if let Some(remedy) = &check.remedy {
            text.push_str(&format!("{:8} {:width$}  \u{2514} {remedy}\n", "", ""));
        }
    }
    if findings.ready {
        text.push_str("\n`chimera bench --quick` can run here.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_another_way_needs_is_no_more_than_a_warning() {
        let check = Check::missing("llama-server", "not found", "run ./scripts/setup.sh");
        assert_eq!(check.clone().or_warning(false).state, State::Missing);
        assert_eq!(check.or_warning(true).state, State::Warning);
        assert_eq!(Check::ok("a", "b").or_warning(true).state, State::Ok);
    }

    #[test]
    fn a_remedy_stands_under_what_it_mends() {
        let findings = Findings {
            ready: false,
            software: "test".to_owned(),
            checks: vec![
                Check::ok("memory", "8.0 GiB"),
                Check::missing("nats-server", "not found", "run ./scripts/setup.sh"),
            ],
        };
        assert_eq!(
            text(&findings),
            "ok       memory       8.0 GiB\nMISSING  nats-server  not found\n                      \
             \u{2514} run ./scripts/setup.sh\n"
        );
    }
}
