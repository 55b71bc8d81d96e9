//! How a binary ends: one place that prints the error and chooses the code.

use std::fmt::Write as _;
use std::process::ExitCode;

use thiserror::Error;

use crate::config::ConfigErrors;

/// All went well.
pub const OK: u8 = 0;
/// The work failed, or a gate was not met.
pub const FAILED: u8 = 1;
/// Bad usage, configuration or spec (`EX_USAGE` of sysexits.h).
pub const USAGE: u8 = 64;
/// Stopped by a second Ctrl-C (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// Marks an error as the caller's: put it into the chain and the process exits with [`USAGE`].
#[derive(Debug, Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Parses the command line; on failure prints clap's message and gives the code to exit with:
/// [`USAGE`], or [`OK`] after `--help` and `--version`.
///
/// # Errors
/// The exit code, when there is nothing left to run.
pub fn parse<A: clap::Parser>() -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| {
        let code = if error.use_stderr() { USAGE } else { OK };
        // A closed pipe (`chimera --help | head`) is no reason to fail.
        if error.print().is_err() {
            return ExitCode::from(code);
        }
        ExitCode::from(code)
    })
}

/// Ends `main`: prints `error: ...` with its causes to stderr, and chooses the exit code.
pub fn report(result: Result<(), anyhow::Error>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::from(OK),
        Err(error) => {
            eprintln!("{}", describe(&error));
            ExitCode::from(code(&error))
        }
    }
}

/// [`USAGE`] if the person's input is to blame, else [`FAILED`].
#[must_use]
pub fn code(error: &anyhow::Error) -> u8 {
    let usage = error.chain().any(|cause| {
        cause.is::<UsageError>() || cause.is::<ConfigErrors>() || cause.is::<clap::Error>()
    });
    if usage { USAGE } else { FAILED }
}

/// The error and its causes, one a line. A cause that the line above it already says is left out.
#[must_use]
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if last.contains(&cause) {
            continue;
        }
        // Writing to a String cannot fail.
        if write!(text, "\n  caused by: {cause}").is_err() {
            break;
        }
        last = cause;
    }
    text
}

/// An error and its causes on one line, for a message that crosses a process or stands inside
/// another. A cause that was said already is left out.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words.push_str(": ");
            words.push_str(&cause_words);
        }
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Problems;
    use anyhow::Context as _;

    #[test]
    fn mistakes_of_the_person_exit_64_and_failures_1() {
        let mut problems = Problems::default();
        problems.add("nats.url", "is empty");
        let config = anyhow::Error::from(problems.finish().unwrap_err()).context("cannot start");
        assert_eq!(code(&config), USAGE);
        assert_eq!(
            code(&anyhow::Error::from(UsageError("no such phase".into()))),
            USAGE
        );
        assert_eq!(code(&anyhow::anyhow!("disk full")), FAILED);
    }

    #[test]
    fn causes_are_listed_once() {
        let error = Err::<(), _>(std::io::Error::other("disk full"))
            .context("cannot store the report: disk full")
            .context("the run failed")
            .unwrap_err();
        assert_eq!(
            describe(&error),
            "error: the run failed\n  caused by: cannot store the report: disk full"
        );
    }
}
