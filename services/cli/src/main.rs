//! `chimera`, the person's tool.

use std::process::ExitCode;

use chimera_cli::args::Cli;
use chimera_runtime::{exit, tls};

fn main() -> ExitCode {
    tls::install_provider();
    match exit::parse::<Cli>() {
        Ok(cli) => exit::report(chimera_cli::run(cli)),
        Err(code) => code,
    }
}
