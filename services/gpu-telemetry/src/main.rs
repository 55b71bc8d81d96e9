//! The telemetry service as a process.

use std::process::ExitCode;
use std::time::Duration;

use chimera_runtime::bus::Bus;
use chimera_runtime::{config, exit, shutdown, telemetry, tls, version};
use gpu_telemetry::{Args, Config};

/// Longest wait for the last messages when the process ends.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args: Args = match exit::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    shutdown::run_main(CLOSE_LIMIT, run(&args))
}

async fn run(args: &Args) -> anyhow::Result<()> {
    tls::install_provider();
    let (config, bus) = Config::resolve(args)?;
    let telemetry = telemetry::init(&args.log, "gpu-telemetry", version::VERSION)?;
    config::log_resolved("gpu-telemetry", &config);
    let shutdown = shutdown::on_signals(|| {})?;
    let bus = Bus::connect(bus).await?;
    let served = gpu_telemetry::run(config, &bus, shutdown).await;
    bus.close(CLOSE_LIMIT).await;
    telemetry.shutdown(CLOSE_LIMIT).await;
    Ok(served?)
}
