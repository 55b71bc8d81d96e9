//! The coordinator as a process.

use std::process::ExitCode;

use chimera_runtime::bus::{Bus, BusConfig};
use chimera_runtime::{config, exit, shutdown, telemetry};
use coordinator::{Args, Config, Coordinator};

fn main() -> ExitCode {
    let args: Args = match exit::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    exit::report(run(&args))
}

#[tokio::main]
async fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::resolve(args, chimera_runtime::version::software().to_owned())?;
    let telemetry = telemetry::init("coordinator", &args.telemetry)?;
    config::log_resolved("coordinator", &config);
    let shutdown = shutdown::on_signals(|| {})?;
    let bus = Bus::connect(BusConfig::new(&config.nats_url, "coordinator")).await?;
    let served = Coordinator::bind(config, &bus).await?.serve(shutdown).await;
    bus.drain().await;
    telemetry.shutdown().await;
    Ok(served?)
}
