//! The agent worker as a process.

use std::process::ExitCode;

use agent_worker::{Args, Config};
use chimera_runtime::bus::{Bus, BusConfig};
use chimera_runtime::{exit, shutdown, telemetry, version};

fn main() -> ExitCode {
    let args: Args = match exit::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    exit::report(run(&args))
}

#[tokio::main]
async fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::resolve(args, version::software().to_owned())?;
    let telemetry = telemetry::init("agent-worker", &args.telemetry)?;
    tracing::info!(?config, "configuration resolved");
    let shutdown = shutdown::on_signals(|| {})?;
    let bus = Bus::connect(BusConfig::new(&config.nats_url, config.worker.as_str())).await?;
    let served = agent_worker::run(config, &bus, shutdown).await;
    bus.drain().await;
    telemetry.shutdown().await;
    Ok(served?)
}
