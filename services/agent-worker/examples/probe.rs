//! The probe alone, for `benches/probe_cpu.sh`: what `chimera probe` runs, without the command line.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use agent_worker::engine::EngineConfig;
use agent_worker::probe::{ProbeConfig, run};
use anyhow::Context;
use chimera_domain::options::{EngineKind, EngineOptions};
use clap::Parser;
use tokio_util::sync::CancellationToken;

/// Probes one instance and prints the summary as JSON.
#[derive(Debug, Parser)]
struct Args {
    /// Base URL.
    #[arg(long)]
    url: url::Url,
    /// Protocol: ollama or openai.
    #[arg(long, default_value = "openai", value_parser = ["ollama", "openai"])]
    engine: String,
    /// Model.
    #[arg(long)]
    model: String,
    /// Streams at once.
    #[arg(short, default_value_t = 1)]
    concurrency: u32,
    /// Requests in all.
    #[arg(short = 'n', default_value_t = 1)]
    requests: u32,
    /// Tokens per request.
    #[arg(long, default_value_t = 64)]
    tokens: u32,
    /// File for the JSON lines.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let kind = match args.engine.as_str() {
        "ollama" => EngineKind::Ollama,
        _ => EngineKind::Openai,
    };
    let options = EngineOptions {
        num_predict: args.tokens,
        ..EngineOptions::default()
    };
    let config = ProbeConfig {
        engine: EngineConfig::new(args.url, kind, args.model, options),
        concurrency: args.concurrency,
        requests: args.requests,
        prompt: None,
        warm: true,
    };
    let file = File::create(&args.out).with_context(|| args.out.display().to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let summary = runtime.block_on(run(config, file, &CancellationToken::new()))?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&summary)?)?;
    Ok(())
}
