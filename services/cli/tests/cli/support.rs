//! Runs the binary.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What came of a call.
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Told {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.out, self.err))
    }

    /// Fails unless the exit code is this one.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.out, self.err
        );
        self
    }
}

/// A call whose environment holds nothing that a developer may have set.
pub(crate) fn chimera(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chimera"));
    for name in [
        "RUST_LOG",
        "CHIMERA_LOG_FORMAT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "CHIMERA_COORDINATOR_URL",
        "CHIMERA_ANALYZER_URL",
    ] {
        command.env_remove(name);
    }
    // A test must neither see nor change what its developer has measured.
    command.env("CHIMERA_HISTORY", "off");
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs to the end.
pub(crate) fn told(arguments: &[&str]) -> Told {
    Told::of(&chimera(arguments).output().unwrap())
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// An address at which nothing listens.
pub(crate) fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
